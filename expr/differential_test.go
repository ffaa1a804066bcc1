package expr

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

var testVars = []Var{
	{"amount", event.Float}, {"x", event.Float}, {"merchant.risk", event.Float},
	{"n", event.Int}, {"k", event.Int},
	{"ok", event.Bool}, {"night", event.Bool},
	{"merchant", event.String}, {"s", event.String},
	{"time", event.Time}, {"last", event.Time},
}

// corpus is expressions with every function and operator of the compiled subset,
// and some beyond it.
var corpus = []string{
	`amount > 220`, `amount > 220.0 ? 0.9 : 0.1`, `time.hour() <= 6`, `time.weekday() in [0, 6]`,
	`merchant.risk * n + amount / x - k`, `n / k`, `n % k`, `-n`, `-amount`, `n * k - k * n`, `n + k`,
	`amount == n`, `amount != n`, `n == 3.0`, `amount in [1, 2.5, -3]`, `n in [1, 2.0, -9223372036854775807]`, `k in []`,
	`s in ["a", "b"]`, `s in ["a","b","c","d","e","f","g","h","i","j"]`, `merchant == s`, `merchant != s`, `merchant < s`, `s >= merchant`,
	`ok == night`, `ok != night`, `ok && night`, `ok || night`, `!ok`, `ok ? n : k`, `ok ? s : merchant`, `ok ? time : last`, `ok ? night : !night`,
	`s.startsWith("a")`, `s.endsWith(merchant)`, `s.contains("b")`, `s.matches("^[ab]+$")`, `matches(s, "b")`, `size(s)`, `s.size() > 2`, `s + merchant`,
	`x == null`, `x != null`, `null == s`, `has(merchant.risk)`, `!has(n)`, `isNull(n / k)`, `has(x) ? x : 0.0`, `has(x) && x > 1`, `ok && has(s)`,
	`n / k > 2 || ok`, `ok && 1 / k > 0`, `false && 1 / 0 > 0`, `true || n / 0 == 1`, `ok ? n / k : n % k`,
	`x > 1 && night || ok`, `amount > x`, `amount <= x`, `math.least(n, k)`, `math.greatest(amount, x, 3.0)`, `math.least(amount, x)`, `math.greatest(n, k, 3)`,
	`math.abs(n)`, `math.abs(amount)`, `math.ceil(x)`, `math.floor(x)`, `math.round(x)`, `math.trunc(x)`, `math.sqrt(x)`, `math.sqrt(n)`,
	`math.isNaN(x)`, `math.isInf(x)`, `math.isFinite(x)`, `double(n)`, `int(x)`, `int(s)`, `double(s)`, `bool(s)`, `string(n)`, `string(x)`, `string(ok)`, `string(s)`, `int(n)`, `double(x)`, `bool(ok)`,
	`time.minute()`, `time.second()`, `time.day()`, `time.month()`, `time.year()`, `time.hour("Asia/Kolkata")`, `time.day("-11:30")`, `time.weekday("Europe/Paris")`,
	`time.getHours()`, `time.getMinutes()`, `time.getSeconds()`, `time.getMilliseconds()`, `time.getFullYear()`, `time.getMonth()`, `time.getDate()`, `time.getDayOfMonth()`, `time.getDayOfYear()`, `time.getDayOfWeek()`,
	`time.getHours("America/New_York")`, `time.getDayOfYear("+05:45")`, `time > last`, `time == last`, `time - last > duration("1h")`, `time + duration("90m")`, `last - duration("24h") < time`,
	`(time - last).getSeconds()`, `(time - last).getMinutes() < 5`, `(time - last).getHours()`, `duration("1h") + duration("30m") > time - last`, `time < timestamp("2018-05-01T00:00:00Z")`, `int(time)`, `timestamp(time) == time`, `duration(time - last) == time - last`,
	`dyn(n) == dyn(amount)`, `n > 2.5`, `amount >= k`, `n == 9223372036854775807`, `1.5 < 2`, `n + 1.5`, `2 * amount`,
	// Beyond the compiled subset.
	`s.lowerAscii() == "a"`, `[n, k].exists(v, v > 2)`, `double(math.least(n, amount))`, `string(time)`, `n in [k, 1]`, `s.replace("a", "b")`, `[1, 2, 3].all(v, v < n)`, `timestamp(s) > time`,
	`s.split("a").size()`, `{"a": 1, "b": 2}[s]`, `has(x) ? s.upperAscii() : "none"`,
}

func pick[T any](rng *rand.Rand, v ...T) T { return v[rng.IntN(len(v))] }

