package rabbitmq

import (
	"strings"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

func TestErrorsSayWhatIsWrong(t *testing.T) {
	n := server(t, false)
	for _, c := range []struct {
		name, url string
		kind      errkind.Kind
	}{
		{"password", "rabbitmq-stream://freshet:wrong-secret@" + n.addr, errkind.Config},
		{"virtual host", "rabbitmq-stream://freshet:" + servers.Password + "@" + n.addr + "/other", errkind.Config},
		{"missing virtual host", "rabbitmq-stream://freshet:" + servers.Password + "@" + n.addr + "/missing", errkind.Config},
		{"nobody listens", "rabbitmq-stream://freshet:wrong-secret@127.0.0.1:1", errkind.Transient},
		{"port of AMQP", "rabbitmq-stream://freshet:wrong-secret@" + n.words["amqp"], errkind.Config},
		{"option", n.url("sesion=1s"), errkind.Config},
		{"scheme", "amqp://" + n.addr, errkind.Config},
	} {
		_, err := Open(t.Context(), c.url, Options{})
		if !errkind.Is(err, c.kind) {
			t.Errorf("%s: got %v (kind %v), want kind %v", c.name, err, errkind.Of(err), c.kind)
		}
		if err != nil && (strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), servers.Password)) {
			t.Errorf("%s: the error holds a password: %v", c.name, err)
		}
	}
	reader := open(t, "rabbitmq-stream://reader:"+servers.Password+"@"+n.addr)
	defer func() { _ = reader.Close() }()
	if err := reader.CreateTopic(t.Context(), broker.TopicConfig{Name: "forbidden", Partitions: 1}); !errkind.Is(err, errkind.Config) {
		t.Errorf("a user who may not write: got %v (kind %v), want kind config", err, errkind.Of(err))
	}
}

func TestCertificatesOfBothSidesAreChecked(t *testing.T) {
	n := server(t, true)
	base, files := n.words["streams"]+"/?tls_ca="+n.words["ca"], "&tls_cert="+n.words["cert"]+"&tls_key="+n.words["key"]
	d := open(t, "rabbitmq-stream+tls://freshet:"+servers.Password+"@"+base+files)
	if _, err := d.Describe(t.Context(), "first", ""); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for name, url := range map[string]string{
		"no certificate of the client's": "rabbitmq-stream+tls://freshet:" + servers.Password + "@" + base,
		"a server that is not trusted":   "rabbitmq-stream+tls://freshet:" + servers.Password + "@" + n.words["streams"] + "/?tls_cert=" + n.words["cert"] + "&tls_key=" + n.words["key"],
		"another name":                   "rabbitmq-stream+tls://freshet:" + servers.Password + "@" + base + files + "&tls_server_name=example.com",
	} {
		if _, err := Open(t.Context(), url, Options{}); !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: got %v (kind %v), want kind config", name, err, errkind.Of(err))
		}
	}
}

func TestAStreamOfOthersIsATopicOfOnePartition(t *testing.T) {
	n := server(t, false)
	d := open(t, n.url("session=2s"))
	defer func() { _ = d.Close() }()
	if err := d.createStream(t.Context(), "native", nil); err != nil && !errkind.Is(err, errkind.Conflict) {
		t.Fatal(err)
	}
	if _, err := d.Publish(t.Context(), "native", []event.Record{{Key: []byte("k"), Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	c, err := d.Subscribe(t.Context(), broker.Subscription{Topic: "native", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := c.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := claim.Fetch(t.Context(), 10)
	if err != nil || len(b.Records) != 1 || string(b.Records[0].Key) != "k" {
		t.Fatalf("got %+v, %v", b, err)
	}
	if err := claim.Commit(t.Context(), b.Next()); err != nil {
		t.Fatal(err)
	}
	s, err := d.Describe(t.Context(), "native", "g")
	if err != nil || len(s.Partitions) != 1 || s.Partitions[0].Waiting != 0 || s.Partitions[0].Committed != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
}
