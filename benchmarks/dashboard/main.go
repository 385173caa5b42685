// SPDX-License-Identifier: MIT

// Command dashboard draws the panels of dsmprom/grafana/dsm.json, and the alerts of
// dsmprom/alerts.yml, with what a Prometheus server has scraped from a small DTLS server. It
// starts redis-server and prometheus on 127.0.0.1, and devices that come and go. It ends by
// itself after four minutes, with everything that it has started:
//
//	go run ./dashboard -png ../docs/dashboard.png
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-dsm/dsm/internal/dashboard"
)

var (
	png       = flag.String("png", "dashboard.png", "the picture's `file`")
	panelFile = flag.String("dashboard", "../dsmprom/grafana/dsm.json", "the dashboard's `file`")
	ruleFile  = flag.String("rules", "../dsmprom/alerts.yml", "the `file` of the alerts")
	scale     = flag.Float64("scale", 1, "`factor` of the time of each phase; below 1 for a quick look")
)

// rateInterval is what Grafana's $__rate_interval stands for.
const rateInterval = "10s"

func main() {
	log.SetFlags(0)
	flag.Parse()
	dir, err := os.MkdirTemp("", "dsm-dashboard-")
	check(err)
	err = run(dir)
	check(os.RemoveAll(dir))
	check(err)
}

func run(dir string) error {
	interrupted, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	ctx, stop := context.WithTimeout(interrupted, 10*time.Minute)
	defer stop()
	text, err := os.ReadFile(*panelFile)
	if err != nil {
		return err
	}
	panels, err := dashboard.Parse(text, map[string]string{"$instance": ".*", "$listener": ".*", "$__rate_interval": rateInterval})
	if err != nil {
		return err
	}
	redis, err := startRedis(ctx, dir)
	if err != nil {
		return err
	}
	defer redis.kill()
	s, err := newServer(dir, redis.addr)
	if err != nil {
		return err
	}
	defer s.close()
	prometheus, err := startPrometheus(ctx, dir, *ruleFile, s.metricsAddr())
	if err != nil {
		return err
	}
	defer prometheus.kill()

	began := time.Now()
	past, err := story(ctx, s, redis)
	if err != nil {
		return err
	}
	end := began.Add(past[len(past)-1].end) // before the clients have left
	drawn, err := query(ctx, prometheus.addr, panels, began, end)
	if err != nil {
		return err
	}
	drawn.phases = past
	if err := drawn.draw(*png); err != nil {
		return err
	}
	path, err := filepath.Abs(*png)
	fmt.Println(path)
	return err
}

// phase is a part of the time, relative to the beginning.
type phase struct {
	name       string
	begin, end time.Duration
}

// story has everything happen, and returns the phases that are worth a name.
func story(ctx context.Context, s *server, redis *process) (named []phase, err error) {
	f := newFleet(ctx, s.addr())
	defer f.stop()
	began := time.Now()
	for _, p := range []struct {
		name   string // empty: nothing happens
		lasts  time.Duration
		during func(context.Context) // which stops what it has started
		before func() error
	}{
		{lasts: 35 * time.Second},
		{name: "more devices\nthan slots", lasts: 55 * time.Second, during: func(ctx context.Context) { f.devices(ctx, 160) }},
		{lasts: 12 * time.Second},
		{name: "restart", lasts: 8 * time.Second, before: s.restart},
		{lasts: 8 * time.Second},
		{name: "strangers", lasts: 45 * time.Second, during: f.strangers},
		{lasts: 10 * time.Second},
		{name: "wrong keys", lasts: 40 * time.Second, during: func(ctx context.Context) { f.wrongKeys(ctx, 60) }},
		{lasts: 10 * time.Second},
		{name: "no Redis", lasts: 25 * time.Second, before: func() error { redis.kill(); return nil }},
	} {
		begin := time.Since(began)
		if p.before != nil {
			if err := p.before(); err != nil {
				return nil, err
			}
		}
		phaseCtx, over := context.WithTimeout(ctx, time.Duration(float64(p.lasts)**scale))
		if p.during != nil {
			p.during(phaseCtx)
		}
		<-phaseCtx.Done()
		over()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if p.name != "" {
			named = append(named, phase{p.name, begin, time.Since(began)})
		}
	}
	return named, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
