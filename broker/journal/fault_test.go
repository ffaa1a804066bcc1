package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/journal/crashfs"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func wantKind(t testing.TB, err error, k errkind.Kind, parts ...string) {
	t.Helper()
	if !errkind.Is(err, k) {
		t.Fatalf("got error %v of kind %v, want kind %v", err, errkind.Of(err), k)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("error %q does not mention %q", err, p)
		}
	}
}

func create(t testing.TB, j *journal.Journal, c broker.TopicConfig) {
	t.Helper()
	if err := j.CreateTopic(context.Background(), c); err != nil {
		t.Fatalf("CreateTopic: %v", err)
	}
}

func publish(t testing.TB, j *journal.Journal, topic string, recs ...event.Record) broker.Published {
	t.Helper()
	p, err := j.Publish(context.Background(), topic, recs)
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	return p
}

func rec(id, key, value string) event.Record {
	return event.Record{ID: []byte(id), Key: []byte(key), Value: []byte(value)}
}

// TestAFullDiskAtAnyWriteDamagesNothing fails every write of a history once with
// a full disk, half written. What failed may be repeated, and is there once.
func TestAFullDiskAtAnyWriteDamagesNothing(t *testing.T) {
	ctx := context.Background()
	for n := 1; ; n++ {
		d := crashfs.New(uint64(n))
		j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 4 << 10}.Quiet())
		create(t, j, broker.TopicConfig{Name: "t", Partitions: 1, DedupWindow: 1 << 60})
		writes, failed := 0, 0
		d.Fail(func(op crashfs.Op, _ string) error {
			if op == crashfs.Write || op == crashfs.Truncate || op == crashfs.Create {
				if writes++; writes == n {
					return syscall.ENOSPC
				}
			}
			return nil
		})
		var want []string
		for i := range 12 {
			r := rec(fmt.Sprint(i), "k", fmt.Sprintf("%d%s", i, strings.Repeat("v", 700)))
			p, err := j.Publish(ctx, "t", []event.Record{r})
			if err != nil {
				wantKind(t, err, errkind.Exhausted, "space", crashDir)
				failed++
				p, err = j.Publish(ctx, "t", []event.Record{r})
			}
			if err != nil || p.Stored != 1 {
				t.Fatalf("write %d: second try: %+v, %v", n, p, err)
			}
			want = append(want, string(r.Value))
		}
		d.Fail(nil)
		got := observe(t, j, nil)["t"].parts[0].values
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("write %d: (-want +got)\n%s", n, diff)
		}
		_ = j.Close()
		rep, err := journal.CheckFS(d, crashDir)
		if err != nil || rep.Damage != nil {
			t.Fatalf("write %d: Check: %v, %v", n, err, rep.Damage)
		}
		again := open(t, crashDir, journal.Options{FS: d.Crash(crashfs.None), SegmentBytes: 4 << 10}.Quiet())
		if diff := cmp.Diff(want, observe(t, again, nil)["t"].parts[0].values); diff != "" {
			t.Fatalf("write %d: after a crash: (-want +got)\n%s", n, diff)
		}
		_ = again.Close()
		if failed == 0 {
			if n < 15 {
				t.Fatalf("only %d writes were tried", n)
			}
			return
		}
	}
}

func TestAFailedSyncRefusesWritesUntilReopened(t *testing.T) {
	ctx := context.Background()
	d := crashfs.New(1)
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10}.Quiet())
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1})
	publish(t, j, "t", rec("", "k", "one"))
	d.Fail(func(op crashfs.Op, _ string) error {
		if op == crashfs.Sync {
			return syscall.EIO
		}
		return nil
	})
	_, err := j.Publish(ctx, "t", []event.Record{rec("", "k", "two")})
	wantKind(t, err, errkind.Permanent, "sync", crashDir)
	d.Fail(nil)
	_, err = j.Publish(ctx, "t", []event.Record{rec("", "k", "three")})
	wantKind(t, err, errkind.Permanent, "start again")
	if got := observe(t, j, nil)["t"].parts[0].values; !cmp.Equal(got, []string{"one"}) {
		t.Fatalf("readers see %q, want what was durable", got)
	}
	_ = j.Close()
	j = open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10}.Quiet())
	defer j.Close()
	publish(t, j, "t", rec("", "k", "four"))
	got := observe(t, j, nil)["t"].parts[0].values
	if got[0] != "one" || got[len(got)-1] != "four" {
		t.Fatalf("after opening again: %q", got)
	}
}

// filled returns a closed journal of several segments on d, and what it holds.
func filled(t testing.TB, d *crashfs.Disk) (world, []string) {
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 8 << 10}.Quiet())
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 2})
	for i := range 60 {
		publish(t, j, "t", rec("", fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 200)), rec("", fmt.Sprint(i+1), "x"))
	}
	w := observe(t, j, nil)
	if err := j.Maintain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := d.ReadDir(crashDir)
	var files []string
	for _, n := range names {
		if n != "LOCK" {
			files = append(files, filepath.Join(crashDir, n))
		}
	}
	return w, files
}

// tryRead opens and reads everything; it returns the first error.
func tryRead(d *crashfs.Disk) (values []string, err error) {
	j, err := journal.Open(crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10}.Quiet())
	if err != nil {
		return nil, err
	}
	defer j.Close()
	for p := range 2 {
		state, err := j.Describe(context.Background(), "t", "")
		if err != nil {
			return nil, err
		}
		r, err := j.Read(context.Background(), "t", p, 0)
		if err != nil {
			return nil, err
		}
		for n := int64(0); n < state.Partitions[p].End; {
			b, err := r.Fetch(context.Background(), 100)
			if err != nil {
				return nil, err
			}
			for i := range b.Records {
				values = append(values, string(b.Records[i].Value))
			}
			n = b.Next()
			b.Release()
		}
	}
	return values, nil
}

