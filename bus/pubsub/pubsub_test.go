package pubsub

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// fake is Google's own server for tests with one topic and one subscription.
type fake struct {
	*pstest.Server
	topic, subscription string // names
}

var names atomic.Int64

func newFake(t testing.TB, o ...pstest.ServerReactorOption) *fake {
	t.Helper()
	n := names.Add(1)
	f := &fake{pstest.NewServer(o...), fmt.Sprintf("topic-%d", n), fmt.Sprintf("sub-%d", n)}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: "projects/p/topics/" + f.topic}); err != nil {
		t.Fatal(err)
	}
	_, err := f.GServer.CreateSubscription(t.Context(), &pubsubpb.Subscription{
		Name: "projects/p/subscriptions/" + f.subscription, Topic: "projects/p/topics/" + f.topic,
		AckDeadlineSeconds:       10, // with message ordering, this server has one message of a key out at a time
		MessageRetentionDuration: durationpb.New(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fake) url(path string) string {
	return "pubsub://p/" + path + "?endpoint=" + f.Addr + "&timeout=5s"
}

func (f *fake) receiver(t testing.TB, l bus.Limits) *Receiver {
	t.Helper()
	r, err := OpenReceiver(t.Context(), f.url(f.subscription), Options{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fake) sender(t testing.TB) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), f.url("topics/"+f.topic), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReceiver(t *testing.T) {
	bustest.RunReceiver(t, bustest.ReceiverHarness{
		Queue: func(t testing.TB) bustest.Queue {
			f := newFake(t)
			s := f.sender(t)
			t.Cleanup(func() { _ = s.Close() })
			return bustest.Queue{
				Open: func(t testing.TB, _ int, l bus.Limits) bus.Receiver { return f.receiver(t, l) },
				Publish: func(ctx context.Context, recs []event.Record) error {
					return s.Send(ctx, bus.Batch{Records: recs})
				},
			}
		},
	})
}

func TestSender(t *testing.T) {
	bustest.RunSender(t, bustest.SenderHarness{
		Ordered: true,
		Refused: func() event.Record {
			return event.Record{ID: []byte("x"), Headers: event.Headers{}.Append("h", make([]byte, 64<<10))}
		},
		Target: func(t testing.TB) bustest.Target {
			f := newFake(t)
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return f.sender(t) },
				Read: func(testing.TB, int) []event.Record {
					var recs []event.Record
					for _, m := range f.Messages() {
						recs = append(recs, recordOf(&pubsubpb.PubsubMessage{MessageId: m.ID, Data: m.Data, Attributes: m.Attributes, OrderingKey: m.OrderingKey}))
					}
					return recs
				},
			}
		},
	})
}

// reactor answers calls in the server's place.
type reactor struct {
	mu    sync.Mutex
	calls int
	react func(call int, request any) error
	empty any
}

func (r *reactor) React(request any) (bool, any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	err := r.react(r.calls, request)
	return err != nil, r.empty, err
}

func verdict(t testing.TB, said map[string]string) error {
	t.Helper()
	s, err := status.New(codes.FailedPrecondition, "some acknowledgement ids failed").WithDetails(&errdetails.ErrorInfo{Reason: "ACK", Domain: "pubsub.googleapis.com", Metadata: said})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func take(t *testing.T, r bus.Receiver, n int) []bus.Message {
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

func TestExactlyOnceAcknowledgementsAreHonoured(t *testing.T) {
	asked := [][]string{}
	acks := &reactor{empty: &emptypb.Empty{}, react: func(call int, request any) error {
		ids := request.(*pubsubpb.AcknowledgeRequest).AckIds
		asked = append(asked, ids)
		if call > 1 {
			return nil
		}
		return verdict(t, map[string]string{ids[0]: "TRANSIENT_FAILURE_UNORDERED_ACK_ID", ids[1]: "PERMANENT_FAILURE_INVALID_ACK_ID"})
	}}
	f := newFake(t, pstest.ServerReactorOption{FuncName: "Acknowledge", Reactor: acks})
	r := f.receiver(t, bus.Limits{})
	defer r.Close()
	for i := range 3 {
		f.Publish("projects/p/topics/"+f.topic, []byte{byte(i)}, nil)
	}
	m := take(t, r, 3)
	if err := r.Ack(t.Context(), m); !errkind.Is(err, errkind.Conflict) {
		t.Fatalf("got %v, want a Conflict for the one that the service has taken back", err)
	}
	acks.mu.Lock()
	defer acks.mu.Unlock()
	if len(asked) != 2 || len(asked[0]) != 3 || !cmp.Equal(asked[1], asked[0][:1]) {
		t.Errorf("acknowledgements were sent for %v, want all three and then the first again", asked)
	}
}

func TestErrorsHaveTheirKinds(t *testing.T) {
	gone := net.JoinHostPort("127.0.0.1", "1")
	f := newFake(t)
	for _, tc := range []struct {
		url  string
		kind errkind.Kind
	}{
		{f.url("absent"), errkind.NotFound},
		{"pubsub://p/s?timeout=1s&endpoint=" + gone, errkind.Transient},
		{"pubsub+tls://p/s?timeout=1s&credentials=/none&endpoint=" + f.Addr, errkind.Config},
		{"pubsub://p/topics/t?endpoint=" + f.Addr, errkind.Config},
		{"pubsub://p/?endpoint=" + f.Addr, errkind.Config},
		{"pubsub://p/s?lease=1s", errkind.Config},
		{"pubsub://p/s?ordering=no", errkind.Config},
		{"pubsub://p/s?endpont=x", errkind.Config},
		{"pubsub://p,q/s", errkind.Config},
	} {
		r, err := OpenReceiver(t.Context(), tc.url, Options{})
		if err == nil {
			_ = r.Close()
		}
		if !errkind.Is(err, tc.kind) {
			t.Errorf("%s: %v (kind %v), want %v", tc.url, err, errkind.Of(err), tc.kind)
		}
	}
	if _, err := OpenSender(t.Context(), f.url("topics/absent"), Options{}); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("a missing topic: %v", err)
	}
	for code, want := range map[codes.Code]errkind.Kind{
		codes.ResourceExhausted: errkind.Throttled, codes.Unauthenticated: errkind.Config, codes.PermissionDenied: errkind.Config,
		codes.Unavailable: errkind.Transient, codes.InvalidArgument: errkind.Invalid, codes.FailedPrecondition: errkind.Permanent,
	} {
		if got := kindOf(status.Error(code, "x")); got != want {
			t.Errorf("%v is %v, want %v", code, got, want)
		}
	}
}

func TestARefusalToShowATopicIsNoRefusalToUseIt(t *testing.T) {
	f := newFake(t, pstest.WithErrorInjection("GetTopic", codes.PermissionDenied, "no"), pstest.WithErrorInjection("GetSubscription", codes.PermissionDenied, "no"))
	s, r := f.sender(t), f.receiver(t, bus.Limits{})
	defer s.Close()
	defer r.Close()
	if err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte("a")}}}); err != nil {
		t.Fatal(err)
	}
	if m := take(t, r, 1); string(m[0].Record.ID) != "a" {
		t.Errorf("got %q", m[0].Record.ID)
	}
}

