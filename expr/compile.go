package expr

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/interpreter"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Var is a variable that an expression may use. Its name may have parts, as in
// merchant.risk. A name that is no CEL identifier cannot be used.
type Var struct {
	Name string
	Kind event.Kind
}

// Program is a compiled expression. It does not change and may be used by many
// goroutines, each with an Evaluator of its own.
type Program struct {
	source string
	kind   event.Kind
	vars   []Var // used, sorted by name
	code   *code
	rows   cel.Program // used where code is nil
}

// maxSource bounds an expression's length in bytes, so that checking it stays cheap.
const maxSource = 16 << 10

// Compile checks src against the variables and compiles it. want lists the kinds
// that the result may have; none means any. Where Float is wanted and Int is not,
// an integer result becomes a number. Errors are of kind Config and begin with
// the column (counted in characters from 1) in src, or line and column where src
// has several lines.
func Compile(src string, vars []Var, want ...event.Kind) (*Program, error) {
	return compile(src, vars, want, true)
}

// compile is Compile; without columns, the program runs in cel-go in any case.
func compile(src string, vars []Var, want []event.Kind, columns bool) (*Program, error) {
	if len(src) > maxSource {
		return nil, errkind.Errorf(errkind.Config, "expression of %d bytes: at most %d are allowed", len(src), maxSource)
	}
	if strings.TrimSpace(src) == "" {
		return nil, errkind.New(errkind.Config, "column 1: the expression is empty")
	}
	base, err := baseEnv()
	if err != nil {
		return nil, errkind.Errorf(errkind.Permanent, "set up CEL: %w", err)
	}
	c := &checker{src: src, vars: vars, rows: !columns}
	parsed, iss := base.Parse(src)
	if iss.Err() != nil {
		return nil, c.fault(iss)
	}
	var opts []cel.EnvOption
	declared := map[string]Var{}
	for _, v := range mentioned(parsed.NativeRep().Expr(), vars) {
		opts = append(opts, cel.Variable(v.Name, celTypes[v.Kind]))
		declared[v.Name] = v
	}
	env, err := base.Extend(opts...)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "declare variables: %w", err)
	}
	checked, iss := env.Check(parsed)
	if iss.Err() != nil {
		return nil, c.fault(iss)
	}
	c.ast = checked.NativeRep()
	if err := c.comparisons(c.ast.Expr()); err != nil {
		return nil, err
	}
	p := &Program{source: src, vars: c.used(declared)}
	if err := c.finish(p, env, checked, want); err != nil {
		return nil, err
	}
	return p, nil
}

// finish chooses how the program runs and what it gives.
func (c *checker) finish(p *Program, env *cel.Env, checked *cel.Ast, want []event.Kind) error {
	var result slotType
	code, root, err := lower(c.ast, p.vars)
	switch {
	case err == nil && !c.rows:
		result = code.slots[root].typ
	case c.rows || errors.Is(err, errNotLowered):
		code = nil
		result = celSlotType(c.ast.GetType(c.ast.Expr().ID()))
	default:
		return c.at(c.ast.Expr().ID(), "%v", err)
	}
	kind, ok := result.kind()
	if !ok {
		return c.at(0, "the result is %s: %s", typeName(c.ast.GetType(c.ast.Expr().ID())), resultHint(result))
	}
	if len(want) > 0 && !slices.Contains(want, kind) {
		if kind != event.Int || !slices.Contains(want, event.Float) {
			return c.at(0, "the result is %s: want %s", article(kind.String()), kindList(want))
		}
		if kind = event.Float; code != nil {
			root = code.toFloat(root)
		}
	}
	p.kind = kind
	if code != nil {
		code.root = root
		p.code = code
		return nil
	}
	p.rows, err = env.Program(checked, cel.OptimizeRegex(interpreter.MatchesRegexOptimization), cel.CostLimit(rowCostLimit))
	if err != nil {
		return c.at(0, "%v", err)
	}
	return nil
}

// Kind is the kind of the result.
func (p *Program) Kind() event.Kind { return p.kind }

// Vars returns the names of the variables used, sorted.
func (p *Program) Vars() []string {
	names := make([]string, len(p.vars))
	for i, v := range p.vars {
		names[i] = v.Name
	}
	return names
}

// Vectorised reports whether the program runs over columns; otherwise it runs
// row by row in cel-go, about a hundred times slower.
func (p *Program) Vectorised() bool { return p.code != nil }

// String returns the expression.
func (p *Program) String() string { return p.source }

// mentioned returns the variables whose name occurs in the parsed expression as
// an identifier or the beginning of a chain of selections.
func mentioned(e ast.Expr, vars []Var) []Var {
	chains := map[string]bool{}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		for name := chain(e); name != ""; {
			chains[name] = true
			cut := strings.LastIndexByte(name, '.')
			name = name[:max(cut, 0)]
		}
	}))
	var out []Var
	for _, v := range vars {
		if chains[v.Name] {
			out = append(out, v)
		}
	}
	return out
}

// chain returns a.b.c for an identifier or a selection from one; otherwise "".
func chain(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return strings.TrimPrefix(e.AsIdent(), ".")
	case ast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() {
			if base := chain(s.Operand()); base != "" {
				return base + "." + s.FieldName()
			}
		}
	}
	return ""
}

// used returns the declared variables that the checked expression refers to.
func (c *checker) used(declared map[string]Var) []Var {
	found := map[string]Var{}
	for _, r := range c.ast.ReferenceMap() {
		if v, ok := declared[strings.TrimPrefix(r.Name, ".")]; ok {
			found[v.Name] = v
		}
	}
	out := make([]Var, 0, len(found))
	for _, v := range found {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Var) int { return strings.Compare(a.Name, b.Name) })
	return out
}