// generate writes a random expression of the kind.
func generate(rng *rand.Rand, kind event.Kind, depth int) string {
	g := func(k event.Kind) string { return generate(rng, k, depth-1) }
	number := func() string { return g(pick(rng, event.Float, event.Int)) }
	if depth <= 0 {
		switch kind {
		case event.Float:
			return pick(rng, "amount", "x", "merchant.risk", "0.0", "2.5", "-1e18")
		case event.Int:
			return pick(rng, "n", "k", "0", "3", "-1", "9223372036854775807", "-9223372036854775808")
		case event.Bool:
			return pick(rng, "ok", "night", "true", "false")
		case event.String:
			return pick(rng, "s", "merchant", `""`, `"ab"`)
		default:
			return pick(rng, "time", "last", `timestamp("2018-04-01T06:59:59.5Z")`)
		}
	}
	if rng.IntN(12) == 0 {
		return fmt.Sprintf("(%s ? %s : %s)", g(event.Bool), g(kind), g(kind))
	}
	switch kind {
	case event.Float:
		switch rng.IntN(4) {
		case 0:
			return fmt.Sprintf("math.%s(%s)", pick(rng, "abs", "ceil", "floor", "round", "trunc", "sqrt"), g(event.Float))
		case 1:
			return fmt.Sprintf("math.%s(%s, %s)", pick(rng, "least", "greatest"), g(event.Float), g(event.Float))
		case 2:
			return fmt.Sprintf("double(%s)", g(pick(rng, event.Int, event.Float, event.String)))
		}
		a, b := event.Float, pick(rng, event.Float, event.Int)
		if rng.IntN(2) == 0 {
			a, b = b, a
		}
		return fmt.Sprintf("(%s %s %s)", g(a), pick(rng, "+", "-", "*", "/"), g(b))
	case event.Int:
		switch rng.IntN(5) {
		case 0:
			return fmt.Sprintf("%s.%s()", g(event.Time), pick(rng, "hour", "minute", "weekday", "day", "month", "year", "getHours", "getMonth", "getDate", "getMilliseconds"))
		case 1:
			return fmt.Sprintf("size(%s)", g(event.String))
		case 2:
			return fmt.Sprintf("int(%s)", g(pick(rng, event.Int, event.Float, event.String, event.Time)))
		}
		return fmt.Sprintf("(%s %s %s)", g(event.Int), pick(rng, "+", "-", "*", "/", "%"), g(event.Int))
	case event.Bool:
		switch rng.IntN(8) {
		case 0, 1:
			return fmt.Sprintf("(%s %s %s)", g(event.Bool), pick(rng, "&&", "||", "==", "!="), g(event.Bool))
		case 2, 3:
			return fmt.Sprintf("(%s %s %s)", number(), pick(rng, "<", "<=", ">", ">=", "==", "!="), number())
		case 4:
			k := pick(rng, event.String, event.Time)
			return fmt.Sprintf("(%s %s %s)", g(k), pick(rng, "<", "<=", ">", ">=", "==", "!="), g(k))
		case 5:
			return fmt.Sprintf("%s.%s(%s)", g(event.String), pick(rng, "startsWith", "endsWith", "contains"), g(event.String))
		case 6:
			return fmt.Sprintf("(%s %s null)", g(pick(rng, event.Float, event.Int, event.Bool, event.String, event.Time)), pick(rng, "==", "!="))
		}
		return "!" + g(event.Bool)
	case event.String:
		if rng.IntN(2) == 0 {
			return fmt.Sprintf("string(%s)", g(pick(rng, event.Int, event.Float, event.Bool, event.String)))
		}
		return fmt.Sprintf("(%s + %s)", g(event.String), g(event.String))
	default:
		return fmt.Sprintf("(%s %s duration(%q))", g(event.Time), pick(rng, "+", "-"), pick(rng, "1h", "90s", "720h", "-1ms"))
	}
}

