package inferencetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// faults are what is wrong with a reference driver.
type faults struct {
	noVersion, shortAnswer, wrongType, mixesRows, batchMatters, refusesNaN, changesInput, newStorage, keepsOutput,
	racy, noCheck, noLimit, deafToContext, deafFrozen, wrongKindLate, usableClosed, closeEarly, sharedState, losesInstance,
	emptyFails, scoresWrong, plainError, noPause, staysDown, swapsLate, moods bool
}

// server is what reference drivers of one harness talk to.
type server struct {
	mu     sync.Mutex
	thawed chan struct{} // closed: not frozen
	fail   error
}

// reference doubles x and says whether it is over one, in the order of its contract.
type reference struct {
	f      faults
	s      *server
	slots  chan struct{}
	closed atomic.Bool
	calls  sync.WaitGroup
	mu     sync.Mutex
	kept   []inference.Tensor
	n      atomic.Int32
}

var (
	opened  atomic.Int32
	errLost = fmt.Errorf("lost: %w", context.DeadlineExceeded)
)

func newReference(f faults, s *server) *reference {
	opened.Add(1)
	d := &reference{f: f, s: s, slots: make(chan struct{}, 2)}
	return d
}

func (d *reference) Metadata() inference.Metadata {
	m := inference.Metadata{
		Name: "double", Version: "1", Format: "test", MaxBatch: 512,
		Inputs:  []inference.Signature{{Name: "x", Type: inference.Float32, Shape: []int{2}}},
		Outputs: []inference.Signature{{Name: "y", Type: inference.Float32, Shape: []int{2}}, {Name: "big", Type: inference.Bool}},
	}
	if d.f.noVersion {
		m.Version = ""
	}
	if d.f.moods {
		m.Version = string(rune('0' + opened.Load()%10))
	}
	return m
}

func (d *reference) Concurrency() int { return 2 }

func (d *reference) Close() error {
	d.mu.Lock()
	d.closed.Store(true)
	d.mu.Unlock()
	if !d.f.closeEarly {
		d.calls.Wait()
	}
	return nil
}

func (d *reference) check(in, out []inference.Tensor) error {
	if len(in) != 1 || len(out) != 2 || in[0].Type != inference.Float32 || len(in[0].Shape) != 2 || in[0].Shape[1] != 2 ||
		in[0].Shape[0] < 0 || len(in[0].F32) != 2*in[0].Shape[0] {
		return errkind.New(errkind.Invalid, "the inputs do not fit")
	}
	if in[0].Shape[0] > 512 && !d.f.noLimit {
		return errkind.New(errkind.Invalid, "more rows than allowed")
	}
	return nil
}

