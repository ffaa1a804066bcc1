package expr

import (
	"errors"
	"math"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// rowCostLimit bounds the work that cel-go may put into one row, in its own
// units; an expression over it is a fault of the row.
const rowCostLimit = 100_000

// errNull is how a null variable reaches cel-go: as an error, which operators pass
// on and && and || absorb just as they should for null.
var errNull = errors.New("null")

// nullValue is labelled with a node, lest the interpreter write a label into the shared value.
var nullValue = types.LabelErrNode(-1, types.WrapErr(errNull))

func isNullError(v ref.Val) bool {
	e, ok := v.(*types.Err)
	return ok && errors.Is(e, errNull)
}

// isNullValue is the function isNull. It is not strict: it sees errors.
func isNullValue(v ref.Val) ref.Val {
	switch {
	case isNullError(v):
		return types.True
	case types.IsError(v):
		return v
	}
	return types.Bool(v == types.NullValue)
}

// rowRunner evaluates rows in cel-go. It is the activation of its own programs.
type rowRunner struct {
	p     *Program
	index map[string]int
	cols  []*event.Column
	row   int
}

func newRowRunner(p *Program) *rowRunner {
	r := &rowRunner{p: p, index: map[string]int{}}
	for i, v := range p.vars {
		r.index[v.Name] = i
	}
	return r
}

// ResolveName gives the row's value of a variable.
func (r *rowRunner) ResolveName(name string) (any, bool) {
	i, ok := r.index[name]
	if !ok {
		return nil, false
	}
	c := r.cols[i]
	if c.IsNull(r.row) {
		return nullValue, true
	}
	switch r.p.vars[i].Kind {
	case event.Float:
		return types.Double(c.Floats[r.row]), true
	case event.Int:
		return types.Int(c.Ints[r.row]), true
	case event.Bool:
		return types.Bool(c.Bools[r.row]), true
	case event.String:
		return types.String(c.Strings[r.row]), true
	default:
		return types.Timestamp{Time: time.Unix(0, c.Ints[r.row]).UTC()}, true
	}
}

// Parent is nil: there is no outer scope.
func (r *rowRunner) Parent() cel.Activation { return nil }

func (r *rowRunner) run(e *Evaluator, cols []*event.Column, n int, out *event.Column) {
	r.cols = cols
	for r.row = 0; r.row < n; r.row++ {
		v, _, err := r.p.rows.Eval(r)
		if err == nil {
			err = put(out, r.row, v)
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, errNull):
			e.faults = append(e.faults, Fault{r.row, errkind.With(errkind.Invalid, err)})
		}
		setNull(out, r.row)
	}
	r.cols = nil
}

// put stores cel-go's result.
func put(out *event.Column, row int, v ref.Val) error {
	switch v := v.(type) {
	case types.Double:
		if out.Kind == event.Float {
			out.Floats[row] = float64(v)
			return nil
		}
	case types.Int:
		switch out.Kind {
		case event.Int:
			out.Ints[row] = int64(v)
			return nil
		case event.Float:
			out.Floats[row] = float64(v)
			return nil
		}
	case types.Bool:
		if out.Kind == event.Bool {
			out.Bools[row] = bool(v)
			return nil
		}
	case types.String:
		if out.Kind == event.String {
			out.Strings[row] = string(v)
			return nil
		}
	case types.Timestamp:
		if out.Kind == event.Time {
			ns, ok := unixNano(v.Time)
			if !ok {
				return flagErrors[flagOverflow]
			}
			out.Ints[row] = ns
			return nil
		}
	case types.Null:
		return errNull
	case *types.Err:
		return v
	}
	return errkind.Errorf(errkind.Invalid, "the result is %s: want %s", article(plainTypes(v.Type().TypeName())), article(out.Kind.String()))
}

// unixNano is t.UnixNano where an int64 can hold it.
func unixNano(t time.Time) (int64, bool) {
	s := t.Unix()
	if s <= math.MinInt64/nsPerSecond || s >= math.MaxInt64/nsPerSecond {
		return 0, false
	}
	return t.UnixNano(), true
}
