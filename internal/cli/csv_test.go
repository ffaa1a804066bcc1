package cli

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestCSVLineIsCutIntoFields(t *testing.T) {
	for in, want := range map[string][]string{
		`a,b,c`:         {"a", "b", "c"},
		``:              {""},
		`,`:             {"", ""},
		`a,"b,c",d`:     {"a", "b,c", "d"},
		`"a""b",""""`:   {`a"b`, `"`},
		`"",x`:          {"", "x"},
		`"a""b""c"`:     {`a"b"c`},
		`é,"日,本"`:       {"é", "日,本"},
		`x, y ,z`:       {"x", " y ", "z"},
		`a"b,c`:         nil,
		`"a"b,c`:        nil,
		`"a`:            nil,
		`"a""`:          nil,
		`x,"`:           nil,
		`{"a":1,"b":2}`: nil,
	} {
		fields, err := splitCSV(nil, []byte(in))
		var got []string
		for _, f := range fields {
			got = append(got, string(f))
		}
		if want == nil {
			if err == nil {
				t.Errorf("%s: accepted as %q", in, got)
			}
			continue
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: got %q, %v; expected %q", in, got, err, want)
		}
	}
}

func TestCSVValuesTakeTheTypesOfTheContract(t *testing.T) {
	types := map[string]fieldType{"i": typeInteger, "n": typeNumber, "b": typeBoolean, "s": typeString, "sn": typeString | typeNumber}
	for _, c := range []struct{ header, line, want string }{
		{"i,n,b,s", "1,2.50,true,3", `{"i":1,"n":2.50,"b":true,"s":"3"}`},
		{"i,n,b,s", "-0,1e3,FALSE,", `{"i":-0,"n":1e3,"b":false,"s":""}`},
		{"i,n,b,s", "1.5,.5,1,x", `{"i":"1.5","n":".5","b":"1","s":"x"}`},
		{"i,n,b", "01,+1,yes", `{"i":"01","n":"+1","b":"yes"}`},
		{"i,n,b", "0x10,NaN,", `{"i":"0x10","n":"NaN"}`},
		{"i,n,b", ",,", `{}`},
		{"sn,sn2", "1,a", `{"sn":1,"sn2":"a"}`},
		{"u,v,w,x", `12,1.5,ab,`, `{"u":12,"v":1.5,"w":"ab","x":""}`},
		{"u,v,w", `007,1 ,"a""b\c"`, `{"u":"007","v":"1 ","w":"a\"b\\c"}`},
		{"i", "99999999999999999999", `{"i":99999999999999999999}`},
	} {
		columns, err := csvHeader([]byte(c.header), types)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := splitCSV(nil, []byte(c.line))
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendCSV(nil, columns, fields)
		if err != nil || string(got) != c.want || !json.Valid(got) {
			t.Errorf("%s: got %s, %v; expected %s", c.line, got, err, c.want)
		}
	}
	columns, err := csvHeader([]byte("a,b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendCSV(nil, columns, [][]byte{[]byte("1")}); err == nil {
		t.Error("a line with too few fields is accepted")
	}
}

func TestFaultyCSVHeaderIsRefused(t *testing.T) {
	for _, h := range []string{"a,a", "a,,b", "", `a,"b`, "a,\xff"} {
		if _, err := csvHeader([]byte(h), nil); err == nil {
			t.Errorf("%q: accepted", h)
		}
	}
}

// FuzzCSV holds the splitter to the standard library's reader, and its objects to JSON.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{`a,b`, `"a""b",c`, `"a"b`, "\xff,1", `a,"b`, ` "x"`, "\t\x00,\"\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\r\n") {
			return
		}
		fields, err := splitCSV(nil, []byte(line))
		r := csv.NewReader(strings.NewReader(line + "\n"))
		want, werr := r.Read()
		if line == "" {
			want, werr = []string{""}, nil
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: got error %v, the standard library %v", line, err, werr)
		}
		if err != nil {
			return
		}
		columns := make([]csvColumn, len(fields))
		for i, f := range fields {
			if string(f) != want[i] {
				t.Fatalf("%q: field %d is %q, the standard library has %q", line, i, f, want[i])
			}
			columns[i] = csvColumn{label: []byte(`"` + strings.Repeat("x", i+1) + `":`), typ: fieldType(i % 16)}
		}
		obj, err := appendCSV(nil, columns, fields)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(line) && !json.Valid(obj) {
			t.Fatalf("%q: not JSON: %s", line, obj)
		}
	})
}
