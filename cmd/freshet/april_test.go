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
// them through the example's pipeline, compares every feature with a batch
// computation, and does it again with five kills.
func TestAprilsPayments(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: 288,062 payments, three times")
	}
	shared := sharedData(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "april.csv")
	good := aprilWithCorruptLines(t, shared, file)

	calm := filepath.Join(dir, "calm")
	freshet(t, calm, "produce", "--pipeline", pipelineFile, file)
	began := time.Now()
	freshet(t, calm, "run", pipelineFile, "--until-idle", "--listen", "off")
	took := time.Since(began)
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

	t.Run("with five kills", func(t *testing.T) {
		killed := filepath.Join(dir, "killed")
		freshet(t, killed, "produce", "--pipeline", pipelineFile, file)
		const kills = 5
		killRuns(t, killed, kills, took)
		if n := len(consume(t, killed, "scored-transactions")); n == 0 || n >= good {
			t.Errorf("after the last kill %d of %d payments are scored: the kills did not fall into the work", n, good)
		}
		freshet(t, killed, "run", pipelineFile, "--until-idle", "--listen", "off")
		sameResults(t, want, consume(t, killed, "scored-transactions"))
		sameLetters(t, letters, consume(t, killed, "card-fraud-dead-letters"))
		fmt.Printf("April's payments, killed %d times: same ids and features, 0 duplicates\n", kills)
	})
}

// killRuns starts the pipeline so many times and kills it at random moments,
// together within the time that an undisturbed run takes, so that no run ends by itself.
func killRuns(t testing.TB, data string, kills int, calm time.Duration) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	share := calm / time.Duration(kills)
	for k := range kills {
		cmd := command(t, data, "run", pipelineFile, "--until-idle", "--listen", "off", "--log-level", "error")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			t.Fatalf("run %d ended before it was killed: %v", k+1, err)
		case <-time.After(share/2 + time.Duration(r.Int64N(int64(share)/2))):
			cmd.Process.Kill()
			<-ended
		}
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
