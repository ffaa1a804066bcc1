package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/postgres"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func records(n int) []event.Record {
	recs := make([]event.Record, n)
	for i := range recs {
		recs[i] = event.Record{ID: fmt.Appendf(nil, "e-%d", i), Key: fmt.Appendf(nil, "k-%d", i%7), Value: fmt.Appendf(nil, "%d", i)}
	}
	return recs
}

func publish(t testing.TB, d *postgres.Driver, topic string, recs []event.Record) {
	t.Helper()
	_, err := d.Publish(soon(t), topic, recs)
	must(t, err)
}

func claim(t testing.TB, d *postgres.Driver, topic string) (broker.Consumer, broker.Claim) {
	t.Helper()
	c, err := d.Subscribe(soon(t), broker.Subscription{Topic: topic, Group: "g"})
	must(t, err)
	claim, err := c.Claim(soon(t))
	must(t, err)
	return c, claim
}

func state(t testing.TB, d *postgres.Driver, topic string) broker.PartitionState {
	t.Helper()
	got, err := d.Describe(soon(t), topic, "g")
	must(t, err)
	return got.Partitions[0]
}

// eventually waits until look returns "".
func eventually(t testing.TB, look func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := soon(t); ; {
		complaint := look()
		if complaint == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(complaint)
		}
	}
}

// works sends a record through a topic.
func works(t *testing.T, url string) {
	t.Helper()
	d, err := postgres.Open(soon(t), url, postgres.Options{Env: environment})
	must(t, err)
	defer d.Close()
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "works", Partitions: 1, DedupWindow: time.Hour}))
	publish(t, d, "works", records(100))
	c, held := claim(t, d, "works")
	b, err := held.Fetch(soon(t), 10)
	must(t, err)
	must(t, d.Commit(soon(t), &broker.Tx{
		Publish:   []broker.Publication{{Topic: "works", Records: records(3)}},
		Positions: []broker.ClaimPosition{{Claim: held, Next: b.Next()}},
	}))
	if s := state(t, d, "works"); s.Committed != 10 || s.End != 103 || s.Waiting != 93 {
		t.Errorf("got %+v", s)
	}
	must(t, c.Close())
	must(t, d.DeleteTopic(soon(t), "works"))
}

func TestBehaviour(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *servers.Server)
	}{
		{"other programs publish in their own transactions", otherProgramsPublishInTheirOwnTransactions},
		{"a commit whose answer is lost is a Conflict and applied once at most", aCommitWhoseAnswerIsLostIsAConflictAndAppliedOnceAtMost},
		{"records that are to go are deleted", recordsThatAreToGoAreDeleted},
		{"a topic made anew is another one", aTopicMadeAnewIsAnotherOne},
		{"a batch is bounded in bytes", aBatchIsBoundedInBytes},
		{"every statement goes by an index", everyStatementGoesByAnIndex},
		{"readers elsewhere are woken", readersElsewhereAreWoken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { // behind the drivers' own
				db, err := pgx.Connect(context.Background(), url(s, ""))
				must(t, err)
				defer func() { _ = db.Close(context.Background()) }()
				_, err = db.Exec(context.Background(), "DROP SCHEMA freshet CASCADE")
				must(t, err)
			})
			c.run(t, s)
		})
	}
}

