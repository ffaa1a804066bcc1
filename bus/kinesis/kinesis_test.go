package kinesis

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/test/servers"
)

var names atomic.Int64

func env(name string) (string, bool) { return servers.Password, name == "SECRET" }

// emulator is moto with one stream.
type emulator struct {
	address, stream string
	client          *kinesis.Client
}

func (m *emulator) url(options string) string {
	return "kinesis://freshet@eu-west-1/" + m.stream + "?password_env=SECRET&timeout=30s&endpoint=http://" + m.address + "&" + options
}

func newStream(t testing.TB, address string, shards int32) *emulator {
	t.Helper()
	m := &emulator{address: address, stream: fmt.Sprintf("stream-%d", names.Add(1))}
	s, err := open(t.Context(), m.url(""), Options{Env: env}, func(*ours.Target) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	m.client = s.client
	if _, err := m.client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &m.stream, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	if err := kinesis.NewStreamExistsWaiter(m.client, func(o *kinesis.StreamExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 200*time.Millisecond
	}).Wait(t.Context(), &kinesis.DescribeStreamInput{StreamName: &m.stream}, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *emulator) receiver(t testing.TB, l bus.Limits, options string) *Receiver {
	t.Helper()
	r, err := OpenReceiver(t.Context(), m.url("poll=30ms&"+options), Options{Env: env, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (m *emulator) sender(t testing.TB, options string) *Sender {
	t.Helper()
	s, err := OpenSender(t.Context(), m.url(options), Options{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t testing.TB) string {
	return "checkpoints=file://" + url.QueryEscape(filepath.Join(t.TempDir(), "checkpoints.json"))
}

func TestReceiver(t *testing.T) {
	address := start(t)
	bustest.RunReceiver(t, bustest.ReceiverHarness{
		Ordered: true, AcksInOrder: true, Alone: true, Patience: 30 * time.Second,
		Queue: func(t testing.TB) bustest.Queue {
			m, kept := newStream(t, address, 2), file(t)
			s := m.sender(t, "")
			t.Cleanup(func() { _ = s.Close() })
			return bustest.Queue{
				Open: func(t testing.TB, _ int, l bus.Limits) bus.Receiver {
					return m.receiver(t, l, "start=earliest&"+kept)
				},
				Publish: func(ctx context.Context, recs []event.Record) error {
					return s.Send(ctx, bus.Batch{Records: recs})
				},
			}
		},
	})
}

func TestSender(t *testing.T) {
	address := start(t)
	bustest.RunSender(t, bustest.SenderHarness{
		Ordered: true, Patience: 30 * time.Second,
		Refused: func() event.Record { return event.Record{ID: []byte("x"), Value: make([]byte, maxRecord)} },
		Target: func(t testing.TB) bustest.Target {
			m := newStream(t, address, 2)
			var stored []event.Record
			r := m.receiver(t, bus.Limits{}, "start=earliest")
			t.Cleanup(func() { _ = r.Close() })
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return m.sender(t, "") },
				Read: func(t testing.TB, n int) []event.Record {
					for _, x := range take(t, r, n-len(stored)) {
						stored = append(stored, x.Record)
					}
					for _, x := range drain(t, r) {
						stored = append(stored, x.Record)
					}
					return stored
				},
			}
		},
	})
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

func send(t testing.TB, s bus.Sender, from, n int) {
	t.Helper()
	var recs []event.Record
	for i := from; i < from+n; i++ {
		recs = append(recs, event.Record{ID: fmt.Appendf(nil, "%d", i), Key: fmt.Appendf(nil, "key %d", i%7), Value: fmt.Appendf(nil, "%d", i)})
	}
	if err := s.Send(t.Context(), bus.Batch{Records: recs}); err != nil {
		t.Fatal(err)
	}
}

func TestAStreamIsReadOnThroughASplitAndAMerge(t *testing.T) {
	m := newStream(t, start(t), 1)
	s, kept := m.sender(t, ""), file(t)
	defer s.Close()
	r := m.receiver(t, bus.Limits{}, kept+"&start=earliest")
	send(t, s, 0, 50)
	if _, err := m.client.SplitShard(t.Context(), &kinesis.SplitShardInput{
		StreamName: &m.stream, ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("170141183460469231731687303715884105728"),
	}); err != nil {
		t.Fatal(err)
	}
	send(t, s, 50, 50)
	got := take(t, r, 60)
	if err := r.Close(); err != nil { // and goes on where it was, in the middle
		t.Fatal(err)
	}
	if _, err := m.client.MergeShards(t.Context(), &kinesis.MergeShardsInput{
		StreamName: &m.stream, ShardToMerge: aws.String("shardId-000000000001"), AdjacentShardToMerge: aws.String("shardId-000000000002"),
	}); err != nil {
		t.Fatal(err)
	}
	send(t, s, 100, 50)
	r = m.receiver(t, bus.Limits{}, kept)
	defer r.Close()
	got = append(got, take(t, r, 90)...)
	next := map[string]int{}
	for _, x := range got {
		var n int
		fmt.Sscan(string(x.Record.ID), &n)
		key := string(x.Record.Key)
		if want := next[key]; n/7 != want || fmt.Sprintf("key %d", n%7) != key {
			t.Fatalf("record %d of %q comes where %d is next", n/7, key, want)
		}
		next[key]++
	}
}

func TestARefusedPartIsPutAgainInOrder(t *testing.T) {
	defer func(r backoff.Retry) { again = r }(again)
	again.Min, again.Max = time.Millisecond, time.Millisecond
	var calls []string
	answers := []string{
		`{"FailedRecordCount":2,"Records":[{"SequenceNumber":"1","ShardId":"s"},{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow"},{"SequenceNumber":"2","ShardId":"s"},{"ErrorCode":"InternalFailure"}]}`,
		`{"FailedRecordCount":1,"Records":[{"SequenceNumber":"3","ShardId":"s"},{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow"}]}`,
		`{"FailedRecordCount":1,"Records":[{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow"}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecords") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"__type":"AccessDeniedException","message":"no"}`)
			return
		}
		var body strings.Builder
		_, _ = fmt.Fprint(&body, r.ContentLength)
		calls = append(calls, body.String())
		fmt.Fprint(w, answers[len(calls)-1])
	}))
	defer server.Close()
	s := (&emulator{address: strings.TrimPrefix(server.URL, "http://"), stream: "x"}).sender(t, "")
	defer s.Close()
	recs := []event.Record{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")}, {Value: []byte("d")}}
	if err := s.Send(t.Context(), bus.Batch{Records: recs}); !errkind.Is(err, errkind.Throttled) {
		t.Errorf("got %v (kind %v), want Throttled: the last call took nothing", err, errkind.Of(err))
	}
	if len(calls) != 3 {
		t.Errorf("%d calls, want 3", len(calls))
	}
}

func TestErrorsHaveTheirKindsAndNoSecrets(t *testing.T) {
	m := &emulator{address: start(t), stream: "absent"}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]errkind.Kind{
		m.url("start=earliest"): errkind.NotFound,
		m.url(""):               errkind.Config,
		m.url("start=noon"):     errkind.Config,
		m.url("start=earliest&checkpoints=relative"):                                                errkind.Config,
		m.url("checkpoints=file:///nonexistent/folder/x.json"):                                      errkind.Transient,
		m.url("checkpoints=file://" + bad):                                                          errkind.Corrupt,
		"kinesis://freshet:hunter2@eu-west-1/?start=latest":                                         errkind.Config,
		"kinesis://freshet:hunter2@eu-west-1/q?start=latest&timeout=2s&endpoint=http://127.0.0.1:1": errkind.Transient,
	} {
		r, err := OpenReceiver(t.Context(), url, Options{Env: env})
		if err == nil {
			_ = r.Close()
		}
		if !errkind.Is(err, want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v (kind %v), want %v", url, err, errkind.Of(err), want)
		}
	}
	if _, err := OpenSender(t.Context(), m.url(""), Options{Env: env}); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("sender: %v", err)
	}
}

func TestAckMovesTheCheckpointOverNoGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	c, err := loadCheckpoints(path, "s")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{checkpoints: c, shards: map[string]*shard{"x": {id: "x", first: 5, roomy: make(chan struct{}, 1)}}}
	for i := range 4 {
		r.shards["x"].pending = append(r.shards["x"].pending, pending{message: lease.Message{Token: tokenOf("x", 5+i)}, sequence: fmt.Sprint(100 + i)})
	}
	for _, step := range []struct {
		tokens []string
		want   string
	}{
		{[]string{"x/6"}, ""}, {[]string{"x/5"}, "101"}, {[]string{"x/5", "y/1", "x/z", "x/99"}, "101"}, {[]string{"x/8", "x/7"}, "103"},
	} {
		if _, err := r.Ack(t.Context(), step.tokens); err != nil {
			t.Fatal(err)
		}
		stored, err := loadCheckpoints(path, "s")
		if err != nil {
			t.Fatal(err)
		}
		if got := stored.of("x"); got != step.want {
			t.Errorf("after %v the checkpoint is %q, want %q", step.tokens, got, step.want)
		}
	}
	if _, err := loadCheckpoints(path, "another"); !errkind.Is(err, errkind.Config) {
		t.Errorf("another stream's file: %v", err)
	}
}

