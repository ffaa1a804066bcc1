package expr

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

const (
	nsPerSecond = int64(time.Second)
	nsPerDay    = 24 * int64(time.Hour)
)

// floorDiv and floorMod round down, so that times before 1970 fall on their clock too.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 {
	m := a % b
	if m < 0 {
		m += b
	}
	return m
}

// clockParts are the methods of times in UTC that need no calendar.
var clockParts = map[string]func(ns int64) int64{
	"hour":            func(ns int64) int64 { return floorMod(ns, nsPerDay) / int64(time.Hour) },
	"minute":          func(ns int64) int64 { return floorMod(ns, int64(time.Hour)) / int64(time.Minute) },
	"second":          func(ns int64) int64 { return floorMod(ns, int64(time.Minute)) / nsPerSecond },
	"weekday":         func(ns int64) int64 { return floorMod(floorDiv(ns, nsPerDay)+4, 7) }, // 1970-01-01 was a Thursday
	"getMilliseconds": func(ns int64) int64 { return floorMod(ns, nsPerSecond) / int64(time.Millisecond) },
}

// calendarParts are CEL's own methods, with months and days of the year from 0.
var calendarParts = map[string]func(time.Time) int64{
	"getFullYear":     func(t time.Time) int64 { return int64(t.Year()) },
	"getMonth":        func(t time.Time) int64 { return int64(t.Month() - 1) },
	"getDayOfYear":    func(t time.Time) int64 { return int64(t.YearDay() - 1) },
	"getDate":         func(t time.Time) int64 { return int64(t.Day()) },
	"getDayOfMonth":   func(t time.Time) int64 { return int64(t.Day() - 1) },
	"getDayOfWeek":    func(t time.Time) int64 { return int64(t.Weekday()) },
	"getHours":        func(t time.Time) int64 { return int64(t.Hour()) },
	"getMinutes":      func(t time.Time) int64 { return int64(t.Minute()) },
	"getSeconds":      func(t time.Time) int64 { return int64(t.Second()) },
	"getMilliseconds": func(t time.Time) int64 { return int64(t.Nanosecond() / 1e6) },
}

var clockNames = map[string]string{"getHours": "hour", "getMinutes": "minute", "getSeconds": "second", "getDayOfWeek": "weekday"}

// durationParts are CEL's methods of durations: the whole duration in a unit.
var durationParts = map[string]func(time.Duration) int64{
	"getHours":   func(d time.Duration) int64 { return int64(d.Hours()) },
	"getMinutes": func(d time.Duration) int64 { return int64(d.Minutes()) },
	"getSeconds": func(d time.Duration) int64 { return int64(d.Seconds()) },
}

func timePart(name string) (func(time.Time) int64, bool) {
	if p, ok := timeParts[name]; ok {
		return p, true
	}
	p, ok := calendarParts[name]
	return p, ok
}

func (l *lowerer) function1(name string, a int) (int, error) {
	c := l.code
	switch t := l.typ(a); {
	case name == operators.LogicalNot && t == slotBool:
		return unary(c, a, slotBool, bools, bools, func(x bool) bool { return !x }), nil
	case t == slotTime:
		if n, ok := clockNames[name]; ok {
			name = n
		}
		if part, ok := clockParts[name]; ok {
			return unary(c, a, slotInt, ints, ints, part), nil
		}
		if part, ok := timePart(name); ok {
			return unary(c, a, slotInt, ints, ints, func(ns int64) int64 { return part(time.Unix(0, ns).UTC()) }), nil
		}
		if name == "int" {
			return unary(c, a, slotInt, ints, ints, func(ns int64) int64 { return floorDiv(ns, nsPerSecond) }), nil
		}
	case t == slotDuration:
		if part, ok := durationParts[name]; ok {
			return unary(c, a, slotInt, ints, ints, func(ns int64) int64 { return part(time.Duration(ns)) }), nil
		}
	case t == slotFloat:
		return l.floatFunction(name, a)
	case t == slotInt:
		return l.intFunction(name, a)
	case t == slotString:
		return l.stringFunction(name, a)
	case t == slotBool && name == "string":
		return unary(c, a, slotString, bools, texts, strconv.FormatBool), nil
	case t == slotBool && name == "bool":
		return a, nil
	}
	return 0, errNotLowered
}

