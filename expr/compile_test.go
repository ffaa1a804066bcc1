package expr

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func TestCompileSaysWhereAndWhatIsWrong(t *testing.T) {
	cases := []struct{ src, want string }{
		{`amout > 3`, `column 1: undeclared name "amout"; did you mean "amount"?`},
		{`x > 1 && amout > 3`, `column 10: undeclared name "amout"; did you mean "amount"?`},
		{"x > 1 &&\n amout > 3", `line 2, column 2: undeclared name "amout"; did you mean "amount"?`},
		{`merchant.rsk > 3`, `column 1: undeclared name "merchant.rsk"; did you mean "merchant.risk"?`},
		{`merchnt.risk > 3`, `column 1: undeclared name "merchnt.risk"; did you mean "merchant.risk"?`},
		{`something > 3`, `column 1: undeclared name "something"`},
		{`time.huor() > 3`, `column 10: no function "huor"; did you mean "hour"?`},
		{`tme.hour() > 3`, `column 1: undeclared name "tme"; did you mean "time"?`},
		{`s.startWith("x")`, `column 12: no function "startWith"; did you mean "startsWith"?`},
		{`math.foor(x)`, `column 1: no function "math.foor"; did you mean "math.floor"?`},
		{`amount +`, `column 9: syntax error: the expression ends early`},
		{`n = 3`, `column 3: syntax error: = is no operator; did you mean ==?`},
		{``, `column 1: the expression is empty`},
		{`amount == "x"`, `column 8: cannot compare a number with a string`},
		{`n in ["a"]`, `column 3: cannot look for an integer in a list of strings`},
		{`amount + s`, `column 8: + does not take number, string`},
		{`ok ? 1 : 2.0`, `column 4: ? : does not take boolean, integer, number`},
		{`!n`, `column 1: ! does not take integer`},
		{`s.hour()`, `column 7: hour does not take string`},
		{`time - last`, `column 1: the result is a duration: compare it, or use getSeconds()`},
		{`time.hour("Europe/Nowhere")`, `unknown time zone Europe/Nowhere`},
		{`s.matches("(")`, "matches: error parsing regexp: missing closing ): `(`"},
		{`duration("soon") < time - last`, `duration("soon"): want a form such as "90s" or "1h30m"`},
		{`math.least(n, x)`, `column 1: the result is a value of any type: an expression gives a number`},
		{strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300), `expression recursion limit exceeded`},
		{strings.Repeat("n+", 9000) + "n", `expression of 18001 bytes: at most 16384 are allowed`},
	}
	for _, c := range cases {
		p, err := Compile(c.src, testVars)
		if err == nil {
			t.Errorf("%s: compiled to a %v", c.src, p.Kind())
			continue
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s\n got %v (%v)\nwant %s", c.src, err, errkind.Of(err), c.want)
		}
	}
}

func TestWantRestrictsTheResult(t *testing.T) {
	cases := []struct {
		src  string
		want []event.Kind
		kind event.Kind
		err  string
	}{
		{`n > 1`, []event.Kind{event.Bool}, event.Bool, ""},
		{`n`, []event.Kind{event.Bool}, 0, "column 1: the result is an integer: want a boolean"},
		{`n`, []event.Kind{event.Float}, event.Float, ""},
		{`3`, []event.Kind{event.Float}, event.Float, ""},
		{`n in [k]? 1 : 2`, []event.Kind{event.Float}, event.Float, ""},
		{`n`, []event.Kind{event.Float, event.Int}, event.Int, ""},
		{`ok`, []event.Kind{event.Float}, 0, "column 1: the result is a boolean: want a number"},
		{`s`, []event.Kind{event.Float, event.Bool}, 0, "column 1: the result is a string: want a number or a boolean"},
	}
	for _, c := range cases {
		p, err := Compile(c.src, testVars, c.want...)
		switch {
		case c.err != "":
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: got %v, want %s", c.src, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.src, err)
		case p.Kind() != c.kind:
			t.Errorf("%s: kind %v, want %v", c.src, p.Kind(), c.kind)
		default:
			cols := []*event.Column{}
			for range p.Vars() {
				cols = append(cols, &event.Column{Kind: event.Int, Ints: []int64{7, 2}})
			}
			var out event.Column
			p.Evaluator().Eval(cols, 2, &out)
			if out.Kind != c.kind || out.Len() != 2 {
				t.Errorf("%s: column of %v with %d rows", c.src, out.Kind, out.Len())
			}
		}
	}
}

func TestVarsAreThoseUsedInOrderOfName(t *testing.T) {
	vars := append([]Var{{"customer-id", event.String}, {"in", event.Int}, {"int", event.Int}}, testVars...)
	cases := map[string][]string{
		`merchant.risk > x && merchant == s`: {"merchant", "merchant.risk", "s", "x"},
		`1 + 2`:                              {},
		`[1, 2].exists(v, v == n)`:           {"n"},
		`int(x) > 1`:                         {"x"},
	}
	for src, want := range cases {
		p, err := Compile(src, vars)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if diff := cmp.Diff(want, p.Vars()); diff != "" {
			t.Errorf("%s: %s", src, diff)
		}
	}
}

