package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/journal/crashfs"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func TestATornTailIsCutAndReported(t *testing.T) {
	d := crashfs.New(1)
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10}.Quiet())
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, j, "t", rec("", "k", "kept"))
	d.StopAt(d.Ops() + 2) // the write is done, the sync is not
	_, err := j.Publish(context.Background(), "t", []event.Record{rec("", "k", "torn")})
	if err == nil {
		t.Fatal("acknowledged without a sync")
	}
	_ = j.Close()
	after := d.Crash(crashfs.All)
	name := crashDir + "/0000000000000000.seg"
	end := int64(0)
	for off := range after.Size(name) { // the frame's last byte: the value's
		var b [4]byte
		f, _ := after.OpenFile(name, 0)
		if _, err := f.ReadAt(b[:], off); err == nil && string(b[:]) == "torn" {
			end = off
			break
		}
	}
	after.Flip(name, end, 1)
	rep, err := journal.CheckFS(after, crashDir)
	if err != nil || rep.Damage != nil || rep.Unfinished == 0 {
		t.Fatalf("Check: %+v, %v", rep, err)
	}
	var log bytes.Buffer
	j = open(t, crashDir, journal.Options{FS: after, SegmentBytes: 64 << 10, Logger: slog.New(slog.NewTextHandler(&log, nil))}.Quiet())
	defer j.Close()
	if !strings.Contains(log.String(), "unfinished frame") || !strings.Contains(log.String(), name) {
		t.Fatalf("log: %s", log.String())
	}
	if got := observe(t, j, nil)["t"].parts[0].values; len(got) != 1 || got[0] != "kept" {
		t.Fatalf("records %q", got)
	}
}

func TestRetentionFreesSegmentsAndKeepsWhatIsYoung(t *testing.T) {
	ctx := context.Background()
	d := crashfs.New(1)
	now := time.Unix(1000, 0)
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 8 << 10, Clock: func() time.Time { return now }}.Quiet())
	create(t, j, broker.TopicConfig{Name: "aged", Partitions: 1, Retention: time.Minute})
	create(t, j, broker.TopicConfig{Name: "sized", Partitions: 1, RetainBytes: 5000})
	create(t, j, broker.TopicConfig{Name: "kept", Partitions: 1})
	reader, err := j.Read(ctx, "aged", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("v", 400)
	for i := range 100 {
		now = now.Add(time.Second)
		publish(t, j, "aged", rec("", "k", fmt.Sprint(i, value)))
		publish(t, j, "sized", rec("", "k", fmt.Sprint(i, value)))
		if i%10 == 0 {
			publish(t, j, "kept", rec("", "k", fmt.Sprint(i)))
		}
		if i == 0 {
			b, err := reader.Fetch(ctx, 1)
			if err != nil || b.Records[0].Position != 0 {
				t.Fatalf("Fetch: %v, %v", b, err)
			}
			b.Release()
		}
	}
	before, _ := d.ReadDir(crashDir)
	for range 3 {
		if err := j.Maintain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	after, _ := d.ReadDir(crashDir)
	if len(after) > 2+2*4 || len(after) >= len(before) {
		t.Fatalf("files before %d, after %d: %v", len(before), len(after), after)
	}
	state := func(topic string) broker.PartitionState {
		s, err := j.Describe(ctx, topic, "")
		if err != nil {
			t.Fatal(err)
		}
		return s.Partitions[0]
	}
	if s := state("aged"); s.Start != 39 || s.End != 100 {
		t.Fatalf("aged keeps %d to %d, want 39 to 100: a minute", s.Start, s.End)
	}
	if s := state("sized"); s.Bytes > 5000 || s.Bytes < 3000 || s.End != 100 {
		t.Fatalf("sized: %+v", s)
	}
	b, err := reader.Fetch(ctx, 1)
	if err != nil || b.Records[0].Position != 39 {
		t.Fatalf("a reader in a removed segment continues at %v, %v; want 39", b, err)
	}
	b.Release()
	want := observe(t, j, nil)
	if n := len(want["kept"].parts[0].values); n != 10 {
		t.Fatalf("kept has %d records, want 10", n)
	}
	// Times and positions of what was copied forward are those of old.
	at, err := j.Seek(ctx, "kept", 0, time.Unix(1000+42, 0))
	if err != nil || at != 5 {
		t.Fatalf("Seek: %d, %v; want 5", at, err)
	}
	_ = j.Close()
	j = open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10, Clock: func() time.Time { return now }}.Quiet())
	defer j.Close()
	if got := observe(t, j, want); got.String() != want.String() {
		t.Fatalf("after opening again:\n%s\nwant\n%s", got, want)
	}
}

