package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
)

const corruptLines = 300

// aprilWithCorruptLines writes the public payments of April 2018 with corrupt
// lines mixed in, and returns how many good lines there are.
func aprilWithCorruptLines(t testing.TB, shared, path string) (good int) {
	t.Helper()
	in := openGzip(t, filepath.Join(shared, "card-fraud", "transactions_2018-04.csv.gz"))
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(out)
	at := map[int]bool{}
	r := rand.New(rand.NewPCG(7, 7))
	for len(at) < corruptLines {
		at[1+r.IntN(288062)] = true
	}
	sc := bufio.NewScanner(in)
	n, bad := 0, 0
	for ; sc.Scan(); n++ {
		if at[n] {
			fmt.Fprintln(w, corruptLine(bad))
			bad++
		}
		w.Write(sc.Bytes())
		w.WriteByte('\n')
	}
	if err := errors.Join(sc.Err(), w.Flush(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return n - 1
}

func openGzip(t testing.TB, path string) io.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// reference reads the features that a batch computation gave, by transaction id.
func reference(t testing.TB, shared string, rows int) map[string][]float64 {
	t.Helper()
	r := csv.NewReader(openGzip(t, filepath.Join(shared, "card-fraud", "reference", "ref_features_2018-04_06.csv.gz")))
	r.ReuseRecord = true
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	ref := make(map[string][]float64, rows)
	for range rows {
		rec, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float64, 8)
		for i := range v {
			if v[i], err = strconv.ParseFloat(rec[i+1], 64); err != nil {
				t.Fatal(err)
			}
		}
		ref[strings.Clone(rec[0])] = v
	}
	return ref
}

// referenceNames are the features in the order of the reference's columns.
var referenceNames = [...]string{
	"weekend", "night", "customer_tx_1d", "customer_amount_1d",
	"customer_tx_7d", "customer_amount_7d", "customer_tx_30d", "customer_amount_30d",
}

// TestAprilsPayments sends a month of public payments with corrupt lines among
// them, and their labels, through the example's pipeline, compares every feature
// with a batch computation, and does it again with ten kills and a move to an
// empty disk.
func TestAprilsPayments(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 288,062 payments, three times")
	}
	shared := sharedData(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "april.csv")
	good := aprilWithCorruptLines(t, shared, file)
	payments, err := workload.ReadPayments(filepath.Join(shared, "card-fraud", "transactions_2018-04.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	labels := writeLabels(t, filepath.Join(dir, "labels.csv"), payments)
	produce := func(data string) {
		freshet(t, data, "produce", "--pipeline", pipelineFile, file)
		freshet(t, data, "produce", "fraud-labels", labels, "--contract", labelContract)
	}

	calm := filepath.Join(dir, "calm")
	produce(calm)
	freshet(t, calm, "run", pipelineFile, "--until-idle", "--listen", "off")
	want := consume(t, calm, "scored-transactions")
	letters := consume(t, calm, "card-fraud-dead-letters")
	if len(want) != good || len(letters) != corruptLines {
		t.Fatalf("%d payments and %d corrupt lines gave %d predictions and %d dead letters", good, corruptLines, len(want), len(letters))
	}
	for _, l := range letters {
		if l.Reason == "" || l.Step != "validate" || l.Attempts != 1 || l.Origin.Topic != "transactions" || l.Payload == "" {
			t.Fatalf("a dead letter without its account: %s", l.line)
		}
	}
	ref := reference(t, shared, good)
	wrong := 0
	for _, r := range want {
		f, ok := ref[r.SourceID]
		if !ok {
			t.Fatalf("no payment %q in the reference", r.SourceID)
		}
		for i, name := range referenceNames {
			got, there := r.Features[name]
			exact := i != 3 && i != 5 && i != 7
			if !there || exact && got != f[i] || !exact && math.Abs(got-f[i]) > 1e-5*math.Abs(f[i]) {
				if wrong++; wrong <= 5 {
					t.Errorf("payment %s: %s is %v, not %v", r.SourceID, name, got, f[i])
				}
			}
		}
	}
	fmt.Printf("April's payments: %d of %d feature values equal the batch computation's\n", len(want)*len(referenceNames)-wrong, len(want)*len(referenceNames))

	t.Run("with ten kills and a move", func(t *testing.T) {
		const kills = 10
		store := filepath.Join(dir, "checkpoints")
		first, second := withState(t, filepath.Join(dir, "first"), store), withState(t, filepath.Join(dir, "second"), store)
		killed, moved := filepath.Join(dir, "killed"), filepath.Join(dir, "moved")
		produce(killed)
		killRuns(t, killed, first, kills/2, good/(kills+4))
		scored := len(consume(t, killed, "scored-transactions"))
		if scored == 0 || scored >= good {
			t.Errorf("before the move %d of %d payments are scored: it did not fall into the work", scored, good)
		}
		moveToEmptyDisk(t, killed, moved, first)
		if out, err := command(t, moved, "run", pipelineFile, "--until-idle", "--listen", "off").CombinedOutput(); err == nil {
			t.Errorf("the state was there without the checkpoints: the move shows nothing")
		} else if !strings.Contains(string(out), "checkpoint") {
			t.Errorf("a run without the checkpoints says %s", out)
		}
		killRuns(t, moved, second, kills/2, good/(kills+4))
		last := len(consume(t, moved, "scored-transactions"))
		if last <= scored || last >= good {
			t.Errorf("after the last kill %d of %d payments are scored, and %d were before the move: the kills did not fall into the work", last, good, scored)
		}
		freshet(t, moved, "run", second, "--until-idle", "--listen", "off")
		sameResults(t, want, consume(t, moved, "scored-transactions"))
		sameLetters(t, letters, consume(t, moved, "card-fraud-dead-letters"))
		fmt.Printf("April's payments, killed %d times, moved to an empty disk at %d and killed last at %d of %d: same ids, features and scores, 0 duplicates\n", kills, scored, last, good)
	})
}

// stateSection is what the kills add to the example: state that memory does not
// hold, and checkpoints.
const stateSection = `
state: {store: pebble, memory: 20MiB, checkpoints: "file://%s", every: 50ms}
`

// withState copies the example to a folder of its own, with checkpoints in a
// store, and returns the pipeline's file.
func withState(t testing.TB, folder, store string) (file string) {
	t.Helper()
	if err := os.CopyFS(folder, os.DirFS(filepath.Dir(pipelineFile))); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(folder, filepath.Base(pipelineFile))
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, stateSection, store)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

// moveToEmptyDisk makes the next process one on another machine: of what the
// first one had there is only the broker. Its files and its local state are gone.
func moveToEmptyDisk(t testing.TB, from, to, pipeline string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(to, "local-state")
	if !isDir(local) {
		t.Error("there was no local state to lose")
	}
	if err := errors.Join(os.RemoveAll(local), os.RemoveAll(filepath.Dir(pipeline))); err != nil {
		t.Fatal(err)
	}
}

// killRuns starts a pipeline so many times, and kills each run when it has made
// some number of predictions, at random below most.
func killRuns(t testing.TB, data, pipeline string, kills, most int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for range kills {
		url, kill := serve(t, data, pipeline)
		at := r.IntN(most)
		within(t, 30*time.Second, "predictions to kill at", func() bool {
			return metric(t, url, "freshet_predictions_total") >= float64(at)
		})
		kill()
	}
}

// sameResults compares two sets of results: ids, and every byte of each.
func sameResults(t testing.TB, want, got []result) {
	t.Helper()
	w, g := byID(t, want), byID(t, got)
	differ := 0
	for id, r := range w {
		if g[id].line != r.line {
			if differ++; differ <= 3 {
				t.Errorf("result %s\n is  %s\n not %s", id, g[id].line, r.line)
			}
		}
	}
	if len(g) != len(w) || len(got) != len(want) || differ > 0 {
		t.Errorf("%d results (%d ids) instead of %d, %d of them different", len(got), len(g), len(w), differ)
	}
}

// sameLetters compares two sets of dead letters by payload and reason: where an
// event without a key lies, and when it arrived, is another matter each time.
func sameLetters(t testing.TB, want, got []result) {
	t.Helper()
	byID(t, got)
	left := map[string]int{}
	for _, l := range want {
		left[l.Reason+" "+l.Payload]++
	}
	for _, l := range got {
		left[l.Reason+" "+l.Payload]--
	}
	for l, n := range left {
		if n != 0 {
			t.Errorf("%d dead letters too few: %s", n, l)
		}
	}
}
