package pulsar_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
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
	"github.com/freshet-io/freshet/broker/pulsar"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// passwords is an htpasswd file for "freshet" with servers.Password.
const passwords = "freshet:$apr1$freshets$kph4FoeIMX2CnN/mTLJh11\n"

// token is a signed JSON web token for the role.
func token(secret []byte, role string) string {
	enc := base64.RawURLEncoding.EncodeToString
	head := enc([]byte(`{"alg":"HS256"}`)) + "." + enc([]byte(`{"sub":"`+role+`"}`))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(head))
	return head + "." + enc(mac.Sum(nil))
}

// secrets fills a folder with what "pulsar.sh secure" and its clients need.
func secrets(t *testing.T) (dir string, secret []byte) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	make := func(name, cn string, serial int64) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		parent, signer := c, key
		if ca == nil {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		} else {
			parent, signer = ca, caKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if ca == nil {
			ca, caKey = c, key
		}
		write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		write(name+"-key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	}
	make("ca", "freshet test", 1)
	make("cert", "localhost", 2)
	make("client", "freshet", 3)
	if err := os.Rename(filepath.Join(dir, "cert-key.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	secret = []byte(rand.Text() + rand.Text())
	write("secret.key", secret)
	write("admin.token", []byte(token(secret, "freshet")))
	write("htpasswd", []byte(passwords))
	write("wrong.token", []byte(token([]byte("another secret"), "freshet")))
	return dir, secret
}

// issuer gives out tokens for client credentials.
func issuer(t *testing.T, secret []byte) *httptest.Server {
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			_ = json.NewEncoder(w).Encode(map[string]string{"token_endpoint": s.URL + "/token"})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token(secret, "freshet"), "expires_in": 3600, "token_type": "Bearer"})
	}))
	t.Cleanup(s.Close)
	return s
}

func TestServersThatDemandCredentials(t *testing.T) {
	dir, secret := secrets(t)
	s := servers.Run(t, "pulsar", "secure", dir)
	key := filepath.Join(dir, "oauth2.json")
	tokens := issuer(t, secret)
	credentials, _ := json.Marshal(map[string]string{"type": "client_credentials", "client_id": "freshet", "client_secret": "x", "issuer_url": tokens.URL})
	if err := os.WriteFile(key, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := "pulsar://" + s.Address + "/public/default?admin=http://" + s.Word("admin")
	tls := "pulsar+tls://" + s.Word("tls") + "/public/default?admin=https://" + s.Word("admin_tls")
	ca := "&tls_ca=" + dir + "/ca.pem"
	environment := func(name string) (string, bool) {
		v, ok := map[string]string{"TOKEN": token(secret, "freshet"), "PASSWORD": servers.Password, "WRONG": "wrong"}[name]
		return v, ok
	}
	for name, url := range map[string]string{
		"token from a file":               plain + "&token_file=" + dir + "/admin.token",
		"token from the environment, TLS": tls + ca + "&token_env=TOKEN",
		"pulsar+ssl":                      strings.Replace(tls, "+tls", "+ssl", 1) + ca + "&token_env=TOKEN",
		"user and password, TLS":          tls + ca + "&user=freshet&password_env=PASSWORD",
		"client certificate":              tls + ca + "&tls_cert=" + dir + "/client.pem&tls_key=" + dir + "/client-key.pem",
		"OAuth2":                          plain + "&oauth2_issuer=" + tokens.URL + "&oauth2_key_file=" + key,
	} {
		t.Run(name, func(t *testing.T) {
			d, err := pulsar.Open(t.Context(), url, pulsar.Options{Env: environment})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			work(t, d)
		})
	}
	for name, url := range map[string]string{
		"no credentials":        plain,
		"wrong token":           plain + "&token_file=" + dir + "/wrong.token",
		"wrong password":        plain + "&user=freshet&password_env=WRONG",
		"untrusted certificate": tls + "&token_env=TOKEN",
		"missing token":         plain + "&token_env=NONE",
		"missing namespace":     strings.Replace(plain, "public/default", "public/none", 1) + "&token_env=TOKEN",
	} {
		t.Run(name, func(t *testing.T) {
			d, err := pulsar.Open(t.Context(), url, pulsar.Options{Env: environment})
			if err == nil {
				_ = d.Close()
			}
			if !errkind.Is(err, errkind.Config) {
				t.Errorf("kind %v: %v", errkind.Of(err), err)
			}
			if err != nil && (strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), token(secret, "freshet"))) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// work does once each what needs a connection of its own.
func work(t *testing.T, d *pulsar.Driver) {
	t.Helper()
	ctx := t.Context()
	name := "secure-" + strings.ToLower(rand.Text()[:10])
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: 1}))
	_, err := d.Publish(ctx, name, []event.Record{{Value: []byte("1")}})
	must(err)
	state, err := d.Describe(ctx, name, "g")
	must(err)
	_, err = d.Append(ctx, name, 0, state.Partitions[0].End, []event.Record{{Value: []byte("2")}})
	must(err)
	_, err = d.Publish(ctx, name, []event.Record{{Value: []byte("3")}}) // fences our own append's producer
	must(err)
	c, err := d.Subscribe(ctx, broker.Subscription{Topic: name, Group: "g"})
	must(err)
	claim, err := c.Claim(ctx)
	must(err)
	for want := 1; want <= 3; want++ {
		b, err := claim.Fetch(ctx, 1)
		must(err)
		if got := string(b.Records[0].Value); got != string(rune('0'+want)) {
			t.Fatalf("got record %s, want %d", got, want)
		}
		must(claim.Commit(ctx, b.Next()))
		b.Release()
	}
	must(c.Close())
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for url, kind := range map[string]errkind.Kind{
		"pulsar://127.0.0.1:1":                    errkind.Transient,
		"pulsar://127.0.0.1:1/public":             errkind.Config,
		"pulsar://127.0.0.1:1?tiemout=3s":         errkind.Config,
		"pulsar://127.0.0.1:1?admin=127.0.0.1":    errkind.Config,
		"pulsar://127.0.0.1:1?compression=gzip":   errkind.Config,
		"pulsar://127.0.0.1:1?oauth2_issuer=http": errkind.Config,
		"pulsar://": errkind.Config,
	} {
		if _, err := pulsar.Open(t.Context(), url, pulsar.Options{}); !errkind.Is(err, kind) {
			t.Errorf("%s: kind %v (%v), want %v", url, errkind.Of(err), err, kind)
		}
	}
}
