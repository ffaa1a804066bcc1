package expr

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/freshet-io/freshet/event"
)

// errNotLowered says that an expression is outside the compiled subset.
var errNotLowered = errors.New("not in the compiled subset")

// lowerer turns a checked expression into kernels.
type lowerer struct {
	ast  *ast.AST
	vars map[string]int
	code *code
}

// lower compiles the expression. The error is errNotLowered where cel-go has to
// run it, and anything else where it can never work.
func lower(a *ast.AST, vars []Var) (*code, int, error) {
	l := &lowerer{ast: a, vars: map[string]int{}, code: &code{}}
	for i, v := range vars {
		l.vars[v.Name] = i
		l.code.slot(slot{typ: variableType(v.Kind), variable: i})
	}
	root, err := l.expr(a.Expr())
	return l.code, root, err
}

func variableType(k event.Kind) slotType {
	return [...]slotType{event.Float: slotFloat, event.Int: slotInt, event.Bool: slotBool, event.String: slotString, event.Time: slotTime}[k]
}

// celSlotType is the slot type of a checked type.
func celSlotType(t *cel.Type) slotType {
	switch t.Kind() {
	case cel.DoubleKind:
		return slotFloat
	case cel.IntKind:
		return slotInt
	case cel.BoolKind:
		return slotBool
	case cel.StringKind:
		return slotString
	case cel.TimestampKind:
		return slotTime
	case cel.DurationKind:
		return slotDuration
	}
	return slotOther
}

func (c *code) slot(s slot) int {
	c.slots = append(c.slots, s)
	return len(c.slots) - 1
}

// result makes a register for an intermediate value.
func (c *code) result(t slotType) int { return c.slot(slot{typ: t, variable: -1}) }

func (c *code) constant(t slotType, v any) int {
	return c.slot(slot{typ: t, constant: v, variable: -1})
}

func (c *code) add(k kernel) { c.kernels = append(c.kernels, k) }

// toFloat converts an integer register.
func (c *code) toFloat(a int) int {
	if c.slots[a].typ != slotInt {
		return a
	}
	if v, ok := c.slots[a].constant.(int64); ok {
		return c.constant(slotFloat, float64(v))
	}
	return unary(c, a, slotFloat, ints, floats, func(x int64) float64 { return float64(x) })
}

func (l *lowerer) typ(r int) slotType { return l.code.slots[r].typ }

func (l *lowerer) expr(e ast.Expr) (int, error) {
	if ref, ok := l.ast.ReferenceMap()[e.ID()]; ok && ref.Name != "" && (e.Kind() == ast.IdentKind || e.Kind() == ast.SelectKind) {
		for _, name := range []string{ref.Name, trimDot(ref.Name)} {
			if i, ok := l.vars[name]; ok {
				return i, nil
			}
		}
		return 0, errNotLowered
	}
	switch e.Kind() {
	case ast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.Double:
			return l.code.constant(slotFloat, float64(v)), nil
		case types.Int:
			return l.code.constant(slotInt, int64(v)), nil
		case types.Bool:
			return l.code.constant(slotBool, bool(v)), nil
		case types.String:
			return l.code.constant(slotString, string(v)), nil
		}
	case ast.CallKind:
		return l.call(e)
	}
	return 0, errNotLowered
}

func trimDot(s string) string {
	if s != "" && s[0] == '.' {
		return s[1:]
	}
	return s
}

func (l *lowerer) call(e ast.Expr) (int, error) {
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	name := call.FunctionName()
	// Forms that need the syntax of an argument, not its value.
	switch name {
	case operators.In:
		return l.membership(args[0], args[1])
	case "matches":
		return l.matches(args)
	case "duration", "timestamp":
		return l.timeLiteral(name, args)
	case "math.@min", "math.@max":
		if len(args) == 1 && args[0].Kind() == ast.ListKind {
			args = args[0].AsList().Elements()
		}
	}
	if part, ok := timePart(name); ok && len(args) == 2 {
		return l.zonedPart(args, part)
	}
	regs := make([]int, len(args))
	for i, a := range args {
		r, err := l.expr(a)
		if err != nil {
			return 0, err
		}
		regs[i] = r
	}
	return l.apply(name, regs)
}

// apply compiles an operator or function on values.
func (l *lowerer) apply(name string, r []int) (int, error) {
	c := l.code
	switch name {
	case "dyn":
		return r[0], nil
	case operators.LogicalAnd, operators.LogicalOr:
		return l.logic(name == operators.LogicalAnd, r)
	case operators.Conditional:
		return l.choose(r)
	case isNullFunc:
		return c.nullTest(r[0]), nil
	case "math.@min", "math.@max":
		return l.extreme(name == "math.@max", r)
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return l.compare(name, r[0], r[1])
	}
	switch len(r) {
	case 1:
		return l.function1(name, r[0])
	case 2:
		return l.function2(name, r[0], r[1])
	}
	return 0, errNotLowered
}

