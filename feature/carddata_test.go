package feature

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// cardData finds the folder with the card payments, or skips.
func cardData(t *testing.T) string {
	t.Helper()
	const want = "card-fraud/reference/ref_features_2018-04_06.csv.gz"
	dirs := []string{os.Getenv("FRESHET_SHARED_DATA")}
	if wd, err := os.Getwd(); err == nil {
		for d := wd; ; d = filepath.Dir(d) {
			dirs = append(dirs, filepath.Join(d, "shared", "data"))
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, want)); d != "" && err == nil {
			return filepath.Join(d, "card-fraud")
		}
	}
	const message = "NOT RUN: card payments are absent: set FRESHET_SHARED_DATA to the folder that holds " + want
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// eachRecord calls f with the fields of every line but the header.
func eachRecord(t *testing.T, path string, f func(fields []string) bool) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Scan()
	for lines.Scan() {
		if !f(strings.Split(lines.Text(), ",")) {
			return
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

type payment struct {
	id       int
	time     int64
	customer string
	amount   float64
}

func loadPayments(t *testing.T, dir string, months ...string) []payment {
	t.Helper()
	var all []payment
	for _, m := range months {
		eachRecord(t, filepath.Join(dir, "transactions_"+m+".csv.gz"), func(f []string) bool {
			id, err1 := strconv.Atoi(f[0])
			at, err2 := time.Parse("2006-01-02T15:04:05", f[1])
			amount, err3 := strconv.ParseFloat(f[4], 64)
			if err := cmp.Or(err1, err2, err3); err != nil {
				t.Fatalf("%v: %v", f, err)
			}
			all = append(all, payment{id, at.UnixNano(), f[2], amount})
			return true
		})
	}
	slices.SortFunc(all, func(a, b payment) int { return a.id - b.id })
	return all
}

func customerWindows() []Window {
	var ws []Window
	for _, days := range []time.Duration{1, 7, 30} {
		ws = append(ws,
			Window{Name: "tx", Aggregate: Count, Over: days * 24 * time.Hour},
			Window{Name: "amount", Aggregate: Mean, Field: "amount", Over: days * 24 * time.Hour})
	}
	return ws
}

// TestCardPaymentsEqualTheReference restarts from snapshot and deltas in the
// middle, so that it proves recovery on the same data.
func TestCardPaymentsEqualTheReference(t *testing.T) {
	dir := cardData(t)
	payments := loadPayments(t, dir, "2018-04", "2018-05")
	if raceDetector {
		payments = payments[:60_000] // the detector is slow, and this test has one goroutine
	}
	w, err := NewWindows(Config{Windows: customerWindows()})
	if err != nil {
		t.Fatal(err)
	}
	out := newOut(w)
	var got [6][]float64
	keys, times := make([]string, 256), make([]int64, 256)
	amount := &event.Column{Kind: event.Float, Floats: make([]float64, 256)}
	var log [][]byte
	logging := false
	deltaBytes, restores := 0, 0
	for at := 0; at < len(payments); at += 256 {
		if !logging && at > len(payments)/2 {
			logging = true
			w.BeginSnapshot()
		}
		rows := payments[at:min(at+256, len(payments))]
		for i, p := range rows {
			keys[i], times[i], amount.Floats[i] = p.customer, p.time, p.amount
		}
		delta := w.Update(&Batch{N: len(rows), Keys: keys, Times: times, Fields: []*event.Column{amount}}, out, nil)
		deltaBytes += len(delta)
		for j, c := range out {
			for i := range rows {
				if c.Kind == event.Int {
					got[j] = append(got[j], float64(c.Ints[i]))
				} else {
					got[j] = append(got[j], c.Floats[i])
				}
			}
		}
		if !logging {
			continue
		}
		log = append(log, delta)
		chunk, done := w.AppendSnapshot(nil, 64<<10)
		if log = append(log, chunk); done {
			r, err := NewWindows(Config{Windows: customerWindows()})
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range log {
				apply := r.ApplyDelta
				if i%2 == 1 {
					apply = r.ApplySnapshot
				}
				if err := apply(b); err != nil {
					t.Fatal(err)
				}
			}
			restores++
			w, log = r, nil
			w.BeginSnapshot()
		}
	}
	compared := 0
	eachRecord(t, filepath.Join(dir, "reference", "ref_features_2018-04_06.csv.gz"), func(f []string) bool {
		id, err := strconv.Atoi(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if id >= len(payments) {
			return false
		}
		if payments[id].id != id {
			t.Fatalf("payment %d lies at place %d", payments[id].id, id)
		}
		for j := range got {
			want, err := strconv.ParseFloat(f[3+j], 64)
			if err != nil {
				t.Fatal(err)
			}
			if v := got[j][id]; j%2 == 0 && v != want || math.Abs(v-want) > 1e-5*math.Abs(want) {
				t.Fatalf("payment %d window %d: got %v, want %v", id, j, v, want)
			}
		}
		compared++
		return true
	})
	if compared != len(payments) {
		t.Fatalf("%d of %d rows compared", compared, len(payments))
	}
	t.Logf("%d rows × 6 features equal the reference; %d restarts; %.1f bytes of delta a row; %d keys in %d KiB",
		compared, restores, float64(deltaBytes)/float64(compared), w.Keys(), w.Bytes()>>10)
}
