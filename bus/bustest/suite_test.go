package bustest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/event"
)

func memReceivers(f receiverFaults, patience time.Duration) ReceiverHarness {
	return ReceiverHarness{
		Queue: func(testing.TB) Queue {
			q := newMemQueue(f)
			var open []*memReceiver
			restart := func(testing.TB) { q.restart(open) }
			return Queue{
				Open: func(_ testing.TB, _ int, l bus.Limits) bus.Receiver {
					r := q.open(l)
					open = append(open, r)
					return r
				},
				Publish: q.publish, Restart: restart, Kill: restart,
			}
		},
		Ordered: true, TellsRedelivery: true, MaxBytes: 1 << 20, Quiet: 50 * time.Millisecond, Patience: patience,
	}
}

func memSenders(f senderFaults, keyed bool, patience time.Duration) SenderHarness {
	return SenderHarness{
		Target: func(testing.TB) Target {
			s := &memStore{f: f, keyed: keyed, ids: map[string]bool{}}
			return Target{
				Open: func(testing.TB) bus.Sender { return &memSender{s: s, closed: make(chan struct{})} },
				Read: s.read, Restart: s.restart, Kill: s.restart, Stall: s.stall,
			}
		},
		Ordered: true, Keyed: keyed,
		Refused:  func() event.Record { return event.Record{ID: []byte("r"), Key: []byte(refusedKey)} },
		Patience: patience,
	}
}

func TestReferenceKeepsTheContract(t *testing.T) {
	t.Run("receiver", func(t *testing.T) { RunReceiver(t, memReceivers(receiverFaults{}, 0)) })
	t.Run("receiver/crash", func(t *testing.T) { RunReceiverCrash(t, memReceivers(receiverFaults{}, 0)) })
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sender/keyed=%v", keyed), func(t *testing.T) { RunSender(t, memSenders(senderFaults{}, keyed, 0)) })
		t.Run(fmt.Sprintf("sender/crash/keyed=%v", keyed), func(t *testing.T) { RunSenderCrash(t, memSenders(senderFaults{}, keyed, 0)) })
	}
}

// Each planted fault must fail the case that is about it.
func TestSuiteFindsPlantedFaultsOfReceivers(t *testing.T) {
	for _, f := range []struct {
		name   string
		faults receiverFaults
		cases  []string
	}{
		{"acknowledged at receive", receiverFaults{earlyAck: true}, []string{"what is not acknowledged comes again after Close", "only what is acknowledged stays away", "a redelivery is the same record"}},
		{"lost nack", receiverFaults{lostNack: true}, []string{"what is given back comes again", "giving back again and again loses nothing"}},
		{"reordered", receiverFaults{reorder: true}, []string{"everything arrives", "order holds whatever the size of a batch"}},
		{"forgotten message", receiverFaults{forget: true}, []string{"everything arrives", "cancelling loses nothing", "crash"}},
		{"ack of a wrong one", receiverFaults{wrongAck: true}, []string{"only what is acknowledged stays away"}},
		{"ack that does nothing", receiverFaults{noAck: true}, []string{"nothing acknowledged comes again", "what was acknowledged before a restart stays away"}},
		{"ack that takes others with it", receiverFaults{cumulativeAck: true}, []string{"only what is acknowledged stays away"}},
		{"handed out twice", receiverFaults{twice: true}, []string{"everything arrives"}},
		{"no limit", receiverFaults{noLimit: true}, []string{"not more than the limit is out"}},
		{"more than asked for", receiverFaults{tooMany: true}, []string{"order holds whatever the size of a batch"}},
		{"nothing without an error", receiverFaults{silentOnNoting: true}, []string{"Receive waits for a message", "everything arrives"}},
		{"deaf to its context", receiverFaults{deafToContext: true}, []string{"Receive ends with its context"}},
		{"deaf to Close", receiverFaults{deafToClose: true}, []string{"Close ends Receive"}},
		{"usable after Close", receiverFaults{usableClosed: true}, []string{"calls after Close are Closed"}},
		{"a new ID at each delivery", receiverFaults{newID: true}, []string{"a redelivery is the same record"}},
		{"memory used again", receiverFaults{reuse: true}, []string{"records stay valid for good"}},
		{"no keys", receiverFaults{dropKey: true}, []string{"records arrive as they were sent"}},
		{"no headers", receiverFaults{dropHeaders: true}, []string{"records arrive as they were sent"}},
		{"no binary values", receiverFaults{cutBinary: true}, []string{"records arrive as they were sent"}},
		{"lost by cancelling", receiverFaults{loseOnCancel: true}, []string{"cancelling loses nothing"}},
		{"lost by a restart", receiverFaults{loseOnRestart: true}, []string{"a restart of the server loses nothing"}},
		{"not given back by Close", receiverFaults{keepOnClose: true}, []string{"what is not acknowledged comes again after Close"}},
		{"acks forgotten by a restart", receiverFaults{forgetAcks: true}, []string{"what was acknowledged before a restart stays away"}},
		{"redelivery not told", receiverFaults{untoldRepeat: true}, []string{"what is given back comes again"}},
	} {
		for _, name := range f.cases {
			h := memReceivers(f.faults, 500*time.Millisecond)
			mustFail(t, f.name, name, func(tb testing.TB) bool {
				if name == "crash" {
					runReceiverCrash(tb, h)
					return true
				}
				for _, c := range receiverCases() {
					if c.name == name {
						c.runOn(tb, h)
						return true
					}
				}
				return false
			})
		}
	}
}

