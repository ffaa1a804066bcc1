package lookuptest

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// Fields are the fields of every row that the suite puts, one of each kind.
var Fields = []lookup.Field{
	{Name: "risk", Kind: event.Float},
	{Name: "visits", Kind: event.Int},
	{Name: "vip", Kind: event.Bool},
	{Name: "city", Kind: event.String},
	{Name: "since", Kind: event.Time},
}

// Row is a row as the suite puts it.
type Row struct {
	Key string
	// Values are by field: float64, int64, bool, string, time.Time, or nil for
	// a null. One of them at least is not null. Times are whole seconds.
	Values [5]any
	// At is the time of the values, in whole seconds; the zero Time where the row has none.
	At time.Time
}

// Harness says how to reach the server under test.
type Harness struct {
	// Address is the server's, host:port.
	Address string
	// Put makes a table that no other run has used, with the rows, and returns
	// what Open needs to find it. It talks to the server directly.
	Put func(t testing.TB, rows []Row) (table string)
	// Open returns a driver for Fields, and the rows' time, of a table that Put
	// made, on a server at address. The suite closes it.
	Open func(t testing.TB, address, table string) lookup.Driver
	// Secrets are strings, such as passwords, that no error may hold.
	Secrets []string
	// AlwaysTimed says that the server gives every row a time.
	AlwaysTimed bool
	// NoNegativeZero says that the server turns −0 into 0.
	NoNegativeZero bool
	// Patience is how long the suite waits for what must happen; 10 s by default.
	Patience time.Duration
}

// Run holds the driver that h opens to the contract of lookup.Driver.
func Run(t *testing.T, h Harness) {
	if h.Patience == 0 {
		h.Patience = 10 * time.Second
	}
	for _, c := range []struct {
		name string
		run  func(*env)
	}{
		{"CapabilitiesAreDeclared", (*env).capabilities},
		{"EveryKindComesBackAsItWasPut", (*env).kinds},
		{"NullFieldsAreNull", (*env).nulls},
		{"TimesComeBack", (*env).times},
		{"RowsComeInTheOrderOfKeys", (*env).order},
		{"AwkwardKeysAreFound", (*env).awkwardKeys},
		{"KeysTheServerCannotHoldAreMissing", (*env).impossibleKeys},
		{"FullBatchIsAnswered", (*env).fullBatch},
		{"EmptyBatchIsAnswered", (*env).emptyBatch},
		{"NeitherSideKeepsTheOthersSlices", (*env).ownership},
		{"ConcurrentCallsAgree", (*env).concurrent},
		{"CheckPassesOnARightTable", (*env).check},
		{"EndedContextIsAnErrorAtOnce", (*env).endedContext},
		{"CancelledCallReturnsSoon", (*env).cancelled},
		{"SilentServerIsTransientAtTheDeadline", (*env).silent},
		{"RefusedConnectionIsTransient", (*env).refused},
		{"ServerThatComesBackIsUsedAgain", (*env).comesBack},
		{"ErrorsHoldNoSecret", (*env).secrets},
		{"SecondCloseReturnsNil", (*env).closeTwice},
		{"GetAfterCloseIsClosed", (*env).afterClose},
		{"CloseEndsCallsInProgress", (*env).closeEnds},
		{"TableAsksForDuplicatesOnce", (*env).duplicates},
		{"TableOutlivesItsServer", (*env).table},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 6*h.Patience)
			defer cancel()
			c.run(&env{T: t, h: h, ctx: ctx})
		})
	}
}

// env is what one case works with.
type env struct {
	*testing.T
	h   Harness
	ctx context.Context
}

// open puts rows and opens a driver on them, directly.
func (e *env) open(rows ...Row) lookup.Driver {
	e.Helper()
	return e.openAt(e.h.Address, e.h.Put(e.T, rows))
}

func (e *env) openAt(address, table string) lookup.Driver {
	e.Helper()
	d := e.h.Open(e.T, address, table)
	e.Cleanup(func() {
		if err := d.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	})
	return d
}

// get asks for keys and returns what came.
func (e *env) get(d lookup.Driver, keys ...string) *lookup.Rows {
	e.Helper()
	var rows lookup.Rows
	rows.Reset(d.Fields(), len(keys))
	if err := d.Get(e.ctx, keys, &rows); err != nil {
		e.Fatalf("Get: %v", err)
	}
	return &rows
}

// row is row i as Put would have got it; nil where it is missing.
func row(rows *lookup.Rows, key string, i int) *Row {
	if !rows.IsFound(i) {
		return nil
	}
	r := &Row{Key: key}
	if at := rows.At[i]; at != lookup.Unknown {
		r.At = time.Unix(0, at).UTC()
	}
	for j := range rows.Columns {
		c := &rows.Columns[j]
		switch {
		case c.IsNull(i):
		case c.Kind == event.Float:
			r.Values[j] = c.Floats[i]
		case c.Kind == event.Int:
			r.Values[j] = c.Ints[i]
		case c.Kind == event.Bool:
			r.Values[j] = c.Bools[i]
		case c.Kind == event.String:
			r.Values[j] = c.Strings[i]
		case c.Kind == event.Time:
			r.Values[j] = time.Unix(0, c.Ints[i]).UTC()
		}
	}
	return r
}

// want compares what came for keys with what was put: a nil row is missing.
func (e *env) want(d lookup.Driver, rows *lookup.Rows, keys []string, want []*Row) {
	e.Helper()
	for i, key := range keys {
		got := row(rows, key, i)
		w := want[i]
		if w != nil && !d.Capabilities().Times {
			untimed := *w
			untimed.At = time.Time{}
			w = &untimed
		}
		if diff := cmp.Diff(w, got, cmp.Comparer(sameFloat)); diff != "" {
			e.Errorf("key %q (−want +got; reason %v):\n%s", key, rows.Reason(i), diff)
		}
	}
}

func sameFloat(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

// makeRows makes n rows that differ, under keys that begin with prefix.
func makeRows(prefix string, n int) []Row {
	out := make([]Row, n)
	for i := range out {
		out[i] = Row{
			Key:    prefix + string(rune('a'+i%26)) + strings.Repeat("x", i%7) + time.Unix(int64(i), 0).UTC().Format("150405"),
			Values: [5]any{float64(i) / 8, int64(i), i%2 == 0, "city " + string(rune('A'+i%26)), time.Unix(1_600_000_000+int64(i), 0).UTC()},
			At:     time.Unix(1_700_000_000+int64(i), 0).UTC(),
		}
	}
	return out
}

// within runs f, which must return within the harness's patience, and returns how long it took.
func (e *env) within(what string, f func()) time.Duration {
	e.Helper()
	begin := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(e.h.Patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		e.Fatalf("%s did not return within %v", what, e.h.Patience)
	}
	return time.Since(begin)
}

// try asks for a key and returns only the error.
func try(ctx context.Context, d lookup.Driver, keys ...string) error {
	var rows lookup.Rows
	rows.Reset(d.Fields(), len(keys))
	return d.Get(ctx, keys, &rows)
}

func (e *env) wantKind(what string, err error, kinds ...errkind.Kind) {
	e.Helper()
	for _, k := range kinds {
		if errkind.Is(err, k) {
			return
		}
	}
	e.Errorf("%s: got %v (kind %v), want kind %v", what, err, errkind.Of(err), kinds)
}

func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errkind.Is(err, errkind.Canceled)
}
