package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet-io/freshet/event"
)

// generator makes schemas, and values that have a fair chance to fit them.
type generator struct{ *rand.Rand }

func (g generator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g generator) number() string {
	return g.pick("0", "1", "-1", "2", "3", "7", "10", "0.1", "0.5", "1.5", "2.0", "1e2", "100", "-0", "1e-3", "9007199254740993", "9007199254740992",
		"9223372036854775807", "9223372036854775808", "123456789012345678901234567890", "0.30000000000000004", "0.3", "1e300", "12345678.125",
		strconv.Itoa(g.IntN(200)-100), strconv.FormatFloat(g.Float64()*100, 'f', g.IntN(20), 64))
}

func (g generator) text() string {
	return g.pick(`""`, `"a"`, `"b"`, `"ab"`, `"abc"`, `"ABC"`, `"123"`, `"é"`, `"\u00e9"`, `"\n"`, `"😀"`, `"2018-04-01T00:00:31Z"`, `"2018-04-01T00:00:31+02:00"`,
		`"2018-02-30"`, `"2018-02-03"`, `"2eb8aa08-aa98-11ea-b4aa-73b441d16380"`, `"1.2.3.4"`, `"1.2.3.400"`, `"2018-04-01T23:59:60Z"`, `"x@y.org"`)
}

func (g generator) name() string { return g.pick("a", "b", "c", "d", "é", "a b") }

func (g generator) scalar() string {
	switch g.IntN(4) {
	case 0:
		return g.number()
	case 1:
		return g.pick("true", "false", "null")
	default:
		return g.text()
	}
}