func (d *reference) Infer(ctx context.Context, in, out []inference.Tensor) (err error) {
	d.mu.Lock()
	if d.closed.Load() && !d.f.usableClosed {
		d.mu.Unlock()
		return errkind.New(errkind.Closed, "closed")
	}
	d.calls.Add(1)
	d.mu.Unlock()
	defer d.calls.Done()
	if err := d.check(in, out); err != nil && !d.f.noCheck {
		return err
	}
	if d.f.deafToContext {
		ctx = context.Background()
	}
	if err := ctx.Err(); err != nil {
		if d.f.wrongKindLate {
			return errkind.New(errkind.Permanent, "late")
		}
		return err
	}
	select {
	case d.slots <- struct{}{}:
		defer func() {
			if !errors.Is(err, errLost) {
				<-d.slots
			}
		}()
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.s != nil {
		if err := d.ask(ctx); err != nil {
			return err
		}
	}
	return d.compute(in, out)
}

// ask waits for the server.
func (d *reference) ask(ctx context.Context) error {
	d.s.mu.Lock()
	thawed, fail := d.s.thawed, d.s.fail
	d.s.mu.Unlock()
	if d.f.deafFrozen {
		<-thawed
	}
	select {
	case <-thawed:
	case <-ctx.Done():
		if d.f.losesInstance {
			return errLost
		}
		return ctx.Err()
	}
	if fail != nil && d.f.plainError {
		return errors.New("something went wrong")
	}
	var ra *inference.RetryAfter
	if errors.As(fail, &ra) && d.f.noPause {
		return ra.Err
	}
	return fail
}

func (d *reference) compute(in, out []inference.Tensor) error {
	n := in[0].Rows()
	if n == 0 && d.f.emptyFails {
		return errkind.New(errkind.Permanent, "no rows")
	}
	x := in[0].F32
	if d.f.noCheck {
		x = append(append([]float32(nil), x...), make([]float32, 2000)...)
		n = max(n, 0)
	}
	answered := n
	if d.f.shortAnswer && n > 3 {
		answered--
	}
	if d.f.changesInput && n > 0 {
		in[0].F32[0]++
	}
	y, big := &out[0], &out[min(1, len(out)-1)]
	if d.f.newStorage {
		y.F32 = nil
	}
	if d.f.keepsOutput && d.kept != nil {
		d.mu.Lock()
		for i := range d.kept[0].F32 {
			d.kept[0].F32[i]++
		}
		d.mu.Unlock()
	}
	y.Type, y.Shape, y.F32 = inference.Float32, append(y.Shape[:0], answered, 2), y.F32[:0]
	big.Type, big.Shape, big.Bool = inference.Bool, append(big.Shape[:0], answered), big.Bool[:0]
	if d.f.wrongType {
		big.Type = inference.Int64
	}
	for r := range answered {
		a, b := x[2*r], x[2*r+1]
		if d.f.refusesNaN && (a != a || b != b) {
			return errkind.New(errkind.Invalid, "NaN")
		}
		if d.f.mixesRows && r > 0 {
			a += x[2*r-2] * 1e-3
		}
		if d.f.batchMatters && n > 64 {
			a += 1
		}
		if d.f.racy || d.f.sharedState {
			b += float32(d.n.Add(1)) // differs from call to call
		}
		if d.f.swapsLate && r > 600 {
			a, b = b, a
		}
		y.F32 = append(y.F32, 2*a, 2*b)
		big.Bool = append(big.Bool, a > 1)
	}
	if d.f.scoresWrong && n > 0 {
		y.F32[0] += 0.01
	}
	if d.f.keepsOutput {
		d.mu.Lock()
		d.kept = append([]inference.Tensor(nil), *y)
		d.mu.Unlock()
	}
	return nil
}

func numbers(vs ...float32) []inference.Tensor {
	return []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{len(vs) / 2, 2}, F32: vs}}
}

func harness(f faults) Harness {
	s := &server{thawed: make(chan struct{})}
	close(s.thawed)
	fail := func(err error) func(testing.TB, inference.Driver) {
		return func(testing.TB, inference.Driver) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil && f.staysDown {
				return
			}
			s.fail = err
		}
	}
	nan := float32(math.NaN())
	return Harness{
		Open: func(testing.TB) inference.Driver { return newReference(f, s) },
		Golden: []Golden{{Name: "a few", In: numbers(1, 2, -3, nan, 0.5, 0), Out: []inference.Tensor{
			{Type: inference.Float32, Shape: []int{3, 2}, F32: []float32{2, 4, -6, nan, 1, 0}},
			{Type: inference.Bool, Shape: []int{3}, Bool: []bool{false, false, false}},
		}}},
		Faults: []Fault{
			{Name: "server down", Kind: errkind.Transient, Provoke: fail(errkind.New(errkind.Transient, "refused")), Recover: fail(nil)},
			{Name: "throttled", Kind: errkind.Throttled, RetryAfter: 2 * time.Second,
				Provoke: fail(inference.RetryAfterError(errkind.New(errkind.Throttled, "429"), 2*time.Second)), Recover: fail(nil)},
			{Name: "rows of another size", Kind: errkind.Invalid, In: []inference.Tensor{{Type: inference.Float32, Shape: []int{1, 3}, F32: []float32{1, 2, 3}}}},
		},
		Freeze: func(testing.TB, inference.Driver) func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.thawed = make(chan struct{})
			return sync.OnceFunc(func() { close(s.thawed) })
		},
		Patience: time.Second,
	}
}

