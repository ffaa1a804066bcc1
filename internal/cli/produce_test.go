package cli

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testContract = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "x-freshet": {"version": "1.0.0", "id": "id", "key": "user", "time": {"field": "at", "lateness": "0s"}},
  "type": "object",
  "required": ["id", "user", "at"],
  "properties": {
    "id": {"type": "integer"}, "user": {"type": "string"}, "at": {"type": "string"},
    "amount": {"type": "number"}, "ok": {"type": "boolean"}
  }
}`

// lines sorts output by line: events of several partitions come in no fixed order.
func lines(s string) []string {
	l := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	sort.Strings(l)
	return l
}

func TestProducedEventsAreConsumedAsTheyWere(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := write(t, "events.jsonl", `{"id":1,"user":"a"}
{"id":2,"user":"b","x":[1, 2]}
not JSON at all

{"id":3,"user":"a"}
`)
	out := must(t, "", "produce", "clicks", file, "--id", "id", "--key", "user", "--data", data)
	if got := timeless(out); got != "sent 5 events to clicks (86 B in N s, N events/s)\n" && !strings.HasPrefix(got, "sent 5 events to clicks") {
		t.Errorf("summary: %s", got)
	}
	got := must(t, "", "consume", "clicks", "--data", data)
	want := []string{`{"data_base64":""}`, `{"data_base64":"bm90IEpTT04gYXQgYWxs"}`, `{"id":1,"user":"a"}`, `{"id":2,"user":"b","x":[1, 2]}`, `{"id":3,"user":"a"}`}
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Error(d)
	}
	if a, b := strings.Index(got, `"id":1`), strings.Index(got, `"id":3`); a > b {
		t.Error("events of one key changed their order")
	}
	// The same file again: everything is there already, unreadable lines too.
	again := must(t, "", "produce", "clicks", file, "--id", "id", "--key", "user", "--data", data, "-o", "json")
	var p produced
	if err := json.Unmarshal([]byte(again), &p); err != nil || p.Sent != 0 || p.Duplicates != 5 || p.Events != 5 {
		t.Errorf("sent again: %s (%v)", again, err)
	}
}

func TestCSVIsTypedByTheContractAndBrokenLinesAreSentAsTheyAre(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	contract := write(t, "c.schema.json", testContract)
	path := filepath.Join(t.TempDir(), "events.csv.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	fmt.Fprint(z, "id,user,at,amount,ok\n1,7,2026-01-01T00:00:00,1.50,true\nx,7,2026-01-01T00:00:00,,maybe\n2,8\n3,\"9,2026-01-01T00:00:00,1,true\n4,9,\xff,1,true\n")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "", "produce", "t", path, "--contract", contract, "--data", data)
	got := lines(must(t, "", "consume", "t", "--data", data))
	want := []string{
		`{"data_base64":"Miw4"}`,
		`{"data_base64":"MywiOSwyMDI2LTAxLTAxVDAwOjAwOjAwLDEsdHJ1ZQ=="}`,
		`{"data_base64":"NCw5LP8sMSx0cnVl"}`,
		`{"id":"x","user":"7","at":"2026-01-01T00:00:00","ok":"maybe"}`,
		`{"id":1,"user":"7","at":"2026-01-01T00:00:00","amount":1.50,"ok":true}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLineTooLongForTheBrokerIsReportedAndTheOthersAreSent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := write(t, "big.jsonl", "{\"id\":1}\n{\"id\":2,\"x\":\""+strings.Repeat("x", 20<<20)+"\"}\n{\"id\":3}\n")
	o := exec(t, "", "produce", "t", file, "--id", "id", "--data", data, "-o", "json")
	var p produced
	if err := json.Unmarshal([]byte(o.out), &p); err != nil {
		t.Fatalf("%v: %+v", err, o)
	}
	if o.code != exitFailed || p.Sent != 2 || p.Rejected != 1 || !strings.Contains(o.err, file+":2: line of 20.0 MiB not sent") {
		t.Errorf("code %d, %+v, standard error:\n%s", o.code, p, o.err)
	}
}

func TestGeneratedPaymentsCanBePrintedOrSent(t *testing.T) {
	golden(t, "generate", must(t, "", "produce", "--print", "--generate", "card-fraud", "--count", "3", "--seed", "5"))
	data := filepath.Join(t.TempDir(), "data")
	out := must(t, "", "produce", "t", "--generate", "card-fraud", "--count", "2500", "--data", data, "-o", "json")
	var p produced
	if err := json.Unmarshal([]byte(out), &p); err != nil || p.Sent != 2500 {
		t.Errorf("got %s (%v)", out, err)
	}
	if n := len(lines(must(t, "", "consume", "t", "--data", data))); n != 2500 {
		t.Errorf("%d events consumed", n)
	}
}

func TestWrongUsageMakesNoDataFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	exec(t, "", "produce", "t", "none.jsonl", "--data", data)
	exec(t, "", "produce", "t", "--generate", "card-fraud", "x", "--data", data)
	if _, err := os.Stat(data); err == nil {
		t.Error("the data folder was made")
	}
}

func TestRateIsKept(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	out := must(t, "", "produce", "t", "--generate", "card-fraud", "--count", "200", "--rate", "1000", "--data", data, "-o", "json")
	var p produced
	if err := json.Unmarshal([]byte(out), &p); err != nil || p.Seconds < 0.19 {
		t.Errorf("200 events at 1,000/s: %s (%v)", out, err)
	}
}

func TestCutGzipFileIsAnErrorAfterWhatCouldBeRead(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	var b strings.Builder
	z := gzip.NewWriter(&b)
	for i := range 2000 {
		fmt.Fprintf(z, "{\"id\":%d,\"r\":%d}\n", i, i*7919%10007)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := write(t, "cut.jsonl.gz", b.String()[:b.Len()*3/4])
	o := exec(t, "", "produce", "t", file, "--id", "id", "--data", data)
	if o.code != exitFailed || !strings.Contains(o.err, "cut.jsonl.gz: after line") || !strings.Contains(o.err, "unexpected EOF") {
		t.Errorf("code %d, standard error:\n%s", o.code, o.err)
	}
}
