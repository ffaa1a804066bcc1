package feature

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// sumsVersion is the first byte of the deltas and snapshots of Sums.
const sumsVersion = 1

const (
	// maxPanes bounds the work of reading a window.
	maxPanes = 10_000
	// manyPanes is from where on plain sums are merged ahead, too.
	manyPanes = 100
	// decayedHalves is the age, in half-lives, beyond which a decayed value is
	// taken for nothing: 2^-40 of it is left.
	decayedHalves = 40
)

// slotKind is what a slot of a bucket holds.
type slotKind uint8

const (
	slotCount   slotKind = iota // number of rows, or of the field's values
	slotSum                     // their sum in double-double: high word, low word
	slotMoments                 // number, mean, sum of squared distances from it (Welford)
	slotMin
	slotMax
	slotFirst  // time and value of the oldest
	slotLast   // time and value of the newest
	slotOldest // time of the oldest row, or value
	slotNewest
	slotSet    // block of the exact set of values
	slotSketch // block of a HyperLogLog
	slotDigest // block of a t-digest
)

var slotWords = [...]int{1, 2, 3, 1, 1, 2, 2, 1, 1, 2, 2, 2}

// slot is one accumulator of a bucket; windows on the same field share it.
type slot struct {
	kind  slotKind
	field int // index into sumsPlan.fields; -1 for all rows
	at    int // its first word in the bucket
}

// track is the buckets of one shape and length. Panes and tumbling windows keep
// buckets of a width, aligned to the epoch, and read the newest ones; a tumbling
// window is one pane as long as itself. A session is one bucket.
type track struct {
	shape  Shape
	over   uint64
	panes  int64 // buckets that a window is made of
	width  int64 // of a bucket, in nanoseconds; 0 for a session
	retain int64
	slots  []slot
	ops    []int // the windows that read it
	stride int   // words of a bucket
	// cached says that a key keeps the merger of all counted buckets but the newest.
	cached  bool
	cacheAt int // which of a key's caches it is
}

// Words of a bucket before its slots.
const (
	bucketNumber = 0 // start divided by width; of a session the time of its oldest row
	bucketEnd    = 1 // of a session the time of its newest row
)

// sumsOp is one window, compiled.
type sumsOp struct {
	agg    Aggregate
	kind   event.Kind
	sketch bool
	q      float64
	field  int
	track  int // -1 for Decayed
	at     int // first word of the slot read; index into decays for Decayed
	n      int // word of the count that Mean and Rate need
}

// decay is one decayed sum: value halves every over nanoseconds.
type decay struct {
	over  uint64
	field int
}

// sumsPlan is the compiled definition of a Sums.
type sumsPlan struct {
	ops        []sumsOp
	fields     []Field
	tracks     []track
	decays     []decay
	cached     int    // tracks that are
	masked     bool   // some kind cannot express null by itself
	strings    bool   // there is a String field
	horizon    uint64 // age at which a key's state is worth nothing
	definition []byte
	print      uint64
}

func newSumsPlan(c Config) (*sumsPlan, error) {
	switch {
	case len(c.Windows) == 0:
		return nil, errkind.New(errkind.Config, "no windows: give at least one")
	case c.Retain < 0:
		return nil, errkind.Errorf(errkind.Config, "retain %v: must not be negative", c.Retain)
	case c.Labels != NoLabels:
		return nil, errkind.New(errkind.Config, "labels are joined by sliding windows alone: panes, tumbling windows, sessions, quantiles and decayed sums take none")
	}
	p := &sumsPlan{ops: make([]sumsOp, len(c.Windows))}
	// Names, order and repetition of windows have no influence on the state.
	described := make([]string, len(c.Windows))
	order := make([]int, len(c.Windows))
	for i := range c.Windows {
		if err := c.Windows[i].checkSums(); err != nil {
			return nil, err
		}
		described[i], order[i] = c.Windows[i].describeSums(), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(described[a], described[b]) })
	def := fmt.Appendf(nil, "freshet sums %d\nretain %v\n", sumsVersion, c.Retain)
	for j, i := range order {
		if j == 0 || described[i] != described[order[j-1]] {
			def = fmt.Appendf(def, "%s\n", described[i])
		}
		p.add(&c.Windows[i], i, int64(c.Retain))
	}
	if len(p.fields) > maxFields {
		return nil, errkind.Errorf(errkind.Config, "windows use %d fields: at most %d are possible for one key", len(p.fields), maxFields)
	}
	for i := range p.tracks {
		if t := &p.tracks[i]; t.layOut() {
			t.cached, t.cacheAt = true, p.cached
			p.cached++
		}
	}
	for i := range p.ops {
		p.locate(i)
	}
	for _, f := range p.fields {
		p.masked = p.masked || needsMask(f.Kind)
		p.strings = p.strings || f.Kind == event.String
	}
	p.horizon += uint64(c.Retain)
	p.definition = def
	h := fnv.New64a()
	_, _ = h.Write(def)
	p.print = h.Sum64()
	return p, nil
}

