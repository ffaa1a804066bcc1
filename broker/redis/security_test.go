package redis_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/redis"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/test/servers"
)

func environment(name string) (string, bool) {
	return servers.Password, name == "REDIS_PASSWORD"
}

// works sends a record through a topic.
func works(t *testing.T, url string) {
	t.Helper()
	d, err := redis.Open(soon(t), url, redis.Options{Env: environment})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range []broker.TopicConfig{{Name: "t", Partitions: 1, Retention: time.Hour, RetainBytes: 1 << 20, DedupWindow: time.Hour}} {
		create(t, d, c)
		publish(t, d, c.Name, records(2000)...)
	}
	c, claim := subscribe(t, d, "t")
	_, next := fetch(t, claim, 1)
	if err := d.Commit(soon(t), &broker.Tx{Publish: []broker.Publication{{Topic: "t", Records: records(1)}}, Positions: []broker.ClaimPosition{{Claim: claim, Next: next}}}); err != nil {
		t.Error(err)
	}
	if _, err := d.Describe(soon(t), "t", "g"); err != nil {
		t.Error(err)
	}
	if _, err := d.Seek(soon(t), "t", 0, time.Now()); err != nil {
		t.Error(err)
	}
	if err := d.Trim(soon(t), "t", 0, 1); err != nil {
		t.Error(err)
	}
	if names, err := d.Topics(soon(t)); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := d.DeleteTopic(soon(t), "t"); err != nil {
		t.Error(err)
	}
}

// refused wants an error of the kind, with the text and without secrets.
func refused(t *testing.T, what, url string, kind errkind.Kind, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := redis.Open(ctx, url, redis.Options{Env: environment})
	if err == nil {
		err = d.CreateTopic(ctx, broker.TopicConfig{Name: "t", Partitions: 1})
		_ = d.Close()
	}
	if !errkind.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v (kind %v), want kind %v with %q", what, err, errkind.Of(err), kind, text)
	}
	for _, secret := range []string{servers.Password, "wrong-secret"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds a secret: %v", what, err)
		}
	}
}

func TestServerWithAPassword(t *testing.T) {
	s := start(t, "aof")
	works(t, "redis://"+s.address+"/3?password_env=REDIS_PASSWORD&prefix=a*b:")
	refused(t, "wrong password", "redis://:wrong-secret@"+s.address, errkind.Config, "WRONGPASS")
	refused(t, "no password", "redis://"+s.address, errkind.Config, "NOAUTH")
	refused(t, "database", s.url("999"), errkind.Config, "DB index")
	refused(t, "TLS to a server without", "rediss://:"+servers.Password+"@"+s.address+"?timeout=2s", errkind.Config, "no TLS")
}

func TestServerWithUsers(t *testing.T) {
	s := start(t, "acl")
	works(t, "redis://freshet@"+s.address+"?password_env=REDIS_PASSWORD&prefix=app:")
	refused(t, "wrong user", "redis://nobody:wrong-secret@"+s.address+"?prefix=app:", errkind.Config, "WRONGPASS")
	refused(t, "other keys", "redis://freshet:"+servers.Password+"@"+s.address+"?prefix=other:", errkind.Config, "NOPERM")
}

func TestServerThatDemandsTLSAndCertificates(t *testing.T) {
	s := start(t, "tls")
	in := func(name string) string { return filepath.Join(s.folder, name) }
	ca, cert := "tls_ca="+in("ca.crt"), "tls_cert="+in("client.crt")+"&tls_key="+in("client.key")
	at := "://:" + servers.Password + "@" + s.address
	works(t, "rediss"+at+"?"+ca+"&"+cert)
	works(t, "redis+tls"+at+"?tls_server_name=localhost&"+ca+"&"+cert)
	refused(t, "stranger's certificate", "rediss"+at+"?"+cert, errkind.Config, "certificate")
	refused(t, "other name", "rediss"+at+"?tls_server_name=example.com&"+ca+"&"+cert, errkind.Config, "example.com")
	refused(t, "no client certificate", "rediss"+at+"?"+ca, errkind.Config, "certificate required")
	refused(t, "no TLS", "redis"+at, errkind.Config, "wants TLS")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String()
	defer listener.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	_ = gone.Close()
	for _, c := range []struct {
		what, url string
		kind      errkind.Kind
		text      string
	}{
		{"nobody listens", "redis://:wrong-secret@" + nobody, errkind.Transient, "refused"},
		{"no answer", "redis://:wrong-secret@" + silent + "?timeout=100ms", errkind.Transient, silent},
		{"scheme", "http://:wrong-secret@h", errkind.Config, "redis://"},
		{"hosts", "redis://:wrong-secret@a,b", errkind.Config, "one host"},
		{"no host", "redis://", errkind.Config, "one host"},
		{"database", "redis://h/x", errkind.Config, "database"},
		{"option", "redis://h?prefx=a", errkind.Config, `"prefix"`},
		{"rows", "redis://h?rows=x", errkind.Config, "typed or strings"},
		{"session", "redis://h?session=0s", errkind.Config, "session"},
		{"replicas", "redis://h?wait_replicas=-1", errkind.Config, "wait_replicas"},
	} {
		refused(t, c.what, c.url, c.kind, c.text)
	}
}

func TestReplicasThatAreMissingAreNotWaitedForInSilence(t *testing.T) {
	s := start(t, "aof")
	d := open(t, s.url("?wait_replicas=1&timeout=400ms"))
	plain := open(t, s.url(""))
	create(t, plain, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, plain, "t", records(1)...)
	_, claim := subscribe(t, d, "t")
	if _, err := d.Publish(soon(t), "t", records(1)); !errkind.Is(err, errkind.Transient) || !strings.Contains(err.Error(), "wait_replicas") {
		t.Errorf("Publish: %v, want a Transient error", err)
	}
	if err := claim.Commit(soon(t), 1); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("Commit: %v, want a Conflict, the outcome being unknown", err)
	}
}