func (l *lowerer) floatFunction(name string, a int) (int, error) {
	c := l.code
	number := func(f func(float64) float64) (int, error) {
		return unary(c, a, slotFloat, floats, floats, f), nil
	}
	test := func(f func(float64) bool) (int, error) {
		return unary(c, a, slotBool, floats, bools, f), nil
	}
	switch name {
	case "double":
		return a, nil
	case operators.Negate:
		return number(func(x float64) float64 { return -x })
	case "math.abs":
		return number(math.Abs)
	case "math.ceil":
		return number(math.Ceil)
	case "math.floor":
		return number(math.Floor)
	case "math.round":
		return number(math.Round)
	case "math.trunc":
		return number(math.Trunc)
	case "math.sqrt":
		return number(math.Sqrt)
	case "math.isNaN":
		return test(math.IsNaN)
	case "math.isInf":
		return test(func(x float64) bool { return math.IsInf(x, 0) })
	case "math.isFinite":
		return test(func(x float64) bool { return x-x == 0 })
	case "int":
		return convert(c, a, slotInt, floats, ints, func(x float64) (int64, uint8) {
			if !(x > math.MinInt64 && x < math.MaxInt64) {
				return 0, flagOverflow
			}
			return int64(x), 0
		}), nil
	case "string":
		return unary(c, a, slotString, floats, texts, func(x float64) string { return fmt.Sprintf("%g", x) }), nil
	}
	return 0, errNotLowered
}

func (l *lowerer) intFunction(name string, a int) (int, error) {
	c := l.code
	checked := func(f func(int64) int64) (int, error) {
		return convert(c, a, slotInt, ints, ints, func(x int64) (int64, uint8) {
			if x == math.MinInt64 {
				return 0, flagOverflow
			}
			return f(x), 0
		}), nil
	}
	switch name {
	case "int":
		return a, nil
	case "double":
		return c.toFloat(a), nil
	case operators.Negate:
		return checked(func(x int64) int64 { return -x })
	case "math.abs":
		return checked(func(x int64) int64 { return max(x, -x) })
	case "math.sqrt":
		return unary(c, a, slotFloat, ints, floats, func(x int64) float64 { return math.Sqrt(float64(x)) }), nil
	case "string":
		return unary(c, a, slotString, ints, texts, func(x int64) string { return strconv.FormatInt(x, 10) }), nil
	}
	return 0, errNotLowered
}

func (l *lowerer) stringFunction(name string, a int) (int, error) {
	c := l.code
	switch name {
	case "string":
		return a, nil
	case "size":
		return unary(c, a, slotInt, texts, ints, func(s string) int64 { return int64(utf8.RuneCountInString(s)) }), nil
	case "double":
		return convert(c, a, slotFloat, texts, floats, func(s string) (float64, uint8) {
			v, err := strconv.ParseFloat(s, 64)
			return v, conversionFlag(err)
		}), nil
	case "int":
		return convert(c, a, slotInt, texts, ints, func(s string) (int64, uint8) {
			v, err := strconv.ParseInt(s, 10, 64)
			return v, conversionFlag(err)
		}), nil
	case "bool":
		return convert(c, a, slotBool, texts, bools, func(s string) (bool, uint8) {
			v, err := strconv.ParseBool(s)
			return v, conversionFlag(err)
		}), nil
	}
	return 0, errNotLowered
}

func conversionFlag(err error) uint8 {
	if err != nil {
		return flagConversion
	}
	return 0
}

