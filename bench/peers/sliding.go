package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// What every side of comparison (h) computes for each event of a key: how many
// events of the key, this one included, are younger than 1, 7 and 30 days, and their mean amount.
const (
	slidingDays   = 45 // event time of all events
	slidingFilled = 30 // days taken in before time is taken: the longest window
	slidingBatch  = 1024
	slidingEach   = 1009 // every so-many-th answer is compared
)

var slidingSpans = [3]time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

// slidingWork is the events: keys drawn evenly, so that neighbouring events
// touch unrelated state, and no two at the same time.
type slidingWork struct {
	names []string // of keys
	keys  []uint32 // per event
	cents []uint32
	step  time.Duration // from one event to the next
}

var slidingStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

func newSlidingWork(keys, events int) *slidingWork {
	w := &slidingWork{
		names: make([]string, keys), keys: make([]uint32, events), cents: make([]uint32, events),
		step: (slidingDays * 24 * time.Hour / time.Duration(events)).Truncate(time.Millisecond),
	}
	text := make([]byte, 0, 8*keys)
	for i := range w.names {
		at := len(text)
		text = strconv.AppendInt(text, int64(1_000_000+i), 10)
		w.names[i] = string(text[at:])
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range w.keys {
		w.keys[i], w.cents[i] = uint32(r.IntN(keys)), uint32(1+r.IntN(20_000))
	}
	return w
}

// at is the time of event i in Unix nanoseconds.
func (w *slidingWork) at(i int) int64 { return slidingStart + int64(i)*int64(w.step) }

// filled is how many events lie within the days that are taken in first.
func (w *slidingWork) filled() int {
	return min(len(w.keys), int(slidingFilled*24*time.Hour/w.step))
}

// answer is the six windows of one event.
type slidingAnswer struct {
	Event  int        `json:"i"`
	Counts [3]int64   `json:"n"`
	Means  [3]float64 `json:"mean"`
}

// slidingSide is an engine at work in this process.
type slidingSide interface {
	// take takes in the events from ≤ i < to. Where answers is not nil it has room
	// for one answer an event, which is filled.
	take(w *slidingWork, from, to int, answers []slidingAnswer) error
	close() error
}

type slidingEngine struct {
	name, what string
	// open makes the engine in this process, or run lets another program do all of the work.
	open func(ctx context.Context, w *slidingWork, dir string) (slidingSide, error)
	run  func(ctx context.Context, w *slidingWork, dir string, limit time.Duration) (slidingResult, error)
	// once: one run, since the engine is slow and takes long to fill.
	once bool
	// missing says why it cannot be run here; empty where it can.
	missing string
}

// slidingResult is what a run of one engine in a process of its own prints.
type slidingResult struct {
	sample
	Answers []slidingAnswer `json:"answers"`
}

// runSliding runs one engine in this process: it takes in 30 days, and then
// as many of the others as fit into limit, with the time taken.
func runSliding(ctx context.Context, e *slidingEngine, dir string, keys, events int, limit time.Duration) (out slidingResult, err error) {
	w := newSlidingWork(keys, events)
	before := memoryNow()
	base, err := resetPeak()
	if err != nil {
		return out, err
	}
	side, err := e.open(ctx, w, dir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, side.close()) }()
	// The first 30 days are no steady state: nothing leaves the longest window.
	filled := w.filled()
	for at := 0; at < filled; at += slidingBatch {
		if err := side.take(w, at, min(at+slidingBatch, filled), nil); err != nil {
			return out, fmt.Errorf("take in event %d: %w", at, err)
		}
	}
	answers := make([]slidingAnswer, slidingBatch)
	m := startMeter()
	at := filled
	for at < events && time.Since(m.at) < limit {
		to := min(at+slidingBatch, events)
		if err := side.take(w, at, to, answers[:to-at]); err != nil {
			return out, fmt.Errorf("answer event %d: %w", at, err)
		}
		for i := at; i < to; i++ {
			if i%slidingEach == 0 {
				a := answers[i-at]
				a.Event = i
				out.Answers = append(out.Answers, a)
			}
		}
		at = to
	}
	out.sample = m.stop(at - filled)
	peak, err := processPeak("self")
	if err != nil {
		return out, err
	}
	if s, ok := side.(interface{ outside() (int64, error) }); ok {
		if peak, err = s.outside(); err != nil {
			return out, err
		}
		base = 0
	}
	out.PeakPerKey = float64(peak-base) / float64(keys)
	if live := float64(memoryNow()-before) / float64(keys); live >= 1 {
		out.HeapPerKey = live // less is none: the engine keeps its state elsewhere
	}
	runtime.KeepAlive(side)
	runtime.KeepAlive(w)
	return out, nil
}

