package journal_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
)

var update = flag.Bool("update", false, "write the golden journal anew: only together with a new format version")

const golden = "testdata/version1"

// writeGolden makes the journal that testdata keeps.
func writeGolden(t *testing.T, dir string) {
	ctx := context.Background()
	now := time.Unix(1_700_000_000, 0)
	j := open(t, dir, journal.Options{SegmentBytes: 4 << 10, Clock: func() time.Time { now = now.Add(time.Second); return now }}.Quiet())
	create(t, j, broker.TopicConfig{Name: "orders", Partitions: 2, Retention: 24 * time.Hour, DedupWindow: time.Minute})
	create(t, j, broker.TopicConfig{Name: "results", Partitions: 1})
	create(t, j, broker.TopicConfig{Name: "gone", Partitions: 1})
	c, err := j.Subscribe(ctx, broker.Subscription{Topic: "orders", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claims := []broker.Claim{}
	for range 2 {
		cl, err := c.Claim(ctx)
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, cl)
	}
	for i := range 30 {
		r := rec(fmt.Sprint("id", i), fmt.Sprint("key", i%5), strings.Repeat("payload ", 20))
		r.Headers = event.Headers(nil).AppendString("ce_type", "order")
		publish(t, j, "orders", r)
		publish(t, j, "gone", r)
	}
	results := []event.Record{rec("", "", "result"), rec("", "", "its like"), rec("", "", "bare")}
	for i := range 2 {
		results[i].Headers = event.Headers(nil).AppendString("ce_type", "result")
	}
	tx := &broker.Tx{Publish: []broker.Publication{{Topic: "results", Partition: 0, Records: results}}}
	for _, cl := range claims {
		tx.Positions = append(tx.Positions, broker.ClaimPosition{Claim: cl, Next: 4})
	}
	if err := j.Commit(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if err := j.Trim(ctx, "orders", 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := j.DeleteTopic(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := j.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, j, "results", rec("", "k", "the last"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVersion1IsWrittenAndReadAsItAlwaysWas compares the bytes written with a
// journal kept from the day of the format's first release, and reads that one.
func TestVersion1IsWrittenAndReadAsItAlwaysWas(t *testing.T) {
	dir := t.TempDir()
	writeGolden(t, dir)
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(golden, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(golden, "LOCK"))
	}
	files := func(dir string) map[string]string {
		m := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() == "LOCK" {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			m[e.Name()] = string(b)
		}
		return m
	}
	got, want := files(dir), files(golden)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is written differently now: that needs a new format version", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files are written, %d are kept", len(got), len(want))
	}

	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	rep, err := journal.Check(old)
	if err != nil || rep.Damage != nil || rep.Unfinished != 0 {
		t.Fatalf("Check: %+v, %v", rep, err)
	}
	if diff := cmp.Diff([]string{"orders 28", "results 4"}, []string{
		fmt.Sprint(rep.Topics[0].Name, " ", rep.Topics[0].Records), fmt.Sprint(rep.Topics[1].Name, " ", rep.Topics[1].Records),
	}); diff != "" {
		t.Fatal(diff)
	}
	j := open(t, old, journal.Options{Clock: func() time.Time { return time.Unix(1_700_000_300, 0) }}.Quiet())
	defer j.Close()
	w := observe(t, j, nil)
	if n := len(w["orders"].parts[0].values) + len(w["orders"].parts[1].values); n != 30 {
		t.Errorf("orders has %d records, want 30", n)
	}
	for i, p := range w["orders"].parts {
		if p.committed != 4 || i == 0 && p.start != 2 {
			t.Errorf("orders/%d: start %d, committed %d", i, p.start, p.committed)
		}
	}
	if v := w["results"].parts[0].values; !cmp.Equal(v, []string{"result", "its like", "bare", "the last"}) {
		t.Errorf("results: %q", v)
	}
}
