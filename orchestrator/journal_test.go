package orchestrator

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/errkind"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// fullEntry has a value in every field that a line carries.
func fullEntry() *Entry {
	return &Entry{
		Kind: KindRound, Time: noon, Unit: "card-fraud", Pilot: "horizon", Mode: ModeAct, Period: 10 * time.Second,
		Round: &Round{
			Time: noon,
			Signals: Signals{
				Time: noon.Add(-5 * time.Second), Window: 10 * time.Second, Known: KnownAll &^ KnownPartitions, Arrivals: 3120.25, Served: 2900, Lag: 4410, InFlight: 640,
				Oldest: 1400 * time.Millisecond, Ready: 8, Starting: 2, Stopping: 1, Busy: 0.83, Batch: 61.5, Late: 0.001, Fresh: 2 * time.Second,
				Calls: []Call{{Rows: 64, Seconds: 0.148, N: 320}},
			},
			Stale: 5 * time.Second,
			Demand: Demand{
				Time: noon, Step: 30 * time.Second, Levels: []float64{0.1, 0.5, 0.9, 0.99},
				Rates:   [][]float64{{2800, 3100, 3400, 3600}, {2900, 3300, 3800, 4300}, {3000, 3600, 4400, 5200}},
				Members: []Member{{"seasonal day", 0.6}, {"holt-winters", 0.3}, {"last value", 0.1}}, Note: "one day of history",
			},
			Capacity: Capacity{
				Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, Exponent: 0.98, StartUp: time.Minute, Stop: 10 * time.Second,
				Rebalance: 2 * time.Second, Cost: 0.0001, Partitions: 4, Shares: []float64{0.4, 0.3, 0.2, 0.1},
			},
			Objective: Objective{Target: 30 * time.Second, Quantile: 0.99, Ceiling: 20, Min: 1, Max: 50},
			Ordered:   Orders{Workers: 10, Batch: 64, Changed: noon.Add(-4 * time.Minute)},
			Decided: Decision{
				Workers: 14, Batch: 128, Route: Route{"small", 0.05}, Reason: "The 0.9 quantile in 60 s is 4,400 events/s.",
				Candidates: []Candidate{{14, 128, 0.91, 0.002, ""}, {13, 128, 0.86, 0.011, "late above 0.01"}, {15, 64, 0.99, 0.002, "dearer"}},
			},
			Final: Decision{Workers: 13, Batch: 128, Reason: "The 0.9 quantile in 60 s is 4,400 events/s. Rail step up."},
			Rails: []Bite{{RailStepUp, 14, 13, "from 10 at most 13 at once"}},
			Note:  "an arrival rate of -1 is not taken",
		},
		Before: Orders{Workers: 10, Batch: 64, Changed: noon.Add(-4 * time.Minute)}, After: Orders{Workers: 13, Batch: 128},
		Held: "", Expires: noon.Add(time.Minute), Notes: []string{"the actuator's status cannot be read: timeout"},
	}
}

