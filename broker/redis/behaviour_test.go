package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/redis"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

const patience = 40 * time.Second

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func create(t testing.TB, d *redis.Driver, c broker.TopicConfig) {
	t.Helper()
	if err := d.CreateTopic(soon(t), c); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, d *redis.Driver, topic string, recs ...event.Record) {
	t.Helper()
	if _, err := d.Publish(soon(t), topic, recs); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, d *redis.Driver, topic string) (broker.Consumer, broker.Claim) {
	t.Helper()
	c, err := d.Subscribe(soon(t), broker.Subscription{Topic: topic, Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := c.Claim(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return c, claim
}

// fetch returns n records as "id key headers value".
func fetch(t testing.TB, f interface {
	Fetch(ctx context.Context, max int) (*broker.Batch, error)
}, n int) (got []string, next int64) {
	t.Helper()
	for len(got) < n {
		b, err := f.Fetch(soon(t), n-len(got))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			h := ""
			for k, v := range r.Headers.All() {
				h += k + "=" + string(v) + ";"
			}
			got = append(got, fmt.Sprintf("%s|%s|%s|%s", r.ID, r.Key, h, r.Value))
		}
		next = b.Next()
		b.Release()
	}
	return got, next
}

func records(n int) []event.Record {
	out := make([]event.Record, n)
	for i := range out {
		out[i] = event.Record{ID: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "v%d", i)}
	}
	return out
}

func TestForeignStreamIsATopicOfOnePartition(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	ctx := soon(t)
	add := func(id string, pairs ...string) {
		t.Helper()
		if err := c.XAdd(ctx, &goredis.XAddArgs{Stream: "payments", ID: id, Values: pairs}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add("1000-0", "amount", "12.5", "card", "007", "ok", "true", "note", "a\"b", "ce_id", "e1", "ce_type", "pay")
	add("1000-1", "data", "{}", "key", "k", "id", "e2", "trace", "x", "trace", "y")
	add("1000-2", "value", "v", "ce_id", "e3", "id", "other")
	add("2000-0", "payload", "p")
	add("3000-7", "n", "-1e3", "big", "1e999", "dot", "1.", "bytes", "\xff", "n", "5")

	state, err := d.Describe(ctx, "payments", "g")
	if err != nil {
		t.Fatal(err)
	}
	pos := func(ms, seq int64) int64 { return ms<<20 | seq }
	p := state.Partitions[0]
	p.Bytes = 0
	want := broker.PartitionState{Start: pos(1000, 0), End: pos(3000, 7) + 1, Committed: -1, Waiting: 5, OldestTime: 1000e6}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	names, err := d.Topics(ctx)
	if diff := cmp.Diff([]string{"payments"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}

	consumer, claim := subscribe(t, d, "payments")
	got, next := fetch(t, claim, 5)
	if diff := cmp.Diff([]string{
		`e1||ce_type=pay;|{"amount":12.5,"card":"007","ok":true,"note":"a\"b"}`,
		`e2|k|trace=x;trace=y;|{}`,
		`e3||id=other;|v`,
		`|||p`,
		`|||{"big":"1e999","dot":"1.","bytes":"` + "\uFFFD" + `","n":5}`,
	}, got); diff != "" {
		t.Error(diff)
	}
	if next != pos(3000, 7)+1 || claim.(broker.Positioner).Position() != next {
		t.Errorf("the next position is %d, want that behind 3000-7", next)
	}
	if err := claim.Commit(ctx, pos(1000, 2)); err != nil {
		t.Fatal(err)
	}
	if err := consumer.Close(); err != nil {
		t.Fatal(err)
	}
	_, claim = subscribe(t, d, "payments")
	if claim.Start() != pos(1000, 2) {
		t.Errorf("the group continues at %d, want %d", claim.Start(), pos(1000, 2))
	}
	for at, want := range map[int64]int64{0: pos(1000, 0), 1001: pos(2000, 0), 2000: pos(2000, 0), 9e12: pos(3000, 7) + 1} {
		if got, err := d.Seek(ctx, "payments", 0, time.UnixMilli(at)); got != want || err != nil {
			t.Errorf("Seek to %d ms: %d, %v; want %d", at, got, err, want)
		}
	}
	if err := d.Trim(ctx, "payments", 0, pos(1000, 2)); err != nil {
		t.Fatal(err)
	}
	if n := c.XLen(ctx, "payments").Val(); n != 3 {
		t.Errorf("%d entries are left, want 3", n)
	}
	// What Freshet adds is there for others to read, and comes back as it was.
	publish(t, d, "payments", event.Record{ID: []byte("e9"), Key: []byte("k"), Value: []byte("{}"), Headers: event.Headers(nil).AppendString("ce_type", "x")})
	all := c.XRevRangeN(ctx, "payments", "+", "-", 1).Val()
	if diff := cmp.Diff(map[string]any{"ce_id": "e9", "key": "k", "ce_type": "x", "data": "{}"}, all[0].Values); diff != "" {
		t.Error(diff)
	}
	if err := claim.SeekTo(next); err != nil {
		t.Fatal(err)
	}
	if got, _ := fetch(t, claim, 1); got[0] != "e9|k|ce_type=x;|{}" {
		t.Error(got)
	}
	if err := d.CreateTopic(ctx, broker.TopicConfig{Name: "payments", Partitions: 2}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a topic over a stream: %v", err)
	}
	add("18446744073709551615-1", "data", "x")
	if err := claim.SeekTo(next); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err = claim.Fetch(ctx, 10); err != nil {
			break
		}
	}
	if !errkind.Is(err, errkind.Unsupported) {
		t.Errorf("an id beyond all positions: %v", err)
	}
}

func TestWhatOthersAddToATopicGetsTheNextPosition(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url("?prefix=app:"))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1})
	for i := range 3 {
		if err := c.XAdd(soon(t), &goredis.XAddArgs{Stream: "app:t:0", Values: []any{"data", i}}).Err(); err != nil {
			t.Fatal(err)
		}
		publish(t, d, "t", event.Record{Value: fmt.Appendf(nil, "own %d", i)})
	}
	r, err := d.Read(soon(t), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, next := fetch(t, r, 6)
	if diff := cmp.Diff([]string{"|||0", "|||own 0", "|||1", "|||own 1", "|||2", "|||own 2"}, got); diff != "" || next != 6 {
		t.Errorf("next %d\n%s", next, diff)
	}
	if err := c.XAdd(soon(t), &goredis.XAddArgs{Stream: "app:t:0", ID: "99999999999999-0", Values: []any{"data", "x"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(soon(t), "t", records(1)); !errkind.Is(err, errkind.Corrupt) {
		t.Errorf("behind an id of somebody's own: %v, want a Corrupt error", err)
	}
}

func TestRetentionFreesOldRecords(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "time", Partitions: 1, Retention: 50 * time.Millisecond})
	create(t, d, broker.TopicConfig{Name: "size", Partitions: 1, RetainBytes: 200_000})
	publish(t, d, "time", records(100)...)
	for deadline := time.Now().Add(patience); ; publish(t, d, "time", records(1)...) {
		s, err := d.Describe(soon(t), "time", "")
		if err != nil {
			t.Fatal(err)
		}
		if s.Partitions[0].Start >= 100 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first record kept is %d", s.Partitions[0].Start)
		}
	}
	for range 20 {
		recs := records(500)
		for i := range recs {
			recs[i].Value = make([]byte, 100)
		}
		publish(t, d, "size", recs...)
	}
	size := c.MemoryUsage(soon(t), "size:0").Val()
	if size > 300_000 || size < 50_000 {
		t.Errorf("%d bytes are kept of a stream that keeps 200,000", size)
	}
}

func TestIDsAreForgottenAfterTheWindow(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1, DedupWindow: 40 * time.Millisecond})
	publish(t, d, "t", records(3000)...)
	for deadline := time.Now().Add(patience); c.ZCard(soon(t), "t:ids").Val() > 10; {
		publish(t, d, "t", event.Record{ID: []byte("again"), Value: []byte("x")})
		if time.Now().After(deadline) {
			t.Fatal("ids stay for ever")
		}
	}
	p, err := d.Publish(soon(t), "t", records(5))
	if want := (broker.Published{Stored: 5}); p != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", p, err, want)
	}
}