func TestSuiteFindsPlantedFaultsOfSenders(t *testing.T) {
	for _, f := range []struct {
		name   string
		faults senderFaults
		cases  []string
	}{
		{"forgotten record", senderFaults{forget: true}, []string{"everything is stored when Send returns", "a large batch is taken", "crash"}},
		{"reordered", senderFaults{reorder: true}, []string{"everything is stored when Send returns", "partitions are sent side by side", "crash"}},
		{"the caller's bytes kept", senderFaults{keepsBytes: true}, []string{"a batch is the caller's again after Send"}},
		{"told too early", senderFaults{late: true}, []string{"everything is stored when Send returns", "a sender opened anew continues"}},
		{"repeats stored twice", senderFaults{doubles: true}, []string{"a batch sent again loses and swaps nothing"}},
		{"an overlap dropped", senderFaults{newRepeats: true}, []string{"batches that overlap are stored whole"}},
		{"a batch dropped with a refused record", senderFaults{dropsRefused: true}, []string{"a record that is refused leaves the others"}},
		{"refused without a word", senderFaults{silentRefusal: true}, []string{"a record that is refused leaves the others", "a batch of refused records says so"}},
		{"the wrong record named", senderFaults{wrongIndex: true}, []string{"a record that is refused leaves the others", "a batch of refused records says so"}},
		{"the rest after a refused record dropped", senderFaults{stopsRefusing: true}, []string{"a record that is refused leaves the others"}},
		{"usable after Close", senderFaults{usableClosed: true}, []string{"calls after Close are Closed"}},
		{"an ended context ignored", senderFaults{noContext: true}, []string{"Send with an ended context is cancelled"}},
		{"deaf to its context", senderFaults{deafToContext: true}, []string{"Send ends with its context while the server hangs"}},
		{"deaf to Close", senderFaults{deafToClose: true}, []string{"Close ends Send while the server hangs"}},
		{"no headers", senderFaults{dropHeaders: true}, []string{"records are stored as they were sent"}},
		{"lost by a restart", senderFaults{loseOnRestart: true}, []string{"a restart of the server loses nothing", "crash"}},
	} {
		for _, name := range f.cases {
			h := memSenders(f.faults, true, 500*time.Millisecond)
			mustFail(t, f.name, name, func(tb testing.TB) bool {
				if name == "crash" {
					runSenderCrash(tb, h)
					return true
				}
				for _, c := range senderCases() {
					if c.name == name {
						c.runOn(tb, h)
						return true
					}
				}
				return false
			})
		}
	}
}

// mustFail holds the case name to fail on an adapter with the fault.
func mustFail(t *testing.T, fault, name string, run func(testing.TB) (found bool)) {
	t.Run(caseName(fault+"/"+name), func(t *testing.T) {
		t.Parallel()
		found := false
		r := runRecorded(t, func(tb testing.TB) {
			found = true
			found = run(tb)
		})
		if !found {
			t.Fatalf("no case is named %q", name)
		}
		if !r.Failed() {
			t.Fatal("the case passed an adapter with this fault")
		}
		t.Logf("found: %s", r.log())
	})
}

// A harness that declares little runs the suite all the same.
func TestPoorHarnessSkipsOnlyWhatItDoesNotDeclare(t *testing.T) {
	rh, sh := memReceivers(receiverFaults{}, 0), memSenders(senderFaults{}, false, 0)
	rh.Ordered, rh.TellsRedelivery, rh.Alone = false, false, true
	queue, target := rh.Queue, sh.Target
	rh.Queue = func(t testing.TB) Queue {
		q := queue(t)
		q.Restart, q.Kill = nil, nil
		return q
	}
	sh.Ordered, sh.Refused = false, nil
	sh.Target = func(t testing.TB) Target {
		x := target(t)
		x.Restart, x.Kill, x.Stall = nil, nil, nil
		return x
	}
	var skipped []string
	ran := 0
	note := func(name string, r *recorder) {
		switch {
		case r.Failed():
			t.Errorf("%s: %s", name, r.log())
		case r.skipped:
			skipped = append(skipped, name)
		default:
			ran++
		}
	}
	for _, c := range receiverCases() {
		note(c.name, runRecorded(t, func(tb testing.TB) { c.runOn(tb, rh) }))
	}
	for _, c := range senderCases() {
		note(c.name, runRecorded(t, func(tb testing.TB) { c.runOn(tb, sh) }))
	}
	if ran < 25 || len(skipped) != 9 {
		t.Errorf("%d cases ran, and skipped were %q", ran, skipped)
	}
	for _, f := range []func(testing.TB){func(tb testing.TB) { runReceiverCrash(tb, rh) }, func(tb testing.TB) { runSenderCrash(tb, sh) }} {
		if r := runRecorded(t, f); !r.Failed() {
			t.Error("the crash suite passed a harness that cannot kill")
		}
	}
}

func TestCaseNamesAreUnique(t *testing.T) {
	var names []string
	for _, c := range receiverCases() {
		names = append(names, "receiver "+c.name)
	}
	for _, c := range senderCases() {
		names = append(names, "sender "+c.name)
	}
	slices.Sort(names)
	if n := len(names); len(slices.Compact(names)) != n {
		t.Errorf("a name is used twice among %q", names)
	}
}

// recorder is a testing.TB that notes what a case reports.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	errors   []string
	skipped  bool
	cleanups []func()
}

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
func (r *recorder) Failed() bool                      { return r.log() != "" }
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
