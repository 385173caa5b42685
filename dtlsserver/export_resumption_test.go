// SPDX-License-Identifier: MIT

package dtlsserver

// MaxHeldRecords is how many protected records are held for a handshake.
const MaxHeldRecords = heldRecords

// KeptCertificates returns the certificates of the session's identity, and those of what
// is stored of the session, without a copy.
func (c *Conn) KeptCertificates() (identity, stored [][]byte) {
	r := c.resumable()
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.identity.more.identity.Certificates, r.session.Certificates
}
