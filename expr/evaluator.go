package expr

import (
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Fault says why a row has no result although nothing in it was null.
type Fault struct {
	Row int
	// Err is of kind Invalid.
	Err error
}

// chunk is how many rows run through the program at a time: few enough for all
// intermediate values to stay in the cache.
const chunk = 256

// slotType is the type of an intermediate value.
type slotType uint8

const (
	slotFloat slotType = iota
	slotInt
	slotBool
	slotString
	slotTime     // int64, Unix nanoseconds
	slotDuration // int64, nanoseconds
	slotOther
)

func (t slotType) kind() (event.Kind, bool) {
	switch t {
	case slotFloat:
		return event.Float, true
	case slotInt:
		return event.Int, true
	case slotBool:
		return event.Bool, true
	case slotString:
		return event.String, true
	case slotTime:
		return event.Time, true
	}
	return 0, false
}

// Why a row has no value. The codes are also what a register's flags hold.
const (
	flagNull = iota + 1
	flagOverflow
	flagDivision
	flagModulus
	flagNaN
	flagConversion
	flagCount
)

// flagErrors are the faults' errors, constant so that a fault allocates nothing.
var flagErrors = [flagCount]error{
	flagOverflow:   errkind.New(errkind.Invalid, "integer overflow"),
	flagDivision:   errkind.New(errkind.Invalid, "division by zero"),
	flagModulus:    errkind.New(errkind.Invalid, "modulus by zero"),
	flagNaN:        errkind.New(errkind.Invalid, "NaN values cannot be ordered"),
	flagConversion: errkind.New(errkind.Invalid, "value cannot be converted"),
}

// register holds one intermediate value for the rows of a chunk. Values of
// flagged rows are arbitrary.
type register struct {
	f     []float64
	i     []int64
	b     []bool
	s     []string
	flags []uint8
	some  bool // a flag is set
}

// flag marks a row, unless something before it did.
func (r *register) flag(row int, why uint8, n int) {
	if !r.some {
		clear(r.flags[:n])
		r.some = true
	}
	if r.flags[row] == 0 {
		r.flags[row] = why
	}
}

// slot describes a register.
type slot struct {
	typ      slotType
	constant any
	variable int // index into the program's variables, −1 for none
}

type kernel func(e *Evaluator, n int)

// code is a program over columns: kernels in order of evaluation.
type code struct {
	slots   []slot
	kernels []kernel
	root    int
}

// Evaluator runs a program. It belongs to one goroutine.
type Evaluator struct {
	p      *Program
	regs   []register
	faults []Fault
	rows   *rowRunner
}

// Evaluator returns a new evaluator with its own scratch memory.
func (p *Program) Evaluator() *Evaluator {
	e := &Evaluator{p: p}
	if p.code == nil {
		e.rows = newRowRunner(p)
		return e
	}
	e.regs = make([]register, len(p.code.slots))
	for i, s := range p.code.slots {
		r := &e.regs[i]
		r.flags = make([]uint8, chunk)
		if s.variable >= 0 {
			continue
		}
		switch s.typ {
		case slotFloat:
			r.f = filled[float64](s.constant)
		case slotBool:
			r.b = filled[bool](s.constant)
		case slotString:
			r.s = filled[string](s.constant)
		default:
			r.i = filled[int64](s.constant)
		}
	}
	return e
}

func filled[T any](constant any) []T {
	s := make([]T, chunk)
	if v, ok := constant.(T); ok {
		for i := range s {
			s[i] = v
		}
	}
	return s
}

// Eval computes the first n rows. cols are the columns of the variables as
// Program.Vars orders them, of the kinds given to Compile. out becomes a column
// of the program's kind with n rows; rows with a fault are null. The faults are
// in order of rows and valid until the next call. Wrong columns panic: they are
// mistakes in the program.
func (e *Evaluator) Eval(cols []*event.Column, n int, out *event.Column) []Fault {
	out.Kind = e.p.kind
	out.Reset(n)
	clear(e.faults)
	e.faults = e.faults[:0]
	if e.p.code == nil {
		e.rows.run(e, cols, n, out)
		return e.faults
	}
	for lo := 0; lo < n; lo += chunk {
		m := min(chunk, n-lo)
		e.bind(cols, lo, m)
		for _, k := range e.p.code.kernels {
			k(e, m)
		}
		e.store(out, lo, m)
	}
	return e.faults
}

// bind points the variables' registers at the columns.
func (e *Evaluator) bind(cols []*event.Column, lo, n int) {
	for i, s := range e.p.code.slots {
		if s.variable < 0 {
			continue
		}
		r, c := &e.regs[i], cols[s.variable]
		switch s.typ {
		case slotFloat:
			r.f = c.Floats[lo : lo+n]
		case slotBool:
			r.b = c.Bools[lo : lo+n]
		case slotString:
			r.s = c.Strings[lo : lo+n]
		default:
			r.i = c.Ints[lo : lo+n]
		}
		r.some = false
		if c.Null != nil {
			for row, null := range c.Null[lo : lo+n] {
				if null {
					r.flag(row, flagNull, n)
				}
			}
		}
	}
}

// store copies the result out.
func (e *Evaluator) store(out *event.Column, lo, n int) {
	r := &e.regs[e.p.code.root]
	switch out.Kind {
	case event.Float:
		copy(out.Floats[lo:], r.f[:n])
	case event.Bool:
		copy(out.Bools[lo:], r.b[:n])
	case event.String:
		copy(out.Strings[lo:], r.s[:n])
	default:
		copy(out.Ints[lo:], r.i[:n])
	}
	if !r.some {
		return
	}
	for i, why := range r.flags[:n] {
		if why == 0 {
			continue
		}
		setNull(out, lo+i)
		if why != flagNull {
			e.faults = append(e.faults, Fault{lo + i, flagErrors[why]})
		}
	}
}

// setNull marks a row and leaves a zero there.
func setNull(c *event.Column, row int) {
	switch c.Kind {
	case event.Float:
		c.Floats[row] = 0
	case event.Bool:
		c.Bools[row] = false
	case event.String:
		c.Strings[row] = ""
	default:
		c.Ints[row] = 0
	}
	c.SetNull(row)
}
