package trace

import (
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/errkind"
)

func TestFormsOfFilesAreRecognised(t *testing.T) {
	nan := math.NaN()
	day := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, text string
		start      time.Time
		step       time.Duration
		counts     []float64
		notes      int
	}{
		{"minutes with counts", "minute,count\n0,5\n1,6\n2,7\n", zero, time.Minute, []float64{5, 6, 7}, 0},
		{"minutes that begin later", "minute,count\n10,5\n11,6\n", zero.Add(10 * time.Minute), time.Minute, []float64{5, 6}, 0},
		{"times with values", "timestamp,value\n2026-01-31 00:00:00,1\n2026-01-31 00:30:00,2\n", day, 30 * time.Minute, []float64{1, 2}, 0},
		{"an unknown second column", "timestamp,taxis\n2026-01-31T00:00:00Z,1\n2026-01-31T01:00:00Z,2\n", day, time.Hour, []float64{1, 2}, 0},
		{"rates among other columns", "start_s,requests_per_second,active_clients\n0,10,20\n600,20,20\n", zero, 10 * time.Minute, []float64{6000, 12000}, 0},
		{"columns the other way round", "count;minute\n5;0\n6;1\n", zero, time.Minute, []float64{5, 6}, 0},
		{"one number a line", "3\n4\n5\n", zero, time.Second, []float64{3, 4, 5}, 0},
		{"one number a line with a heading", "requests\n3\n4.5\n", zero, time.Second, []float64{3, 4.5}, 0},
		{"requests with a heading", "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-31 00:00:00.9,1,2\n2026-01-31 00:00:00.95,1,2\n2026-01-31 00:00:03.1,1,2\n", day, time.Second, []float64{2, 0, 0, 1}, 0},
		{"requests without a heading", "2026-01-31 00:00:00.9\n2026-01-31 00:00:01.2\n2026-01-31 00:00:01.3\n", day, time.Second, []float64{1, 2}, 0},
		{"requests out of order", "2026-01-31 00:00:01\n2026-01-31 00:00:00\n", day, time.Second, []float64{1, 1}, 1},
		{"seconds since 1970", "1769817600,1\n1769817610,2\n", day, 10 * time.Second, []float64{1, 2}, 0},
		{"milliseconds since 1970", "1769817600000,1\n1769817610000,2\n", day, 10 * time.Second, []float64{1, 2}, 0},
		{"small times without a heading", "0,1\n60,2\n", zero, time.Minute, []float64{1, 2}, 1},
		{"tabs, quotes, comments, a mark of order, empty lines", "\ufeff# made\r\n\"minute\"\t\"count\"\r\n\r\n0\t1\r\n1\t2\r\n", zero, time.Minute, []float64{1, 2}, 0},
		{"steps without a line", "minute,count\n0,5\n1,6\n4,7\n5,8\n", zero, time.Minute, []float64{5, 6, nan, nan, 7, 8}, 1},
		{"steps without a number", "minute,count\n0,5\n1,\n2,NaN\n3,1\n", zero, time.Minute, []float64{5, nan, nan, 1}, 1},
		{"lines out of order", "minute,count\n1,6\n0,5\n2,7\n", zero, time.Minute, []float64{5, 6, 7}, 1},
		{"times beside the steps", "second,count\n0,5\n60,6\n120,7\n195,8\n", zero, time.Minute, []float64{5, 6, 7, 8}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(tc.text), "x.csv")
			if err != nil {
				t.Fatal(err)
			}
			if !got.Start.Equal(tc.start) || got.Step != tc.step {
				t.Errorf("steps of %s from %s, expected %s from %s", got.Step, got.Start, tc.step, tc.start)
			}
			if d := cmp.Diff(tc.counts, got.Counts, cmpopts.EquateNaNs()); d != "" {
				t.Error(d)
			}
			if len(got.Notes) != tc.notes {
				t.Errorf("notes %q, expected %d", got.Notes, tc.notes)
			}
		})
	}
}

func TestARareRepeatedTimeIsAveraged(t *testing.T) {
	var b strings.Builder
	b.WriteString("hour,count\n")
	for i := range 200 {
		b.WriteString(strconv.Itoa(i) + ",10\n")
		if i == 50 {
			b.WriteString("50,20\n")
		}
	}
	got, err := Parse(strings.NewReader(b.String()), "x.csv")
	if err != nil {
		t.Fatal(err)
	}
	if got.Counts[50] != 15 || len(got.Notes) != 1 {
		t.Errorf("step 50 is %g with notes %q, expected 15 and one note", got.Counts[50], got.Notes)
	}
}