func TestReferenceKeepsTheContract(t *testing.T) { Run(t, harness(faults{})) }

// Each planted fault must fail the case that is about it.
func TestSuiteFindsPlantedFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		f     faults
		cases []string
	}{
		{"no version", faults{noVersion: true}, []string{"MetadataIsComplete"}},
		{"a row too few", faults{shortAnswer: true}, []string{"OutputsHaveDeclaredTypesAndShapes", "ManyRowsAreAnsweredInOrder"}},
		{"another type", faults{wrongType: true}, []string{"OutputsHaveDeclaredTypesAndShapes", "ModelAnswersAsItsDriver"}},
		{"no empty batch", faults{emptyFails: true}, []string{"EmptyBatchGivesEmptyOutputs"}},
		{"rows that mix", faults{mixesRows: true}, []string{"BatchEqualsItsRowsOneByOne", "RowsDoNotAffectEachOther"}},
		{"large batches differ", faults{batchMatters: true}, []string{"BatchEqualsItsRowsOneByOne", "ManyRowsAreAnsweredInOrder"}},
		{"rows swapped in large batches", faults{swapsLate: true, noLimit: true}, []string{"BatchAboveMaxBatchIsInvalid"}},
		{"another answer each time", faults{sharedState: true}, []string{"SameInputGivesSameOutput", "ConcurrentCallsAgree", "ReloadUnderLoadDisturbsNobody"}},
		{"NaN refused", faults{refusesNaN: true}, []string{"NaNAndInfinityAreValues", "golden"}},
		{"inputs changed", faults{changesInput: true}, []string{"InputsAreOnlyRead"}},
		{"storage not used again", faults{newStorage: true}, []string{"OutputStorageIsReused"}},
		{"outputs kept", faults{keepsOutput: true}, []string{"NeitherSideKeepsTheOthersSlices"}},
		{"inputs not looked at", faults{noCheck: true}, []string{"WrongInputsAreInvalid"}},
		{"no limit", faults{noLimit: true}, []string{"BatchAboveMaxBatchIsInvalid"}},
		{"deaf to its context", faults{deafToContext: true}, []string{"CancelledContextIsAnError", "LateCallIsAnError", "FrozenServerHoldsNoCallBeyondItsDeadline"}},
		{"deaf while the server is frozen", faults{deafFrozen: true}, []string{"FrozenServerHoldsNoCallBeyondItsDeadline"}},
		{"an instance lost to each late call", faults{losesInstance: true}, []string{"FrozenServerHoldsNoCallBeyondItsDeadline"}},
		{"late is permanent", faults{wrongKindLate: true}, []string{"LateCallIsAnError", "CancelledContextIsAnError"}},
		{"usable after Close", faults{usableClosed: true}, []string{"InferAfterCloseIsClosed"}},
		{"another version each time", faults{moods: true}, []string{"ReloadUnderLoadDisturbsNobody"}},
		{"a score that is off by a little", faults{scoresWrong: true}, []string{"golden", "BatchEqualsItsRowsOneByOne"}},
		{"errors without a kind", faults{plainError: true}, []string{"server down", "throttled"}},
		{"the server's pause dropped", faults{noPause: true}, []string{"throttled"}},
		{"down for good", faults{staysDown: true}, []string{"server down"}},
	} {
		for _, name := range tc.cases {
			h := harness(tc.f)
			c := testCase{name: name}
			for _, k := range cases() {
				if k.name == name {
					c = k
				}
			}
			for i := range h.Faults {
				if h.Faults[i].Name == name {
					c.run = func(e *env) { e.fault(&h.Faults[i]) }
				}
			}
			if name == "golden" {
				c.run = func(e *env) { e.golden(&h.Golden[0]) }
			}
			if c.run == nil {
				t.Fatalf("no case %s", name)
			}
			mustFail(t, tc.name, name, c, h)
		}
	}
}