func TestThrottlingIsTheCallersToWaitFor(t *testing.T) {
	throttle := &reactor{empty: &pubsubpb.PublishResponse{}, react: func(int, any) error { return status.Error(codes.ResourceExhausted, "quota") }}
	f := newFake(t, pstest.ServerReactorOption{FuncName: "Publish", Reactor: throttle})
	s := f.sender(t)
	defer s.Close()
	if err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{}}}); !errkind.Is(err, errkind.Throttled) {
		t.Errorf("got %v", err)
	}
	if throttle.calls != 1 {
		t.Errorf("%d calls, want one", throttle.calls)
	}
}

func TestForeignMessagesBecomeRecords(t *testing.T) {
	got := recordOf(&pubsubpb.PubsubMessage{MessageId: "m1", Data: []byte("x"), OrderingKey: "k", Attributes: map[string]string{"b": "1", "a": "2"}})
	want := event.Record{ID: []byte("m1"), Key: []byte("k"), Value: []byte("x"), Headers: event.Headers{}.AppendString("a", "2").AppendString("b", "1")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestKeysOfAnySortKeepTheirOrder(t *testing.T) {
	for _, key := range []string{"plain", "\xff\x00", strings.Repeat("k", 2000)} {
		r := event.Record{ID: []byte("a"), Key: []byte(key), Value: []byte("v")}
		m, err := messageOf(&r, true)
		if err != nil || m.OrderingKey == "" || len(m.OrderingKey) > maxValue {
			t.Fatalf("key %.20q: %v, ordering key %q", key, err, m.GetOrderingKey())
		}
		if diff := cmp.Diff(r, recordOf(m)); diff != "" {
			t.Errorf("key %.20q: (-want +got)\n%s", key, diff)
		}
		if m, err = messageOf(&r, false); err != nil || m.OrderingKey != "" {
			t.Errorf("without ordering: %v, ordering key %q", err, m.GetOrderingKey())
		}
	}
}

func FuzzRecordOf(f *testing.F) {
	f.Add("ce-id", "a", "freshet-record", "AAAA", []byte("x"))
	f.Add("content-type", "application/cloudevents+json", "freshet-record-1", "!", []byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string, data []byte) {
		r := recordOf(&pubsubpb.PubsubMessage{MessageId: "m", Data: data, Attributes: map[string]string{n1: v1, n2: v2}})
		if !r.Headers.Valid() {
			t.Fatalf("headers %q", r.Headers)
		}
	})
}

func BenchmarkReceive(b *testing.B) {
	f := newFake(b)
	r := f.receiver(b, bus.Limits{})
	defer r.Close()
	for i := range b.N {
		f.Publish("projects/p/topics/"+f.topic, []byte(strconv.Itoa(i)), map[string]string{"ce-id": strconv.Itoa(i)})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		m, err := r.Receive(b.Context(), 500)
		if err == nil {
			err = r.Ack(b.Context(), m)
		}
		if err != nil {
			b.Fatal(err)
		}
		n += len(m)
	}
}
