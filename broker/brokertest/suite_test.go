package brokertest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// faults are ways in which a broker can break the contract.
type faults struct {
	reorder          bool // two records of a batch change places
	duplicate        bool // the first record of a topic is stored twice
	noDedup          bool // repeated ids are stored
	keepCallersBytes bool // the publisher's slices are kept
	uncancellable    bool // a waiting Fetch does not look at its context
	noFence          bool // revoked claims still commit
	tornCommit       bool // positions move before the records are checked
	tornVisibility   bool // the first publication of a transaction shows before the second
	loseOnRestart    bool // what was acknowledged last is gone after a restart
	dropRecord       bool // the last record of a larger batch is acknowledged and not stored
	wrongPartition   bool // keys select their partition by length
	reuseBatch       bool // a batch's memory is used again before its release
	seekAfter        bool // Seek finds records stored after the time only
	deafToClose      bool // waiting calls do not notice Close
	forgetPositions  bool // groups begin anew after a restart
	staleLag         bool // OldestTime is that of the last record
	staleWaiting     bool // Waiting counts positions, not records
	stuckPosition    bool // Position stays behind the last record
	hastyPosition    bool // Position is the partition's end, whatever was fetched
	commitsByItself  bool // what was fetched counts as committed
	lostRedelivery   bool // what a member fetched is not given to the next one
	appendAnywhere   bool // Append does not look at the end
	tornAppend       bool // an append that fails leaves its first record
	dropGivenUp      bool // what was fetched when the context ended is dropped
	slowStart        bool // each Fetch begins anew with something that takes a while
	looks            chan struct{}
}

func (f *faults) index(i, n int) int {
	if f.reorder && n > 2 && i < 2 {
		return 1 - i
	}
	return i
}

func (f *faults) copies(t *memTopic) int {
	if f.duplicate && t.parts[0].end == 0 {
		return 2
	}
	return 1
}

func (f *faults) look() {
	select {
	case f.looks <- struct{}{}:
	default:
	}
}

// awaitLooks lets readers look at a half-done transaction.
func (f *faults) awaitLooks() {
	for range 6 {
		select {
		case <-f.looks:
		case <-time.After(50 * time.Millisecond):
			return // nobody looks any more
		}
	}
}

// variant is one kind of broker that the reference can be.
type variant struct {
	name string
	gaps gapKind
	caps broker.Capabilities
	h    Harness
}

func variants() []variant {
	full := fullCaps()
	marked, packed := full, full
	marked.Gapless, marked.Append = false, false
	packed.Gapless, packed.Transactions, packed.Dedup, packed.MaxBatch = false, false, false, 300
	return []variant{
		{name: "gapless", caps: full},
		{name: "markers", gaps: markers, caps: marked, h: Harness{Parallel: true}},
		{name: "packed times", gaps: packedTimes, caps: packed, h: Harness{TimeGranularity: time.Millisecond, LazyTrim: true}},
	}
}

func (v variant) harness(f faults, patience time.Duration) Harness {
	h := onMemory(f, patience)
	h.Open = func(testing.TB) broker.Driver { return newMemStore(f, v.gaps, v.caps).open() }
	h.TimeGranularity, h.Parallel, h.LazyTrim, h.Against = v.h.TimeGranularity, v.h.Parallel, v.h.LazyTrim, "the reference, "+v.name
	return h
}

// onMemory is the harness of one memory store at a time, without gaps.
func onMemory(f faults, patience time.Duration) Harness {
	again := func(t testing.TB, d broker.Driver) broker.Driver {
		s := d.(*memDriver).s
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s.faults.loseOnRestart {
			s.loseLast()
		}
		return s.open()
	}
	return Harness{
		Open:     func(testing.TB) broker.Driver { return newMemStore(f, noGaps, fullCaps()).open() },
		Restart:  again,
		Crash:    again,
		Patience: patience,
	}
}

