package eventbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/test/servers"
)

var names atomic.Int64

func env(name string) (string, bool) { return servers.Password, name == "SECRET" }

// start starts the emulator behind a proxy that lets one request in at a time:
// the emulator has threads and no locks.
func start(t testing.TB) string {
	t.Helper()
	u, err := url.Parse("http://" + servers.Start(t, "aws"))
	if err != nil {
		t.Fatal(err)
	}
	var one sync.Mutex
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of calls that the tests cut off
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// emulator is moto with one event bus, of which a rule brings everything into a queue.
type emulator struct {
	address, bus string
	queue        *sqs.Client
	queueURL     *string
}

func (m *emulator) url(options string) string {
	return "eventbridge://freshet@eu-west-1/" + m.bus + "?password_env=SECRET&timeout=30s&endpoint=http://" + m.address + "&" + options
}

func newBus(t testing.TB, address string) *emulator {
	t.Helper()
	m := &emulator{address: address, bus: fmt.Sprintf("bus-%d", names.Add(1))}
	target, err := ours.Parse(m.url(""), env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := target.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := eventbridge.NewFromConfig(c)
	m.queue = sqs.NewFromConfig(c)
	made, err := m.queue.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &m.bus})
	if err != nil {
		t.Fatal(err)
	}
	m.queueURL = made.QueueUrl
	about, err := m.queue.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: made.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: &m.bus}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("all"), EventBusName: &m.bus, EventPattern: aws.String(`{"source":[{"prefix":""}]}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("all"), EventBusName: &m.bus,
		Targets: []types.Target{{Id: aws.String("queue"), Arn: aws.String(about.Attributes["QueueArn"])}}}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *emulator) sender(t testing.TB, options string) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), m.url(options), Options{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// arrived is an event as a rule's target gets it.
type arrived struct {
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Time       string          `json:"time"`
	Detail     json.RawMessage `json:"detail"`
}

// read takes what has arrived since the last read.
func (m *emulator) read(t testing.TB) (events []arrived) {
	t.Helper()
	for {
		got, err := m.queue.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: m.queueURL, MaxNumberOfMessages: 10, VisibilityTimeout: 600})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Messages) == 0 {
			return events
		}
		for _, x := range got.Messages {
			var e arrived
			if err := json.Unmarshal([]byte(*x.Body), &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
	}
}

func TestSender(t *testing.T) {
	address := start(t)
	bustest.RunSender(t, bustest.SenderHarness{
		Records: 50, Partitions: 1, Patience: 2 * time.Minute, // the emulator is slow
		Refused: func() event.Record { return event.Record{ID: []byte("x"), Value: make([]byte, 256<<10)} },
		Target: func(t testing.TB) bustest.Target {
			m := newBus(t, address)
			var stored []event.Record
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return m.sender(t, "") },
				Read: func(t testing.TB, _ int) []event.Record {
					for _, e := range m.read(t) {
						r, ok := envelope.FromStructured(e.Detail)
						if !ok {
							t.Fatalf("the detail is no event: %s", e.Detail)
						}
						stored = append(stored, normal(r))
					}
					return stored
				},
			}
		},
		Expect: normal,
	})
}

// normal is a record with its JSON written as Go does: the emulator writes it anew.
func normal(r event.Record) event.Record {
	var v any
	if json.Unmarshal(r.Value, &v) == nil {
		r.Value, _ = json.Marshal(v)
	}
	return r
}

func TestEventsCarryTheirAttributes(t *testing.T) {
	m := newBus(t, start(t))
	s := m.sender(t, "detail=data&source=shop")
	defer s.Close()
	ce := event.Headers{}.AppendString("ce_source", "/s").AppendString("ce_type", "t").AppendString("ce_time", "2024-01-01T00:00:00Z")
	err := s.Send(t.Context(), bus.Batch{Records: []event.Record{
		{ID: []byte("a"), Headers: ce, Value: []byte(`{"a":1}`)}, {Value: []byte("no object")}, {Value: []byte(` {"b":2}`)}, {Value: []byte(`{"b":2`)},
	}})
	var refused *bus.RefusedError
	if !errors.As(err, &refused) || len(refused.Records) != 2 || refused.Records[0].Index != 1 || refused.Records[1].Index != 3 {
		t.Errorf("got %v, want the records 1 and 3 to be refused", err)
	}
	got := m.read(t)
	if len(got) != 2 || got[0].Source != "/s" || got[0].DetailType != "t" || !strings.HasPrefix(got[0].Time, "2024-01-01T00:00:00") || got[1].Source != "shop" || got[1].DetailType != defaultType {
		t.Errorf("got %+v", got)
	}
}

func TestAPartThatWasNotTakenIsPutAgain(t *testing.T) {
	defer func(r backoff.Retry) { again = r }(again)
	again.Min, again.Max = time.Millisecond, time.Millisecond
	var bodies []int
	answers := []string{
		`{"FailedEntryCount":3,"Entries":[{"EventId":"1"},{"ErrorCode":"ThrottlingException","ErrorMessage":"slow"},{"ErrorCode":"MalformedDetail","ErrorMessage":"no"},{"ErrorCode":"InternalFailure"}]}`,
		`{"FailedEntryCount":1,"Entries":[{"EventId":"2"},{"ErrorCode":"InternalFailure"}]}`,
		`{"FailedEntryCount":0,"Entries":[{"EventId":"3"}]}`,
		`{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException"}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutEvents") {
			fmt.Fprint(w, `{}`)
			return
		}
		var body struct{ Entries []any }
		_ = json.NewDecoder(r.Body).Decode(&body)
		bodies = append(bodies, len(body.Entries))
		fmt.Fprint(w, answers[len(bodies)-1])
	}))
	defer server.Close()
	s := (&emulator{address: strings.TrimPrefix(server.URL, "http://"), bus: "b"}).sender(t, "")
	defer s.Close()
	err := s.Send(t.Context(), bus.Batch{Records: make([]event.Record, 4)})
	var refused *bus.RefusedError
	if !errors.As(err, &refused) || len(refused.Records) != 1 || refused.Records[0].Index != 2 {
		t.Errorf("got %v, want record 2 to be refused", err)
	}
	if fmt.Sprint(bodies) != "[4 2 1]" {
		t.Errorf("calls put %v events", bodies)
	}
	if err := s.Send(t.Context(), bus.Batch{Records: make([]event.Record, 1)}); !errkind.Is(err, errkind.Throttled) {
		t.Errorf("got %v (kind %v), want Throttled", err, errkind.Of(err))
	}
}

func TestErrorsHaveTheirKindsAndNoSecrets(t *testing.T) {
	m := &emulator{address: start(t), bus: "absent"}
	for raw, want := range map[string]errkind.Kind{
		m.url(""):             errkind.NotFound,
		m.url("detail=x"):     errkind.Config,
		m.url("max_bytes=0"):  errkind.Config,
		m.url("max_byte=100"): errkind.Config,
		"eventbridge://freshet:hunter2@eu-west-1/":                                         errkind.Config,
		"eventbridge://freshet:hunter2@eu-west-1/b?timeout=2s&endpoint=http://127.0.0.1:1": errkind.Transient,
	} {
		s, err := OpenSender(t.Context(), raw, Options{Env: env})
		if err == nil {
			_ = s.Close()
		}
		if !errkind.Is(err, want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v (kind %v), want %v", raw, err, errkind.Of(err), want)
		}
	}
}