func (l *lowerer) function2(name string, a, b int) (int, error) {
	ta, tb := l.typ(a), l.typ(b)
	switch {
	case ta == slotString && tb == slotString:
		return l.stringFunction2(name, a, b)
	case ta == slotInt && tb == slotInt:
		return l.code.intArithmetic(name, slotInt, a, b)
	case (ta == slotInt || ta == slotFloat) && (tb == slotInt || tb == slotFloat):
		return l.code.floatArithmetic(name, l.code.toFloat(a), l.code.toFloat(b))
	}
	// Arithmetic of times and durations is that of their nanoseconds.
	switch {
	case name == operators.Subtract && ta == slotTime && tb == slotTime:
		return l.code.intArithmetic(name, slotDuration, a, b)
	case name == operators.Add && (ta == slotTime && tb == slotDuration || ta == slotDuration && tb == slotTime),
		name == operators.Subtract && ta == slotTime && tb == slotDuration:
		return l.code.intArithmetic(name, slotTime, a, b)
	case (name == operators.Add || name == operators.Subtract) && ta == slotDuration && tb == slotDuration:
		return l.code.intArithmetic(name, slotDuration, a, b)
	}
	return 0, errNotLowered
}

func (l *lowerer) stringFunction2(name string, a, b int) (int, error) {
	test := func(f func(x, y string) bool) (int, error) {
		return binary(l.code, a, b, slotBool, texts, texts, bools, f), nil
	}
	switch name {
	case "startsWith":
		return test(strings.HasPrefix)
	case "endsWith":
		return test(strings.HasSuffix)
	case "contains":
		return test(strings.Contains)
	case operators.Add:
		return binary(l.code, a, b, slotString, texts, texts, texts, func(x, y string) string { return x + y }), nil
	}
	return 0, errNotLowered
}

// matches compiles a regular expression that is constant.
func (l *lowerer) matches(args []ast.Expr) (int, error) {
	a, err := l.expr(args[0])
	if err != nil {
		return 0, err
	}
	if l.typ(a) != slotString || args[1].Kind() != ast.LiteralKind {
		return 0, errNotLowered
	}
	pattern, ok := args[1].AsLiteral().(types.String)
	if !ok {
		return 0, errNotLowered
	}
	re, err := regexp.Compile(string(pattern))
	if err != nil {
		return 0, fmt.Errorf("matches: %w", err)
	}
	return unary(l.code, a, slotBool, texts, bools, re.MatchString), nil
}

// membership compiles x in [constants].
func (l *lowerer) membership(elem, list ast.Expr) (int, error) {
	a, err := l.expr(undyn(elem))
	if err != nil {
		return 0, err
	}
	if list.Kind() != ast.ListKind {
		return 0, errNotLowered
	}
	var (
		whole   []int64
		numbers []float64
		strs    []string
	)
	for _, e := range list.AsList().Elements() {
		negative := false
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Negate {
			e, negative = e.AsCall().Args()[0], true
		}
		if e.Kind() != ast.LiteralKind {
			return 0, errNotLowered
		}
		switch v := e.AsLiteral().(type) {
		case types.Int:
			if negative {
				v = -v
			}
			whole = append(whole, int64(v))
		case types.Double:
			if negative {
				v = -v
			}
			numbers = append(numbers, float64(v))
		case types.String:
			strs = append(strs, string(v))
		default:
			return 0, errNotLowered
		}
	}
	c := l.code
	switch t := l.typ(a); {
	case t == slotString && whole == nil && numbers == nil:
		return unary(c, a, slotBool, texts, bools, stringSet(strs)), nil
	case t == slotFloat && strs == nil:
		for _, v := range whole {
			numbers = append(numbers, float64(v))
		}
		return unary(c, a, slotBool, floats, bools, func(x float64) bool { return slices.Contains(numbers, x) }), nil
	case t == slotInt && strs == nil:
		return unary(c, a, slotBool, ints, bools, func(x int64) bool {
			return slices.Contains(whole, x) || slices.Contains(numbers, float64(x))
		}), nil
	}
	return 0, errNotLowered
}

// stringSet tests membership: by comparison in a short list, by hash in a long one.
func stringSet(list []string) func(string) bool {
	if len(list) <= 8 {
		return func(s string) bool { return slices.Contains(list, s) }
	}
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return func(s string) bool { return set[s] }
}
