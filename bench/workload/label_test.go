package workload

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

func labelled(t testing.TB, days int, delay time.Duration, tail bool) (events []Event) {
	t.Helper()
	l := NewLabelled(generator(t, CardFraud{Seed: 5, Customers: 300, Terminals: 3000, Days: days}), delay, tail)
	var e Event
	for l.Next(&e) {
		events = append(events, e)
	}
	return events
}

func TestLabelsComeWhenTheyAreKnownAndBeforePaymentsOfThatSecond(t *testing.T) {
	at := func(e *Event) int64 {
		if e.IsLabel {
			return e.Label.KnownAt
		}
		return e.Payment.Time
	}
	const day = 24 * time.Hour
	for _, delay := range []time.Duration{0, time.Second, 2 * day, LabelDelay} {
		events := labelled(t, 10, delay, true)
		var paid []Payment
		labels := 0
		for i := range events {
			e := &events[i]
			if i > 0 && at(e) < at(&events[i-1]) {
				t.Fatalf("delay %v: event %d is out of order: %+v after %+v", delay, i, *e, events[i-1])
			}
			if !e.IsLabel {
				paid = append(paid, e.Payment)
				if next := i + 1; delay > 0 && next < len(events) && events[next].IsLabel && at(&events[next]) == at(e) {
					t.Fatalf("delay %v: label %+v comes after a payment of its second", delay, events[next].Label)
				}
				continue
			}
			want := paid[labels].Label(delay)
			if e.Label != want || want.KnownAt != paid[labels].Time+int64(delay/time.Second) || want.Fraud != paid[labels].Fraud() {
				t.Fatalf("delay %v: label %d is %+v, expected %+v", delay, labels, e.Label, want)
			}
			labels++
		}
		if labels != len(paid) || labels == 0 {
			t.Errorf("delay %v: %d labels for %d payments", delay, labels, len(paid))
		}
		cut := labelled(t, 10, delay, false)
		end := len(events) - 1
		for ; events[end].IsLabel; end-- {
			continue
		}
		if d := gocmp.Diff(events[:end+1], cut); d != "" {
			t.Errorf("delay %v: without the tail, other events come:\n%s", delay, d)
		}
	}
}

func TestPaymentsAreTheSameWithLabels(t *testing.T) {
	var with []Payment
	for _, e := range labelled(t, 9, LabelDelay, false) {
		if !e.IsLabel {
			with = append(with, e.Payment)
		}
	}
	g := generator(t, CardFraud{Seed: 5, Customers: 300, Terminals: 3000, Days: 9})
	var p Payment
	for i := 0; g.Next(&p); i++ {
		if i >= len(with) || with[i] != p {
			t.Fatalf("payment %d differs", i)
		}
	}
}

// TestTerminalRiskTellsFrauds holds that the payments carry what terminal features
// are for: a payment at a terminal with known frauds of late is far likelier a fraud.
func TestTerminalRiskTellsFrauds(t *testing.T) {
	l := NewLabelled(generator(t, CardFraud{Seed: 2, Customers: 2000, Terminals: 4000, Days: 45}), LabelDelay, false)
	lastFraud := map[int32]int64{}
	var e Event
	var n, frauds [2]float64
	for l.Next(&e) {
		switch {
		case e.IsLabel:
			if e.Label.Fraud {
				lastFraud[e.Label.Terminal] = e.Label.KnownAt
			}
		default:
			risky := 0
			if at, ok := lastFraud[e.Payment.Terminal]; ok && e.Payment.Time-at < 7*86400 {
				risky = 1
			}
			n[risky]++
			if e.Payment.Fraud() {
				frauds[risky]++
			}
		}
	}
	calm, risky := frauds[0]/n[0], frauds[1]/n[1]
	t.Logf("%.2f %% of the payments are frauds, and %.2f %% of the %.0f at terminals with frauds known in the last week", 100*calm, 100*risky, n[1])
	if risky < 10*calm || n[1] < 100 {
		t.Error("terminals with known frauds are hardly riskier than others")
	}
}

