package kafka_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/kafka"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func TestURLsThatAreWrongAreConfig(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"kafka://", "no host"},
		{"nats://host", "expected kafka://"},
		{"kafka://host/topic", "topics are named where they are used"},
		{"kafka://host?compresion=lz4", `did you mean "compression"`},
		{"kafka://host?compression=best", "expected none, snappy"},
		{"kafka://host?timeout=soon", "expected a duration"},
		{"kafka://host?replication=0", "at least 1"},
		{"kafka://host?sasl=kerberos", "expected plain"},
		{"kafka://host?sasl=plain", "needs a user and a password"},
		{"kafka://user@host?sasl=scram-sha-256", "needs a user and a password"},
		{"kafka://user@host?password_env=ABSENT", "no variable ABSENT"},
		{"kafka://host?sasl=oauthbearer", "one of the options token_file, token_env and token_url"},
		{"kafka://host?sasl=oauthbearer&token_file=a&token_env=b", "one of the options"},
		{"kafka://host?sasl=oauthbearer&token_file=/nowhere", "token_file"},
		{"kafka://host?sasl=oauthbearer&token_env=ABSENT", "holds no token"},
		{"kafka://host?sasl=oauthbearer&token_url=https://id.example", "the client's id as user"},
		{"kafka://id:secret@host?sasl=oauthbearer&token_url=id.example", "expected https://"},
	} {
		d, err := kafka.Open(t.Context(), c.url, kafka.Options{Env: func(string) (string, bool) { return "", false }})
		if err == nil {
			_ = d.Close()
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got kind %v: %v, want config and %q", c.url, errkind.Of(err), err, c.want)
		}
	}
}

func TestAServerThatIsNotThereIsTransientAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	from := time.Now()
	_, err = kafka.Open(t.Context(), "kafka://user:secret@"+address+"?timeout=30s", kafka.Options{})
	if !errkind.Is(err, errkind.Transient) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got kind %v: %v, want transient", errkind.Of(err), err)
	}
	if took := time.Since(from); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAServerThatDoesNotAnswerIsTransientInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = kafka.Open(t.Context(), "kafka://"+l.Addr().String()+"?timeout=300ms", kafka.Options{})
	if !errkind.Is(err, errkind.Transient) {
		t.Errorf("got kind %v: %v, want transient", errkind.Of(err), err)
	}
}

// A topic that somebody made with the times of its producers, and records
// without any of our headers.
func TestForeignTopicsAreRead(t *testing.T) {
	f := newFake(t)
	d := open(t, f.url)
	defer d.Close()
	ctx := t.Context()
	if err := d.(broker.Admin).CreateTopic(ctx, broker.TopicConfig{Name: "foreign", Partitions: 1, Retention: 36 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(strings.Split(f.url, "?")[0], "kafka://")
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rec := &kgo.Record{Topic: "foreign", Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "app", Value: []byte("x")}}}
	if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r, err := d.Read(ctx, "foreign", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Fetch(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	got := b.Records[0]
	if app, _ := got.Headers.Get("app"); string(got.Key) != "k" || string(got.Value) != "v" || len(got.ID) != 0 || string(app) != "x" {
		t.Errorf("got %+v", got)
	}
	state, err := d.Describe(ctx, "foreign", "")
	if err != nil || state.Config.Retention != 36*time.Hour || state.Config.RetainBytes != 0 {
		t.Errorf("Describe says %+v, %v", state.Config, err)
	}
}

func TestATransactionUnderAClaimOfOthersIsInvalid(t *testing.T) {
	f := newFake(t)
	d, other := open(t, f.url), open(t, f.url)
	defer d.Close()
	defer other.Close()
	ctx := t.Context()
	if err := d.(broker.Admin).CreateTopic(ctx, broker.TopicConfig{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	c, err := other.Subscribe(ctx, broker.Subscription{Topic: "t", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := c.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = d.(broker.Transactor).Commit(ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: claim, Next: 1}}})
	if !errkind.Is(err, errkind.Invalid) {
		t.Errorf("got kind %v: %v, want invalid", errkind.Of(err), err)
	}
}

// The port's own size check stands before the driver; the driver refuses as well.
func TestARecordAboveTheServersLimitIsInvalidInATransaction(t *testing.T) {
	f := newFake(t)
	d := open(t, f.url+"&max_record_bytes=10000")
	defer d.Close()
	if err := d.(broker.Admin).CreateTopic(t.Context(), broker.TopicConfig{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if n := d.Capabilities().MaxRecordBytes; n > 10000 || n < 9000 {
		t.Errorf("MaxRecordBytes is %d", n)
	}
	err := d.(broker.Transactor).Commit(t.Context(), &broker.Tx{Publish: []broker.Publication{{Topic: "t", Records: []event.Record{{Value: make([]byte, 10000)}}}}})
	if !errkind.Is(err, errkind.Invalid) {
		t.Errorf("got kind %v: %v, want invalid", errkind.Of(err), err)
	}
}