// randomColumns draws values at the edges, nulls and NaN included.
func randomColumns(rng *rand.Rand, names []string, n int) []*event.Column {
	kinds := map[string]event.Kind{}
	for _, v := range testVars {
		kinds[v.Name] = v.Kind
	}
	var cols []*event.Column
	for _, name := range names {
		c := &event.Column{Name: name, Kind: kinds[name]}
		c.Reset(n)
		nulls := rng.IntN(3) > 0
		for i := range n {
			if nulls && rng.IntN(5) == 0 {
				c.SetNull(i)
				continue
			}
			switch c.Kind {
			case event.Float:
				c.Floats[i] = pick(rng, 0, 1, -1, 2.5, 3, 220, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 9.223372036854776e18, -0.5, rng.NormFloat64()*100)
			case event.Int:
				c.Ints[i] = pick(rng, 0, 1, -1, 2, 3, math.MaxInt64, math.MinInt64, math.MaxInt64-1, 1<<53+1, int64(rng.IntN(100)-50), rng.Int64())
			case event.Bool:
				c.Bools[i] = rng.IntN(2) == 0
			case event.String:
				c.Strings[i] = pick(rng, "", "a", "b", "ab", "ba", "12", "-7.5", "true", "ü", "\xff", "zz")
			case event.Time:
				c.Ints[i] = pick(rng, 0, -1, 1522540800e9, 1522540800e9-1, rng.Int64N(4e18)-2e18, int64(rng.IntN(100000))*1e9)
			}
		}
		cols = append(cols, c)
	}
	return cols
}

// equalValue compares bit by bit, all NaN alike.
func equalValue(a, b *event.Column, i int) bool {
	if a.IsNull(i) || b.IsNull(i) {
		return a.IsNull(i) == b.IsNull(i)
	}
	switch a.Kind {
	case event.Float:
		x, y := a.Floats[i], b.Floats[i]
		return math.Float64bits(x) == math.Float64bits(y) || x != x && y != y
	case event.Bool:
		return a.Bools[i] == b.Bools[i]
	case event.String:
		return a.Strings[i] == b.Strings[i]
	}
	return a.Ints[i] == b.Ints[i]
}

// checkAgainstCEL runs the expression both ways on random rows.
func checkAgainstCEL(t *testing.T, rng *rand.Rand, src string, n int) (vectorised bool) {
	t.Helper()
	p, err := Compile(src, testVars)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	ref, err := compile(src, testVars, nil, false)
	if err != nil {
		t.Fatalf("%s: by rows: %v", src, err)
	}
	if p.Kind() != ref.Kind() || strings.Join(p.Vars(), " ") != strings.Join(ref.Vars(), " ") {
		t.Fatalf("%s: kinds %v and %v, variables %v and %v", src, p.Kind(), ref.Kind(), p.Vars(), ref.Vars())
	}
	cols := randomColumns(rng, p.Vars(), n)
	var got, want event.Column
	faults := faultRows(p.Evaluator().Eval(cols, n, &got))
	wantFaults := faultRows(ref.Evaluator().Eval(cols, n, &want))
	for i := range n {
		if equalValue(&got, &want, i) && (faults[i] == nil) == (wantFaults[i] == nil) {
			continue
		}
		var row []string
		for _, c := range cols {
			row = append(row, fmt.Sprintf("%s=%s", c.Name, show(c, i)))
		}
		t.Fatalf("%s\nrow %d: %s\ncolumns give %s (%v), cel-go gives %s (%v)", src, i, strings.Join(row, " "), show(&got, i), faults[i], show(&want, i), wantFaults[i])
	}
	return p.Vectorised()
}

func faultRows(faults []Fault) map[int]error {
	m := map[int]error{}
	for _, f := range faults {
		m[f.Row] = f.Err
	}
	return m
}

func show(c *event.Column, i int) string {
	if c.IsNull(i) {
		return "null"
	}
	switch c.Kind {
	case event.Float:
		return fmt.Sprint(c.Floats[i])
	case event.Bool:
		return fmt.Sprint(c.Bools[i])
	case event.String:
		return fmt.Sprintf("%q", c.Strings[i])
	case event.Time:
		return time.Unix(0, c.Ints[i]).UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(c.Ints[i])
}

func TestColumnsGiveWhatCELGives(t *testing.T) {
	vectorised := 0
	for i, src := range corpus {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		if checkAgainstCEL(t, rng, src, 600) {
			vectorised++
		}
	}
	if beyond := 11; vectorised != len(corpus)-beyond {
		t.Errorf("%d of %d expressions run over columns: want all but %d", vectorised, len(corpus), beyond)
	}
}

func TestRandomExpressionsGiveWhatCELGives(t *testing.T) {
	count := 300
	if testing.Short() {
		count = 100
	}
	vectorised := 0
	for seed := range count {
		rng := rand.New(rand.NewPCG(uint64(seed), 8))
		kind := pick(rng, event.Float, event.Int, event.Bool, event.Bool, event.String, event.Time)
		if checkAgainstCEL(t, rng, generate(rng, kind, 1+rng.IntN(4)), 40) {
			vectorised++
		}
	}
	t.Logf("%d of %d expressions ran over columns", vectorised, count)
	if vectorised != count {
		t.Error("an expression of the compiled subset was left to cel-go")
	}
}