func (s *memStore) loseLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		for p := range t.parts {
			if n := len(t.parts[p].recs); n > 0 {
				t.parts[p].recs = t.parts[p].recs[:n-1]
				t.parts[p].end = t.parts[p].last()
			}
		}
	}
}

func TestReferenceKeepsTheContract(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) { Run(t, v.harness(faults{}, 0)) })
	}
}

func TestReferenceSurvivesCrashes(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) { RunCrash(t, v.harness(faults{}, 0)) })
	}
}

// A driver that connects anew is the same driver after a crash.
func TestDriverMayOutliveACrash(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			h := v.harness(faults{}, 0)
			h.Crash = func(_ testing.TB, d broker.Driver) broker.Driver { return d }
			RunCrash(t, h)
		})
	}
}

// A driver that declares little runs the suite all the same, at least once, and
// skips what it does not declare.
func TestPoorDriverSkipsOnlyWhatItDoesNotDeclare(t *testing.T) {
	h := onMemory(faults{}, 0)
	open := h.Open
	h.Open = func(t testing.TB) broker.Driver {
		d := open(t)
		d.(*memDriver).s.caps = broker.Capabilities{Gapless: true, MaxBatch: 1 << 30, MaxRecordBytes: 1 << 20}
		return d
	}
	h.CreateTopic = func(t testing.TB, d broker.Driver, c broker.TopicConfig) {
		if err := d.(broker.Admin).CreateTopic(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	ran, skipped := 0, 0
	for _, c := range allCases() {
		if strings.Contains(c.name, "full batch") {
			continue // the limit is out of reach
		}
		r := runRecorded(t, func(tb testing.TB) { c.runOn(tb, h, nil) })
		switch {
		case r.failed():
			t.Errorf("%s: %s", c.name, r.log())
		case r.skipped:
			skipped++
		default:
			ran++
		}
	}
	if ran < 25 || skipped < 10 {
		t.Errorf("%d cases ran and %d were skipped", ran, skipped)
	}
}

// Each planted fault must fail the case that is about it.
func TestSuiteFindsPlantedFaults(t *testing.T) {
	for _, f := range []struct {
		name   string
		faults faults
		cases  []string // of the gapless reference; "markers: …" of that one, and so on
	}{
		{"reordered batch", faults{reorder: true}, []string{"records of one publisher keep their order", "order per key holds under concurrent publishers"}},
		{"stored twice", faults{duplicate: true}, []string{"order per key holds under concurrent publishers", "records of one publisher keep their order"}},
		{"repeated ids stored", faults{noDedup: true}, []string{"repeated ids are dropped and counted", "ids are remembered across a restart"}},
		{"caller's bytes kept", faults{keepCallersBytes: true}, []string{"published bytes may be overwritten after the call"}},
		{"uncancellable fetch", faults{uncancellable: true}, []string{"Fetch ends with its context"}},
		{"what was fetched dropped with its context", faults{dropGivenUp: true}, []string{"fetches that are given up lose nothing", "markers: fetches that are given up lose nothing"}},
		{"fetches that begin anew", faults{slowStart: true}, []string{"fetches that are given up lose nothing"}},
		{"no fence", faults{noFence: true}, []string{"a revoked claim is a Conflict", "a transaction under a revoked claim is a Conflict and leaves nothing"}},
		{"positions before records", faults{tornCommit: true}, []string{"a failed transaction leaves nothing"}},
		{"half a transaction visible", faults{tornVisibility: true, looks: make(chan struct{})}, []string{"a transaction becomes visible at once in all topics"}},
		{"a record dropped", faults{dropRecord: true}, []string{"records of one publisher keep their order", "order per key holds under concurrent publishers", "a full batch is taken"}},
		{"wrong partition", faults{wrongPartition: true}, []string{"a key selects the partition that PartitionFor names"}},
		{"batch memory reused early", faults{reuseBatch: true}, []string{"a batch stays valid until it is released"}},
		{"seek past equal times", faults{seekAfter: true}, []string{"Seek finds positions by time"}},
		{"deaf to Close", faults{deafToClose: true}, []string{"Close ends calls in progress"}},
		{"positions forgotten", faults{forgetPositions: true}, []string{"a group continues after a restart where it committed", "transactions survive a restart whole"}},
		{"wrong age of lag", faults{staleLag: true}, []string{"lag falls steadily to zero"}},
		{"positions counted as records", faults{staleWaiting: true}, []string{
			"markers: nothing waits exactly when no record waits",
		}},
		{"position never passes markers", faults{stuckPosition: true}, []string{"markers: Position comes to the end when nothing is left"}},
		{"position runs ahead", faults{hastyPosition: true}, []string{"markers: Position never passes a record", "packed times: Position never passes a record"}},
		{"commit without being told", faults{commitsByItself: true}, []string{"positions move only by Commit", "packed times: positions move only by Commit"}},
		{"lost redelivery", faults{lostRedelivery: true}, []string{"what was not committed is delivered again"}},
		{"appends anywhere", faults{appendAnywhere: true}, []string{
			"an append behind what somebody stored is a Conflict and stores nothing", "of concurrent appends at one end one is stored",
			"packed times: of concurrent appends at one end one is stored", "packed times: appends and ends survive a restart",
		}},
		{"torn append", faults{tornAppend: true}, []string{"an append that fails leaves nothing", "packed times: an append that fails leaves nothing"}},
		{"acknowledged too early", faults{loseOnRestart: true}, []string{"records and topics survive a restart", "crash", "markers: crash", "packed times: crash"}},
	} {
		for _, name := range f.cases {
			t.Run(strings.ReplaceAll(f.name+"/"+name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				v := variants()[0]
				name := name
				for _, other := range variants() {
					if rest, ok := strings.CutPrefix(name, other.name+": "); ok {
						v, name = other, rest
					}
				}
				h := v.harness(f.faults, 2*time.Second)
				run := func(tb testing.TB) { runCrash(tb, h) }
				if name != "crash" {
					i := slices.IndexFunc(allCases(), func(c suiteCase) bool { return c.name == name })
					if i < 0 {
						t.Fatalf("no case is named %q", name)
					}
					run = func(tb testing.TB) { c := allCases()[i]; c.runOn(tb, h, nil) }
				}
				r := runRecorded(t, run)
				if !r.failed() {
					t.Fatal("the case passed a driver with this fault")
				}
				t.Logf("found: %s", r.log())
			})
		}
	}
}

func TestMissingHarnessFunctionsFail(t *testing.T) {
	h := onMemory(faults{}, 0)
	h.Restart = nil
	if r := runRecorded(t, func(tb testing.TB) { c := restartCases()[0]; c.runOn(tb, h, nil) }); !r.failed() {
		t.Error("a durable driver passed without Restart")
	}
	h.Crash = nil
	if r := runRecorded(t, func(tb testing.TB) { runCrash(tb, h) }); !r.failed() {
		t.Error("a durable driver passed without Crash")
	}
}

func TestCaseNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range allCases() {
		if seen[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		seen[c.name] = true
	}
}

func BenchmarkReference(b *testing.B) { Benchmark(b, onMemory(faults{}, 0)) }

// recorder is a testing.TB that notes what a case reports.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	errors   []string
	skipped  bool
	cleanups []func()
}

func (r *recorder) failed() bool { return r.log() != "" }

func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.errors, "; ")
}

func runRecorded(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	protect := func(f func()) {
		done := make(chan struct{})
		go func() { // so that FailNow and SkipNow end f alone
			defer close(done)
			f()
		}()
		<-done
	}
	protect(func() { f(r) })
	for len(r.cleanups) > 0 {
		f := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		protect(f)
	}
	return r
}

func (r *recorder) note(msg string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, msg)
}

func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Fatal(args ...any) {
	r.note(fmt.Sprint(args...))
	runtime.Goexit()
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
func (r *recorder) Skip(...any) {
	r.skipped = true
	runtime.Goexit()
}