func otherProgramsPublishInTheirOwnTransactions(t *testing.T, s *servers.Server) {
	d, c := open(t, url(s, "")), sql(t, s)
	const parts = 7
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "theirs", Partitions: parts, DedupWindow: time.Hour}))

	for i := range 40 { // keys of every length modulo 4
		key := strings.Repeat("ключ🔑", i/4) + strings.Repeat("x", i)
		var got int64
		must(t, c.QueryRow(t.Context(), `SELECT (freshet.murmur2(convert_to($1, 'UTF8')) & 2147483647) % $2`, key, parts).Scan(&got))
		if want := broker.PartitionFor([]byte(key), parts); got != int64(want) {
			t.Errorf("key %q: the server selects partition %d, PartitionFor %d", key, got, want)
		}
	}

	p := broker.PartitionFor([]byte("c-7"), parts)
	r, err := d.Read(soon(t), "theirs", p, 0)
	must(t, err)
	arrived := make(chan *broker.Batch, 1)
	go func() {
		b, err := r.Fetch(soon(t), 10)
		if err != nil {
			t.Error(err)
		}
		arrived <- b
	}()
	long := strings.Repeat("ü", 10_000)
	send := func(commit bool, id string) (position *int64) {
		t.Helper()
		tx, err := c.Begin(t.Context())
		must(t, err)
		must(t, tx.QueryRow(t.Context(), `SELECT freshet.publish('theirs', '{"amount":12.5}', key => 'c-7', id => $1, headers => $2)`,
			id, map[string]any{"ce_type": "payment", "n": 7, "long": long, "none": nil}).Scan(&position))
		if commit {
			must(t, tx.Commit(t.Context()))
		} else {
			must(t, tx.Rollback(t.Context()))
		}
		return position
	}
	send(false, "e-0") // as if it had never been
	if at := send(true, "e-1"); at == nil || *at != 0 {
		t.Errorf("the first event is at %v, want 0", at)
	}
	if at := send(true, "e-1"); at != nil {
		t.Errorf("an id that was seen is at %d, want null", *at)
	}
	b := <-arrived
	if len(b.Records) != 1 {
		t.Fatalf("got %d records, want 1", len(b.Records))
	}
	got := b.Records[0]
	if string(got.ID) != "e-1" || string(got.Key) != "c-7" || string(got.Value) != `{"amount":12.5}` || !got.Headers.Valid() {
		t.Errorf("got %q %q %q, headers valid: %v", got.ID, got.Key, got.Value, got.Headers.Valid())
	}
	headers := map[string]string{}
	for k, v := range got.Headers.All() {
		headers[k] = string(v)
	}
	if diff := cmp.Diff(map[string]string{"ce_type": "payment", "n": "7", "long": long, "none": ""}, headers); diff != "" {
		t.Errorf("headers (-want +got):\n%.300s", diff)
	}
	published, err := d.Publish(soon(t), "theirs", []event.Record{{ID: []byte("e-1")}, {ID: []byte("e-2")}})
	if err != nil || published != (broker.Published{Stored: 1, Duplicates: 1}) {
		t.Errorf("Publish behind publish: %+v, %v", published, err)
	}
	for _, bad := range []string{`SELECT freshet.publish('missing', 'x')`, `SELECT freshet.publish('theirs', repeat('x', 9000000))`} {
		if _, err := c.Exec(t.Context(), bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func aCommitWhoseAnswerIsLostIsAConflictAndAppliedOnceAtMost(t *testing.T, s *servers.Server) {
	proxy := servers.ProxyTo(t, s.Address)
	direct := open(t, url(s, ""))
	for _, topic := range []string{"in", "out"} {
		must(t, direct.CreateTopic(soon(t), broker.TopicConfig{Name: topic, Partitions: 1}))
	}
	publish(t, direct, "in", records(100))
	behind := open(t, strings.Replace(url(s, "?timeout=2s&session=6s"), s.Address, proxy.Address, 1))
	c, held := claim(t, behind, "in")
	defer c.Close()
	b, err := held.Fetch(soon(t), 10)
	must(t, err)
	tx := &broker.Tx{
		Publish:   []broker.Publication{{Topic: "out", Partition: 0, Records: b.Records}},
		Positions: []broker.ClaimPosition{{Claim: held, Next: b.Next()}},
	}
	others := int64(0)
	for range 5 { // where heartbeats have the connections, it cannot even be sent
		publish(t, behind, "out", records(1)) // a connection is there, and knows the topic
		others++
		proxy.Cut()
		if err = behind.Commit(soon(t), tx); !errkind.Is(err, errkind.Transient) {
			break
		}
		proxy.Restore()
		for { // until connections are there again
			if _, err := behind.Describe(soon(t), "out", ""); err == nil {
				break
			}
		}
	}
	if !errkind.Is(err, errkind.Conflict) {
		t.Errorf("Commit over a network that is gone: %v, want a Conflict", err)
	}
	if err := behind.Commit(soon(t), tx); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("Commit again: %v, want a Conflict: the claim is revoked", err)
	}
	proxy.Restore() // what waited in the network may still arrive
	again, err := c.Claim(soon(t))
	must(t, err)
	out := state(t, direct, "out").End - others
	if start := again.Start(); start != out || start != 0 && start != b.Next() {
		t.Errorf("the group continues at %d, and %d results are there", start, out)
	}
	must(t, behind.Commit(soon(t), &broker.Tx{Positions: []broker.ClaimPosition{{Claim: again, Next: 50}}}))
	if got := state(t, direct, "out").End - others; got != out {
		t.Errorf("%d results are there, %d were before", got, out)
	}
}

func recordsThatAreToGoAreDeleted(t *testing.T, s *servers.Server) {
	d, c := open(t, url(s, "")), sql(t, s)
	rows := func() (n int) {
		must(t, c.QueryRow(t.Context(), "SELECT count(*) FROM freshet.records").Scan(&n))
		return n
	}
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "keep", Partitions: 1}))
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "short", Partitions: 1, Retention: time.Millisecond, DedupWindow: time.Millisecond}))
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "small", Partitions: 1, RetainBytes: 1000}))
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "gone", Partitions: 2}))
	for _, topic := range []string{"keep", "short", "small", "gone"} {
		for range 4 {
			publish(t, d, topic, records(3000))
		}
	}
	must(t, d.Trim(soon(t), "keep", 0, 11_990))
	must(t, d.DeleteTopic(soon(t), "gone")) // which asks for a sweep
	eventually(t, func() string {
		kept, short, small := state(t, d, "keep"), state(t, d, "short"), state(t, d, "small")
		var ids, partitions int
		must(t, c.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM freshet.ids), (SELECT count(*) FROM freshet.partitions)").Scan(&ids, &partitions))
		if kept.Start != 11_990 || kept.Bytes > 200 || short.Start != 12_000 || short.Waiting != 0 || short.Bytes != 0 || ids != 0 || partitions != 3 ||
			small.Bytes > 1000 || small.Bytes < 900 || small.End != 12_000 || rows() != int(10+small.Waiting) {
			d.CreateTopic(soon(t), broker.TopicConfig{Name: "again", Partitions: 1})
			d.DeleteTopic(soon(t), "again")
			return fmt.Sprintf("keep %+v, short %+v, small %+v, %d ids, %d partitions, %d rows", kept, short, small, ids, partitions, rows())
		}
		return ""
	})
}