func TestFlippedBitsAreFound(t *testing.T) {
	d := crashfs.New(3)
	w, files := filled(t, d)
	want := append(append([]string{}, w["t"].parts[0].values...), w["t"].parts[1].values...)
	last := ""
	for _, f := range files {
		if strings.HasSuffix(f, ".seg") {
			last = f
		}
	}
	rng := rand.New(rand.NewPCG(3, 3))
	found := 0
	for range 400 {
		name := files[rng.IntN(len(files))]
		size := d.Size(name)
		if name == last {
			size -= 32 // the end mark itself proves nothing about itself
		}
		off, mask := rng.Int64N(size), byte(1)<<rng.IntN(8)
		d.Flip(name, off, mask)
		rep, err := journal.CheckFS(d, crashDir)
		if err != nil {
			t.Fatal(err)
		}
		got, rerr := tryRead(d.Peek(crashfs.All))
		switch {
		case strings.HasSuffix(name, ".idx"):
			if rep.Damage != nil || rerr != nil || !cmp.Equal(want, got) {
				t.Fatalf("%s at %d: a bad index does harm: %v, %v", name, off, rep.Damage, rerr)
			}
		case rep.Damage == nil || rep.Damage.File != name || rep.Damage.Offset > off:
			t.Fatalf("%s at %d: Check says %v", name, off, rep.Damage)
		case rerr != nil:
			if !errkind.Is(rerr, errkind.Unsupported) { // a flip cannot pass as another version either
				wantKind(t, rerr, errkind.Corrupt, name, "offset")
			}
			found++
		case !cmp.Equal(want, got): // a flip in a header that no reader needs may go by, never wrong data
			t.Fatalf("%s at %d: wrong records, no error", name, off)
		}
		d.Flip(name, off, mask)
	}
	if found < 200 {
		t.Fatalf("only %d flips were found by reading", found)
	}
}

func TestALostSegmentIsReported(t *testing.T) {
	base := crashfs.New(4)
	_, files := filled(t, base)
	for _, f := range files {
		if !strings.HasSuffix(f, ".seg") {
			continue
		}
		d := base.Peek(crashfs.All)
		if err := d.Remove(f); err != nil {
			t.Fatal(err)
		}
		_, err := tryRead(d)
		wantKind(t, err, errkind.Corrupt)
		rep, err := journal.CheckFS(d, crashDir)
		if err != nil || rep.Damage == nil {
			t.Fatalf("Check without %s: %v, %v", f, err, rep.Damage)
		}
	}
}

func TestASecondOwnerIsTold(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	if err := j.SetAddress("http://127.0.0.1:8080"); err != nil {
		t.Fatal(err)
	}
	_, err := journal.Open(dir, journal.Options{})
	wantKind(t, err, errkind.Conflict, dir, fmt.Sprintf("process %d (http://127.0.0.1:8080)", os.Getpid()))
	o, held, err := journal.FindOwner(dir)
	if err != nil || !held || o.PID != os.Getpid() || o.Address != "http://127.0.0.1:8080" {
		t.Fatalf("FindOwner: %+v %v %v", o, held, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := journal.FindOwner(dir); err != nil || held {
		t.Fatalf("after Close: held %v, %v", held, err)
	}
	if _, held, err := journal.FindOwner(filepath.Join(dir, "none")); err != nil || held {
		t.Fatalf("no folder: held %v, %v", held, err)
	}
	_ = open(t, dir, journal.Options{}).Close()
}

func TestAFolderThatCannotBeWrittenIsAConfigError(t *testing.T) {
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		// root may write anywhere: the error is made by hand instead.
		d := crashfs.New(1)
		d.Fail(func(crashfs.Op, string) error { return syscall.EROFS })
		_, err := journal.Open(crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10})
		wantKind(t, err, errkind.Config, crashDir, "writable")
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := journal.Open(dir, journal.Options{})
	wantKind(t, err, errkind.Config, dir, "writable")
}

func TestCheckOfNothingIsNotFound(t *testing.T) {
	_, err := journal.Check(filepath.Join(t.TempDir(), "none"))
	wantKind(t, err, errkind.NotFound)
	_, err = journal.Check(t.TempDir())
	wantKind(t, err, errkind.NotFound)
}

func TestADuplicateOfARecordInFlightSharesItsFate(t *testing.T) {
	d := crashfs.New(1)
	j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10}.Quiet())
	defer j.Close()
	create(t, j, broker.TopicConfig{Name: "t", Partitions: 1, DedupWindow: 1 << 60})
	inSync, goOn := make(chan struct{}), make(chan struct{})
	first := true
	d.Fail(func(op crashfs.Op, _ string) error { // called under the disk's lock
		if op == crashfs.Write && first {
			first = false
			close(inSync)
			<-goOn
			return syscall.ENOSPC
		}
		return nil
	})
	results := make(chan error, 2)
	send := func() {
		_, err := j.Publish(context.Background(), "t", []event.Record{rec("same", "k", "v")})
		results <- err
	}
	go send()
	<-inSync
	go send()
	close(goOn)
	a, b := <-results, <-results
	if a != nil && b != nil {
		// Both failed, or the second came later and was stored.
		publish(t, j, "t", rec("same", "k", "v"))
	}
	if n := len(observe(t, j, nil)["t"].parts[0].values); n != 1 {
		t.Fatalf("%d records are stored, want 1 (%v, %v)", n, a, b)
	}
	if !errors.Is(a, syscall.ENOSPC) && !errors.Is(b, syscall.ENOSPC) {
		t.Fatalf("nobody was told: %v, %v", a, b)
	}
}
