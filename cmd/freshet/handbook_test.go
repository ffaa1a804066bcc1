package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
)

const labelContract = "../../examples/card-fraud/contracts/fraud-label.schema.json"

// handbookNames are the handbook's features in the order of the reference's
// checksums, each mean or share behind the count that it is over.
var handbookNames = [...]string{
	"weekend", "night",
	"customer_tx_1d", "customer_amount_1d", "customer_tx_7d", "customer_amount_7d", "customer_tx_30d", "customer_amount_30d",
	"terminal_tx_1d", "terminal_risk_1d", "terminal_tx_7d", "terminal_risk_7d", "terminal_tx_30d", "terminal_risk_30d",
}

// TestEveryFeatureOfTheHandbookIsTheReferences sends all public payments there
// are, with their labels as a stream that is seven days behind, through the
// example's pipeline on four partitions, and compares the exact features of
// every payment with the reference's checksums, day by day.
func TestEveryFeatureOfTheHandbookIsTheReferences(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 1.2 million payments")
	}
	shared := sharedData(t)
	files, err := filepath.Glob(filepath.Join(shared, "card-fraud", "transactions_*.csv.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payments: %v", err)
	}
	payments, err := workload.ReadPayments(files...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	labels := writeLabels(t, filepath.Join(dir, "labels.csv"), payments)
	data := filepath.Join(dir, "data")
	freshet(t, data, append([]string{"produce", "--pipeline", pipelineFile}, files...)...)
	freshet(t, data, "produce", "fraud-labels", labels, "--contract", labelContract)
	began := time.Now()
	freshet(t, data, "run", pipelineFile, "--until-idle", "--listen", "off")
	t.Logf("%d payments in %v", len(payments), time.Since(began).Round(time.Millisecond))
	got := exactFeatures(t, data, payments)
	equal, compared := compareDays(t, shared, payments, got)
	fmt.Printf("the handbook's features: %d of %d days equal the reference's checksums\n", equal, compared)
	if equal != compared || compared == 0 {
		t.Errorf("%d of %d days equal", equal, compared)
	}
}

func writeLabels(t testing.TB, path string, payments []workload.Payment) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := workload.WriteLabels(w, payments, workload.LabelDelay); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// exact are a payment's features as integers: of a mean amount the sum in
// cents, of a risk the number of frauds.
type exact [len(handbookNames)]int64

// exactFeatures reads the results, of which every payment has to have one.
func exactFeatures(t testing.TB, data string, payments []workload.Payment) map[int64]exact {
	t.Helper()
	out := make(map[int64]exact, len(payments))
	cmd := command(t, data, "consume", "scored-transactions", "--output", "json")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(pipe)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		id, x := parseExact(t, sc.Text())
		if _, twice := out[id]; twice {
			t.Errorf("payment %d has two results", id)
		}
		out[id] = x
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(out) != len(payments) {
		t.Fatalf("%d results of %d payments", len(out), len(payments))
	}
	return out
}

// parseExact reads a result line; there are too many for a general parser.
func parseExact(t testing.TB, line string) (id int64, x exact) {
	_, rest, ok := strings.Cut(line, `"source_id":"`)
	text, rest, ok2 := strings.Cut(rest, `"`)
	_, rest, ok3 := strings.Cut(rest, `"features":{`)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("not a result: %s", line)
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var v [len(handbookNames)]float64
	for i, name := range handbookNames {
		_, from, ok := strings.Cut(rest, `"`+name+`":`)
		end := strings.IndexAny(from, ",}")
		if !ok || end < 0 {
			t.Fatalf("no %s in %s", name, line)
		}
		if v[i], err = strconv.ParseFloat(from[:end], 64); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	for i, f := range v {
		switch {
		case i >= 2 && i < 8 && i%2 == 1: // a mean
			f *= 100 * v[i-1]
		case i >= 8 && i%2 == 1: // a share
			f *= v[i-1]
		}
		x[i] = int64(math.Round(f))
	}
	return id, x
}

// compareDays counts the days whose checksum equals the reference's.
func compareDays(t testing.TB, shared string, payments []workload.Payment, got map[int64]exact) (equal, compared int) {
	t.Helper()
	want := map[string]string{}
	f, err := os.Open(filepath.Join(shared, "card-fraud", "reference", "daily_checksums.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		want[r[0]] = r[len(r)-1]
	}
	for i := 0; i < len(payments); {
		day := time.Unix(payments[i].Time, 0).UTC().Format(time.DateOnly)
		h := sha256.New()
		for ; i < len(payments) && time.Unix(payments[i].Time, 0).UTC().Format(time.DateOnly) == day; i++ {
			writeExact(h, payments[i].ID, got[payments[i].ID])
		}
		sum, ok := want[day]
		if !ok {
			continue
		}
		if compared++; hex.EncodeToString(h.Sum(nil)) == sum {
			equal++
		} else if compared-equal <= 5 {
			t.Errorf("%s differs", day)
		}
	}
	return equal, compared
}

func writeExact(w io.Writer, id int64, x exact) {
	b := strconv.AppendInt(nil, id, 10)
	for _, v := range x {
		b = strconv.AppendInt(append(b, ','), v, 10)
	}
	w.Write(append(b, '\n'))
}