func readersElsewhereAreWoken(t *testing.T, s *servers.Server) {
	const rounds = 12
	here, there := open(t, url(s, "")), open(t, url(s, ""))
	must(t, here.CreateTopic(soon(t), broker.TopicConfig{Name: "t", Partitions: 1}))
	r, err := there.Read(soon(t), "t", 0, 0)
	must(t, err)
	arrived := make(chan int64)
	go func() { // waits for the next before this one is looked at
		defer close(arrived)
		for range rounds {
			b, err := r.Fetch(soon(t), 1)
			if err != nil {
				t.Error(err)
				return
			}
			arrived <- b.Records[0].Position
		}
	}()
	began := time.Now()
	for i := range rounds {
		publish(t, here, "t", records(1))
		if at := <-arrived; at != int64(i) {
			t.Fatalf("got position %d, want %d", at, i)
		}
	}
	if took := time.Since(began); took > rounds*time.Second/2 { // they look by themselves every second
		t.Errorf("%d rounds took %v", rounds, took)
	}
}

func aTopicMadeAnewIsAnotherOne(t *testing.T, s *servers.Server) {
	d, other := open(t, url(s, "")), open(t, url(s, ""))
	topic := broker.TopicConfig{Name: "t", Partitions: 1, DedupWindow: time.Hour}
	must(t, d.CreateTopic(soon(t), topic))
	publish(t, d, "t", records(10))
	_, held := claim(t, d, "t")
	must(t, other.DeleteTopic(soon(t), "t"))
	if _, err := d.Publish(soon(t), "t", records(1)); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("Publish to a topic that another has deleted: %v, want NotFound", err)
	}
	must(t, other.CreateTopic(soon(t), topic))
	publish(t, d, "t", records(5))
	if err := held.Commit(soon(t), 3); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("Commit under a claim of the topic before: %v, want a Conflict", err)
	}
	if _, err := held.Fetch(soon(t), 1); err == nil {
		t.Error("Fetch under a claim of the topic before: no error")
	}
	if s := state(t, d, "t"); s.Committed != -1 || s.End != 5 {
		t.Errorf("got %+v", s)
	}
}

func aBatchIsBoundedInBytes(t *testing.T, s *servers.Server) {
	d := open(t, url(s, ""))
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "large", Partitions: 1}))
	recs := make([]event.Record, 8)
	for i := range recs {
		recs[i].Value = make([]byte, 3<<20)
	}
	publish(t, d, "large", recs)
	r, err := d.Read(soon(t), "large", 0, 0)
	must(t, err)
	var sizes []int
	for n := 0; n < len(recs); {
		b, err := r.Fetch(soon(t), 100)
		must(t, err)
		n += len(b.Records)
		sizes = append(sizes, len(b.Records))
	}
	if diff := cmp.Diff([]int{3, 3, 2}, sizes); diff != "" {
		t.Errorf("records in a batch (-want +got):\n%s", diff)
	}
}

func everyStatementGoesByAnIndex(t *testing.T, s *servers.Server) {
	d, c := open(t, url(s, "")), sql(t, s)
	must(t, d.CreateTopic(soon(t), broker.TopicConfig{Name: "t", Partitions: 3, DedupWindow: time.Hour, Retention: time.Hour}))
	for range 5 {
		publish(t, d, "t", records(1000))
	}
	for name, statement := range postgres.Statements {
		tx, err := c.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), "SET LOCAL search_path TO freshet; SET LOCAL enable_seqscan TO off; SET LOCAL plan_cache_mode TO force_generic_plan")
		must(t, err)
		prepared, err := tx.Prepare(t.Context(), name, statement)
		must(t, err)
		nulls := ""
		if n := len(prepared.ParamOIDs); n > 0 {
			nulls = "(NULL" + strings.Repeat(", NULL", n-1) + ")"
		}
		rows, err := tx.Query(t.Context(), "EXPLAIN EXECUTE "+pgx.Identifier{name}.Sanitize()+nulls, pgx.QueryExecModeSimpleProtocol)
		must(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		if plan := strings.Join(lines, "\n"); strings.Contains(plan, "Seq Scan on records") || strings.Contains(plan, "Seq Scan on ids") {
			t.Errorf("%s reads a table from end to end:\n%s", name, plan)
		}
		must(t, tx.Rollback(t.Context()))
	}
}