func TestManySegmentsAreReadThroughABoundedCache(t *testing.T) {
	d := crashfs.New(1)
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 4 << 10}.Quiet())
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
	for i := range 150 {
		publish(t, j, "t", rec("", "k", fmt.Sprint(i, strings.Repeat("v", 3000))))
	}
	for range 2 {
		if n := len(observe(t, j, nil)["t"].parts[0].values); n != 150 {
			t.Fatalf("%d records", n)
		}
		if err := j.Maintain(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := j.OpenSegments(); n > 65 {
		t.Fatalf("%d segments are loaded", n)
	}
}

func TestIDsAreForgottenAfterTheWindow(t *testing.T) {
	d := crashfs.New(1)
	now := time.Unix(1000, 0)
	o := journal.Options{FS: d, SegmentBytes: 64 << 10, Clock: func() time.Time { return now }}.Quiet()
	j := open(t, crashDir, o)
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 2, DedupWindow: time.Minute})
	check := func(stored, dups int, recs ...event.Record) {
		t.Helper()
		if p := publish(t, j, "t", recs...); p.Stored != stored || p.Duplicates != dups {
			t.Fatalf("at %v: %+v, want %d stored and %d duplicates", now, p, stored, dups)
		}
	}
	check(2, 1, rec("a", "k", "1"), rec("a", "other", "2"), rec("b", "k", "3"))
	now = now.Add(59 * time.Second)
	check(0, 2, rec("a", "k", "4"), rec("b", "k", "5"))
	now = now.Add(2 * time.Second)
	check(1, 0, rec("a", "k", "6"))
	if err := j.Commit(context.Background(), &broker.Tx{Publish: []broker.Publication{{Topic: "t", Partition: 0, Records: []event.Record{rec("c", "", "7"), rec("a", "", "8")}}}}); err != nil {
		t.Fatal(err)
	}
	check(0, 1, rec("c", "k", "9"))
	_ = j.Close()
	now = now.Add(59 * time.Second)
	j = open(t, crashDir, o)
	check(0, 2, rec("a", "k", "10"), rec("c", "k", "11"))
	now = now.Add(2 * time.Second)
	check(2, 0, rec("a", "k", "12"), rec("c", "k", "13"))
	_ = j.Close()
}

func TestSyncEverySyncsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashfs.New(1)
		j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10, Sync: journal.SyncEvery(time.Second)}.Quiet())
		create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
		synctest.Wait()
		time.Sleep(2 * time.Second) // of the bubble's clock
		synctest.Wait()
		publish(t, j, "t", rec("", "k", "v"))
		count := func() int64 {
			k := open(t, crashDir, journal.Options{FS: d.Peek(crashfs.None), SegmentBytes: 64 << 10}.Quiet())
			defer k.Close()
			s, err := k.Describe(context.Background(), "t", "")
			if err != nil {
				t.Fatal(err)
			}
			return s.Partitions[0].End
		}
		if n := count(); n != 0 {
			t.Fatalf("%d records are durable at once", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := count(); n != 1 {
			t.Fatalf("%d records are durable after the interval", n)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecordsWithoutKeyAreSpread(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{})
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 4})
	publish(t, j, "t", make([]event.Record, 40)...)
	s, err := j.Describe(context.Background(), "t", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range s.Partitions {
		if p.End != 10 {
			t.Fatalf("partition %d has %d records, want 10", i, p.End)
		}
	}
}

func TestALargePublishGoesInPieces(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{SegmentBytes: 8 << 20})
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
	recs := make([]event.Record, 50)
	for i := range recs {
		recs[i].Value = bytes.Repeat([]byte{byte(i)}, 1<<20)
	}
	if p := publish(t, j, "t", recs...); p.Stored != len(recs) {
		t.Fatalf("%+v", p)
	}
	for i, v := range observe(t, j, nil)["t"].parts[0].values {
		if len(v) != 1<<20 || v[0] != byte(i) {
			t.Fatalf("record %d is %d bytes of %d", i, len(v), v[0])
		}
	}
}

func TestPositionsBehindTheEndAreRefused(t *testing.T) {
	ctx := context.Background()
	j := open(t, t.TempDir(), journal.Options{})
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, j, "t", rec("", "k", "v"))
	c, err := j.Subscribe(ctx, broker.Subscription{Topic: "t", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := c.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, cl.Commit(ctx, 2), errkind.Invalid, "ends at 1")
	wantKind(t, j.Commit(ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: cl, Next: -1}}}), errkind.Invalid)
	if err := cl.Commit(ctx, 1); err != nil {
		t.Fatal(err)
	}
}

// TestReadersGoOnWhileSegmentsMove writes, reads, rolls, trims and copies
// forward at the same time: what is kept is read in order and without a gap.
func TestReadersGoOnWhileSegmentsMove(t *testing.T) {
	const n = 3000
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	j := open(t, crashDir, journal.Options{FS: crashfs.New(1), SegmentBytes: 8 << 10, Interval: time.Millisecond})
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "kept", Partitions: 1})
	create(t, j, broker.TopicConfig{Name: "sized", Partitions: 1, RetainBytes: 10_000})
	errs := make(chan error, 4)
	follow := func(topic string, gaps bool) {
		r, err := j.Read(ctx, topic, 0, 0)
		for at := int64(0); err == nil && at < n; {
			var b *broker.Batch
			if b, err = r.Fetch(ctx, 50); err != nil {
				break
			}
			for i := range b.Records {
				rec := &b.Records[i]
				if rec.Position < at || !gaps && rec.Position != at || !strings.HasPrefix(string(rec.Value), fmt.Sprint(rec.Position, " ")) {
					err = fmt.Errorf("%s: position %d with %.20q where %d was expected", topic, rec.Position, rec.Value, at)
				}
				at = rec.Position + 1
			}
			b.Release()
		}
		errs <- err
	}
	go follow("kept", false)
	go follow("sized", true)
	for i := range n {
		publish(t, j, "sized", rec("", "k", fmt.Sprint(i, " ", strings.Repeat("v", 500))))
		publish(t, j, "kept", rec("", "k", fmt.Sprint(i, " ")))
	}
	go follow("kept", false)
	go func() {
		var err error
		for range 20 {
			if err == nil {
				err = j.Maintain(ctx)
			}
		}
		errs <- err
	}()
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