func openJournal(t *testing.T, dir string, o JournalOptions) *Journal {
	t.Helper()
	j, err := OpenJournal(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustAppend(t *testing.T, j *Journal, e *Entry) *Entry {
	t.Helper()
	if err := j.Append(e); err != nil {
		t.Fatal(err)
	}
	return e
}

func read(t *testing.T, dir string, q Query) []*Entry {
	t.Helper()
	entries, _, err := ReadJournal(dir, q)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestAnEntryIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{})
	want := mustAppend(t, j, fullEntry())
	act := Act{Time: noon.Add(time.Second), Error: "refused", ErrorKind: "config"}
	outcome := Outcome{
		Until: noon.Add(5 * time.Minute), Known: KnownLate | KnownWorkers, Arrivals: 3900, Late: 0.001, Fresh: 3 * time.Second, Oldest: 4 * time.Second, Lag: 100,
		WorkerSeconds: 3700, Cost: 0.37, Ready: 64 * time.Second,
	}
	if err := errors.Join(j.Answer(want.ID, act), j.Outcome(want.ID, outcome)); err != nil {
		t.Fatal(err)
	}
	got := read(t, dir, Query{})
	want.Act, want.Outcome = &act, &outcome
	want.Round.Final.Candidates = nil
	if d := cmp.Diff([]*Entry{want}, got, cmpopts.EquateNaNs()); d != "" {
		t.Error(d)
	}
}

func TestWhatIsNoNumberIsReadAsItWasWritten(t *testing.T) {
	e := &Entry{Kind: KindRound, ID: 1, Time: noon, Round: &Round{Signals: Signals{Arrivals: math.NaN(), Lag: math.Inf(1), Busy: math.Inf(-1)}, Decided: Decision{Reason: "a \x00\xff\"\n<b>"}}}
	got, err := DecodeEntry(bytes.TrimSuffix(appendLine(nil, e), []byte("\n")))
	if err != nil {
		t.Fatal(err)
	}
	e.Round.Decided.Reason = "a \x00\ufffd\"\n<b>"
	if d := cmp.Diff(e, got, cmpopts.EquateNaNs()); d != "" {
		t.Error(d)
	}
}

// TestAJournalCutAtAnyByteKeepsWhatCameBefore is a crash at every place of the last write.
func TestAJournalCutAtAnyByteKeepsWhatCameBefore(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{})
	ends := []int64{0}
	for i := range 3 {
		e := &Entry{Kind: KindRound, Time: noon.Add(time.Duration(i) * time.Second), Round: &Round{Signals: Signals{Arrivals: float64(i)}}}
		mustAppend(t, j, e)
		ends = append(ends, j.end)
	}
	whole, err := os.ReadFile(j.path(1))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range int64(len(whole)) {
		dir := filepath.Join(t.TempDir(), "j")
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(segmentPath(dir, 1), whole[:cut], 0o640); err != nil {
			t.Fatal(err)
		}
		kept := 0
		for kept+1 < len(ends) && ends[kept+1] <= cut {
			kept++
		}
		// An entry that only lacks its end of line is whole to nobody.
		j, err := OpenJournal(dir, JournalOptions{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir, Query{}); len(got) != kept {
			t.Fatalf("cut at %d: %d entries, not %d", cut, len(got), kept)
		}
		e := mustAppend(t, j, &Entry{Kind: KindUndo, Time: noon})
		got := read(t, dir, Query{})
		if e.ID <= uint64(kept) || got[len(got)-1].ID != e.ID || got[len(got)-1].Kind != KindUndo {
			t.Fatalf("cut at %d: entry %d cannot be read behind %d", cut, e.ID, kept)
		}
		_ = j.Close()
	}
}

func TestAFlippedBitCostsOneLine(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{})
	for range 3 {
		mustAppend(t, j, fullEntry())
	}
	whole, err := os.ReadFile(j.path(1))
	if err != nil {
		t.Fatal(err)
	}
	line := len(whole) / 3
	for at := line; at < 2*line-1; at += 37 {
		b := bytes.Clone(whole)
		b[at] ^= 4
		if b[at] == '\n' || b[at]^4 == '\n' {
			continue
		}
		if err := os.WriteFile(j.path(1), b, 0o640); err != nil {
			t.Fatal(err)
		}
		got, damaged, err := ReadJournal(dir, Query{})
		if err != nil || len(got) != 2 || damaged != 1 || got[0].ID != 1 || got[1].ID != 3 {
			t.Fatalf("bit of byte %d: %d entries, %d damaged, %v", at, len(got), damaged, err)
		}
	}
}