func TestWhatIsNoTraceIsRefusedWithItsPlace(t *testing.T) {
	for _, tc := range []struct {
		name, text, want string
		kind             errkind.Kind
	}{
		{"empty", "", "x.csv:0: no line with a number or a time", errkind.Invalid},
		{"heading only", "minute,count\n", "x.csv:1: no line with a number", errkind.Invalid},
		{"one line", "minute,count\n0,5\n", "x.csv: 1 line(s) at one time, expected at least two steps", errkind.Invalid},
		{"one number", "5\n", "x.csv: 1 step(s) of 1s, expected at least two", errkind.Invalid},
		{"negative", "minute,count\n0,5\n1,-6\n", "x.csv:3: -6: expected a number from 0", errkind.Invalid},
		{"absurd", "minute,count\n0,5\n1,1e300\n", "x.csv:3: 1e300: expected a number from 0", errkind.Invalid},
		{"infinite", "minute,count\n0,5\n1,Inf\n", `x.csv:3: "Inf": expected a number`, errkind.Invalid},
		{"no number", "minute,count\n0,5\n1,six\n", `x.csv:3: "six": expected a number`, errkind.Invalid},
		{"no time", "minute,count\n0,5\nnoon,6\n", `x.csv:3: time "noon": expected a date`, errkind.Invalid},
		{"negative time", "minute,count\n-1,5\n0,6\n", "x.csv:2: time -1: expected 0 or more", errkind.Invalid},
		{"too few fields", "minute,count\n0,5\n1\n", "x.csv:3: 1 fields, expected at least 2", errkind.Invalid},
		{"no column of times", "name,count\na,5\n", "x.csv:2: no column of times", errkind.Invalid},
		{"repeated times", "minute,count\n0,5\n0,6\n1,7\n1,8\n", "2 of 4 lines have the time of another", errkind.Invalid},
		{"a stamp far away", "second,count\n0,1\n1,1\n90000000,1\n", "is a time wrong?", errkind.Exhausted},
		{"no event", "0\n0\n", "no event in 2 steps", errkind.Invalid},
		{"holes only", "minute,count\n0,\n1,\n", "none of 2 steps has a number", errkind.Invalid},
		{"a long line", "1\n" + strings.Repeat("1", maxLine+1), "x.csv:2: a line of more than", errkind.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(strings.NewReader(tc.text), "x.csv")
			if err == nil || !strings.Contains(err.Error(), tc.want) || errkind.Of(err) != tc.kind {
				t.Errorf("got %v (%v), expected %q (%v)", err, errkind.Of(err), tc.want, tc.kind)
			}
		})
	}
}

func TestPackedFilesAreRead(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte("minute,count\n0,1\n1,2\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clicks.csv.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "clicks" || len(got.Counts) != 2 {
		t.Errorf("got %q of %d steps", got.Name, len(got.Counts))
	}
	if _, err := Read(filepath.Join(t.TempDir(), "absent.csv")); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := Read(t.TempDir()); !errkind.Is(err, errkind.Config) {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"minute,count\n0,5\n1,6\n", "3\n4\n", "TIMESTAMP,a,b\n2026-01-31 00:00:00.9,1,2\n2026-01-31 00:00:01,1,2\n",
		"start_s,rps,n\n0,1,2\n600,2,3\n", "1769817600000,1\n1769817610000,2\n", "a;b\n", "\xef\xbb\xbf1\n", "day,count\n99999999,1\n0,1\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := Parse(bytes.NewReader(text), "x")
		if err != nil {
			if errkind.Of(err) == errkind.Unknown {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		if len(tr.Counts) < 2 || tr.Step <= 0 || !(tr.Mean() > 0) {
			t.Fatalf("%d steps of %s with mean %g", len(tr.Counts), tr.Step, tr.Mean())
		}
		for i, c := range tr.Counts {
			if c < 0 || math.IsInf(c, 0) {
				t.Fatalf("step %d is %g", i, c)
			}
		}
	})
}
