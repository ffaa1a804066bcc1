package jetstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
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

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// password is what no error may hold.
const password = "hunter2-secret"

// write puts a secret into a file.
func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// wantWorks opens a URL, and stores and reads a record.
func wantWorks(t *testing.T, url string) {
	t.Helper()
	d, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Errorf("Open: %v", err)
		return
	}
	defer d.Close()
	if err := d.CreateTopic(t.Context(), broker.TopicConfig{Name: "secured", Partitions: 1}); err != nil {
		t.Error(err)
		return
	}
	if _, err := d.Publish(t.Context(), "secured", []event.Record{{Value: []byte("x")}}); err != nil {
		t.Error(err)
	}
	r, err := d.Read(t.Context(), "secured", 0, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if _, err := r.Fetch(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// wantRefused opens a URL that must not work, with an error that holds no secret.
func wantRefused(t *testing.T, url string, kind errkind.Kind) {
	t.Helper()
	d, err := Open(t.Context(), url, Options{})
	if err == nil {
		_ = d.Close()
		t.Errorf("Open succeeds")
		return
	}
	if !errkind.Is(err, kind) || strings.Contains(err.Error(), password) {
		t.Errorf("Open: kind %v (%v), want %v", errkind.Of(err), err, kind)
	}
}

func (s *inProcess) at(before, options string) string {
	return fmt.Sprintf("nats://%s127.0.0.1:%d?timeout=5s%s", before, s.opts.Port, options)
}

func TestUserAndPasswordAreDemanded(t *testing.T) {
	s := startInProcess(t, func(o *natsserver.Options) { o.Username, o.Password = "freshet", password })
	wantWorks(t, s.at("freshet:"+password+"@", ""))
	wantWorks(t, s.at("freshet@", "&password_file="+write(t, "password", []byte(password+"\n"))))
	wantRefused(t, s.at("freshet:no"+password+"@", ""), errkind.Config)
	wantRefused(t, s.at("", ""), errkind.Config)
}

func TestATokenIsDemanded(t *testing.T) {
	s := startInProcess(t, func(o *natsserver.Options) { o.Authorization = password })
	wantWorks(t, s.at("", "&token_file="+write(t, "token", []byte(password))))
	wantWorks(t, s.at(password+"@", ""))
	wantRefused(t, s.at("no"+password+"@", ""), errkind.Config)
}

func TestAnNKeyIsDemanded(t *testing.T) {
	seed := func() ([]byte, string) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := pair.Seed()
		public, _ := pair.PublicKey()
		return s, public
	}
	good, public := seed()
	bad, _ := seed()
	s := startInProcess(t, func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} })
	wantWorks(t, s.at("", "&nkey="+write(t, "seed", good)))
	wantRefused(t, s.at("", "&nkey="+write(t, "seed", bad)), errkind.Config)
	wantRefused(t, s.at("", "&nkey="+write(t, "seed", []byte(password))), errkind.Config)
	wantRefused(t, s.at("u:p@", "&nkey="+write(t, "seed", good)), errkind.Config)
}