func (g generator) value(depth int) string {
	switch n := g.IntN(8); {
	case depth > 0 && n < 2:
		return g.object(depth - 1)
	case depth > 0 && n == 2:
		var items []string
		for range g.IntN(4) {
			items = append(items, g.value(depth-1))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return g.scalar()
}

func (g generator) object(depth int) string {
	var members []string
	used := map[string]bool{}
	for range g.IntN(5) {
		name := g.name()
		if used[name] {
			continue
		}
		used[name] = true
		key := strconv.Quote(name)
		if g.IntN(10) == 0 && name == "a" {
			key = `"\u0061"`
		}
		members = append(members, key+g.pick(":", ": ", " :")+g.value(depth))
	}
	return g.pick("{", "{ ") + strings.Join(members, g.pick(",", " , ")) + "}"
}

func (g generator) schema(depth int) string {
	if g.IntN(12) == 0 {
		return g.pick("true", "false", "{}", "{}")
	}
	var kw []string
	used := map[string]bool{}
	add := func(k, v string) {
		if !used[k] {
			used[k] = true
			kw = append(kw, strconv.Quote(k)+":"+v)
		}
	}
	for range 1 + g.IntN(4) {
		switch g.IntN(24) {
		case 0, 1:
			add("type", strconv.Quote(typeNames[g.IntN(len(typeNames))]))
		case 2:
			a, b := g.IntN(len(typeNames)), g.IntN(len(typeNames)-1)
			if b >= a {
				b++
			}
			add("type", fmt.Sprintf("[%q,%q]", typeNames[a], typeNames[b]))
		case 3:
			values := map[string]bool{}
			var list []string
			for range 1 + g.IntN(12) {
				v := g.pick(g.text(), `"a"`, "1", "2", "0.3", "true", "null")
				if v == `"\u00e9"` || values[v] {
					continue
				}
				values[v] = true
				list = append(list, v)
			}
			add("enum", "["+strings.Join(list, ",")+"]")
		case 4:
			add("const", g.value(1))
		case 5:
			add(g.pick("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), g.number())
		case 6:
			add("multipleOf", g.pick("1", "2", "0.1", "0.01", "1e-3", "3", "2.5"))
		case 7:
			add(g.pick("minLength", "maxLength"), g.pick("0", "1", "2", "3", "2.0"))
		case 8:
			add("pattern", g.pick(`"^[a-z]+$"`, `"^\\d{3}$"`, `"b"`, `"^a?b"`, `"^é$"`))
		case 9:
			add("format", strconv.Quote(g.pick("date-time", "date", "uuid", "ipv4", "email")))
		case 10:
			add(g.pick("minProperties", "maxProperties", "minItems", "maxItems"), g.pick("0", "1", "2", "3"))
		case 11, 12, 13, 14:
			if depth == 0 {
				continue
			}
			var props []string
			names := map[string]bool{}
			for range 1 + g.IntN(4) {
				if n := g.name(); !names[n] {
					names[n] = true
					props = append(props, strconv.Quote(n)+":"+g.schema(depth-1))
				}
			}
			add("properties", "{"+strings.Join(props, ",")+"}")
		case 15, 16:
			add("required", g.pick(`["a"]`, `["b","a"]`, `["x"]`, `[]`))
		case 17:
			if depth > 0 {
				add("additionalProperties", g.schema(depth-1))
			}
		case 18:
			if depth > 0 {
				add("items", g.schema(depth-1))
			}
		case 19:
			if depth > 0 {
				add("prefixItems", "["+g.schema(depth-1)+","+g.schema(depth-1)+"]")
			}
		case 20:
			if depth > 0 {
				add(g.pick("anyOf", "oneOf"), "["+g.schema(depth-1)+`,{"type":"null"}]`)
			}
		case 21:
			if depth > 0 {
				add(g.pick("allOf", "anyOf", "oneOf"), "["+g.schema(depth-1)+","+g.schema(depth-1)+"]")
			}
		case 22:
			if depth > 0 {
				add(g.pick("not", "if", "contains", "propertyNames", "unevaluatedProperties"), g.schema(depth-1))
			}
		case 23:
			add("$ref", g.pick(`"#/$defs/d"`, `"#/$defs/e"`))
		}
	}
	return "{" + strings.Join(kw, ",") + "}"
}

// compare makes one contract of a seed and judges payloads by it and by the library.
func compare(t testing.TB, seed uint64) {
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	schema := `{"$defs":{"d":` + g.schema(1) + `,"e":{"type":"object","properties":{"a":` + g.schema(0) + `,"b":{"$ref":"#/$defs/d"}}}},"properties":{"a":` +
		g.schema(3) + `,"b":` + g.schema(2) + `},"minProperties":0}`
	c, err := Parse("generated", []byte(schema))
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	d, lib := mustDecoder(t, c, Options{}), library(t, schema)
	var fields []string
	for _, f := range c.Fields() {
		fields = append(fields, f.Path)
	}
	all := mustDecoder(t, c, Options{Fields: fields})
	var rows Rows
	for range 25 {
		payload := `{"a":` + g.value(3) + `,"b":` + g.value(2) + `}`
		fault := decodeOne(d, payload, &rows)
		agrees(t, lib, payload, fault)
		got := decodeOne(all, payload, &rows)
		if (fault == "") != (got == "") && !strings.Contains(got, "not an integer of 64 bits") && !strings.Contains(got, "1678 to 2262") {
			t.Errorf("%s: the verdict depends on what is extracted: %q, then %q", payload, fault, got)
		}
		if rows.N == 1 {
			sameAsStandardLibrary(t, &rows, payload)
		}
		if t.Failed() {
			t.Fatalf("seed %d: schema %s", seed, schema)
		}
	}
}

// sameAsStandardLibrary compares row 0 with what encoding/json reads.
func sameAsStandardLibrary(t testing.TB, rows *Rows, payload string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(payload))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	for i := range rows.Columns {
		c := &rows.Columns[i]
		v := doc
		for seg := range strings.SplitSeq(c.Name, ".") {
			m, _ := v.(map[string]any)
			v = m[seg]
		}
		if (v == nil) != c.IsNull(0) {
			t.Errorf("%s: %s: null is %v", payload, c.Name, c.IsNull(0))
			continue
		}
		switch v := v.(type) {
		case nil:
		case bool:
			if c.Bools[0] != v {
				t.Errorf("%s: %s is %v", payload, c.Name, c.Bools[0])
			}
		case string:
			if c.Kind == event.String && c.Strings[0] != v {
				t.Errorf("%s: %s is %q", payload, c.Name, c.Strings[0])
			}
		case json.Number:
			f, err := v.Float64()
			switch {
			case c.Kind == event.Float && (err != nil || c.Floats[0] != f):
				t.Errorf("%s: %s is %v", payload, c.Name, c.Floats[0])
			case c.Kind == event.Int && rat(v.String()).Cmp(rat(strconv.FormatInt(c.Ints[0], 10))) != 0:
				t.Errorf("%s: %s is %v", payload, c.Name, c.Ints[0])
			}
		default:
			t.Errorf("%s: %s is a %T", payload, c.Name, v)
		}
	}
}

func TestDecoderAgreesWithTheCompleteValidator(t *testing.T) {
	n := uint64(800)
	if testing.Short() {
		n = 150
	}
	for seed := range n {
		compare(t, seed)
	}
}

func FuzzSchemas(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, seed) })
}

