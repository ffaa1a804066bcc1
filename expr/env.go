package expr

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/env"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/stdlib"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"

	"github.com/freshet-io/freshet/event"
)

var celTypes = [...]*cel.Type{
	event.Float:  cel.DoubleType,
	event.Int:    cel.IntType,
	event.Bool:   cel.BoolType,
	event.String: cel.StringType,
	event.Time:   cel.TimestampType,
}

const isNullFunc = "isNull"

// baseEnv is CEL with this package's functions and without variables. It is
// built once and never changes.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	mixed := []string{operators.Add, operators.Subtract, operators.Multiply, operators.Divide}
	subset := env.NewLibrarySubset().SetDisableMacros(true)
	for _, name := range mixed {
		subset.AddExcludedFunctions(env.NewFunction(name))
	}
	opts := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(subset)),
		cel.Macros(
			cel.GlobalMacro("has", 1, func(mef cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
				return mef.NewCall(operators.LogicalNot, mef.NewCall(isNullFunc, args[0])), nil
			}),
			cel.GlobalMacro(operators.Equals, 2, equality(operators.Equals)),
			cel.GlobalMacro(operators.NotEquals, 2, equality(operators.NotEquals)),
			cel.GlobalMacro(operators.In, 2, func(mef cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
				return mef.NewCall(operators.In, mef.NewCall("dyn", args[0]), args[1]), nil
			}),
			cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.MapMacro, cel.MapFilterMacro, cel.FilterMacro,
		),
		cel.CrossTypeNumericComparisons(true),
		ext.Math(), ext.Strings(),
		cel.Function(isNullFunc, cel.Overload("is_null", []*cel.Type{cel.DynType}, cel.BoolType,
			cel.OverloadIsNonStrict(), cel.UnaryBinding(isNullValue))),
	}
	for _, f := range stdlib.Functions() {
		for _, name := range mixed {
			if f.Name() != name {
				continue
			}
			var over []cel.FunctionOpt
			for _, o := range f.OverloadDecls() {
				over = append(over, cel.Overload(o.ID(), o.ArgTypes(), o.ResultType()))
			}
			over = append(over,
				cel.Overload(name+"_double_int", []*cel.Type{cel.DoubleType, cel.IntType}, cel.DoubleType),
				cel.Overload(name+"_int_double", []*cel.Type{cel.IntType, cel.DoubleType}, cel.DoubleType),
				cel.SingletonBinaryBinding(mixedArithmetic(name)))
			opts = append(opts, cel.Function(name, over...))
		}
	}
	for name, part := range timeParts {
		opts = append(opts, cel.Function(name,
			cel.MemberOverload("timestamp_"+name, []*cel.Type{cel.TimestampType}, cel.IntType,
				cel.UnaryBinding(func(v ref.Val) ref.Val { return types.Int(part(v.(types.Timestamp).UTC())) })),
			cel.MemberOverload("timestamp_"+name+"_with_tz", []*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType,
				cel.BinaryBinding(func(v, zone ref.Val) ref.Val {
					loc, err := location(string(zone.(types.String)))
					if err != nil {
						return types.WrapErr(err)
					}
					return types.Int(part(v.(types.Timestamp).In(loc)))
				}))))
	}
	return cel.NewCustomEnv(opts...)
})

// timeParts are this package's methods of times.
var timeParts = map[string]func(time.Time) int64{
	"hour":    func(t time.Time) int64 { return int64(t.Hour()) },
	"minute":  func(t time.Time) int64 { return int64(t.Minute()) },
	"second":  func(t time.Time) int64 { return int64(t.Second()) },
	"weekday": func(t time.Time) int64 { return int64(t.Weekday()) },
	"day":     func(t time.Time) int64 { return int64(t.Day()) },
	"month":   func(t time.Time) int64 { return int64(t.Month()) },
	"year":    func(t time.Time) int64 { return int64(t.Year()) },
}

// equality turns a comparison with null into a test, and takes the check that
// both sides have one type out of CEL's hands (see checker.comparisons), because
// CEL would refuse to compare an integer with a number.
func equality(op string) func(cel.MacroExprFactory, ast.Expr, []ast.Expr) (ast.Expr, *cel.Error) {
	return func(mef cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		for i, a := range args {
			if a.Kind() == ast.LiteralKind && a.AsLiteral().Type() == types.NullType {
				test := mef.NewCall(isNullFunc, args[1-i])
				if op == operators.NotEquals {
					test = mef.NewCall(operators.LogicalNot, test)
				}
				return test, nil
			}
		}
		return mef.NewCall(op, mef.NewCall("dyn", args[0]), mef.NewCall("dyn", args[1])), nil
	}
}

// mixedArithmetic is CEL's operator, with an integer beside a number taken as a number.
func mixedArithmetic(op string) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		switch x := a.(type) {
		case types.Int:
			if _, ok := b.(types.Double); ok {
				a = types.Double(x)
			}
		case types.Double:
			if y, ok := b.(types.Int); ok {
				b = types.Double(y)
			}
		}
		switch op {
		case operators.Add:
			if x, ok := a.(traits.Adder); ok {
				return x.Add(b)
			}
		case operators.Subtract:
			if x, ok := a.(traits.Subtractor); ok {
				return x.Subtract(b)
			}
		case operators.Multiply:
			if x, ok := a.(traits.Multiplier); ok {
				return x.Multiply(b)
			}
		case operators.Divide:
			if x, ok := a.(traits.Divider); ok {
				return x.Divide(b)
			}
		}
		return types.MaybeNoSuchOverloadErr(a)
	}
}

// location reads a time zone as CEL does: a name of the IANA database or an
// offset such as +02:00.
func location(zone string) (*time.Location, error) {
	hours, minutes, ok := strings.Cut(zone, ":")
	if !ok {
		return time.LoadLocation(zone)
	}
	h, err1 := strconv.Atoi(hours)
	m, err2 := strconv.Atoi(minutes)
	if err1 != nil || err2 != nil || h < -23 || h > 23 || m < 0 || m > 59 {
		return nil, fmt.Errorf("time zone %q: want a name such as Europe/Paris or an offset such as +02:00", zone)
	}
	if strings.HasPrefix(zone, "-") {
		m = -m
	}
	return time.FixedZone(zone, (h*60+m)*60), nil
}