// A member that freezes is one whose process is stopped: here its connections
// are cut off from the server, so that its session ends while it still holds
// what it was given.
func TestFrozenMemberIsFencedWhenItComesBack(t *testing.T) {
	s := start(t, "aof")
	zombie, d := open(t, s.url("?session=600ms")), open(t, s.url("?session=600ms"))
	create(t, d, broker.TopicConfig{Name: "in", Partitions: 1})
	create(t, d, broker.TopicConfig{Name: "out", Partitions: 1})
	publish(t, d, "in", records(10)...)
	_, old := subscribe(t, zombie, "in")
	_, next := fetch(t, old, 10)

	zombie.Freeze(true)
	_, mine := subscribe(t, d, "in")
	if mine.Start() != 0 {
		t.Fatalf("the group continues at %d, nothing was committed", mine.Start())
	}
	tx := func(c broker.Claim) *broker.Tx {
		return &broker.Tx{
			Publish:   []broker.Publication{{Topic: "out", Partition: 0, Records: records(10)}},
			Positions: []broker.ClaimPosition{{Claim: c, Next: next}},
		}
	}
	if err := zombie.Commit(soon(t), tx(old)); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("the zombie's transaction: %v, want a Conflict", err)
	}
	if err := old.Commit(soon(t), 3); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("the zombie's position: %v, want a Conflict", err)
	}
	state, err := d.Describe(soon(t), "out", "")
	if err != nil || state.Partitions[0].End != 0 {
		t.Errorf("the zombie has stored %d records, %v", state.Partitions[0].End, err)
	}
	if err := d.Commit(soon(t), tx(mine)); err != nil {
		t.Error(err)
	}
	zombie.Freeze(false)
	if _, err := old.Fetch(soon(t), 1); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("the zombie's Fetch: %v, want a Conflict", err)
	}
}

