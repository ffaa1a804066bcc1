package contract

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet-io/freshet/event"
)

var update = flag.Bool("update", false, "rewrite the expected results in testdata")

// library compiles a schema with the complete validator alone.
func library(t testing.TB, schema string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("mem://schema", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem://schema")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// agrees compares a decoder's verdict with the library's. Faults other than
// "schema" are about the text, which the library does not see.
func agrees(t testing.TB, lib *jsonschema.Schema, payload, fault string) {
	t.Helper()
	if fault != "" && !strings.HasPrefix(fault, ReasonSchema+":") {
		return
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(payload))
	if err != nil {
		t.Errorf("%s: taken, and the standard library says %v", payload, err)
		return
	}
	err = lib.Validate(v)
	if _, object := v.(map[string]any); !object {
		if fault == "" {
			t.Errorf("%s: not an object, and taken", payload)
		}
	} else if (err == nil) != (fault == "") {
		t.Errorf("%s: the decoder says %q, the library %v", payload, fault, err)
	}
}

// TestKeywords holds what every keyword allows and how its faults read
// (testdata/keywords.txt), and that the complete validator agrees.
func TestKeywords(t *testing.T) {
	const file = "testdata/keywords.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	var d *Decoder
	var lib *jsonschema.Schema
	var rows Rows
	used := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		schema, isSchema := strings.CutPrefix(line, "schema ")
		switch {
		case strings.HasPrefix(line, "=> "):
			continue
		case isSchema:
			d, lib = mustDecoder(t, mustParse(t, schema), Options{}), library(t, schema)
			for k := range keywords() {
				used[k] = used[k] || strings.Contains(schema, `"`+k+`":`)
			}
		}
		got.WriteString(line)
		got.WriteByte('\n')
		if line == "" || line[0] == '#' || isSchema {
			continue
		}
		fault := decodeOne(d, line, &rows)
		agrees(t, lib, line, fault)
		if fault == "" {
			fault = "ok"
		}
		got.WriteString("=> " + fault + "\n")
	}
	for k, c := range keywords() {
		if c != annotates && !used[k] && k != "minContains" {
			t.Errorf("no case for the keyword %s", k)
		}
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(text), got.String()); diff != "" && !*update {
		t.Errorf("%s differs (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

// TestContractFaults holds how every fault of a contract's file reads.
func TestContractFaults(t *testing.T) {
	const file = "testdata/faults.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "=> ") {
			continue
		}
		got.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if _, err := Parse("c.json", []byte(strings.ReplaceAll(line, "⏎", "\n"))); err != nil {
			if kindOf(err) != "config" {
				t.Errorf("%s: kind of %v", line, err)
			}
			got.WriteString("=> " + err.Error() + "\n")
		} else {
			got.WriteString("=> taken\n")
		}
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(text), got.String()); diff != "" && !*update {
		t.Errorf("%s differs (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

func TestRunsMatchAsTheRegularExpressionDoes(t *testing.T) {
	for _, p := range []string{`^[A-Z]{3}$`, `^\d+$`, `^a?b*c+$`, `^[a-z]+-\d{2,}$`, `^ab{2}c$`, `^x\.y$`, `^[0-9]{1,3}[a-f]?z$`} {
		m, err := newMatcher(p)
		if err != nil || m.runs == nil {
			t.Fatalf("%s is not taken apart: %v", p, err)
		}
		words := []string{""}
		for range 6 {
			var longer []string
			for _, w := range words[max(0, len(words)-2000):] {
				for _, c := range []string{"A", "Z", "a", "b", "c", "x", "y", "z", "1", "-", ".", "é"} {
					longer = append(longer, w+c)
				}
			}
			words = append(words, longer...)
			if len(words) > 20000 {
				break
			}
		}
		for _, w := range words {
			if m.match(w) != m.regex.MatchString(w) {
				t.Fatalf("%s on %q: %v", p, w, m.match(w))
			}
		}
	}
	for _, p := range []string{`^a+a$`, `^a*b?a$`, `^\w+\d$`, `a$`, `^a`, `^é$`, `(?i)^a1$`, `^[^a]$`, `^(ab)+$`, `^a|b$`, `(?m)^ab$`} {
		if m, err := newMatcher(p); err != nil || m.runs != nil {
			t.Errorf("%s is taken apart, %v", p, err)
		}
	}
}

// TestPropertyOrderDoesNotMatter decodes the same event with its members in
// every order, which the decoder's guesses must survive.
func TestPropertyOrderDoesNotMatter(t *testing.T) {
	d := mustDecoder(t, mustParse(t, `{"required":["a","b","c"],"properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}}}`), Options{Fields: []string{"a", "b", "c"}})
	members := []string{`"a":1`, `"b":2`, `"c":3`, `"x":[{"a":9}]`, `"\u0061b":4`}
	var recs []event.Record
	var permute func(k int)
	permute = func(k int) {
		if k == len(members) {
			recs = append(recs, event.Record{Value: []byte("{" + strings.Join(members, ",") + "}")})
			return
		}
		for i := k; i < len(members); i++ {
			members[k], members[i] = members[i], members[k]
			permute(k + 1)
			members[k], members[i] = members[i], members[k]
		}
	}
	permute(0)
	var rows Rows
	d.Decode(recs, &rows)
	if rows.N != 120 {
		t.Fatal(rows.Faults)
	}
	for i := range rows.N {
		if rows.Columns[0].Ints[i] != 1 || rows.Columns[1].Ints[i] != 2 || rows.Columns[2].Ints[i] != 3 {
			t.Fatalf("%s: %v", recs[i].Value, table(&rows)[i])
		}
	}
}

// TestReferencesThatMultiplyAreBounded compiles a schema whose references unfold to
// 2^24 schemas.
func TestReferencesThatMultiplyAreBounded(t *testing.T) {
	var defs []string
	for i := range 24 {
		defs = append(defs, fmt.Sprintf(`"d%d":{"properties":{"a":{"$ref":"#/$defs/d%d"},"b":{"$ref":"#/$defs/d%d"}}}`, i, i+1, i+1))
	}
	schema := `{"properties":{"v":{"$ref":"#/$defs/d0"}},"$defs":{` + strings.Join(defs, ",") + `,"d24":{"type":"integer"}}}`
	d, lib := mustDecoder(t, mustParse(t, schema), Options{}), library(t, schema)
	var rows Rows
	for _, leaf := range []string{"1", `"x"`} {
		payload := `{"v":` + strings.Repeat(`{"b":`, 24) + leaf + strings.Repeat("}", 25)
		agrees(t, lib, payload, decodeOne(d, payload, &rows))
	}
}
