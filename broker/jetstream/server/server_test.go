package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/freshet-io/freshet/errkind"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func dial(s *Server, options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(strings.Replace(s.URL(), "nats+tls", "tls", 1), append(options, nats.NoReconnect())...)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestStreamsSurviveCloseAndStart(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		s := start(t, Options{Dir: dir, SyncAlways: true})
		nc, err := dial(s)
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context())
		if err != nil || info.State.Msgs != uint64(round+1) {
			t.Fatalf("round %d: %d messages, %v", round, info.State.Msgs, err)
		}
		nc.Close()
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOnlyUsersConnect(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Users: []User{{"freshet", "freshet-test"}}, NKeys: []string{public}})
	token := start(t, Options{Token: "s3cret"})
	for _, tc := range []struct {
		name string
		s    *Server
		who  nats.Option
		in   bool
	}{
		{"a user", s, nats.UserInfo("freshet", "freshet-test"), true},
		{"a wrong password", s, nats.UserInfo("freshet", "no"), false},
		{"nobody", s, nats.Name(""), false},
		{"an NKey", s, nats.Nkey(public, pair.Sign), true},
		{"a token", token, nats.Token("s3cret"), true},
		{"a wrong token", token, nats.Token("no"), false},
	} {
		nc, err := dial(tc.s, tc.who)
		if (err == nil) != tc.in {
			t.Errorf("%s: %v", tc.name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
}

// certificate is a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestConnectionsAreEncryptedAndClientsShowCertificates(t *testing.T) {
	cert, pool := certificate(t)
	s := start(t, Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}})
	if !strings.HasPrefix(s.URL(), "nats+tls://") {
		t.Errorf("the URL is %s", s.URL())
	}
	if nc, err := dial(s, nats.Secure(&tls.Config{RootCAs: pool})); err == nil {
		nc.Close()
		t.Error("a client without a certificate is let in")
	}
	nc, err := dial(s, nats.Secure(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// mqttPublish is a client of MQTT 3.1.1 that publishes one message at QoS 1.
func mqttPublish(t *testing.T, address, topic, payload string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text := func(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }
	packet := func(kind byte, body ...[]byte) {
		b := bytes.Join(body, nil)
		if _, err := c.Write(append([]byte{kind, byte(len(b))}, b...)); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(kind byte) {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil || b[0] != kind || kind == 0x20 && b[3] != 0 {
			t.Fatalf("answer % x, %v, want packet %#x", b, err, kind)
		}
	}
	packet(0x10, text("MQTT"), []byte{4, 0xc2, 0, 60}, text("sensor"), text("freshet"), text("freshet-test"))
	answer(0x20)
	packet(0x32, text(topic), []byte{0, 1}, []byte(payload))
	answer(0x40)
}

func TestWhatAnMQTTClientPublishesArrivesInAStream(t *testing.T) {
	mqtt := freeAddress(t)
	s := start(t, Options{MQTT: mqtt, LeafNodes: freeAddress(t), Users: []User{{"freshet", "freshet-test"}}})
	nc, err := dial(s, nats.UserInfo("freshet", "freshet-test"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "sensors", Subjects: []string{"sensors.>"}})
	if err != nil {
		t.Fatal(err)
	}
	mqttPublish(t, mqtt, "sensors/hall/7", "21.5")
	m, err := stream.GetLastMsgForSubject(t.Context(), "sensors.hall.7")
	if err != nil || string(m.Data) != "21.5" {
		t.Fatalf("the stream has %+v, %v", m, err)
	}
}

func TestOptionsThatCannotBeServedAreRefused(t *testing.T) {
	taken := start(t, Options{})
	for name, tc := range map[string]struct {
		o    Options
		kind errkind.Kind
	}{
		"no folder":                 {Options{Address: "127.0.0.1:0"}, errkind.Config},
		"no port":                   {Options{Address: "127.0.0.1", Dir: t.TempDir()}, errkind.Config},
		"open to everybody":         {Options{Address: "0.0.0.0:0", Dir: t.TempDir()}, errkind.Config},
		"a name open to everybody":  {Options{Address: "example.org:1", Dir: t.TempDir()}, errkind.Config},
		"a user without a password": {Options{Users: []User{{Name: "u"}}, Dir: t.TempDir()}, errkind.Config},
		"a seed as a public key":    {Options{NKeys: []string{"SUAAA"}, Dir: t.TempDir()}, errkind.Config},
		"a token and users":         {Options{Token: "t", Users: []User{{"u", "p"}}, Dir: t.TempDir()}, errkind.Config},
		"MQTT on a port of chance":  {Options{MQTT: "127.0.0.1:0", Dir: t.TempDir()}, errkind.Config},
		"an address that is in use": {Options{Address: strings.TrimPrefix(taken.URL(), "nats://"), Dir: t.TempDir()}, errkind.Exhausted},
		"a folder that cannot be":   {Options{Dir: "/dev/null/x"}, errkind.Config},
	} {
		s, err := Start(tc.o)
		if !errkind.Is(err, tc.kind) {
			t.Errorf("%s: %v (kind %v)", name, err, errkind.Of(err))
		}
		if s != nil {
			_ = s.Close()
		}
	}
}
