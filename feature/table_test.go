package feature

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func writeTable(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	data := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	merchantsCSV  = "id,risk,zip,vip,name\nm1,0.5,08001,true,Ann\nm2,,12345,false,\"Bo, b\"\n007,-1e3,1,,\n"
	merchantsJSON = "[\n {\"id\": \"m1\", \"risk\": 0.5, \"zip\": \"08001\", \"vip\": true, \"name\": \"Ann\"},\n" +
		" {\"id\": \"m2\", \"zip\": \"12345\", \"vip\": false, \"name\": \"Bo, b\"},\n" +
		" {\"id\": \"007\", \"risk\": -1e3, \"zip\": 1, \"name\": null}]\n"
)

func TestTableLooksUpTypedColumns(t *testing.T) {
	lines := strings.NewReplacer("[\n", "", "]", "", "},", "}").Replace(merchantsJSON)
	for name, text := range map[string]string{
		"m.csv": merchantsCSV, "m.csv.gz": merchantsCSV, "bom.csv": "\ufeff" + merchantsCSV,
		"m.json": merchantsJSON, "m.ndjson": lines, "m.jsonl.gz": lines,
	} {
		t.Run(name, func(t *testing.T) {
			table, err := LoadTable(writeTable(t, name, text), "id", []string{"risk", "zip", "vip", "name"})
			if err != nil {
				t.Fatal(err)
			}
			want := []Field{{"risk", event.Float}, {"zip", event.String}, {"vip", event.Bool}, {"name", event.String}}
			if diff := cmp.Diff(want, table.Fields()); diff != "" {
				t.Fatal(diff)
			}
			out := []*event.Column{{}, {}, {}, {}}
			table.Lookup([]string{"m2", "nobody", "m1", "007", "m1"}, 4, out)
			var got [][]any
			for i := range 4 {
				got = append(got, []any{cell(out[0], i), cell(out[1], i), cell(out[2], i), cell(out[3], i)})
			}
			rows := [][]any{
				{nil, "12345", false, "Bo, b"},
				{nil, nil, nil, nil},
				{0.5, "08001", true, "Ann"},
				{-1000.0, "1", nil, nil},
			}
			if diff := cmp.Diff(rows, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestTableKeepsAllColumnsUnlessTold(t *testing.T) {
	table, err := LoadTable(writeTable(t, "m.csv", merchantsCSV), "zip", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Fields(); len(got) != 4 || got[0].Name != "id" || table.Len() != 3 {
		t.Fatalf("got %v, %d rows", got, table.Len())
	}
}

func TestTableFaultsNameFileAndLine(t *testing.T) {
	cases := []struct{ name, file, text, key, field, want string }{
		{"duplicate key", "a.csv", "id,x\na,1\nb,2\na,3\n", "id", "x", `a.csv:4: key "a" was given on line 2 already`},
		{"duplicate key in json", "a.json", "[{\"id\":1,\"x\":1},\n\n {\"id\":1,\"x\":2}]", "id", "x", `a.json:3: key "1" was given on line 1 already`},
		{"no key column", "a.csv", "id,x\n", "key", "x", `no column "key": it has id, x`},
		{"no field column", "a.csv", "id,x\n", "id", "y", `no column "y": it has id, x`},
		{"null key", "a.csv", "id,x\n,1\n", "id", "x", `a.csv:2: no value for the key "id"`},
		{"ragged", "a.csv", "id,x\na\n", "id", "x", `line 2`},
		{"empty", "a.csv", "", "id", "x", `empty: want a header line`},
		{"repeated column", "a.csv", "id,x,x\n", "id", "x", `column "x" stands twice`},
		{"nested", "a.ndjson", "{\"id\":\"a\",\"x\":1}\n{\"id\":\"b\",\"x\":{}}\n", "id", "x", `a.ndjson:2: member "x" is an object or array`},
		{"not json", "a.json", "[{\"id\":\"a\",\"x\":1},\n oops]", "id", "x", `a.json:2: want an object`},
		{"cut", "a.json", "[{\"id\":\"a\",\"x\":1}", "id", "x", `a.json:1`},
		{"format", "a.parquet", "", "id", "x", `use .csv, .json, .ndjson or .jsonl`},
		{"not gz", "b.gz", "", "id", "x", ``},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := LoadTable(writeTable(t, c.file, c.text), c.key, []string{c.field})
			if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v: want %q", err, c.want)
			}
		})
	}
	if _, err := LoadTable(filepath.Join(t.TempDir(), "no.csv"), "id", nil); !errkind.Is(err, errkind.NotFound) {
		t.Fatalf("missing file: got %v", err)
	}
}