const fuzzSchema = `{
  "type": "object",
  "required": ["s"],
  "properties": {
    "s": {"type": "string", "minLength": 1, "maxLength": 40},
    "f": {"type": ["number", "null"], "maximum": 1e300},
    "i": {"type": "integer", "multipleOf": 0.5},
    "b": {"type": "boolean"},
    "t": {"type": "string", "format": "date-time"},
    "o": {"type": "object", "additionalProperties": {"type": ["integer", "string"]}, "properties": {"x": {"type": "string", "pattern": "^[a-z]*$"}}},
    "l": {"type": "array", "maxItems": 5, "items": {"type": "object", "properties": {"n": {"enum": [1, "a", null]}}}},
    "any": {}
  }
}`

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"s":"a","f":1.5,"i":2,"b":true,"t":"2018-04-01T00:00:31Z","o":{"x":"a","y":1},"l":[{"n":1}],"any":[1,{"a":null}]}`,
		`{"s":"\ud83d\ude00\n","f":-0.1e-5,"i":10e-1,"b":false,"any":"é"}`,
		`{"s":"a","s":"b"}`, `{"s":"` + strings.Repeat("x", 60) + `"}`, "{\"s\":\"\xff\"}", `{"s":"\ud800"}`, `{"s":"a","f":1e999}`, `[1]`, ``,
	} {
		f.Add([]byte(s), []byte{})
	}
	f.Add([]byte(`{"s":"a"}`), []byte(event.Headers(nil).AppendString("content-type", event.TypeStructured)))
	c := mustParse(f, fuzzSchema)
	lib := library(f, fuzzSchema)
	fields := []string{"s", "f", "i", "b", "t", "o.x"}
	f.Fuzz(func(t *testing.T, payload, headers []byte) {
		d := mustDecoder(t, c, Options{Fields: fields})
		var rows Rows
		if len(headers) > 0 { // whatever they say, nothing breaks
			d.Decode([]event.Record{{Value: payload, Headers: headers}}, &rows)
			if rows.N+len(rows.Faults) != 1 {
				t.Fatalf("%d rows and %d faults", rows.N, len(rows.Faults))
			}
		}
		c.Envelope(payload)
		fault := decodeOne(d, string(payload), &rows)
		if again := decodeOne(d, string(payload), &rows); again != fault {
			t.Fatalf("%q, then %q", fault, again)
		}
		std := json.Valid(payload) && utf8.Valid(payload)
		switch {
		case fault == "":
			if !std {
				t.Fatal("taken, and not valid JSON")
			}
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
			if err == nil {
				err = lib.Validate(v)
			}
			if err != nil {
				t.Fatalf("taken, and the library says %v", err)
			}
			sameAsStandardLibrary(t, &rows, string(payload))
		case std && strings.HasPrefix(fault, ReasonSchema) && !strings.Contains(fault, "64 bits"):
			if strings.Contains(fault, "occurs twice") {
				return
			}
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
			if err == nil && lib.Validate(v) == nil && !duplicates(payload) {
				t.Fatalf("%s, and the library takes it", fault)
			}
		case std && !strings.HasPrefix(fault, ReasonSchema):
			for _, why := range []string{"occurs twice", "surrogate", "inside one another", "larger than a double", ReasonEmpty, "1678 to 2262", "64 bits"} {
				if strings.Contains(fault, why) {
					return
				}
			}
			t.Fatalf("%s, and the standard library takes it", fault)
		}
	})
}

// duplicates reports whether some object has a key twice: the standard library
// then judges the last, the decoder the first.
func duplicates(payload []byte) bool {
	s := scanner{b: payload}
	return s.skip(s.space(0), 0) < 0
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(cardSchema))
	f.Add([]byte(orderSchema))
	f.Add([]byte(fuzzSchema))
	f.Add([]byte(`{"$id":"https://a/b","$defs":{"x":{"$anchor":"y","$ref":"#/$defs/x"}},"properties":{"v":{"$ref":"#y","anyOf":[{"type":"null"},{"enum":[1]}]}}}`))
	f.Fuzz(func(t *testing.T, schema []byte) {
		c, err := Parse("fuzzed", schema)
		if err != nil {
			if kindOf(err) != "config" {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		var fields []string
		for _, x := range c.Fields() {
			fields = append(fields, x.Path)
		}
		d, err := c.NewDecoder(Options{Fields: fields})
		if err != nil {
			t.Fatal(err)
		}
		var rows Rows
		decodeOne(d, `{"v":[1,{"a":"b"}],"id":1,"at":"2018-04-01T00:00:31","s":"x"}`, &rows)
	})
}