func (l *lowerer) logic(and bool, r []int) (int, error) {
	at := r[0]
	for _, b := range r[1:] {
		if l.typ(at) != slotBool || l.typ(b) != slotBool {
			return 0, errNotLowered
		}
		at = l.code.logic(and, at, b)
	}
	return at, nil
}

func (l *lowerer) choose(r []int) (int, error) {
	cond, a, b := r[0], r[1], r[2]
	t := l.typ(a)
	if l.typ(cond) != slotBool || t != l.typ(b) {
		return 0, errNotLowered
	}
	switch t {
	case slotFloat:
		return choose(l.code, cond, a, b, floats), nil
	case slotBool:
		return choose(l.code, cond, a, b, bools), nil
	case slotString:
		return choose(l.code, cond, a, b, texts), nil
	}
	return choose(l.code, cond, a, b, ints), nil
}

func (l *lowerer) extreme(greatest bool, r []int) (int, error) {
	at := r[0]
	for _, b := range r[1:] {
		switch ta, tb := l.typ(at), l.typ(b); {
		case ta == slotInt && tb == slotInt:
			at = extreme(l.code, greatest, at, b, ints)
		case ta == slotFloat && tb == slotFloat:
			at = extreme(l.code, greatest, at, b, floats)
		default:
			return 0, errNotLowered
		}
	}
	if t := l.typ(at); t != slotInt && t != slotFloat {
		return 0, errNotLowered
	}
	return at, nil
}

func (l *lowerer) compare(op string, a, b int) (int, error) {
	ta, tb := l.typ(a), l.typ(b)
	if ta != tb && (ta == slotInt || ta == slotFloat) && (tb == slotInt || tb == slotFloat) {
		a, b = l.code.toFloat(a), l.code.toFloat(b)
		ta, tb = slotFloat, slotFloat
	}
	if ta != tb {
		return 0, errNotLowered
	}
	c := l.code
	switch ta {
	case slotFloat:
		return compare(c, op, a, b, floats), nil
	case slotString:
		return compare(c, op, a, b, texts), nil
	case slotBool:
		if op != operators.Equals && op != operators.NotEquals {
			return 0, errNotLowered
		}
		same := op == operators.Equals
		return binary(c, a, b, slotBool, bools, bools, bools, func(x, y bool) bool { return (x == y) == same }), nil
	}
	return compare(c, op, a, b, ints), nil
}

// timeLiteral compiles duration("1h") and timestamp("…").
func (l *lowerer) timeLiteral(name string, args []ast.Expr) (int, error) {
	if args[0].Kind() != ast.LiteralKind {
		if r, err := l.expr(args[0]); err == nil && (name == "duration" && l.typ(r) == slotDuration || name == "timestamp" && l.typ(r) == slotTime) {
			return r, nil
		}
		return 0, errNotLowered
	}
	text, ok := args[0].AsLiteral().(types.String)
	if !ok {
		return 0, errNotLowered
	}
	if name == "duration" {
		d, ok := text.ConvertToType(types.DurationType).(types.Duration)
		if !ok {
			return 0, fmt.Errorf("duration(%q): want a form such as \"90s\" or \"1h30m\"", string(text))
		}
		return l.code.constant(slotDuration, int64(d.Duration)), nil
	}
	t, ok := text.ConvertToType(types.TimestampType).(types.Timestamp)
	if !ok {
		return 0, fmt.Errorf("timestamp(%q): want a form such as \"2026-01-31T08:00:00Z\"", string(text))
	}
	ns, ok := unixNano(t.Time)
	if !ok {
		return 0, errNotLowered
	}
	return l.code.constant(slotTime, ns), nil
}

// zonedPart compiles t.hour("Europe/Paris") for a constant zone.
func (l *lowerer) zonedPart(args []ast.Expr, part func(time.Time) int64) (int, error) {
	r, err := l.expr(args[0])
	if err != nil {
		return 0, err
	}
	if l.typ(r) != slotTime || args[1].Kind() != ast.LiteralKind {
		return 0, errNotLowered
	}
	zone, ok := args[1].AsLiteral().(types.String)
	if !ok {
		return 0, errNotLowered
	}
	loc, err := location(string(zone))
	if err != nil {
		return 0, err
	}
	return unary(l.code, r, slotInt, ints, ints, func(ns int64) int64 { return part(time.Unix(0, ns).In(loc)) }), nil
}