// checkSums reports what Sums cannot compute.
func (w *Window) checkSums() error {
	fail := func(format string, args ...any) error {
		return errkind.Errorf(errkind.Config, "window %q: "+format, append([]any{w.Name}, args...)...)
	}
	switch {
	case int(w.Aggregate) >= len(aggregateNames):
		return fail("unknown aggregate %d", w.Aggregate)
	case w.Shape > Session:
		return fail("unknown shape %d", uint8(w.Shape))
	case w.Over <= 0:
		return fail("length %v must be positive", w.Over)
	case w.Kind > event.Time:
		return fail("unknown field kind %d", uint8(w.Kind))
	case w.Exact():
		return fail("%v over a sliding window is computed from rows, not from sums", w.Aggregate)
	case w.Label:
		return fail("labels are joined by sliding windows alone")
	case w.Delay != 0:
		return fail("a delay of %v: only sliding windows have one", w.Delay)
	case w.Sketch && w.Aggregate != Distinct:
		return fail("a sketch is for distinct, not for %v", w.Aggregate)
	case w.Aggregate == Quantile && w.Shape == Sliding:
		return fail("a quantile cannot slide exactly: use panes, a tumbling window or a session")
	case w.Aggregate == Quantile && !(w.Q >= 0 && w.Q <= 1):
		return fail("quantile %v must be between 0 and 1", w.Q)
	case w.Aggregate == Duration && w.Shape != Session:
		return fail("duration is that of a session: give it this shape")
	case w.Aggregate == Decayed || w.Shape != Panes:
	case w.Panes < 1 || w.Panes > maxPanes:
		return fail("%d panes: give 1 to %d", w.Panes, maxPanes)
	case int64(w.Over)%int64(w.Panes) != 0:
		return fail("length %v cannot be cut into %d panes of whole nanoseconds: choose another number", w.Over, w.Panes)
	}
	if w.Field == "" {
		switch w.Aggregate {
		case Count, Rate, SinceLast, Duration:
			return nil
		}
		return fail("%v needs a field", w.Aggregate)
	}
	switch w.Aggregate {
	case Sum, Mean, Min, Max, StdDev, Quantile, Decayed:
		if w.Kind != event.Float {
			return fail("%v needs a number, but %q is a %v", w.Aggregate, w.Field, w.Kind)
		}
	}
	return nil
}

// describeSums is the window as far as state depends on it.
func (w *Window) describeSums() string {
	s := "window " + w.Aggregate.String()
	if w.Field != "" {
		s += fmt.Sprintf(" %q (%v)", w.Field, w.Kind)
	}
	s += " over " + w.Over.String()
	switch {
	case w.Aggregate == Decayed:
	case w.Shape == Panes:
		s += fmt.Sprintf(" panes %d", w.Panes)
	case w.Shape == Tumbling:
		s += " tumbling"
	case w.Shape == Session:
		s += " session"
	}
	if w.Sketch {
		s += " sketch"
	}
	return s
}