func TestSequenceNumbersAreComparedAsNumbers(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"10", "9", true}, {"9", "10", false}, {"10", "10", false}, {finished, "10", true}, {"10", finished, false}, {"1", "", true}} {
		if got := newer(tc.a, tc.b); got != tc.want {
			t.Errorf("newer(%q, %q) is %v", tc.a, tc.b, got)
		}
	}
}

// aggregate is what the Kinesis Producer Library makes of records.
func aggregate(keys []string, at []uint64, data []string) []byte {
	var m []byte
	for _, k := range keys {
		m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), k)
	}
	for i := range data {
		var x []byte
		x = protowire.AppendVarint(protowire.AppendTag(x, 1, protowire.VarintType), at[i])
		x = protowire.AppendString(protowire.AppendTag(x, 3, protowire.BytesType), data[i])
		m = protowire.AppendBytes(protowire.AppendTag(m, 3, protowire.BytesType), x)
	}
	sum := md5.Sum(m)
	return append(append(append([]byte(nil), aggregated...), m...), sum[:]...)
}

func TestForeignDataBecomesRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		key  string
		data []byte
		want []event.Record
	}{
		"plain": {"k", []byte("x"), []event.Record{{ID: []byte("s:1"), Key: []byte("k"), Value: []byte("x")}}},
		"an event": {"k", []byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{}}`), []event.Record{{ID: []byte("7"), Key: []byte("k"), Value: []byte("{}"),
			Headers: event.Headers{}.AppendString("ce_specversion", "1.0").AppendString("ce_source", "/s").AppendString("ce_type", "t")}}},
		"aggregated": {"k", aggregate([]string{"a", "b"}, []uint64{1, 0}, []string{"x", "y"}), []event.Record{
			{ID: []byte("s:1:0"), Key: []byte("b"), Value: []byte("x")}, {ID: []byte("s:1:1"), Key: []byte("a"), Value: []byte("y")}}},
		"aggregated badly": {"k", aggregate([]string{"a"}, []uint64{4}, []string{"x"}), []event.Record{
			{ID: []byte("s:1"), Key: []byte("k"), Value: aggregate([]string{"a"}, []uint64{4}, []string{"x"})}}},
	} {
		got := recordsOf("s", &types.Record{SequenceNumber: aws.String("1"), PartitionKey: &tc.key, Data: tc.data})
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestRecordsTravelExactly(t *testing.T) {
	for name, r := range map[string]event.Record{
		"text":                 {ID: []byte("a"), Key: []byte("k"), Value: []byte(`{"a":1}`)},
		"bytes":                {ID: []byte{1}, Key: []byte{0xff}, Headers: event.Headers{}.Append("b", []byte{2}), Value: []byte{0, 0xff}},
		"nothing":              {ID: []byte("a")},
		"no key":               {ID: []byte("a"), Value: []byte("x")},
		"a long key":           {ID: []byte("a"), Key: []byte(strings.Repeat("k", 300)), Value: []byte("x")},
		"an event for a value": {Key: []byte("k"), Value: []byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{}}`)},
		"our own prefix":       {ID: []byte("a"), Key: []byte(keyless + "1"), Value: []byte("x")},
	} {
		e := entryOf(&r, 3)
		got := recordOf("native", *e.PartitionKey, e.Data)
		if diff := cmp.Diff(r, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	r := event.Record{Key: []byte("k"), Value: []byte("as it is")}
	if e := entryOf(&r, 0); string(e.Data) != "as it is" {
		t.Errorf("a plain value is put as %s", e.Data)
	}
}

func FuzzRecordsOf(f *testing.F) {
	f.Add("k", aggregate([]string{"a"}, []uint64{0}, []string{"x"}))
	f.Add("k", []byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t","freshetrecord":"AA=="}`))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		for _, r := range recordsOf("s", &types.Record{SequenceNumber: aws.String("1"), PartitionKey: &key, Data: data}) {
			if !r.Headers.Valid() {
				t.Fatalf("headers %q", r.Headers)
			}
		}
	})
}
