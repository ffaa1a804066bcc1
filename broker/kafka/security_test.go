package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/kafka"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.n++
	c.SerialNumber = big.NewInt(a.n)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// write puts the key, if any, and the certificate into a PEM file.
func write(t *testing.T, path string, cert *x509.Certificate, key *ecdsa.PrivateKey) string {
	t.Helper()
	var b strings.Builder
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// unsigned is a token as Kafka's validator for tests takes it.
func unsigned(subject string) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now().Unix()
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, subject, now, now+600)) + "."
}

// provider is an OpenID provider's token endpoint.
func provider(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		if user != "client" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":600}`, unsigned("client"))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestServersThatDemandSecurity(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	ca := write(t, filepath.Join(dir, "ca.pem"), ours.cert, nil)
	wrongCA := write(t, filepath.Join(dir, "wrong-ca.pem"), theirs.cert, nil)
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "kafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"kafka.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	cert, key := ours.sign(t, server)
	write(t, filepath.Join(dir, "server.pem"), cert, key)
	client := func(name string, a *authority) string {
		cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		path := write(t, filepath.Join(dir, name+".pem"), cert, key)
		return "tls_cert=" + path + "&tls_key=" + path
	}
	mine, foreign := client("mine", ours), client("foreign", theirs)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(unsigned("file")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servers.Run(t, "kafka", "secure", dir)
	tokens := provider(t)
	env := map[string]string{"PASSWORD": servers.Password, "WRONG": "hunter2", "SECRET": "s3cret", "TOKEN": unsigned("env")}

	for _, c := range []struct {
		name, listener, scheme, user, options string
		// wrong is what the error says; empty where it works.
		wrong string
	}{
		{"TLS", "tls", "kafka+tls", "", "tls_ca=" + ca, ""},
		{"TLS under another name", "tls", "kafka+tls", "", "tls_ca=" + ca + "&tls_server_name=kafka.test", ""},
		{"TLS with the wrong authority", "tls", "kafka+tls", "", "tls_ca=" + wrongCA, "unknown authority"},
		{"TLS with the system's authorities", "tls", "kafka+tls", "", "", "certificate"},
		{"TLS with the wrong name", "tls", "kafka+tls", "", "tls_ca=" + ca + "&tls_server_name=other.test", "other.test"},
		{"no TLS where it is demanded", "tls", "kafka", "", "", "TLS"},
		{"TLS where it is not spoken", "", "kafka+tls", "", "tls_ca=" + ca, "TLS"},
		{"mutual TLS", "mtls", "kafka+tls", "", "tls_ca=" + ca + "&" + mine, ""},
		{"mutual TLS without a certificate", "mtls", "kafka+tls", "", "tls_ca=" + ca, "certificate"},
		{"mutual TLS with a certificate of others", "mtls", "kafka+tls", "", "tls_ca=" + ca + "&" + foreign, "certificate"},
		{"PLAIN", "sasl", "kafka", "freshet@", "password_env=PASSWORD", ""},
		{"PLAIN over TLS", "sasl_tls", "kafka+tls", "freshet@", "sasl=plain&password_env=PASSWORD&tls_ca=" + ca, ""},
		{"PLAIN with a wrong password", "sasl", "kafka", "freshet@", "password_env=WRONG", "refused sasl=plain"},
		{"SCRAM-SHA-256", "sasl", "kafka", "freshet@", "sasl=scram-sha-256&password_env=PASSWORD", ""},
		{"SCRAM-SHA-256 with a wrong password", "sasl", "kafka", "freshet@", "sasl=scram-sha-256&password_env=WRONG", "refused sasl=scram-sha-256"},
		{"SCRAM-SHA-512 over TLS", "sasl_tls", "kafka+tls", "freshet@", "sasl=scram-sha-512&password_env=PASSWORD&tls_ca=" + ca, ""},
		{"SCRAM-SHA-512 of an unknown user", "sasl", "kafka", "nobody@", "sasl=scram-sha-512&password_env=PASSWORD", "refused sasl=scram-sha-512"},
		{"OAUTHBEARER with a file", "sasl", "kafka", "", "sasl=oauthbearer&token_file=" + token, ""},
		{"OAUTHBEARER with a variable", "sasl_tls", "kafka+tls", "", "sasl=oauthbearer&token_env=TOKEN&tls_ca=" + ca, ""},
		{"OAUTHBEARER with a wrong token", "sasl", "kafka", "", "sasl=oauthbearer&token_env=WRONG", "refused sasl=oauthbearer"},
		{"OAUTHBEARER with a provider", "sasl", "kafka", "client@", "sasl=oauthbearer&password_env=SECRET&token_scope=kafka&token_url=" + tokens.URL, ""},
		{"OAUTHBEARER with a provider that refuses", "sasl", "kafka", "client@", "sasl=oauthbearer&password_env=WRONG&token_scope=kafka&token_url=" + tokens.URL, "refused the client"},
		{"no SASL where it is demanded", "sasl", "kafka", "", "", "SASL"},
		{"TLS and no SASL where both are demanded", "sasl_tls", "kafka+tls", "", "tls_ca=" + ca, "SASL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := s.Address
			if c.listener != "" {
				address = s.Word(c.listener)
			}
			url := c.scheme + "://" + c.user + address + "/?timeout=20s&" + c.options
			d, err := kafka.Open(t.Context(), url, kafka.Options{Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }})
			if c.wrong != "" {
				if err == nil {
					_ = d.Close()
				}
				if !errkind.Is(err, errkind.Config) || !strings.Contains(fmt.Sprint(err), c.wrong) {
					t.Fatalf("got kind %v: %v, want config and %q", errkind.Of(err), err, c.wrong)
				}
				for _, secret := range env {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows a secret: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			roundTrip(t, d)
		})
	}
}

// roundTrip sends a record through all of a driver's clients.
func roundTrip(t *testing.T, d *kafka.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic := strings.ToLower("t-" + rand.Text()[:10])
	if err := d.CreateTopic(ctx, broker.TopicConfig{Name: topic, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	recs := []event.Record{{ID: []byte("1"), Value: []byte("x")}}
	if _, err := d.Publish(ctx, topic, recs); err != nil {
		t.Fatal(err)
	}
	c, err := d.Subscribe(ctx, broker.Subscription{Topic: topic, Group: topic})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := c.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := claim.Fetch(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: topic, Records: recs}},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: b.Next()}},
	}); err != nil {
		t.Fatal(err)
	}
}
