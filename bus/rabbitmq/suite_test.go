package rabbitmq

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

var (
	_ bus.Receiver = (*Receiver)(nil)
	_ bus.Sender   = (*Sender)(nil)
)

func queueName() string { return "suite-" + strings.ToLower(rand.Text()[:12]) }

func receiver(t testing.TB, url string, l bus.Limits) *Receiver {
	t.Helper()
	r, err := OpenReceiver(t.Context(), url, l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sender(t testing.TB, url string) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receiverHarness(t testing.TB, kind string) bustest.ReceiverHarness {
	n := server(t, false)
	return bustest.ReceiverHarness{
		Ordered: true, TellsRedelivery: true, Patience: 40 * time.Second,
		Queue: func(t testing.TB) bustest.Queue {
			return queue(t, n, n.url("declare="+kind+"&queue="+queueName()))
		},
	}
}

func queue(t testing.TB, n *node, url string) bustest.Queue {
	s := sender(t, url)
	t.Cleanup(func() { _ = s.Close() })
	return bustest.Queue{
		Open: func(t testing.TB, _ int, l bus.Limits) bus.Receiver { return receiver(t, url, l) },
		Publish: func(ctx context.Context, recs []event.Record) error {
			return s.Send(ctx, bus.Batch{Topic: "t", Records: recs})
		},
		Kill: n.again,
	}
}

func TestReceiverSuite(t *testing.T) {
	for _, kind := range []string{"quorum", "classic"} {
		t.Run(kind, func(t *testing.T) { bustest.RunReceiver(t, receiverHarness(t, kind)) })
	}
}

// The queue is one that was there before: a quorum queue made within half a
// second before a kill -9 of the only node is lost by the server itself.
func TestReceiverSurvivesKills(t *testing.T) {
	h := receiverHarness(t, "quorum")
	n := server(t, false)
	h.Queue = func(t testing.TB) bustest.Queue { return queue(t, n, n.url("queue=kept")) }
	bustest.RunReceiverCrash(t, h)
}

func TestSenderSuite(t *testing.T) { bustest.RunSender(t, senderHarness(t)) }

func senderHarness(t testing.TB) bustest.SenderHarness {
	n := server(t, false)
	return bustest.SenderHarness{
		Ordered: true, Patience: 40 * time.Second,
		Refused: func() event.Record {
			return event.Record{ID: []byte("large"), Value: make([]byte, 2<<20)}
		},
		Target: func(t testing.TB) bustest.Target {
			url := n.url("declare=quorum&queue=" + queueName())
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return sender(t, url+"&max_bytes=1048576") },
				Read: func(t testing.TB, want int) []event.Record { return drain(t, url, want) },
			}
		},
	}
}

// drain reads all that a queue holds, and gives it back.
func drain(t testing.TB, url string, want int) []event.Record {
	t.Helper()
	r := receiver(t, url, bus.Limits{Unacknowledged: 60_000})
	defer func() { _ = r.Close() }()
	var out []event.Record
	until := time.Now().Add(20 * time.Second)
	for {
		wait := 300 * time.Millisecond // nothing more comes
		if len(out) < want {
			wait = time.Until(until)
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		messages, err := r.Receive(ctx, 1000)
		cancel()
		if err != nil {
			return out
		}
		for _, m := range messages {
			out = append(out, m.Record)
		}
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	n := server(t, false)
	address := n.words["amqp"]
	for _, c := range []struct {
		name, url string
		kind      errkind.Kind
	}{
		{"password", "amqp://freshet:wrong-secret@" + address + "/?queue=first", errkind.Config},
		{"virtual host", "amqp://freshet:" + servers.Password + "@" + address + "/other?queue=first", errkind.Config},
		{"missing virtual host", "amqp://freshet:" + servers.Password + "@" + address + "/missing?queue=first", errkind.Config},
		{"missing queue", n.url("queue=missing"), errkind.NotFound},
		{"nobody listens", "amqp://freshet:wrong-secret@127.0.0.1:1/?queue=first", errkind.Transient},
		{"no queue", n.url(""), errkind.Config},
		{"permission", "amqp://reader:" + servers.Password + "@" + address + "/?declare=quorum&queue=new", errkind.Config},
	} {
		_, err := OpenReceiver(t.Context(), c.url, bus.Limits{}, Options{})
		if !errkind.Is(err, c.kind) {
			t.Errorf("%s: got %v (kind %v), want kind %v", c.name, err, errkind.Of(err), c.kind)
		}
		if err != nil && (strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), servers.Password)) {
			t.Errorf("%s: the error holds a password: %v", c.name, err)
		}
	}
	if _, err := OpenSender(t.Context(), n.url("exchange=missing"), Options{}); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("missing exchange: got %v (kind %v)", err, errkind.Of(err))
	}
	s := sender(t, n.url("exchange=amq.direct&routing_key=nowhere"))
	defer func() { _ = s.Close() }()
	err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("x")}}})
	if !errkind.Is(err, errkind.NotFound) {
		t.Errorf("unroutable: got %v (kind %v), want kind not_found", err, errkind.Of(err))
	}
}
