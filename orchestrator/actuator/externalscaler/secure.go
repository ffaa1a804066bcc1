package externalscaler

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync"
)

// files are a certificate, its key, and the authority of clients; the last may be empty.
type files struct{ cert, key, ca string }

// serverTLS makes a server's configuration of a client's: the certificates that a client would trust servers by
// are those that it must show. Files are read again for every connection; while they cannot be
// read, what was read last is used.
func serverTLS(t *tls.Config, f files) *tls.Config {
	last := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: t.Certificates, NextProtos: []string{"h2"}}
	if t.RootCAs != nil {
		last.ClientCAs, last.ClientAuth = t.RootCAs, tls.RequireAndVerifyClientCert
	}
	var mu sync.Mutex
	c := last.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		fresh := last.Clone()
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return last, nil //nolint:nilerr // half-written files are whole again soon
		}
		fresh.Certificates = []tls.Certificate{pair}
		if f.ca != "" {
			pem, err := os.ReadFile(f.ca)
			pool := x509.NewCertPool()
			if err != nil || !pool.AppendCertsFromPEM(pem) {
				return last, nil //nolint:nilerr // as above
			}
			fresh.ClientCAs = pool
		}
		last = fresh
		return fresh, nil
	}
	return c
}