// add compiles window i, sharing whatever slots exist already.
func (p *sumsPlan) add(w *Window, i int, retain int64) {
	o := sumsOp{agg: w.Aggregate, kind: w.Kind, sketch: w.Sketch, q: w.Q, field: -1, track: -1}
	if w.Field != "" {
		o.field = indexOrAdd(&p.fields, Field{w.Field, w.Kind})
	}
	over := uint64(w.Over)
	if w.Aggregate == Decayed {
		o.at = indexOrAdd(&p.decays, decay{over, o.field})
		p.ops[i] = o
		hi, lo := bits.Mul64(over, decayedHalves)
		if hi != 0 || lo > 1<<63 {
			lo = 1 << 63
		}
		p.horizon = max(p.horizon, lo)
		return
	}
	p.horizon = max(p.horizon, over)
	panes := int64(1)
	if w.Shape == Panes {
		panes = int64(w.Panes)
	}
	o.track = slices.IndexFunc(p.tracks, func(t track) bool { return t.shape == w.Shape && t.over == over && t.panes == panes })
	if o.track < 0 {
		o.track = len(p.tracks)
		t := track{shape: w.Shape, over: over, panes: panes, retain: retain}
		if w.Shape != Session {
			t.width = int64(over) / panes
		}
		p.tracks = append(p.tracks, t)
	}
	t := &p.tracks[o.track]
	t.ops = append(t.ops, i)
	for _, k := range o.slots() {
		indexOrAdd(&t.slots, slot{kind: k, field: o.field})
	}
	p.ops[i] = o
}

// slots lists what the window reads, the main one first.
func (o *sumsOp) slots() []slotKind {
	switch o.agg {
	case Sum:
		return []slotKind{slotSum}
	case Mean:
		return []slotKind{slotSum, slotCount}
	case Min:
		return []slotKind{slotMin}
	case Max:
		return []slotKind{slotMax}
	case First:
		return []slotKind{slotFirst}
	case Last:
		return []slotKind{slotLast}
	case Distinct:
		if o.sketch {
			return []slotKind{slotSketch}
		}
		return []slotKind{slotSet}
	case StdDev:
		return []slotKind{slotMoments}
	case SinceLast:
		return []slotKind{slotNewest}
	case Quantile:
		return []slotKind{slotDigest}
	case Duration:
		return []slotKind{slotOldest}
	default: // Count, Rate
		return []slotKind{slotCount}
	}
}

// layOut gives each slot its words, and reports whether merging the buckets for each row would be slow.
func (t *track) layOut() (slow bool) {
	slow = t.panes > manyPanes
	t.stride = 1
	if t.shape == Session {
		t.stride = 2
	}
	for i := range t.slots {
		s := &t.slots[i]
		s.at = t.stride
		t.stride += slotWords[s.kind]
		slow = slow || t.panes > 1 && s.kind >= slotSet
	}
	return slow
}

// locate finds the words that op i reads.
func (p *sumsPlan) locate(i int) {
	o := &p.ops[i]
	if o.track < 0 {
		return
	}
	kinds := o.slots()
	for _, s := range p.tracks[o.track].slots {
		if s.field != o.field {
			continue
		}
		if s.kind == kinds[0] {
			o.at = s.at
		}
		if s.kind == kinds[len(kinds)-1] {
			o.n = s.at
		}
	}
}

// sameDefinition compares two definitions and says in a sentence what differs.
func sameDefinition(now, old []byte) (same bool, why string) {
	if bytes.Equal(now, old) {
		return true, ""
	}
	lines := func(b []byte) []string { return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") }
	n, o := lines(now), lines(old)
	switch {
	case len(o) < 3 || o[0] != n[0]:
		return false, fmt.Sprintf("the state is of %.40q, and this program keeps %q.", o[0], n[0])
	case o[1] != n[1]:
		return false, fmt.Sprintf("rows were retained for %s and are now for %s.", strings.TrimPrefix(o[1], "retain "), strings.TrimPrefix(n[1], "retain "))
	}
	for _, l := range n[2:] {
		if !slices.Contains(o[2:], l) {
			return false, fmt.Sprintf("the %s is new.", l)
		}
	}
	for _, l := range o[2:] {
		if !slices.Contains(n[2:], l) {
			return false, fmt.Sprintf("the %s is gone.", l)
		}
	}
	return false, "the windows are written down in another order."
}

// seconds is a length of time as results give it.
func seconds(ns uint64) float64 { return float64(ns) / float64(time.Second) }
