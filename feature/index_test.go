package feature

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestAnIndexKnowsTheKeysThatAreInItWhateverTheirLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 11))
	x := newIndex(2)
	want := map[string]uint32{}
	for range 60_000 {
		b := make([]byte, rng.IntN(60))
		for i := range b {
			b[i] = byte('a' + rng.IntN(2))
		}
		if rng.IntN(2) == 0 {
			b = b[:min(len(b), 8)]
		}
		key := string(b)
		n, ok := x.find(key)
		if w, known := want[key]; known != ok || known && w != n {
			t.Fatalf("key %q: got %d, %v, want %d, %v", key, n, ok, w, known)
		}
		switch {
		case !ok:
			n = x.add(key, x.hash(key))
			want[key] = n
			if r := x.records.row(n); r[keyTextWords] != 0 || r[keyTextWords+1] != 0 {
				t.Fatalf("key %q: its record is not empty", key)
			}
			x.records.row(n)[keyTextWords+1] = uint64(len(key))
		case rng.IntN(3) > 0:
			delete(want, key)
			x.remove(n)
		}
		clear(b) // the index has a copy
	}
	if x.len() != len(want) {
		t.Fatalf("%d keys, want %d", x.len(), len(want))
	}
	for key, n := range want {
		if x.key(n) != key || x.records.row(n)[keyTextWords+1] != uint64(len(key)) {
			t.Fatalf("key %q: number %d is %q", key, n, x.key(n))
		}
	}
	for key := range want {
		n, _ := x.find(strings.Clone(key))
		x.remove(n)
	}
	if x.len() != 0 || x.bytes != 0 || x.long.live != 0 {
		t.Fatalf("when all are gone: %d keys, %d bytes, %d words", x.len(), x.bytes, x.long.live)
	}
}

func TestPackedColumnsComeBackBitForBit(t *testing.T) {
	bits := math.Float64bits
	floats := map[string][]uint64{
		"one":               {bits(1.5)},
		"null":              {nullFloat},
		"all null":          {nullFloat, nullFloat, nullFloat},
		"whole":             {bits(0), bits(-7), bits(1 << 40)},
		"cents":             {bits(12.34), bits(0.01), bits(-99.99)},
		"cents and nulls":   {nullFloat, bits(12.34), nullFloat, bits(0), bits(-99.99)},
		"no decimals":       {bits(math.Pi), bits(1e300), nullFloat},
		"at the limit":      {bits(zigzagLimit - 1), bits(-zigzagLimit + 1), nullFloat},
		"beyond the limit":  {bits(zigzagLimit), bits(1)},
		"all the same":      {bits(5), bits(5), bits(5)},
		"smallest, largest": {bits(math.SmallestNonzeroFloat64), bits(math.MaxFloat64)},
	}
	for name, words := range floats {
		t.Run("floats "+name, func(t *testing.T) {
			n := len(words)
			b := packFloats(nil, words, make([]uint64, n))
			got := make([]uint64, 3*n)
			r := newReader(b)
			nulls := r.packedFloats(got[1:], 3, make([]uint64, n))
			if err := r.end(); err != nil || nulls != slices.Contains(words, nullFloat) {
				t.Fatalf("%v, nulls %v", err, nulls)
			}
			for i, want := range words {
				if got[3*i+1] != want {
					t.Errorf("value %d: got %x, want %x", i, got[3*i+1], want)
				}
			}
		})
	}
	for name, times := range map[string][]int64{
		"one":         {-5},
		"seconds":     {-1e9, 0, 0, 7e9},
		"steady":      {0, 60e9, 120e9, 180e9},
		"nanoseconds": {math.MinInt64 / 4, 1, 2, math.MaxInt64 / 4},
	} {
		t.Run("times "+name, func(t *testing.T) {
			n := len(times)
			r := newReader(packTimes(nil, times, make([]uint64, n)))
			got := make([]uint64, 2*n)
			r.packedTimes(got, 2, make([]uint64, n))
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			for i, want := range times {
				if int64(got[2*i]) != want {
					t.Errorf("time %d: got %d, want %d", i, int64(got[2*i]), want)
				}
			}
		})
	}
	for _, numbers := range [][]uint64{{0, 0}, {1}, {1 << 63, math.MaxInt64, 0}, {3, 256, 70000, 1 << 33}} {
		n := len(numbers)
		r := newReader(packNumbers(nil, numbers))
		got := make([]uint64, n)
		r.packedNumbers(got, 1, make([]uint64, n))
		if err := r.end(); err != nil || !slices.Equal(got, numbers) {
			t.Errorf("got %v, %v, want %v", got, err, numbers)
		}
	}
}