func TestFetchGoesOnAfterTheServerIsBack(t *testing.T) {
	s := start(t, "aof")
	d := open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, d, "t", records(3)...)
	_, claim := subscribe(t, d, "t")
	r, err := d.Read(soon(t), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, end := range []string{"stop", "kill"} {
		fetch(t, claim, 3)
		fetch(t, r, 3)
		got := make(chan []string, 2)
		for _, f := range []interface {
			Fetch(ctx context.Context, max int) (*broker.Batch, error)
		}{claim, r} {
			go func() {
				recs, _ := fetch(t, f, 3)
				got <- recs
			}()
		}
		s.tell(t, end)
		if _, err := d.Publish(soon(t), "t", records(1)); !errkind.Is(err, errkind.Transient) {
			t.Errorf("Publish while the server is away: %v, want a Transient error", err)
		}
		s.tell(t, "start")
		publish(t, d, "t", records(3)...)
		for range 2 {
			if diff := cmp.Diff([]string{"0|||v0", "1|||v1", "2|||v2"}, <-got); diff != "" {
				t.Error(diff)
			}
		}
		publish(t, d, "t", records(3)...)
	}
}

func TestFullMemoryIsExhaustedAndChangesNothing(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "in", Partitions: 1})
	create(t, d, broker.TopicConfig{Name: "out", Partitions: 1})
	publish(t, d, "in", records(3)...)
	_, claim := subscribe(t, d, "in")
	if err := c.ConfigSet(soon(t), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	err := d.Commit(soon(t), &broker.Tx{
		Publish:   []broker.Publication{{Topic: "out", Partition: 0, Records: records(10)}},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: 3}},
	})
	if !errkind.Is(err, errkind.Exhausted) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Commit: %v, want an Exhausted error with OOM", err)
	}
	if _, err := d.Publish(soon(t), "out", records(1)); !errkind.Is(err, errkind.Exhausted) {
		t.Errorf("Publish: %v, want an Exhausted error", err)
	}
	fetch(t, claim, 3) // reading goes on
	state, err := d.Describe(soon(t), "in", "g")
	if err != nil || state.Partitions[0].Committed != -1 {
		t.Errorf("the position is %d, %v", state.Partitions[0].Committed, err)
	}
	c.ConfigSet(soon(t), "maxmemory", "0")
	publish(t, d, "out", records(1)...)
	if err := claim.Commit(soon(t), 3); err != nil {
		t.Error(err)
	}
}

