// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// Identity is who the peer of a session has proven to be, in the full handshake that
// the session comes from: a resumed session has the same.
type Identity struct {
	PSK          []byte   // the identity of its key, if it has one
	Certificates [][]byte // DER, leaf first, if it gave any
	// Verified is when the certificates were verified, in a full handshake or when
	// the session was resumed, whichever was last. Zero: they were not (ClientAuth
	// is RequestClientCert or RequireAnyClientCert), or there is none.
	Verified time.Time
}

// kept is what a Conn knows of its session in Config.Resumption.
type kept struct {
	// Set in Listener.fillConn, never changed.
	id      string
	resumed bool

	// storing is held while the store is called, so that what is stored last is what
	// was set last. mu is taken within it, and never held over a call.
	storing sync.Mutex

	mu sync.Mutex
	// mu guards the following.
	session resume.Session // but for its Secret, which the Conn's records have
	version int            // of session.Data
	stored  int            // the version that the store was last given; -1: none
	err     error          // what it said
}

// scope names the listener's policy: what decides whom it lets in, and with which
// protection. Listeners that differ in it do not resume each other's sessions. What
// cannot be named, as whom VerifyConnection lets in, is asked again instead.
func scope(config *dtls.Config, user string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q, client auth %d, suites %v, extended master secret %d, PSK %t, certificates %t",
		user, config.ClientAuth, config.CipherSuites, config.ExtendedMasterSecret, config.PSK != nil, hasCertificates(config)))
	return hex.EncodeToString(sum[:16])
}

// hasCertificates is whether pion takes part in handshakes with certificates.
func hasCertificates(config *dtls.Config) bool {
	return config.PSK == nil || len(config.Certificates) > 0 || config.GetCertificate != nil
}

