package sqs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
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
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

var names atomic.Int64

// emulator is moto with one queue.
type emulator struct{ address, queue string }

func (m *emulator) url(options string) string {
	return "sqs://freshet@eu-west-1/" + m.queue + "?password_env=SECRET&timeout=30s&endpoint=http://" + m.address + "&" + options
}

func env(name string) (string, bool) { return servers.Password, name == "SECRET" }

// newQueue makes a queue at the emulator.
func newQueue(t testing.TB, address string, fifo bool) *emulator {
	t.Helper()
	m := &emulator{address, fmt.Sprintf("queue-%d", names.Add(1))}
	attributes := map[string]string{}
	if fifo {
		m.queue += ".fifo"
		attributes["FifoQueue"] = "true"
	}
	target, err := ours.Parse(m.url(""), env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := target.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqs.NewFromConfig(c).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &m.queue, Attributes: attributes}); err != nil {
		t.Fatal(err)
	}
	return m
}

// options keep polls short: the emulator goes on with those that nobody waits for
// any more.
const options = "visibility=10s&wait=20ms&receives=1"

func (m *emulator) receiver(t testing.TB, l bus.Limits) *Receiver {
	t.Helper()
	r, err := OpenReceiver(t.Context(), m.url(options), Options{Env: env, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (m *emulator) sender(t testing.TB) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), m.url(""), Options{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take receives and acknowledges n messages.
func take(t testing.TB, r bus.Receiver, n int) []bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []bus.Message
	for len(all) < n {
		got, err := r.Receive(ctx, n-len(all))
		if err == nil {
			err = r.Ack(ctx, got)
		}
		if err != nil {
			t.Fatalf("%d of %d: %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

// drain takes what else comes within a moment.
func drain(t testing.TB, r bus.Receiver) []bus.Message {
	t.Helper()
	var all []bus.Message
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		got, err := r.Receive(ctx, 1000)
		cancel()
		if err != nil {
			return all
		}
		if err := r.Ack(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
}

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

// On FIFO queues no more than ten messages of a group are out, and the suite
// wants more: their own test is below.
func TestReceiver(t *testing.T) {
	address := start(t)
	bustest.RunReceiver(t, bustest.ReceiverHarness{
		TellsRedelivery: true, MaxBytes: 64 << 10, Messages: 100, Patience: time.Minute, // the emulator is slow
		Queue: func(t testing.TB) bustest.Queue {
			m := newQueue(t, address, false)
			s := m.sender(t)
			t.Cleanup(func() { _ = s.Close() })
			return bustest.Queue{
				Open: func(t testing.TB, _ int, l bus.Limits) bus.Receiver { return m.receiver(t, l) },
				Publish: func(ctx context.Context, recs []event.Record) error {
					return s.Send(ctx, bus.Batch{Records: recs})
				},
			}
		},
	})
}

func TestGroupsKeepTheirOrder(t *testing.T) {
	m := newQueue(t, start(t), true)
	s, r := m.sender(t), m.receiver(t, bus.Limits{})
	defer s.Close()
	defer r.Close()
	const keys, each = 3, 25
	var recs []event.Record
	for i := range keys * each {
		recs = append(recs, event.Record{ID: fmt.Appendf(nil, "%d", i), Key: fmt.Appendf(nil, "key %d", i%keys), Value: []byte("v")})
	}
	if err := s.Send(t.Context(), bus.Batch{Records: recs}); err != nil {
		t.Fatal(err)
	}
	next, given := [keys]int{}, false
	for done := 0; done < len(recs); {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := r.Receive(ctx, 3)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if done > 10 && !given { // the whole group comes again, in order
			given = true
			if err := r.Nack(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for i := range got {
			var n int
			fmt.Sscan(string(got[i].Record.ID), &n)
			if key := n % keys; next[key] != n/keys || string(got[i].Record.Key) != fmt.Sprintf("key %d", key) {
				t.Fatalf("record %d of the key %q comes where %d is next", n/keys, got[i].Record.Key, next[key])
			}
			next[n%keys]++
		}
		if err := r.Ack(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		done += len(got)
	}
}

func TestSender(t *testing.T) {
	address := start(t)
	for _, fifo := range []bool{false, true} {
		t.Run(map[bool]string{false: "standard", true: "fifo"}[fifo], func(t *testing.T) {
			bustest.RunSender(t, bustest.SenderHarness{
				// Small, because the emulator is slow.
				Ordered: fifo, Keyed: fifo, Records: 100, Partitions: 2, Patience: time.Minute,
				Refused: func() event.Record {
					return event.Record{ID: []byte("x"), Value: make([]byte, 2<<20)}
				},
				Target: func(t testing.TB) bustest.Target {
					m := newQueue(t, address, fifo)
					var stored []event.Record
					reader := m.receiver(t, bus.Limits{})
					t.Cleanup(func() { _ = reader.Close() })
					return bustest.Target{
						Open: func(t testing.TB) bus.Sender { return m.sender(t) },
						Read: func(t testing.TB, n int) []event.Record {
							for _, x := range append(take(t, reader, n-len(stored)), drain(t, reader)...) {
								stored = append(stored, x.Record)
							}
							return stored
						},
					}
				},
			})
		})
	}
}

func TestLeasesLastWhileMessagesAreOut(t *testing.T) {
	m := newQueue(t, start(t), false)
	s, r, other := m.sender(t), m.receiver(t, bus.Limits{}), m.receiver(t, bus.Limits{})
	defer s.Close()
	defer r.Close()
	defer other.Close()
	if err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{ID: []byte("a"), Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second) // the lease is 10s
	defer cancel()
	if again, err := other.Receive(ctx, 1); ctx.Err() == nil {
		t.Fatalf("another receiver got %d messages, %v", len(again), err)
	}
	if err := r.Ack(t.Context(), got); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsHaveTheirKindsAndNoSecrets(t *testing.T) {
	m := &emulator{address: start(t), queue: "absent"}
	for raw, want := range map[string]errkind.Kind{
		m.url(""): errkind.NotFound,
		"sqs://freshet:hunter2@eu-west-1/q?timeout=2s&endpoint=http://127.0.0.1:1":                     errkind.Transient,
		"sqs://freshet:hunter2@eu-west-1/":                                                             errkind.Config,
		"sqs://freshet:hunter2@eu-west-1/q?visibility=13h":                                             errkind.Config,
		"sqs://freshet:hunter2@eu-west-1/q?wait=1m":                                                    errkind.Config,
		"sqs://freshet:hunter2@eu-west-1/q?profil=x":                                                   errkind.Config,
		"sqs://freshet:hunter2@a,b/q":                                                                  errkind.Config,
		"sqs://eu-west-1/q?profile=there-is-no-such-profile":                                           errkind.Config,
		"sqs://freshet:hunter2@eu-west-1/q?timeout=2s&endpoint=https://" + m.address + "&tls_ca=/none": errkind.Config,
	} {
		r, err := OpenReceiver(t.Context(), raw, Options{Env: env})
		if err == nil {
			_ = r.Close()
		}
		if !errkind.Is(err, want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v (kind %v), want %v", raw, err, errkind.Of(err), want)
		}
	}
}

// answering is a service that answers an operation as told.
func answering(t *testing.T, answers map[string]string) *emulator {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		body := answers[operation]
		if code, rest, ok := strings.Cut(body, " "); ok && len(code) == 3 {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			var n int
			fmt.Sscan(code, &n)
			w.WriteHeader(n)
			body = rest
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	all := map[string]string{"GetQueueUrl": `{"QueueUrl":"` + s.URL + `/1/q"}`, "GetQueueAttributes": `400 {"__type":"com.amazonaws.sqs#AccessDenied","message":"no"}`}
	maps.Copy(all, answers)
	answers = all
	return &emulator{strings.TrimPrefix(s.URL, "http://"), "q"}
}

func TestPartialFailuresAreToldApart(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  string
		kind    errkind.Kind
		refused bool
	}{
		"the sender's fault":      {`{"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"InvalidMessageContents","SenderFault":true,"Message":"no"}]}`, errkind.Invalid, true},
		"the service's fault":     {`{"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"InternalError","SenderFault":false}]}`, errkind.Transient, false},
		"throttled":               {`{"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"RequestThrottled","SenderFault":true}]}`, errkind.Throttled, false},
		"not allowed":             {`{"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"KMS.AccessDeniedException","SenderFault":false}]}`, errkind.Transient, false},
		"an answer that is short": {`{"Successful":[{"Id":"0","MessageId":"m"}]}`, errkind.Transient, false},
		"a call throttled":        {`400 {"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}`, errkind.Throttled, false},
		"a token that expired":    {`403 {"__type":"com.amazonaws.sqs#ExpiredToken","message":"old"}`, errkind.Config, false},
		"a queue deleted":         {`400 {"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"gone"}`, errkind.NotFound, false},
		"a gateway's answer":      {`502 bad gateway`, errkind.Transient, false},
		"an answer cut short":     {`{"Successful":[{"Id"`, errkind.Transient, false},
	} {
		s := answering(t, map[string]string{"SendMessageBatch": tc.answer}).sender(t)
		err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("a")}, {Value: []byte("b")}}})
		var refused *bus.RefusedError
		if !errkind.Is(err, tc.kind) || errors.As(err, &refused) != tc.refused {
			t.Errorf("%s: %v (kind %v), want %v", name, err, errkind.Of(err), tc.kind)
		}
		if tc.refused && (len(refused.Records) != 1 || refused.Records[0].Index != 1) {
			t.Errorf("%s: refused are %v", name, refused.Records)
		}
		_ = s.Close()
	}
}

func TestAnAcknowledgementThatCameTooLateIsAConflict(t *testing.T) {
	m := answering(t, map[string]string{
		"ReceiveMessage":               `{"Messages":[{"MessageId":"m","ReceiptHandle":"h","Body":"b","MD5OfBody":"92eb5ffee6ae2fec3ad71c777531578f"}]}`,
		"DeleteMessageBatch":           `{"Successful":[],"Failed":[{"Id":"0","Code":"ReceiptHandleIsInvalid","SenderFault":true}]}`,
		"ChangeMessageVisibilityBatch": `{"Successful":[],"Failed":[]}`,
	})
	r := m.receiver(t, bus.Limits{Unacknowledged: 1})
	defer r.Close()
	got, err := r.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Ack(t.Context(), got); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("got %v, want a Conflict", err)
	}
}

func messageOf(e types.SendMessageBatchRequestEntry) *types.Message {
	m := &types.Message{MessageId: aws.String("native"), Body: e.MessageBody, MessageAttributes: e.MessageAttributes, Attributes: map[string]string{}}
	if e.MessageGroupId != nil {
		m.Attributes["MessageGroupId"] = *e.MessageGroupId
	}
	if e.MessageDeduplicationId != nil {
		m.Attributes["MessageDeduplicationId"] = *e.MessageDeduplicationId
	}
	return m
}

func TestRecordsTravelExactly(t *testing.T) {
	many := event.Headers{}
	for i := range 12 {
		many = many.AppendString(fmt.Sprintf("h%02d", i), "v")
	}
	for name, r := range map[string]event.Record{
		"text":               {ID: []byte("a"), Key: []byte("k"), Value: []byte(`{"a":1}`)},
		"bytes":              {ID: []byte{1}, Key: []byte{0xff}, Headers: event.Headers{}.Append("b", []byte{2}), Value: []byte{0, 0xff}},
		"nothing":            {ID: []byte("a")},
		"blanks in id":       {ID: []byte("a b"), Key: []byte("c d"), Value: []byte("x")},
		"long id":            {ID: []byte(strings.Repeat("i", 200)), Key: []byte(strings.Repeat("k", 200)), Value: []byte("x")},
		"a group's own name": {ID: []byte("a"), Key: []byte(keyless + "1"), Value: []byte("x")},
		"many headers":       {ID: []byte("a"), Headers: many, Value: []byte("x")},
		"names not allowed":  {ID: []byte("a"), Headers: event.Headers{}.AppendString("aws.x", "1").AppendString(attributeEncoding, "base64"), Value: []byte("x")},
	} {
		for _, fifo := range []bool{false, true} {
			q := &queue{fifo: fifo}
			e, n := q.entryOf(&r, 3)
			if len(e.MessageAttributes) > 10 || *e.MessageBody == "" || n < len(r.Value) {
				t.Errorf("%s: %d attributes, %d bytes, body %q", name, len(e.MessageAttributes), n, *e.MessageBody)
			}
			if fifo && (!identifier([]byte(*e.MessageGroupId)) || !identifier([]byte(*e.MessageDeduplicationId))) {
				t.Errorf("%s: group %q, deduplication id %q", name, *e.MessageGroupId, *e.MessageDeduplicationId)
			}
			if diff := cmp.Diff(r, recordOf(messageOf(e)), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, FIFO %v: (-want +got)\n%s", name, fifo, diff)
			}
		}
	}
}

func TestContentIsNoIdentity(t *testing.T) {
	m := &types.Message{MessageId: aws.String("native"), Body: aws.String("x"), Attributes: map[string]string{"MessageDeduplicationId": digest([]byte("x"))}}
	if got := recordOf(m); string(got.ID) != "native" {
		t.Errorf("the id is %q: a digest of the content is the queue's own", got.ID)
	}
	m.Attributes["MessageDeduplicationId"] = "order-7"
	if got := recordOf(m); string(got.ID) != "order-7" {
		t.Errorf("the id is %q", got.ID)
	}
}

func FuzzRecordOf(f *testing.F) {
	f.Add("x", "ce-id", "a", []byte{1, 2}, "g")
	f.Add("!", attributeEncoding, "base64", []byte(nil), "freshet-partition-0")
	f.Fuzz(func(t *testing.T, body, name, value string, packed []byte, group string) {
		r := recordOf(&types.Message{Body: &body, Attributes: map[string]string{"MessageGroupId": group}, MessageAttributes: map[string]types.MessageAttributeValue{
			name: {StringValue: &value}, "freshet-record": {BinaryValue: packed}}})
		if !r.Headers.Valid() {
			t.Fatalf("headers %q", r.Headers)
		}
	})
}
