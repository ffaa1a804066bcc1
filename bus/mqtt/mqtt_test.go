package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// server is a Mosquitto that can be ended and started on the same data.
type server struct{ *servers.Server }

func start(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{servers.Run(t, "mosquitto", args...)}
}

// again ends the server and starts it on the same data.
func (s *server) again(t testing.TB, end func(...int) error) {
	t.Helper()
	if err := errors.Join(end(), s.Restart()); err != nil {
		t.Fatal(err)
	}
}

func (s *server) url(path, options string) string {
	return "mqtt://freshet:" + servers.Password + "@" + s.Address + "/" + path + "?" + options
}

var queues atomic.Int64

func (s *server) receivers(share string) bustest.ReceiverHarness {
	h := bustest.ReceiverHarness{
		Ordered: true, AcksInOrder: true, TellsRedelivery: true, Messages: 200, Patience: 20 * time.Second,
		Queue: func(t testing.TB) bustest.Queue {
			n := queues.Add(1)
			open := func(t testing.TB, member int, l bus.Limits) bus.Receiver {
				t.Helper()
				url := s.url(fmt.Sprintf("suite/%d/%%23", n), fmt.Sprintf("share=%s&key=none&client_id=suite-%d-%d", share, n, member))
				r, err := OpenReceiver(context.Background(), url, l, Options{})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			if err := open(t, 0, bus.Limits{}).Close(); err != nil { // the session begins
				t.Fatal(err)
			}
			to, err := OpenSender(context.Background(), s.url(fmt.Sprintf("suite/%d/x", n), ""), Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = to.Close() })
			q := bustest.Queue{
				Open: open,
				Publish: func(ctx context.Context, recs []event.Record) error {
					return to.Send(ctx, bus.Batch{Records: recs})
				},
			}
			if share == "" { // Mosquitto does not keep shared subscriptions across a restart
				q.Restart = func(t testing.TB) { s.again(t, s.Stop) }
				q.Kill = func(t testing.TB) { s.again(t, s.Kill) }
				v := newSaver(t, s)
				q.Publish = func(ctx context.Context, recs []event.Record) error { // durably, which a PUBACK does not say
					if err := to.Send(ctx, bus.Batch{Records: recs}); err != nil {
						return err
					}
					return v.save(ctx)
				}
			}
			return q
		},
		Expect: func(r event.Record) event.Record { return received(r, fmt.Sprintf("suite/%d/x", queues.Load())) },
	}
	h.Alone = share == ""
	return h
}

// received is a record as it comes back: with its topic, and the content type behind other headers.
func received(r event.Record, topic string) event.Record {
	var h, last event.Headers
	for k, v := range r.Headers.All() {
		if k == event.HeaderContentType {
			last = last.Append(k, v)
		} else {
			h = h.Append(k, v)
		}
	}
	r.Headers = append(h, last...).AppendString("mqtt-topic", topic)
	return r
}

func TestReceiverAgainstMosquitto(t *testing.T) {
	s := start(t)
	t.Run("alone", func(t *testing.T) { bustest.RunReceiver(t, s.receivers("")) })
	t.Run("crash", func(t *testing.T) { bustest.RunReceiverCrash(t, s.receivers("")) })
	t.Run("shared", func(t *testing.T) { bustest.RunReceiver(t, s.receivers("g")) })
}

func TestSenderAgainstMosquitto(t *testing.T) {
	s := start(t)
	bustest.RunSender(t, bustest.SenderHarness{
		Ordered: true, Patience: 20 * time.Second,
		Refused: func() event.Record { return event.Record{ID: []byte("large"), Value: make([]byte, 2_000_000)} },
		Expect:  func(r event.Record) event.Record { return received(r, fmt.Sprintf("out/%d/x", queues.Load())) },
		Target: func(t testing.TB) bustest.Target {
			n := queues.Add(1)
			// Read keeps what came, because it is asked for all each time.
			r, err := OpenReceiver(context.Background(), s.url(fmt.Sprintf("out/%d/%%23", n), fmt.Sprintf("key=none&client_id=out-%d", n)), bus.Limits{}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			var all []event.Record
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender {
					to, err := OpenSender(context.Background(), s.url(fmt.Sprintf("out/%d/x", n), "timeout=5s"), Options{})
					if err != nil {
						t.Fatal(err)
					}
					return to
				},
				Read: func(t testing.TB, want int) []event.Record {
					for wait := 20 * time.Second; ; wait = 200 * time.Millisecond {
						if len(all) >= want {
							wait = 200 * time.Millisecond // for more than there should be
						}
						ctx, cancel := context.WithTimeout(context.Background(), wait)
						m, err := r.Receive(ctx, 1000)
						cancel()
						if errkind.Is(err, errkind.Transient) && ctx.Err() == nil {
							continue
						}
						if err != nil {
							return all
						}
						for i := range m {
							all = append(all, m[i].Record)
						}
						if err := r.Ack(context.Background(), m); err != nil && !errkind.Is(err, errkind.Conflict) {
							t.Fatal(err)
						}
					}
				},
				Restart: func(t testing.TB) { s.again(t, s.Stop) },
				Stall: func(t testing.TB) func() {
					if err := s.Pause(); err != nil {
						t.Fatal(err)
					}
					return func() { _ = s.Resume() }
				},
			}
		},
	})
}