func TestCredentialsOfAnAccountAreDemanded(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operator, err := nkeys.CreateOperator()
	must(err)
	account, err := nkeys.CreateAccount()
	must(err)
	user, err := nkeys.CreateUser()
	must(err)
	operatorKey, _ := operator.PublicKey()
	accountKey, _ := account.PublicKey()
	userKey, _ := user.PublicKey()
	oc := jwt.NewOperatorClaims(operatorKey)
	ac := jwt.NewAccountClaims(accountKey)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := ac.Encode(operator)
	must(err)
	system, err := nkeys.CreateAccount()
	must(err)
	systemKey, _ := system.PublicKey()
	systemJWT, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	must(err)
	uc := jwt.NewUserClaims(userKey)
	userJWT, err := uc.Encode(account)
	must(err)
	seed, err := user.Seed()
	must(err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	must(err)
	s := startInProcess(t, func(o *natsserver.Options) {
		resolver := &natsserver.MemAccResolver{}
		must(resolver.Store(accountKey, accountJWT))
		must(resolver.Store(systemKey, systemJWT))
		o.SystemAccount = systemKey
		o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{oc}, resolver
	})
	wantWorks(t, s.at("", "&creds="+write(t, "user.creds", creds)))
	wantRefused(t, s.at("", "&creds=/none"), errkind.Config)
	wantRefused(t, s.at("", ""), errkind.Config)
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.sign("ca", true)
	a.file = write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return a
}

func (a *authority) sign(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if ca {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// pair is a certificate and its key, as files and for a server.
func (a *authority) pair(name string) (cert, key string, both tls.Certificate) {
	a.t.Helper()
	c, k := a.sign(name, false)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert = write(a.t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	key = write(a.t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return cert, key, tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k}
}

func TestEncryptionAndCertificatesAreDemanded(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	_, _, cert := ours.pair("server")
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	serve := func(auth tls.ClientAuthType) *inProcess {
		return startInProcess(t, func(o *natsserver.Options) {
			o.TLS, o.TLSVerify, o.TLSTimeout = true, auth == tls.RequireAndVerifyClientCert, 5
			o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: auth, MinVersion: tls.VersionTLS12}
		})
	}
	secure := func(s *inProcess, options string) string {
		return strings.Replace(s.at("", options), "nats://", "nats+tls://", 1)
	}
	one := serve(tls.NoClientCert)
	wantWorks(t, secure(one, "&tls_ca="+ours.file))
	wantRefused(t, secure(one, "&tls_ca="+other.file), errkind.Config)
	wantRefused(t, secure(one, "&tls_server_name=example.org&tls_ca="+ours.file), errkind.Config)
	wantRefused(t, one.at("", ""), errkind.Config)

	both := serve(tls.RequireAndVerifyClientCert)
	c, k, _ := ours.pair("client")
	wantWorks(t, secure(both, "&tls_ca="+ours.file+"&tls_cert="+c+"&tls_key="+k))
	wantRefused(t, secure(both, "&tls_ca="+ours.file), errkind.Config)

	plain := startInProcess(t, nil)
	wantRefused(t, secure(plain, "&tls_ca="+ours.file), errkind.Config)
}

func TestServersThatAreNotThereOrAreOthersAreTold(t *testing.T) {
	wantRefused(t, fmt.Sprintf("nats://127.0.0.1:%d", freePort(t)), errkind.Transient)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	wantRefused(t, "nats://"+strings.TrimPrefix(web.URL, "http://")+"?timeout=2s", errkind.Transient) // it waits for us to speak
	bare := startInProcess(t, func(o *natsserver.Options) { o.JetStream = false })
	wantRefused(t, bare.at("", ""), errkind.Config)
	s := startInProcess(t, nil)
	wantRefused(t, s.at("", "&sesion=3s"), errkind.Config)
	wantRefused(t, s.at("", "&domain=a&api_prefix=b"), errkind.Config)
	wantRefused(t, "nats://", errkind.Config)
}

func TestADomainIsSpokenTo(t *testing.T) {
	s := startInProcess(t, func(o *natsserver.Options) { o.JetStreamDomain = "edge" })
	wantWorks(t, s.at("", "&domain=edge"))
	wantWorks(t, s.at("", "&api_prefix=$JS.edge.API"))
	wantRefused(t, s.at("", "&domain=elsewhere"), errkind.Config)
}

func TestAccountsAreApart(t *testing.T) {
	a, b := natsserver.NewAccount("A"), natsserver.NewAccount("B")
	s := startInProcess(t, func(o *natsserver.Options) {
		o.Accounts = []*natsserver.Account{a, b}
		o.Users = []*natsserver.User{{Username: "a", Password: password, Account: a}, {Username: "b", Password: password, Account: b}}
	})
	for _, name := range []string{"A", "B"} {
		acc, err := s.LookupAccount(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := acc.EnableJetStream(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantWorks(t, s.at("a:"+password+"@", ""))
	d := open(t, s.at("b:"+password+"@", ""))
	defer d.Close()
	if names, err := d.(broker.Admin).Topics(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("one account sees another's topics: %v, %v", names, err)
	}
}
