package expr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/spell"
)

// checker holds what is needed to say where an expression is wrong and how to right it.
type checker struct {
	src  string
	vars []Var
	ast  *ast.AST
	rows bool // leave everything to cel-go
}

// at makes an error for the node with this id.
func (c *checker) at(id int64, format string, args ...any) error {
	line, column := 1, 0
	if id != 0 {
		l := c.ast.SourceInfo().GetStartLocation(id)
		line, column = l.Line(), l.Column()
	}
	return c.errorf(line, column, format, args...)
}

// errorf makes an error for a place: line from 1, column from 0.
func (c *checker) errorf(line, column int, format string, args ...any) error {
	where := fmt.Sprintf("column %d", max(column, 0)+1)
	if strings.Contains(strings.TrimRight(c.src, "\n"), "\n") {
		where = fmt.Sprintf("line %d, %s", max(line, 1), where)
	}
	return errkind.Errorf(errkind.Config, "%s: %s", where, fmt.Sprintf(format, args...))
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	badSyntax  = regexp.MustCompile(`^Syntax error: (.*)$`)
	noFields   = regexp.MustCompile(`^type '.*' does not support field selection`)
	identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*(\s*\.\s*[_a-zA-Z][_a-zA-Z0-9]*)*`)
)

// fault words the first of cel-go's issues the way users of pipelines speak.
func (c *checker) fault(iss *cel.Issues) error {
	first := iss.Errors()[0]
	line, column, text := first.Location.Line(), first.Location.Column(), first.Message
	switch {
	case undeclared.MatchString(text):
		name := undeclared.FindStringSubmatch(text)[1]
		return c.errorf(line, column, "%s", c.unknownName(line, column, name))
	case noFields.MatchString(text):
		column = c.chainStart(line, column)
		return c.errorf(line, column, "%s", c.unknownName(line, column, ""))
	case noOverload.MatchString(text):
		m := noOverload.FindStringSubmatch(text)
		op, args := m[1], strings.TrimSuffix(strings.Replace(m[2], ".(", ", ", 1), ")")
		args = strings.Trim(strings.TrimPrefix(args, "("), " ")
		if sign, ok := operators.FindReverse(op); ok && sign != "" {
			op = sign
		} else if op == operators.Conditional {
			op = "? :"
		}
		return c.errorf(line, column, "%s does not take %s", op, plainTypes(args))
	case badSyntax.MatchString(text):
		text = badSyntax.FindStringSubmatch(text)[1]
		text, _, _ = strings.Cut(text, " expecting ")
		switch {
		case strings.Contains(text, "<EOF>"):
			text = "the expression ends early"
		case strings.HasPrefix(text, "token recognition error at: '="):
			text = "= is no operator; did you mean ==?"
		}
		return c.errorf(line, column, "syntax error: %s", strings.Join(strings.Fields(text), " "))
	}
	return c.errorf(line, column, "%s", strings.Join(strings.Fields(plainTypes(text)), " "))
}

// unknownName says which name is unknown, dotted as it stands in the source, and which is near.
func (c *checker) unknownName(line, column int, name string) string {
	lines := strings.Split(c.src, "\n")
	call := false
	if line >= 1 && line <= len(lines) {
		if text := []rune(lines[line-1]); column >= 0 && column < len(text) {
			rest := string(text[column:])
			// cel-go points at a call's bracket.
			if strings.HasPrefix(rest, "(") {
				call = true
			} else if whole := identifier.FindString(rest); whole != "" {
				after := strings.TrimSpace(rest[len(whole):])
				whole = strings.Join(strings.Fields(whole), "")
				// The last part of a.b(…) is a method, except in the math extension.
				if strings.HasPrefix(after, "(") {
					cut := strings.LastIndexByte(whole, '.')
					if call = cut < 0 || strings.HasPrefix(whole, "math."); !call {
						whole = whole[:cut]
					}
				}
				if strings.HasPrefix(whole, name) {
					name = whole
				}
			}
		}
	}
	var known []string
	if call {
		if env, err := baseEnv(); err == nil {
			for f := range env.Functions() {
				if identifier.FindString(f) == f {
					known = append(known, f)
				}
			}
			known = append(known, "math.least", "math.greatest", "has", "all", "exists", "filter", "map")
		}
	} else {
		for _, v := range c.vars {
			known = append(known, v.Name)
		}
	}
	what := fmt.Sprintf("undeclared name %q", name)
	if call {
		what = fmt.Sprintf("no function %q", name)
	}
	slices.Sort(known)
	if near := spell.Nearest(name, known); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", what, near)
	}
	return what
}

// chainStart returns the column at which the chain of selections around a column begins.
func (c *checker) chainStart(line, column int) int {
	lines := strings.Split(c.src, "\n")
	if line < 1 || line > len(lines) {
		return column
	}
	text := []rune(lines[line-1])
	column = min(column, len(text))
	for column > 0 && (text[column-1] == '.' || text[column-1] == '_' || unicode.IsLetter(text[column-1]) || unicode.IsDigit(text[column-1])) {
		column--
	}
	return column
}

// comparisons refuses == and != between types that are never equal, and in
// on a list of another type.
func (c *checker) comparisons(root ast.Expr) error {
	var err error
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if err != nil || e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Equals, operators.NotEquals:
			a, b := c.ast.GetType(undyn(call.Args()[0]).ID()), c.ast.GetType(undyn(call.Args()[1]).ID())
			if !alike(a, b) {
				err = c.at(e.ID(), "cannot compare %s with %s", typeName(a), typeName(b))
			}
		case operators.In:
			a, b := c.ast.GetType(undyn(call.Args()[0]).ID()), c.ast.GetType(call.Args()[1].ID())
			if b.Kind() == cel.ListKind && !alike(a, b.Parameters()[0]) {
				err = c.at(e.ID(), "cannot look for %s in a list of %s", typeName(a), plainTypes(b.Parameters()[0].String())+"s")
			}
		}
	}))
	return err
}

func alike(a, b *cel.Type) bool {
	numeric := func(t *cel.Type) bool {
		return t.Kind() == cel.IntKind || t.Kind() == cel.DoubleKind || t.Kind() == cel.UintKind
	}
	return a.Kind() == cel.DynKind || b.Kind() == cel.DynKind || numeric(a) && numeric(b) || a.Kind() == b.Kind()
}

// undyn takes off the dyn() that the equality macro put on.
func undyn(e ast.Expr) ast.Expr {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == "dyn" && len(e.AsCall().Args()) == 1 {
		return e.AsCall().Args()[0]
	}
	return e
}

var celNames = regexp.MustCompile(`\b(double|int|bool|dyn|google\.protobuf\.Timestamp|timestamp|google\.protobuf\.Duration)\b`)

// plainTypes replaces CEL's type names by those that users know from contracts.
func plainTypes(text string) string {
	return celNames.ReplaceAllStringFunc(text, func(s string) string {
		switch s {
		case "double":
			return "number"
		case "int":
			return "integer"
		case "bool":
			return "boolean"
		case "dyn":
			return "value of any type"
		case "google.protobuf.Timestamp", "timestamp":
			return "time"
		case "google.protobuf.Duration":
			return "duration"
		}
		return s
	})
}

func typeName(t *cel.Type) string { return article(plainTypes(t.String())) }

func article(noun string) string {
	if strings.IndexByte("aeiou", noun[0]) >= 0 {
		return "an " + noun
	}
	return "a " + noun
}

func kindList(kinds []event.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = article(k.String())
	}
	return strings.Join(names, " or ")
}

func resultHint(t slotType) string {
	if t == slotDuration {
		return "compare it, or use getSeconds()"
	}
	return "an expression gives a number, integer, boolean, string or time; convert with double(), int() or string()"
}
