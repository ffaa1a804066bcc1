package eventgrid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func env(name string) (string, bool) {
	return map[string]string{"KEY": accessKey, "WRONG": "hunter2"}[name], name == "KEY" || name == "WRONG"
}

func (f *fake) url(path, options string) string {
	return "eventgrid://ns.westeurope-1.eventgrid.azure.net/" + path + "?key_env=KEY&endpoint=" + f.URL + "&" + options
}

func (f *fake) receiver(t testing.TB, l bus.Limits) *Receiver {
	t.Helper()
	r, err := OpenReceiver(t.Context(), f.url("t/s", "wait=10s&lock="+f.lock.String()), Options{Env: env, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fake) sender(t testing.TB) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), f.url("t", ""), Options{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReceiver(t *testing.T) {
	bustest.RunReceiver(t, bustest.ReceiverHarness{
		TellsRedelivery: true,
		Queue: func(t testing.TB) bustest.Queue {
			f := newFake(t, 4*time.Second)
			s := f.sender(t)
			t.Cleanup(func() { _ = s.Close() })
			return bustest.Queue{
				Open:    func(t testing.TB, _ int, l bus.Limits) bus.Receiver { return f.receiver(t, l) },
				Publish: func(ctx context.Context, recs []event.Record) error { return s.Send(ctx, bus.Batch{Records: recs}) },
			}
		},
	})
}

func TestSender(t *testing.T) {
	bustest.RunSender(t, bustest.SenderHarness{
		Ordered: true,
		Refused: func() event.Record { return event.Record{ID: []byte("x"), Value: make([]byte, maxBytes)} },
		Target: func(t testing.TB) bustest.Target {
			f := newFake(t, time.Minute)
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return f.sender(t) },
				Read: func(testing.TB, int) []event.Record {
					f.mu.Lock()
					defer f.mu.Unlock()
					var recs []event.Record
					for _, e := range f.stored {
						recs = append(recs, recordOf(e))
					}
					return recs
				},
			}
		},
	})
}

func take(t testing.TB, r bus.Receiver, n int) []bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []bus.Message
	for len(all) < n {
		got, err := r.Receive(ctx, n-len(all))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

func TestLocksAreRenewedUntilTheyAreLost(t *testing.T) {
	f := newFake(t, 300*time.Millisecond)
	s, r := f.sender(t), f.receiver(t, bus.Limits{})
	defer s.Close()
	defer r.Close()
	if err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte("a")}, {ID: []byte("b")}}}); err != nil {
		t.Fatal(err)
	}
	got := take(t, r, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if again, err := r.Receive(ctx, 2); ctx.Err() == nil {
		t.Fatalf("got %d messages, %v: locks were not renewed", len(again), err)
	}
	f.mu.Lock()
	f.events[0].token = "somebody else's"
	f.mu.Unlock()
	if err := r.Ack(t.Context(), got); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("got %v, want a Conflict for the lock that was lost", err)
	}
	if again := take(t, r, 1); string(again[0].Record.ID) != "a" || !again[0].Redelivered {
		t.Errorf("got %q", again[0].Record.ID)
	}
}

func TestAnInvalidEventDoesNotTakeItsBatchAlong(t *testing.T) {
	f := newFake(t, time.Minute)
	s := f.sender(t)
	defer s.Close()
	f.fail = func(action string, body []byte) (int, string) {
		if action == "publish" && bytes.Contains(body, []byte("poison")) {
			return http.StatusBadRequest, `{"error":{"code":"BadRequest","message":"no"}}`
		}
		return 0, ""
	}
	err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte("a")}, {ID: []byte("poison")}, {ID: []byte("b")}}})
	var refused *bus.RefusedError
	if !errors.As(err, &refused) || len(refused.Records) != 1 || refused.Records[0].Index != 1 || len(f.stored) != 2 {
		t.Errorf("got %v, %d events stored", err, len(f.stored))
	}
}

func TestErrorsHaveTheirKindsAndNoSecrets(t *testing.T) {
	f := newFake(t, time.Minute)
	for raw, want := range map[string]errkind.Kind{
		f.url("t/absent", ""):   errkind.NotFound,
		f.url("t", ""):          errkind.Config,
		f.url("t/s", "wait=1s"): errkind.Config,
		f.url("t/s", "lok=1s"):  errkind.Config,
		strings.Replace(f.url("t/s", ""), "KEY", "WRONG", 1):                 errkind.Config,
		"eventgrid://h/t/s?key_env=WRONG&timeout=1s&endpoint=http://[::1]:1": errkind.Transient,
		"eventgrid://h/t/s?key_env=WRONG&endpoint=nowhere":                   errkind.Config,
		"eventgrid://a,b/t/s?key_env=WRONG":                                  errkind.Config,
	} {
		r, err := OpenReceiver(t.Context(), raw, Options{Env: env})
		if err == nil {
			_ = r.Close()
		}
		if !errkind.Is(err, want) || strings.Contains(fmt.Sprint(err), "hunter2") || strings.Contains(fmt.Sprint(err), accessKey) {
			t.Errorf("%s: %v (kind %v), want %v", raw, err, errkind.Of(err), want)
		}
	}
	s := f.sender(t)
	defer s.Close()
	for status, want := range map[int]errkind.Kind{429: errkind.Throttled, 503: errkind.Transient, 403: errkind.Config, 404: errkind.NotFound, 409: errkind.Permanent} {
		f.fail = func(string, []byte) (int, string) { return status, "" }
		before := len(f.calls)
		if err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{}}}); !errkind.Is(err, want) {
			t.Errorf("status %d: %v (kind %v), want %v", status, err, errkind.Of(err), want)
		}
		if len(f.calls) != before+1 {
			t.Errorf("status %d: %d calls, want one: pauses are the caller's", status, len(f.calls)-before)
		}
	}
}

func TestForeignEventsBecomeRecords(t *testing.T) {
	ce := event.Headers{}.AppendString("ce_specversion", "1.0").AppendString("ce_source", "/s").AppendString("ce_type", "t")
	for raw, want := range map[string]event.Record{
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a": 1}}`:                                     {ID: []byte("1"), Headers: ce, Value: []byte(`{"a": 1}`)},
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"eA==","datacontenttype":"text/plain"}`: {ID: []byte("1"), Headers: ce.AppendString("content-type", "text/plain"), Value: []byte("x")},
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"x","datacontenttype":"text/plain"}`:           {ID: []byte("1"), Headers: ce.AppendString("content-type", "text/plain"), Value: []byte("x")},
		`{"id":"1"}`: {Headers: event.Headers{}.AppendString("content-type", event.TypeStructured), Value: []byte(`{"id":"1"}`)},
	} {
		if diff := cmp.Diff(want, recordOf([]byte(raw))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", raw, diff)
		}
	}
}