func TestDamagedKeysFailATransactionWhole(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	for _, name := range []string{"a", "b"} {
		create(t, d, broker.TopicConfig{Name: name, Partitions: 1, DedupWindow: time.Hour})
	}
	tx := &broker.Tx{Publish: []broker.Publication{{Topic: "a", Records: records(5)}, {Topic: "b", Records: records(5)}}}
	for _, key := range []string{"b:0", "b:ids"} {
		c.Del(soon(t), key)
		c.Set(soon(t), key, "a string", 0)
		if err := d.Commit(soon(t), tx); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("with %s no stream or set: %v, want a Conflict", key, err)
		}
		if n := c.XLen(soon(t), "a:0").Val() + c.ZCard(soon(t), "a:ids").Val(); n != 0 {
			t.Errorf("with %s no stream or set: %d things were stored", key, n)
		}
		c.Del(soon(t), key)
	}
}

func TestReaderOfADeletedTopicSaysSo(t *testing.T) {
	s := start(t, "aof")
	d := open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, d, "t", records(5)...)
	r, err := d.Read(soon(t), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, _ := subscribe(t, d, "t")
	fetch(t, r, 5)
	if err := d.DeleteTopic(soon(t), "t"); err != nil {
		t.Fatal(err)
	}
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1}) // another one of the same name
	if _, err := r.Fetch(soon(t), 1); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("Fetch: %v, want NotFound", err)
	}
	if _, err := c.Claim(soon(t)); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("Claim: %v, want NotFound", err)
	}
}

func TestStreamThatLostRecordsIsCorrupt(t *testing.T) {
	s := start(t, "aof")
	c, d := s.client(t), open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, d, "t", records(5)...)
	r, err := d.Read(soon(t), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fetch(t, r, 5)
	c.Del(soon(t), "t:0")
	if _, err := r.Fetch(soon(t), 1); !errkind.Is(err, errkind.Corrupt) {
		t.Errorf("Fetch: %v, want Corrupt", err)
	}
}