func TestLabelAsJSONAndCSVFitsItsContract(t *testing.T) {
	l := Label{Payment: 12, KnownAt: 1523145631, Terminal: 3156, Fraud: true}
	const want = `{"label_id":"12-1","transaction_id":12,"terminal_id":3156,"fraud":1,"known_at":"2018-04-08T00:00:31"}`
	got := l.AppendJSON(nil)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var m map[string]any
	if err := json.Unmarshal(got, &m); err != nil {
		t.Fatal(err)
	}
	row, err := csv.NewReader(bytes.NewReader(l.AppendCSV(nil))).Read()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range LabelColumns() {
		switch v := m[c].(type) {
		case string:
			if v != row[i] {
				t.Errorf("%s: JSON %q, CSV %q", c, v, row[i])
			}
		case float64:
			if strconv.FormatFloat(v, 'f', -1, 64) != row[i] {
				t.Errorf("%s: JSON %v, CSV %q", c, v, row[i])
			}
		}
	}
	c, err := contract.Load("../../examples/card-fraud/contracts/fraud-label.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "label_id" || c.Key != "terminal_id" || c.Time.Field != "known_at" {
		t.Errorf("id %q, key %q, time %q", c.ID, c.Key, c.Time.Field)
	}
	d, err := c.NewDecoder(contract.Options{Fields: []string{"transaction_id", "fraud"}})
	if err != nil {
		t.Fatal(err)
	}
	var rows contract.Rows
	d.Decode([]event.Record{{Value: got}}, &rows)
	if rows.N != 1 || rows.ID[0] != "12-1" || rows.Key[0] != "3156" || rows.Time[0] != l.KnownAt*1e9 || rows.Columns[0].Ints[0] != 12 || rows.Columns[1].Ints[0] != 1 {
		t.Errorf("the contract reads the label as %+v", rows)
	}
}

func TestPaymentsAndLabelsOfFiles(t *testing.T) {
	dir := t.TempDir()
	g := generator(t, CardFraud{Seed: 4, Customers: 2000, Terminals: 4000, Days: 2})
	head := strings.ToUpper(strings.Join(Columns(), ",")) + "\n"
	var want, p = []Payment{}, Payment{}
	files := [2][]byte{[]byte(head), []byte(head)}
	for g.Next(&p) {
		want = append(want, p)
	}
	// Within a second the lines of the public files are in any order.
	lines := slices.Clone(want)
	slices.SortStableFunc(lines, func(a, b Payment) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(b.ID, a.ID))
	})
	for i := range lines {
		day := int(lines[i].Time / 86400 % 2)
		files[day] = lines[i].AppendCSV(files[day])
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(files[1]); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	plain, packed := filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv.gz")
	if err := os.WriteFile(plain, files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadPayments(packed, plain)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Fatalf("read otherwise than written:\n%s", d)
	}
	var out bytes.Buffer
	if err := WriteLabels(&out, got, LabelDelay); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(want)+1 || !slices.Equal(rows[0], LabelColumns()) {
		t.Fatalf("%d rows under %q", len(rows), rows[0])
	}
	for i, r := range rows[1:] {
		l := want[i].Label(LabelDelay)
		if s := strings.Join(r, ",") + "\n"; s != string(l.AppendCSV(nil)) {
			t.Fatalf("label %d is %s", i, s)
		}
	}
}

func TestFilesThatAreNoPaymentsAreRefused(t *testing.T) {
	head := strings.Join(Columns(), ",") + "\n"
	for name, text := range map[string]string{
		"empty":           "",
		"other header":    "id,time\n",
		"no time":         head + "1,yesterday,1,1,5.00,0,0\n",
		"no number":       head + "1,2018-04-01T00:00:31,one,1,5.00,0,0\n",
		"no amount":       head + "1,2018-04-01T00:00:31,1,1,NaN,0,0\n",
		"no label":        head + "1,2018-04-01T00:00:31,1,1,5.00,2,0\n",
		"another label":   head + "1,2018-04-01T00:00:31,1,1,5.00,0,3\n",
		"missing column":  head + "1,2018-04-01T00:00:31,1,1,5.00,0\n",
		"great number":    head + "1,2018-04-01T00:00:31,4294967296,1,5.00,0,0\n",
		"infinite amount": head + "1,2018-04-01T00:00:31,1,1,+Inf,0,0\n",
	} {
		path := filepath.Join(t.TempDir(), "payments.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := ReadPayments(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestLabelledAllocatesNothingOnceItsQueueHasGrown(t *testing.T) {
	l := NewLabelled(generator(t, CardFraud{Seed: 1, Customers: 500, Terminals: 1000}), 24*time.Hour, false)
	var e Event
	var buf []byte
	step := func() {
		for range 1000 {
			l.Next(&e)
			if e.IsLabel {
				buf = e.Label.AppendJSON(buf[:0])
			}
		}
	}
	for range 40 {
		step()
	}
	// A day's frauds are counted ahead in slices of their own; a day is about 900 payments.
	if a := testing.AllocsPerRun(20, step); a > 200 {
		t.Errorf("%v allocations for 1,000 events", a)
	}
}