func TestTwoProcessesAddToOneJournal(t *testing.T) {
	dir := t.TempDir()
	o := JournalOptions{SegmentBytes: 2000, NoSync: true}
	a, b := openJournal(t, dir, o), openJournal(t, dir, o)
	var wg sync.WaitGroup
	for _, j := range []*Journal{a, b} {
		wg.Go(func() {
			for i := range 50 {
				if err := j.Append(&Entry{Kind: KindRound, Time: noon, Why: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := read(t, dir, Query{})
	if len(got) != 100 {
		t.Fatalf("%d entries", len(got))
	}
	for i, e := range got {
		if e.ID != uint64(i+1) {
			t.Fatalf("entry %d has id %d", i, e.ID)
		}
	}
	mustAppend(t, b, &Entry{Kind: KindUndo, Time: noon, By: "ann"})
	seen, err := a.Poll()
	if err != nil || len(seen) == 0 || seen[len(seen)-1].By != "ann" {
		t.Fatalf("%v, %v", seen, err)
	}
	if again, _ := a.Poll(); len(again) != 0 {
		t.Errorf("polled twice: %v", again)
	}
}

func TestOldFilesAreLetGo(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentBytes: 4000, MaxBytes: 20000, NoSync: true})
	for range 100 {
		mustAppend(t, j, fullEntry())
	}
	total := int64(0)
	seqs, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seqs {
		st, err := os.Stat(segmentPath(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if total > 20000+4000 || seqs[0] == 1 {
		t.Errorf("%d bytes in files %v", total, seqs)
	}
	got := read(t, dir, Query{Last: 2})
	if len(got) != 2 || got[1].ID != 100 {
		t.Errorf("the latest are gone: %v", got)
	}
	_ = j.Close()
	j = openJournal(t, dir, JournalOptions{})
	if e := mustAppend(t, j, fullEntry()); e.ID != 101 {
		t.Errorf("id %d after opening again", e.ID)
	}
}

func TestEntriesAreFoundByTimeAndNumber(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentBytes: 1500, NoSync: true})
	for i := range 40 {
		kind := KindRound
		if i == 3 || i == 21 {
			kind = KindStart
		}
		e := mustAppend(t, j, &Entry{Kind: kind, Time: noon.Add(time.Duration(i) * time.Minute)})
		if err := j.Answer(e.ID, Act{Time: e.Time}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		q           Query
		first, last uint64
	}{
		"all":    {Query{}, 1, 40},
		"last":   {Query{Last: 3}, 38, 40},
		"one":    {Query{ID: 7}, 7, 7},
		"from":   {Query{From: noon.Add(30 * time.Minute)}, 31, 40},
		"until":  {Query{Until: noon.Add(4 * time.Minute)}, 1, 5},
		"start":  {Query{Start: true}, 22, 40},
		"chosen": {Query{Keep: func(e *Entry) bool { return e.ID%10 == 0 }}, 10, 40},
	} {
		got := read(t, dir, c.q)
		if len(got) == 0 || got[0].ID != c.first || got[len(got)-1].ID != c.last || !got[0].Carried() {
			t.Errorf("%s: %d entries, %+v", name, len(got), got)
		}
	}
	if _, _, err := ReadJournal(filepath.Join(dir, "none"), Query{}); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("a journal that is not there: %v", err)
	}
}

func TestArrivalsAreToldAgain(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentBytes: 1500, NoSync: true})
	rates := []float64{10, 0, math.NaN(), 30, 40}
	for i, r := range rates {
		e := &Entry{Kind: KindRound, Round: &Round{Signals: Signals{
			Time: noon.Add(time.Duration(i) * time.Minute), Window: time.Minute, Known: KnownArrivals | KnownLag, Arrivals: r,
		}}}
		if i == 3 {
			e.Round.Signals.Known = KnownLag
		}
		mustAppend(t, j, e)
		mustAppend(t, j, e) // signals that came twice
	}
	var got []float64
	err := Arrivals(dir, func(end time.Time, window time.Duration, rate float64) {
		if window != time.Minute || end.Before(noon) {
			t.Errorf("%v of %v", end, window)
		}
		got = append(got, rate)
	})
	if d := cmp.Diff([]float64{10, 0, 40}, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	if err := Arrivals(filepath.Join(dir, "none"), nil); err != nil {
		t.Error(err)
	}
}

func TestAClosedJournalTakesNothing(t *testing.T) {
	j := openJournal(t, t.TempDir(), JournalOptions{})
	_ = j.Close()
	e := &Entry{Kind: KindRound}
	if err := j.Append(e); !errkind.Is(err, errkind.Closed) || e.ID != 0 {
		t.Errorf("%v, id %d", err, e.ID)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	line := bytes.TrimSuffix(appendLine(nil, fullEntry()), []byte("\n"))
	f.Add(string(line[:len(line)-crcTail]))
	f.Add(`{"v":1,"kind":"round","round":{"signals":{"known":["late",3]},"demand":{"rates":[[1,"NaN"],null]}}`)
	f.Add(`{"v":1,"kind":"round","period_s":1e300,"round":[]`)
	f.Add(`{"v":2,"kind":"x"`)
	f.Fuzz(func(t *testing.T, body string) {
		line := sealed(body)
		e, err := DecodeEntry(line)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		again := bytes.TrimSuffix(appendLine(nil, e), []byte("\n"))
		e2, err := DecodeEntry(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if third := bytes.TrimSuffix(appendLine(nil, e2), []byte("\n")); !bytes.Equal(again, third) && !strings.Contains(body, "_s\"") {
			t.Errorf("not the same:\n%s\n%s", again, third)
		}
	})
}

// sealed adds the checksum.
func sealed(body string) []byte {
	b := []byte(body)
	b = append(b, crcField...)
	b = append(b, sumText([]byte(body))...)
	return append(b, `"}`...)
}
