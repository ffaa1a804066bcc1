package feature

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
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
	const want = "card-fraud/reference/daily_checksums.csv"
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
func eachRecord(t *testing.T, path string, f func(fields [][]byte)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var in io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(in)
	lines.Scan()
	var fields [][]byte
	for lines.Scan() {
		fields = fields[:0]
		for rest, ok := lines.Bytes(), true; ok; {
			var f []byte
			f, rest, ok = bytes.Cut(rest, []byte(","))
			fields = append(fields, f)
		}
		f(fields)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

type payment struct {
	id                 int
	time               int64
	customer, terminal string
	amount             float64
	fraud              float64
	weekend, night     int
	day                string
}

func loadPayments(t *testing.T, dir string, months ...string) []payment {
	t.Helper()
	var all []payment
	names := map[string]string{} // one string a key
	intern := func(b []byte) string {
		s, ok := names[string(b)]
		if !ok {
			s = string(b)
			names[s] = s
		}
		return s
	}
	days := map[string]time.Time{}
	number := func(b []byte) (n int) {
		for _, c := range b {
			if c < '0' || c > '9' {
				t.Fatalf("no number: %q", b)
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	for _, m := range months {
		eachRecord(t, filepath.Join(dir, "transactions_"+m+".csv.gz"), func(f [][]byte) {
			day := intern(f[1][:10])
			date, ok := days[day]
			if !ok {
				var err error
				if date, err = time.Parse(time.DateOnly, day); err != nil {
					t.Fatal(err)
				}
				days[day] = date
			}
			hour := number(f[1][11:13])
			amount, err := strconv.ParseFloat(string(f[4]), 64)
			if err != nil {
				t.Fatal(err)
			}
			p := payment{
				id: number(f[0]), customer: intern(f[2]), terminal: intern(f[3]), amount: amount, fraud: float64(number(f[5])), day: day,
				time: date.UnixNano() + int64(hour*3600+number(f[1][14:16])*60+number(f[1][17:19]))*1e9,
			}
			if wd := date.Weekday(); wd == time.Saturday || wd == time.Sunday {
				p.weekend = 1
			}
			if hour <= 6 {
				p.night = 1
			}
			all = append(all, p)
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

const week = 7 * 24 * time.Hour

func terminalWindows() Config {
	c := Config{Labels: ByEvent}
	for _, days := range []time.Duration{1, 7, 30} {
		c.Windows = append(c.Windows,
			Window{Name: "tx", Aggregate: Count, Over: days * 24 * time.Hour, Delay: week},
			Window{Name: "risk", Aggregate: Mean, Field: "fraud", Label: true, Over: days * 24 * time.Hour, Delay: week})
	}
	return c
}

// recovered is windows together with what a log of them would hold.
type recovered struct {
	*Windows
	log []logged
}

// replace restores the windows from their log, in the middle of everything.
func (w *recovered) replace(t *testing.T, c Config) {
	t.Helper()
	_, r := newNaive(t, c)
	for _, l := range w.log {
		apply := r.ApplyDelta
		if l.snapshot {
			apply = r.ApplySnapshot
		}
		if err := apply(l.bytes); err != nil {
			t.Fatal(err)
		}
	}
	w.Windows, w.log = r, nil
}

// update takes in a batch; while logging it writes a slice of the state too.
func (w *recovered) update(t *testing.T, c Config, b *Batch, out []*event.Column, logging bool) {
	delta := w.Update(b, out, nil)
	if !logging {
		return
	}
	if w.log == nil {
		w.BeginSnapshot()
	} else {
		w.log = append(w.log, logged{false, delta})
	}
	chunk, done := w.AppendSnapshot(nil, 128<<10)
	if w.log = append(w.log, logged{true, chunk}); done {
		w.replace(t, c)
	}
}

// cardLines computes the features of all payments and returns a hash for each
// day. Labels become known after known; both states are replaced once by what their log gives.
func cardLines(t *testing.T, payments []payment, known time.Duration) map[string]string {
	t.Helper()
	customers, terminals := Config{Windows: customerWindows()}, terminalWindows()
	var cw, tw recovered
	_, cw.Windows = newNaive(t, customers)
	_, tw.Windows = newNaive(t, terminals)
	cout, tout := newOut(cw.Windows), newOut(tw.Windows)
	const size = 1024
	amount, fraud := &event.Column{Kind: event.Float}, &event.Column{Kind: event.Float}
	ids := make([]string, len(payments))
	for i := range payments {
		ids[i] = "payment-" + strconv.Itoa(payments[i].id)
	}
	var (
		ckeys, tkeys []string
		times        []int64
		line         []byte
		next         int // the next payment whose label is to come
	)
	hashes, hash, days := sha256.New(), payments[0].day, map[string]string{}
	count := func(c []*event.Column, i, j int) int64 { return c[2*j].Ints[i] }
	for at := 0; at < len(payments); at += size {
		rows := payments[at:min(at+size, len(payments))]
		ckeys, tkeys, times, amount.Floats, fraud.Floats = ckeys[:0], tkeys[:0], times[:0], amount.Floats[:0], fraud.Floats[:0]
		labels := Labels{Fields: []*event.Column{fraud}}
		for i := range rows {
			p := &rows[i]
			ckeys, tkeys, times, amount.Floats = append(ckeys, p.customer), append(tkeys, p.terminal), append(times, p.time), append(amount.Floats, p.amount)
			for ; next < at+i && payments[next].time+int64(known) <= p.time; next++ {
				labels.Before, labels.IDs, labels.Times = append(labels.Before, int32(i)), append(labels.IDs, ids[next]), append(labels.Times, payments[next].time+int64(known))
				fraud.Floats = append(fraud.Floats, payments[next].fraud)
			}
		}
		b := Batch{N: len(rows), Times: times, IDs: ids[at : at+len(rows)]}
		logging := at > len(payments)/2 && (cw.log != nil || at < len(payments)/2+2*size)
		b.Keys, b.Fields = ckeys, []*event.Column{amount}
		cw.update(t, customers, &b, cout, logging)
		logging = at > len(payments)/2 && (tw.log != nil || at < len(payments)/2+2*size)
		b.Keys, b.Fields, b.Labels = tkeys, nil, labels
		tw.update(t, terminals, &b, tout, logging)
		for i := range rows {
			p := &rows[i]
			if p.day != hash {
				days[hash] = hex.EncodeToString(hashes.Sum(nil))
				hash = p.day
				hashes.Reset()
			}
			line = strconv.AppendInt(line[:0], int64(p.id), 10)
			for _, v := range [...]int64{int64(p.weekend), int64(p.night)} {
				line = strconv.AppendInt(append(line, ','), v, 10)
			}
			for j := range 3 {
				n := count(cout, i, j)
				line = strconv.AppendInt(append(line, ','), n, 10)
				line = strconv.AppendInt(append(line, ','), int64(math.Round(cout[2*j+1].Floats[i]*float64(n)*100)), 10)
			}
			for j := range 3 {
				n := count(tout, i, j)
				line = strconv.AppendInt(append(line, ','), n, 10)
				line = strconv.AppendInt(append(line, ','), int64(math.Round(tout[2*j+1].Floats[i]*float64(n))), 10)
			}
			_, _ = hashes.Write(append(line, '\n'))
		}
	}
	days[hash] = hex.EncodeToString(hashes.Sum(nil))
	t.Logf("%d customers in %d KiB, %d terminals in %d KiB, %d labels found", cw.Keys(), cw.Bytes()>>10, tw.Keys(), tw.Bytes()>>10, tw.Labelled())
	return days
}

// TestCardPaymentsEqualTheDailyChecksums restarts from snapshot and deltas in the
// middle, so that it proves recovery on the same data.
func TestCardPaymentsEqualTheDailyChecksums(t *testing.T) {
	dir := cardData(t)
	payments := loadPayments(t, dir, "2018-04", "2018-05", "2018-06", "2018-07")
	want, order := map[string]string{}, []string{}
	eachRecord(t, filepath.Join(dir, "reference", "daily_checksums.csv"), func(f [][]byte) {
		want[string(f[0])] = string(f[len(f)-1])
		order = append(order, string(f[0]))
	})
	if raceDetector { // it is slow, and this test has one goroutine
		order = order[:9]
		end := slices.IndexFunc(payments, func(p payment) bool { return p.day > order[8] })
		payments = payments[:end]
	}
	for name, known := range map[string]time.Duration{"labels when they are due": week, "labels early": 3*24*time.Hour + 7} {
		got := cardLines(t, payments, known)
		equal := 0
		for _, day := range order {
			if got[day] == want[day] {
				equal++
			}
		}
		t.Logf("%s: %d of %d days equal", name, equal, len(order))
		if equal != len(order) || len(got) != len(order) {
			t.Errorf("%s: %d of %d days differ", name, len(order)-equal, len(order))
		}
	}
}
