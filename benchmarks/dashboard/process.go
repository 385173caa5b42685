// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// process is a server that this command has started on 127.0.0.1.
type process struct {
	addr   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has
	once   sync.Once
}

// kill ends the process, and waits until it has exited.
func (p *process) kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() })
	<-p.exited
}

// startProcess starts a server, and waits until ready reports no error. args gets its port. The
// process ends with ctx at the latest.
func startProcess(ctx context.Context, name string, args func(port string) []string, ready func(addr string) error) (*process, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &process{addr: free.Addr().String(), exited: make(chan struct{})}
	if err := free.Close(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.addr)
	p.cmd = exec.CommandContext(ctx, name, args(port)...)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	for began := time.Now(); ; {
		err := ready(p.addr)
		if err == nil {
			return p, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.exited:
			return nil, errors.New(name + " has exited")
		}
		if time.Since(began) > 30*time.Second {
			p.kill()
			return nil, fmt.Errorf("%s is not ready: %w", name, err)
		}
	}
}

func startRedis(ctx context.Context, dir string) (*process, error) {
	return startProcess(ctx, "redis-server", func(port string) []string {
		return []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}
	}, func(addr string) error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// startPrometheus starts a Prometheus that scrapes a target each second. The minutes in the
// rules take two seconds each.
func startPrometheus(ctx context.Context, dir, rules, target string) (*process, error) {
	text, err := os.ReadFile(rules)
	if err != nil {
		return nil, err
	}
	minutes := regexp.MustCompile(`(\[|for: )(\d+)m\b`)
	short := minutes.ReplaceAllStringFunc(string(text), func(s string) string {
		parts := minutes.FindStringSubmatch(s)
		n, _ := strconv.Atoi(parts[2])
		return fmt.Sprintf("%s%ds", parts[1], 2*n)
	})
	if err := os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(short), 0o600); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: dsm
    static_configs: [{targets: [%q], labels: {instance: gateway}}]
`, target)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return startProcess(ctx, "prometheus", func(port string) []string {
		return []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"), "--web.listen-address=127.0.0.1:" + port, "--log.level=warn"}
	}, func(addr string) error {
		response, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
}
