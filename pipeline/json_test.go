package pipeline

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNumbersReadBackAsThemselves(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	values := []float64{0, math.Copysign(0, -1), 1, -1, 0.1, 57.16, 1e21, 1e-7, 1e300, -1e-300, math.MaxFloat64, 1 << 53, 1<<53 + 2, 9007199254740993}
	for range 10000 {
		values = append(values, math.Float64frombits(r.Uint64()), math.Round(r.Float64()*1e6)/100, -math.Round(r.Float64()*1e7)/1e4, r.Float64()*1e5)
	}
	for _, v := range values {
		b := appendNumber(nil, v, 64)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if string(b) != "null" {
				t.Fatalf("%v is written as %s", v, b)
			}
			continue
		}
		var got float64
		if err := json.Unmarshal(b, &got); err != nil || got != v {
			t.Fatalf("%v is written as %s and read as %v (%v)", v, b, got, err)
		}
		if shortest := strconv.FormatFloat(v, 'f', -1, 64); math.Abs(v) < 1e21 && math.Abs(v) >= 1e-6 && v != 0 && string(b) != shortest {
			t.Fatalf("%v is written as %s, not as %s", v, b, shortest)
		}
		f := float32(v)
		if back, err := strconv.ParseFloat(string(appendNumber(nil, float64(f), 32)), 32); !math.IsInf(float64(f), 0) && (err != nil || float32(back) != f) {
			t.Fatalf("float32 %v reads back as %v (%v)", f, back, err)
		}
	}
}

func TestInstantsAreWrittenAsTheStandardLibraryDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var c clock
	for range 20000 {
		ns := r.Int64N(1<<62) - 1<<61
		if r.IntN(2) == 0 {
			ns = ns / 1e9 * 1e9
		}
		want := time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
		if got := string(c.append(nil, ns)); got != want {
			t.Fatalf("%d is written as %s, not %s", ns, got, want)
		}
	}
}

func FuzzStringsReadBackAsThemselves(f *testing.F) {
	for _, s := range []string{"", "plain", `"quoted" \ back`, "tab\tline\nbell\a", "é€𝄞", "bad \xff utf8 \xe2\x82", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q is written as %s: %v", s, b, err)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("%q reads back as %q", s, got)
		}
	})
}

func BenchmarkNumbers(b *testing.B) {
	values := []float64{57.16, 92.695, 61.7233333333333, 3, 0.25}
	var dst []byte
	for b.Loop() {
		dst = dst[:0]
		for _, v := range values {
			dst = appendNumber(dst, v, 64)
		}
	}
}