func TestFaultsNameRowAndReason(t *testing.T) {
	cases := []struct{ src, want string }{
		{`n / k`, "division by zero"},
		{`n % k`, "modulus by zero"},
		{`9223372036854775807 + n`, "integer overflow"},
		{`int(s)`, "value cannot be converted"},
		{`[n / k].exists(v, v > 0)`, "division by zero"},
	}
	cols := map[string]*event.Column{
		"n": {Kind: event.Int, Ints: []int64{1, 1, 1}, Null: []bool{false, true, false}},
		"k": {Kind: event.Int, Ints: []int64{1, 0, 0}},
		"s": {Kind: event.String, Strings: []string{"7", "", "x"}, Null: []bool{false, true, false}},
	}
	for _, c := range cases {
		p, err := Compile(c.src, testVars)
		if err != nil {
			t.Fatal(err)
		}
		var in []*event.Column
		for _, v := range p.Vars() {
			in = append(in, cols[v])
		}
		var out event.Column
		faults := p.Evaluator().Eval(in, 3, &out)
		last := len(faults) - 1
		if last < 0 || faults[last].Row != 2 || !strings.Contains(faults[last].Err.Error(), c.want) || !errkind.Is(faults[last].Err, errkind.Invalid) {
			t.Errorf("%s: faults %v, want row 2: %s", c.src, faults, c.want)
		}
		if !out.IsNull(1) || !out.IsNull(2) {
			t.Errorf("%s: rows 1 and 2 are not null: %v", c.src, out.Null)
		}
	}
}

func TestExpensiveRowsAreFaults(t *testing.T) {
	list := "[" + strings.Repeat("n,", 99) + "n]"
	p, err := Compile(list+".all(a, "+list+".all(b, "+list+".all(c, a + b + c >= 0)))", testVars)
	if err != nil {
		t.Fatal(err)
	}
	var out event.Column
	faults := p.Evaluator().Eval([]*event.Column{{Kind: event.Int, Ints: []int64{1}}}, 1, &out)
	if len(faults) != 1 || !strings.Contains(faults[0].Err.Error(), "cost") {
		t.Fatalf("faults %v: want one that speaks of cost", faults)
	}
}

func TestOneProgramServesManyGoroutines(t *testing.T) {
	for _, src := range []string{`n > 2 ? x : 0.5`, `[n].exists(v, v > 2) ? x : 0.5`} {
		p, err := Compile(src, testVars)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				e := p.Evaluator()
				cols := []*event.Column{{Kind: event.Int, Ints: make([]int64, 500)}, {Kind: event.Float, Floats: make([]float64, 500)}}
				for i := range 500 {
					cols[0].Ints[i], cols[1].Floats[i] = int64(i), float64(g*1000+i)
				}
				var out event.Column
				for range 5 {
					e.Eval(cols, 500, &out)
				}
				if out.Floats[2] != 0.5 || out.Floats[499] != float64(g*1000+499) {
					t.Errorf("%s: goroutine %d got %v and %v", src, g, out.Floats[2], out.Floats[499])
				}
			})
		}
		wg.Wait()
	}
}

var hot = []string{
	`amount > 220.0 ? 0.9 : 0.1`,
	`time.hour() <= 6`,
	`time.weekday() in [0, 6]`,
	`amount > 220 && merchant.risk * 2 > 0.5 || n / 3 == k`,
	`has(merchant.risk) ? merchant.risk : 0.0`,
	`s.startsWith("a") && merchant in ["m1", "m2"]`,
}

func hotColumns(names []string, n int) []*event.Column {
	var cols []*event.Column
	for _, name := range names {
		for _, v := range testVars {
			if v.Name != name {
				continue
			}
			c := &event.Column{Name: name, Kind: v.Kind}
			c.Reset(n)
			for i := range n {
				switch v.Kind {
				case event.Float:
					c.Floats[i] = float64(i * 37 % 400)
				case event.String:
					c.Strings[i] = []string{"m1", "abc", "zzz"}[i%3]
				case event.Bool:
					c.Bools[i] = i%3 == 0
				default:
					c.Ints[i] = 1522540800e9 + int64(i)*7e11
				}
			}
			cols = append(cols, c)
		}
	}
	return cols
}

func TestEvaluationAllocatesNothing(t *testing.T) {
	for _, src := range hot {
		p, err := Compile(src, testVars)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Vectorised() {
			t.Errorf("%s: not vectorised", src)
		}
		e, cols := p.Evaluator(), hotColumns(p.Vars(), 1000)
		var out event.Column
		if a := testing.AllocsPerRun(20, func() { e.Eval(cols, 1000, &out) }); a != 0 {
			t.Errorf("%s: %v allocations a call", src, a)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	for _, src := range hot {
		for _, columns := range []bool{true, false} {
			p, err := compile(src, testVars, nil, columns)
			if err != nil {
				b.Fatal(err)
			}
			name := "columns/"
			if !columns {
				name = "rows/"
			}
			b.Run(name+src, func(b *testing.B) {
				const n = 256
				e, cols := p.Evaluator(), hotColumns(p.Vars(), n)
				var out event.Column
				b.ReportAllocs()
				for b.Loop() {
					e.Eval(cols, n, &out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
			})
		}
	}
}
