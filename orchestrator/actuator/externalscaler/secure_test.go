package externalscaler

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate and its key, in PEM.
func (a *authority) issue(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyClientsWithACertificateAreAnswered(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t, "server")
	file := func(name string) string { return filepath.Join(dir, name) }
	write(t, file("cert"), cert)
	write(t, file("key"), key)
	write(t, file("ca"), ours.pem)
	d := open(t, "externalscaler://127.0.0.1:0?tls_cert="+file("cert")+"&tls_key="+file("key")+"&tls_ca="+file("ca"))
	apply(t, d, 4, time.Hour)

	as := func(trust, issuer *authority) string {
		c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		c.RootCAs.AddCert(trust.cert)
		if issuer != nil {
			cert, key := issuer.issue(t, "keda")
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return asks(t, keda(t, d.Addr(), credentials.NewTLS(c)))
	}
	const answered, refused = "4 workers, active true", "Unavailable"
	for _, tc := range []struct {
		name, want    string
		trust, issuer *authority
	}{
		{"KEDA", answered, ours, ours},
		{"a client without a certificate", refused, ours, nil},
		{"a client of another authority", refused, ours, theirs},
		{"a client that does not trust the server", refused, theirs, ours},
	} {
		if got := as(tc.trust, tc.issuer); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := asks(t, keda(t, d.Addr(), nil)); got != refused {
		t.Errorf("a client without TLS: %s", got)
	}

	// Another authority's certificates take the place of the first's.
	cert, key = theirs.issue(t, "server")
	write(t, file("ca"), []byte("half of a file"))
	write(t, file("cert"), cert)
	if got := as(ours, ours); got != answered {
		t.Errorf("while files are being renewed: %s", got)
	}
	write(t, file("key"), key)
	write(t, file("ca"), theirs.pem)
	if got := as(theirs, theirs); got != answered {
		t.Errorf("after files were renewed: %s", got)
	}
	if got := as(theirs, ours); got != refused {
		t.Errorf("after files were renewed, with the old certificate: %s", got)
	}
}