// processPeak is the greatest resident memory of a process so far, in bytes.
func processPeak(pid string) (int64, error) {
	text := procField("/proc/"+pid+"/status", "VmHWM")
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(text, "kB")), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the peak of memory: %w", err)
	}
	return kib << 10, nil
}

// memoryNow is the heap that is in use after a collection.
func memoryNow() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// resetPeak makes the greatest memory so far the memory now, and returns it.
func resetPeak() (int64, error) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return 0, fmt.Errorf("reset the peak of memory: %w", err)
	}
	return processPeak("self")
}

// slidingChild is what a process of its own does for comparison (h).
func slidingChild(ctx context.Context, o options) error {
	for _, e := range slidingEngines() {
		if e.name != o.sliding {
			continue
		}
		stop, err := profileTo(o.profile)
		if err != nil {
			return err
		}
		out, err := runSliding(ctx, &e, o.work, o.keys, o.slidingEvents, o.limit)
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	return fmt.Errorf("no engine %q", o.sliding)
}

// inProcess runs an engine in a process of its own, so that memory is the engine's alone.
func (c *comparison) inProcess(ctx context.Context, e *slidingEngine, dir string) (out slidingResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	cmd := exec.CommandContext(ctx, self, "-sliding", e.name, "-work", dir, "-keys", strconv.Itoa(c.keys),
		"-sliding-events", strconv.Itoa(c.slidingEvents), "-limit", c.limit.String())
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return out, err
	}
	err = json.Unmarshal(data, &out)
	return out, err
}

func (c *comparison) sliding(ctx context.Context) error {
	g := &group{ID: "h", Title: fmt.Sprintf("Exact sliding windows: counts and means over 1, 7 and 30 days, %s keys, %s events in %d days",
		number(float64(c.keys)), number(float64(c.slidingEvents)), slidingDays)}
	w := newSlidingWork(c.keys, c.slidingEvents)
	var sides []side
	var first []slidingAnswer
	engines := slidingEngines()
	for i := range engines {
		e := &engines[i]
		if e.missing != "" {
			c.report.Missing = append(c.report.Missing, e.name+": "+e.missing)
			continue
		}
		sides = append(sides, side{Name: e.name, What: e.what, once: e.once, run: func(ctx context.Context, dir string) (sample, error) {
			run := c.inProcess
			if e.run != nil {
				run = func(ctx context.Context, e *slidingEngine, dir string) (slidingResult, error) {
					return e.run(ctx, w, dir, c.limit)
				}
			}
			got, err := run(ctx, e, dir)
			if err != nil {
				return sample{}, err
			}
			if first == nil {
				first = got.Answers
			}
			return got.sample, agreeOn(first, got.Answers)
		}})
	}
	if err := c.inTurn(ctx, g, sides...); err != nil {
		return err
	}
	g.rates()
	for i := range g.Sides[1:] {
		g.ratio(g.Sides[0].Name, g.Sides[i+1].Name, 0)
	}
	memory := func(what string, of func(sample) float64) {
		for i := range g.Sides {
			if v := g.Sides[i].spread(of); v.Median > 0 {
				g.Rows = append(g.Rows, row{Name: g.Sides[i].Name + ": " + what, Unit: "bytes", Value: v})
			}
		}
	}
	c.cost(g)
	memory("live memory a key", func(s sample) float64 { return s.HeapPerKey })
	memory("peak of the process a key", func(s sample) float64 { return s.PeakPerKey })
	c.add(g)
	return nil
}

// agreeOn compares two samples of answers where both have one: counts
// exactly, means as far as plain sums of floats allow.
func agreeOn(want, got []slidingAnswer) error {
	by := make(map[int]*slidingAnswer, len(want))
	for i := range want {
		by[want[i].Event] = &want[i]
	}
	compared := 0
	for i := range got {
		a, b := by[got[i].Event], &got[i]
		if a == nil {
			continue
		}
		compared++
		for s := range a.Counts {
			if a.Counts[s] != b.Counts[s] || math.Abs(a.Means[s]-b.Means[s]) > 1e-9*math.Abs(a.Means[s]) {
				return fmt.Errorf("event %d: %+v, not %+v", b.Event, *b, *a)
			}
		}
	}
	if compared == 0 {
		return errors.New("no answers to compare")
	}
	return nil
}

// writeSliding writes the events for programs in other languages: keys, times
// in microseconds and amounts in cents as little-endian int64, one file each.
func writeSliding(w *slidingWork, dir string) error {
	for name, of := range map[string]func(i int) int64{
		"key": func(i int) int64 { return int64(w.keys[i]) },
		"at":  func(i int) int64 { return w.at(i) / 1000 },
		"amt": func(i int) int64 { return int64(w.cents[i]) },
	} {
		b := make([]byte, 0, 8*len(w.keys))
		for i := range w.keys {
			b = binary.LittleEndian.AppendUint64(b, uint64(of(i)))
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