func TestCallsEndWithTheirContextWhileTheServerHangs(t *testing.T) {
	s := start(t, "aof")
	d := open(t, s.url(""))
	create(t, d, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, d, "t", records(1)...)
	_, claim := subscribe(t, d, "t")
	fetch(t, claim, 1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Resume() }()
	for what, call := range map[string]func(ctx context.Context) error{
		"Publish":  func(ctx context.Context) error { _, err := d.Publish(ctx, "t", records(1)); return err },
		"Describe": func(ctx context.Context) error { _, err := d.Describe(ctx, "t", "g"); return err },
		"Fetch":    func(ctx context.Context) error { _, err := claim.Fetch(ctx, 1); return err },
		"Commit":   func(ctx context.Context) error { return claim.Commit(ctx, 1) },
	} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		cancel()
		select {
		case err := <-ended:
			if !errkind.Is(err, errkind.Canceled) {
				t.Errorf("%s: %v, want the context's error", what, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s does not end with its context", what)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- d.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Close does not return while the server hangs")
	}
}

func TestLostAnswersNeitherLoseNorRepeatTransactions(t *testing.T) {
	const n = 300
	s := start(t, "aof")
	direct := open(t, s.url(""))
	create(t, direct, broker.TopicConfig{Name: "in", Partitions: 1})
	create(t, direct, broker.TopicConfig{Name: "out", Partitions: 1})
	publish(t, direct, "in", records(n)...)
	proxy := servers.ProxyTo(t, s.address)
	b := broker.New(open(t, "redis://:"+servers.Password+"@"+proxy.Address+"?timeout=2s"), broker.Options{})
	defer b.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // cuts connections again and again
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				proxy.Drop()
				proxy.Restore()
			case <-stop:
				return
			}
		}
	}()
	ctx := soon(t)
	c, err := b.Subscribe(ctx, broker.Subscription{Topic: "in", Group: "g"})
	for ; err != nil && ctx.Err() == nil; c, err = b.Subscribe(ctx, broker.Subscription{Topic: "in", Group: "g"}) {
	}
	next, lost := int64(0), 0
	for next < n && ctx.Err() == nil {
		claim, err := c.Claim(ctx)
		if err != nil {
			continue
		}
		for next = claim.Start(); next < n; {
			batch, err := claim.Fetch(ctx, 3)
			if errkind.Is(err, errkind.Conflict) {
				break
			}
			if err != nil {
				t.Fatalf("Fetch: %v", err)
			}
			at := batch.Next()
			err = b.Commit(ctx, &broker.Tx{
				Publish:   []broker.Publication{{Topic: "out", Partition: 0, Records: batch.Records}},
				Positions: []broker.ClaimPosition{{Claim: claim, Next: at}},
			})
			batch.Release()
			if errkind.Is(err, errkind.Conflict) {
				lost++
				break
			}
			if err != nil {
				t.Fatalf("Commit: %v", err)
			}
			next = at
		}
	}
	close(stop)
	<-stopped
	state, err := direct.Describe(soon(t), "in", "g")
	if err != nil || state.Partitions[0].Committed != n {
		t.Fatalf("the group stands at %d of %d, %v", state.Partitions[0].Committed, n, err)
	}
	r, err := direct.Read(soon(t), "out", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, _ := fetch(t, r, n)
	for i := range out {
		if want := fmt.Sprintf("%d|||v%d", i, i); out[i] != want {
			t.Fatalf("output %d is %s, want %s", i, out[i], want)
		}
	}
	if state, err := direct.Describe(soon(t), "out", ""); err != nil || state.Partitions[0].End != n {
		t.Errorf("%d outputs for %d inputs, %v", state.Partitions[0].End, n, err)
	}
	t.Logf("%d claims were given up because the outcome was not known", lost)
}

func TestReplicasAreWaitedFor(t *testing.T) {
	s, replica := start(t, "aof"), start(t) // a replica that begins a file of its own does not end in between
	c := replica.client(t)
	host, port, _ := strings.Cut(s.address, ":")
	c.ConfigSet(soon(t), "masterauth", servers.Password)
	if err := c.ReplicaOf(soon(t), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	b := broker.New(open(t, s.url("?wait_replicas=1")), broker.Options{Retry: broker.Retry{Attempts: 100}})
	defer b.Close()
	if err := b.CreateTopic(soon(t), broker.TopicConfig{Name: "t", Partitions: 1, DedupWindow: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(soon(t), "t", records(3)); err != nil {
		t.Fatal(err)
	}
	if n := c.XLen(soon(t), "t:0").Val(); n != 3 {
		t.Errorf("the replica has %d of 3 records that were acknowledged", n)
	}
	d := open(t, replica.url(""))
	if _, err := d.Publish(soon(t), "t", records(1)); !errkind.Is(err, errkind.Transient) || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("Publish to a replica: %v, want a Transient error", err)
	}
}

func TestClusterIsUnsupported(t *testing.T) {
	s := start(t, "cluster")
	_, err := redis.Open(soon(t), s.url(""), redis.Options{})
	if !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "Cluster") {
		t.Errorf("got %v, want an Unsupported error", err)
	}
}