// tagOf is what the scope of a session has of its PSK: with another key, or that of
// another listener's device of the same name, it is not resumed. Without the session's
// secret it says nothing of the key.
func tagOf(key, secret []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(secret)
	return "/" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// lookUp is the session that a ClientHello would resume, if it may. Whatever stands
// against it, the handshake is a full one, which may then fail for the same cause.
func (l *Listener) lookUp(ctx context.Context, h *handshake) *resume.Session {
	hello := h.hello
	if len(hello.SessionID) == 0 {
		return nil
	}
	session, ok := l.config.Resumption.Get(ctx, h.source.prefix, hello.SessionID)
	if !ok {
		return nil
	}
	if err := l.mayResume(session, hello); err != nil {
		l.counters.notResumed.Add(1)
		l.log.Info("DTLS session not resumed", "peer", h.peer.addr, "cause", err)
		return nil
	}
	return session
}

// mayResume is nil if nothing stands against resuming the session. It notes when the
// client's certificates were verified.
func (l *Listener) mayResume(s *resume.Session, hello record.ClientHello) error {
	config, suite := &l.dtls, record.SuiteID(s.Suite)
	switch {
	case !strings.HasPrefix(s.Scope, l.scope):
		return errors.New("it is of a listener with another policy")
	case !suite.Supported() || suite.PSK() && config.PSK == nil || !suite.PSK() && !hasCertificates(config):
		return errors.New("it has a cipher suite that is not had here")
	case !hello.Offers(suite):
		return errors.New("the client does not offer its cipher suite") // RFC 5246 section 7.4.1.2
	case hello.ExtendedMasterSecret != s.ExtendedMasterSecret:
		return errors.New("the client wants another kind of master secret") // RFC 7627 section 5.3
	case string(hello.ServerName) != s.ServerName:
		return errors.New("it is of another server name") // RFC 6066 section 3
	case len(s.Certificates) == 0 && (config.ClientAuth == dtls.RequireAnyClientCert || config.ClientAuth == dtls.RequireAndVerifyClientCert):
		return errors.New("its client has shown no certificate")
	}
	if suite.PSK() {
		key, err := config.PSK(bytes.Clone(s.PSKIdentity))
		if err != nil {
			return fmt.Errorf("the PSK identity is not known any more: %w", err)
		}
		if s.Scope != l.scope+tagOf(key, s.Secret) {
			return errors.New("the PSK is another now")
		}
	} else if s.Scope != l.scope {
		return errors.New("it is of a listener with another policy")
	}
	if len(s.Certificates) > 0 {
		if err := l.verify(s); err != nil {
			return err
		}
	}
	if config.VerifyConnection != nil {
		// As in a full handshake: the epoch is 0 still, so there is no keying material,
		// and what ALPN chooses is not there.
		who := identityOf(s, "")
		state, err := state(record.Config{
			Suite: suite, MasterSecret: s.Secret, ClientRandom: hello.Random,
		}, &who)
		if err != nil {
			return err
		}
		if err := config.VerifyConnection(state); err != nil {
			return fmt.Errorf("VerifyConnection: %w", err)
		}
	}
	return nil
}

// verify looks at the client's certificates again, as a full handshake would: they
// may have expired since, or their authority may not be one any more.
func (l *Listener) verify(s *resume.Session) error {
	now := time.Now()
	chain := make([]*x509.Certificate, len(s.Certificates))
	for i, der := range s.Certificates {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		if now.After(chain[i].NotAfter) {
			return errors.New("the client's certificate has expired")
		}
	}
	var verified [][]*x509.Certificate
	if l.dtls.ClientAuth >= dtls.VerifyClientCertIfGiven {
		intermediates := x509.NewCertPool()
		for _, c := range chain[1:] {
			intermediates.AddCert(c)
		}
		var err error
		if verified, err = chain[0].Verify(x509.VerifyOptions{
			Roots: l.dtls.ClientCAs, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		s.Verified = now
	}
	if l.dtls.VerifyPeerCertificate != nil {
		if err := l.dtls.VerifyPeerCertificate(s.Certificates, verified); err != nil {
			return fmt.Errorf("VerifyPeerCertificate: %w", err)
		}
	}
	return nil
}

// resumingConfig is a config with which pion resumes the session, or nil if it would
// not.
func resumingConfig(config dtls.Config, h *handshake, session *resume.Session) *dtls.Config {
	suite := record.SuiteID(session.Suite)
	// Pion does not look at which suite it was, and takes no certificate without a
	// suite for it, nor a key.
	config.CipherSuites = []dtls.CipherSuiteID{dtls.CipherSuiteID(suite)}
	if suite.PSK() {
		config.Certificates, config.GetCertificate = nil, nil
	} else {
		config.PSK, config.PSKIdentityHint = nil, nil
	}
	config.SessionStore = pionStore{h.hello.SessionID, session}
	if _, err := dtls.NewListener(noListener{}, &config); err != nil {
		return nil
	}
	return &config
}

// pionStore is what pion has for a dtls.SessionStore, in one handshake. It has pion
// draw a session id, and gives it the session that was looked up before. It stores
// nothing: pion would before the client has proven anything.
type pionStore struct {
	id      []byte
	session *resume.Session // nil: the handshake is a full one
}

func (s pionStore) Get(id []byte) (dtls.Session, error) {
	if s.session == nil || !bytes.Equal(id, s.id) {
		return dtls.Session{}, nil // not found
	}
	return dtls.Session{ID: bytes.Clone(id), Secret: bytes.Clone(s.session.Secret)}, nil
}

func (pionStore) Set([]byte, dtls.Session) error { return nil }
func (pionStore) Del([]byte) error               { return nil }

// newKept is what there is to store of a session that a full handshake has made, or
// was stored of one that is resumed. It is nil if there is nothing to resume.
func (l *Listener) newKept(h *handshake, who *identity, secret []byte) *kept {
	t := h.transport
	if l.config.Resumption == nil || t.hello.SessionID == "" {
		return nil
	}
	k := &kept{id: t.hello.SessionID}
	if t.resumes != nil {
		k.resumed, k.session = true, *t.resumes
		k.session.Secret = nil // once is enough
		return k
	}
	m := who.all()
	k.stored = -1
	k.session = resume.Session{
		Suite: uint16(t.hello.Suite), ExtendedMasterSecret: t.hello.ExtendedMasterSecret, Protocol: m.protocol,
		ServerName: string(h.hello.ServerName), PSKIdentity: m.hint, Certificates: cloneAll(m.certificates), Verified: m.verified, Scope: l.scope,
	}
	if t.hello.Suite.PSK() {
		k.session.Scope += tagOf(h.psk, secret)
	}
	return k
}

func cloneAll(certificates [][]byte) [][]byte {
	var clone [][]byte
	for _, c := range certificates {
		clone = append(clone, bytes.Clone(c))
	}
	return clone
}

// storeTime bounds what the listener's own goroutines spend on the store for one
// session, and so what Close waits for it.
const storeTime = time.Second

// remember stores the session of a full handshake, once that is done, if
// SetSessionData has not yet.
func (c *Conn) remember() {
	k, l := c.kept(), c.peer.listener
	if k == nil || k.resumed {
		return
	}
	if err := c.store(0); err != nil { // counted there
		l.log.Debug("DTLS session not stored", "peer", c.peer.addr, "error", err)
	}
}

// store gives the store the session with its newest data, if it has not had that
// version, or a later one, yet.
func (c *Conn) store(version int) error {
	k := c.kept()
	k.storing.Lock()
	defer k.storing.Unlock()
	k.mu.Lock()
	if k.stored >= version {
		defer k.mu.Unlock()
		return k.err
	}
	session, version := k.session, k.version
	k.mu.Unlock()
	session.Secret = c.secrets().MasterSecret
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	err := c.peer.listener.config.Resumption.Put(ctx, []byte(k.id), &session)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stored, k.err = version, err
	k.session.Created, k.session.Expires = session.Created, session.Expires
	return err
}

// forget removes the session of a Conn that a fatal alert has ended (RFC 5246 section
// 7.2.2), so that it cannot be resumed.
func (c *Conn) forget() {
	k, l := c.kept(), c.peer.listener
	if k == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.running.Go(func() {
		k.storing.Lock() // after what is being stored
		defer k.storing.Unlock()
		l.remove(k.id, &resume.Session{Secret: c.secrets().MasterSecret})
	})
}

// remove makes a session impossible to resume.
func (l *Listener) remove(id string, session *resume.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	if err := l.config.Resumption.Revoke(ctx, []byte(id), session); err != nil { // counted there
		l.log.Info("DTLS session not removed from Config.Resumption", "error", err)
	}
}

// Resumed is whether the session was resumed by an abbreviated handshake.
func (c *Conn) Resumed() bool {
	k := c.kept()
	return k != nil && k.resumed
}

// kept is nil if the session cannot be resumed.
func (c *Conn) kept() *kept {
	if c.identity.more == nil {
		return nil
	}
	return c.identity.more.kept
}

// Identity returns who the peer is.
func (c *Conn) Identity() Identity {
	m := c.identity.all()
	return Identity{PSK: bytes.Clone(m.hint), Certificates: cloneAll(m.certificates), Verified: m.verified}
}

// SetSessionData attaches data of the application's to the session, at most
// resume.MaxData bytes, for when it is resumed: SessionData then gives it. It waits
// for Config.Resumption, for two calls of that at most. An error says that the data may
// not be there then; for this Conn it is. Where a session was resumed while the Conn
// before it lives on, what either sets last is kept.
func (c *Conn) SetSessionData(data []byte) error {
	k := c.kept()
	switch {
	case k == nil:
		return errors.New("pionv2: the session cannot be resumed")
	case len(data) > resume.MaxData:
		return fmt.Errorf("pionv2: %d bytes of session data, more than %d", len(data), resume.MaxData)
	}
	k.mu.Lock()
	k.session.Data = bytes.Clone(data)
	k.version++
	version := k.version
	k.mu.Unlock()
	return c.store(version)
}

// SessionData returns what SetSessionData attached, in this session or the one that
// it resumes. Nil: nothing.
func (c *Conn) SessionData() []byte {
	k := c.kept()
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Clone(k.session.Data)
}
