package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// levels are the instruction sets that this machine can run.
func levels(t testing.TB) []level {
	t.Helper()
	all := []level{portable, avx2, avx512}[:best+1]
	if best < avx512 {
		if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "avx512") {
			t.Fatalf("AVX-512 is required here, but this build and machine reach %v", best)
		}
		t.Logf("this build and machine reach %v: what is above it is NOT tested", best)
	}
	return all
}

func randoms(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// reference computes the product in float64 and, for each result, the sum of
// the terms' sizes, to which rounding errors are proportional.
func reference(a, b []float32, m, k, n int, bias []float32, relu bool) (c, size []float64) {
	c, size = make([]float64, m*n), make([]float64, m*n)
	for i := range m {
		for j := range n {
			var s, abs float64
			for l := range k {
				term := float64(a[i*k+l]) * float64(b[l*n+j])
				s += term
				abs += math.Abs(term)
			}
			if bias != nil {
				s += float64(bias[j])
				abs += math.Abs(float64(bias[j]))
			}
			if relu && s < 0 {
				s = 0
			}
			c[i*n+j], size[i*n+j] = s, abs
		}
	}
	return c, size
}

func transpose(b []float32, k, n int) []float32 {
	t := make([]float32, len(b))
	for i := range k {
		for j := range n {
			t[j*k+i] = b[i*n+j]
		}
	}
	return t
}

// guard is a value that no product writes; it stands around results.
const guard = -12345

// mul runs a product between guards and reports whether one was overwritten.
func mul(p *Packed, a []float32, m int, bias []float32, relu bool) (c []float32, intact bool) {
	const around = 40
	all := make([]float32, m*p.n+2*around)
	for i := range all {
		all[i] = guard
	}
	c = all[around : around+m*p.n]
	p.Mul(c, a, m, bias, relu)
	intact = true
	for i := range around {
		intact = intact && all[i] == guard && all[len(all)-1-i] == guard
	}
	return c, intact
}

// checkProduct compares one random product on all instruction sets with the reference.
func checkProduct(t *testing.T, r *rand.Rand, all []level, m, k, n int, withBias, relu bool) {
	t.Helper()
	a, b := randoms(r, m*k), randoms(r, k*n)
	var bias []float32
	if withBias {
		bias = randoms(r, n)
	}
	want, size := reference(a, b, m, k, n, bias, relu)
	transposed := r.IntN(2) == 0
	if transposed {
		b = transpose(b, k, n)
	}
	for _, l := range all {
		got, intact := mul(pack(b, k, n, transposed, l), a, m, bias, relu)
		if !intact {
			t.Fatalf("%v %dx%dx%d: wrote beside the result", l, m, k, n)
		}
		for i := range got {
			if d := math.Abs(float64(got[i]) - want[i]); !(d <= size[i]*float64(k+2)*6e-8) {
				t.Fatalf("%v %dx%dx%d bias=%v relu=%v transposed=%v: element %d is %v, want %v",
					l, m, k, n, withBias, relu, transposed, i, got[i], want[i])
			}
		}
	}
}

func TestProductsOfAllSmallSizesAreRight(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := levels(t)
	step := 1
	if testing.Short() || raceEnabled {
		step = 23 // a stride through all combinations
	}
	for size := 0; size < 40*40*40; size += step {
		m, k, n := 1+size%40, 1+size/40%40, 1+size/1600
		checkProduct(t, r, all, m, k, n, size/3%2 == 0, size/5%2 == 0)
	}
}

func TestProductsOfLargerSizesAreRight(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	all := levels(t)
	for range 40 {
		checkProduct(t, r, all, 1+r.IntN(70), 1+r.IntN(300), 1+r.IntN(150), r.IntN(2) == 0, r.IntN(2) == 0)
	}
	checkProduct(t, r, all, 3, 2000, 33, true, false)
	checkProduct(t, r, all, 25, 64, 64, true, true)
}

func TestEmptySizesAreHarmless(t *testing.T) {
	for _, l := range levels(t) {
		pack(nil, 0, 0, false, l).Mul(nil, nil, 5, nil, true)
		pack(nil, 3, 0, false, l).Mul(nil, make([]float32, 6), 2, nil, true)
		pack([]float32{1, 2, 3}, 1, 3, false, l).Mul(nil, nil, 0, nil, false)
		// No terms: the sum is the bias.
		c := []float32{9, 9, 9, 9}
		pack(nil, 0, 2, false, l).Mul(c, nil, 2, []float32{-1, 2}, true)
		if c[0] != 0 || c[1] != 2 || c[2] != 0 || c[3] != 2 {
			t.Errorf("%v: product without terms is %v, want the bias after ReLU", l, c)
		}
	}
}

func TestShortSlicesPanicBeforeWriting(t *testing.T) {
	for _, l := range levels(t) {
		for _, n := range []int{1, 2, 40} {
			p := pack(make([]float32, 3*n), 3, n, false, l)
			for name, call := range map[string]func(c []float32){
				"a":    func(c []float32) { p.Mul(c, make([]float32, 5, 6)[:5:5], 2, nil, false) },
				"dst":  func(c []float32) { p.Mul(c[:2*n-1:2*n-1], make([]float32, 6), 2, nil, false) },
				"bias": func(c []float32) { p.Mul(c, make([]float32, 6), 2, make([]float32, n-1), false) },
			} {
				c := make([]float32, 2*n)
				c[0] = guard
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%v n=%d: a short %s did not panic", l, n, name)
						}
					}()
					call(c)
				}()
				if c[0] != guard {
					t.Errorf("%v n=%d: a short %s was noticed after writing", l, n, name)
				}
			}
		}
	}
}

func TestSpecialValuesFollowIEEE(t *testing.T) {
	// 1e18 is large, yet no product or sum of such values overflows by itself.
	special := []float32{nan, inf, -inf, 0, 1e18, math.SmallestNonzeroFloat32}
	r := rand.New(rand.NewPCG(5, 6))
	for _, l := range levels(t) {
		for _, size := range [][3]int{{1, 5, 1}, {30, 33, 1}, {13, 7, 3}, {29, 20, 16}, {17, 9, 20}, {31, 18, 64}} {
			m, k, n := size[0], size[1], size[2]
			for round := range 24 {
				a, b, bias := randoms(r, m*k), randoms(r, k*n), randoms(r, n)
				a[r.IntN(len(a))] = special[round%len(special)]
				if round >= 6 {
					b[r.IntN(len(b))] = special[r.IntN(len(special))]
				}
				if round >= 12 {
					bias[r.IntN(n)] = special[r.IntN(len(special))]
				}
				relu := round%2 == 1
				want, size := reference(a, b, m, k, n, bias, relu)
				got, _ := mul(pack(b, k, n, false, l), a, m, bias, relu)
				for i := range got {
					g, w := float64(got[i]), want[i]
					switch {
					case math.IsNaN(w) || math.IsInf(w, 0):
						if !(math.IsNaN(w) && math.IsNaN(g)) && w != g {
							t.Fatalf("%v %dx%dx%d relu=%v: element %d is %v, want %v", l, m, k, n, relu, i, g, w)
						}
					case math.Abs(g-w) > size[i]*float64(k+2)*6e-8:
						t.Fatalf("%v %dx%dx%d: element %d is %v, want %v", l, m, k, n, i, g, w)
					}
				}
			}
		}
	}
}

func TestNaNReachesItsRowOnlyAndSurvivesReLU(t *testing.T) {
	for _, l := range levels(t) {
		for _, n := range []int{1, 2, 16, 17, 32, 64, 70} {
			const m, k = 15, 6
			for at := range m {
				a, b := make([]float32, m*k), make([]float32, k*n)
				a[at*k+at%k] = nan
				got, _ := mul(pack(b, k, n, false, l), a, m, nil, true)
				for i, v := range got {
					if (v != v) != (i/n == at) {
						t.Fatalf("%v n=%d: NaN in row %d of A made element %d of the result %v", l, n, at, i, v)
					}
				}
			}
		}
	}
}

func TestRowsDoNotDependOnTheirBatch(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, l := range levels(t) {
		for _, n := range []int{1, 3, 16, 20, 64, 100} {
			const m, k = 41, 37
			a, bias := randoms(r, m*k), randoms(r, n)
			p := pack(randoms(r, k*n), k, n, false, l)
			whole, _ := mul(p, a, m, bias, true)
			for from := 0; from < m; from++ {
				for size := 1; from+size <= m; size += 1 + from%5 {
					part, _ := mul(p, a[from*k:], size, bias, true)
					for i, v := range part {
						if w := whole[from*n+i]; math.Float32bits(v) != math.Float32bits(w) {
							t.Fatalf("%v n=%d: element %d of rows %d+%d is %v alone and %v in the whole", l, n, i, from, size, v, w)
						}
					}
				}
			}
		}
	}
}

func TestVectorLevelsGiveTheSameBits(t *testing.T) {
	if best < avx512 {
		t.Skipf("NOTE: this build and machine reach %v, there are no two vector levels to compare", best)
	}
	r := rand.New(rand.NewPCG(9, 10))
	for range 200 {
		m, k, n := 1+r.IntN(30), 1+r.IntN(80), 1+r.IntN(80)
		a, b, bias := randoms(r, m*k), randoms(r, k*n), randoms(r, n)
		x, _ := mul(pack(b, k, n, false, avx2), a, m, bias, false)
		y, _ := mul(pack(b, k, n, false, avx512), a, m, bias, false)
		for i := range x {
			if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
				t.Fatalf("%dx%dx%d: element %d is %v with AVX2 and %v with AVX-512", m, k, n, i, x[i], y[i])
			}
		}
	}
}

func TestProductAllocatesNothing(t *testing.T) {
	p := Pack(make([]float32, 64*64), 64, 64, false)
	a, c, bias := make([]float32, 32*64), make([]float32, 32*64), make([]float32, 64)
	if n := testing.AllocsPerRun(20, func() { p.Mul(c, a, 32, bias, true) }); n != 0 {
		t.Errorf("a product allocates %v times", n)
	}
}

func BenchmarkProduct(b *testing.B) {
	for _, s := range [][3]int{{1, 64, 64}, {32, 30, 64}, {32, 64, 64}, {512, 64, 64}, {512, 64, 1}, {512, 64, 3}, {1, 2048, 2048}, {128, 512, 2048}} {
		m, k, n := s[0], s[1], s[2]
		r := rand.New(rand.NewPCG(1, 1))
		a, w, c, bias := randoms(r, m*k), randoms(r, k*n), make([]float32, m*n), randoms(r, n)
		for _, l := range levels(b) {
			p := pack(w, k, n, false, l)
			b.Run(fmt.Sprintf("%dx%dx%d/%v", m, k, n, l), func(b *testing.B) {
				for b.Loop() {
					p.Mul(c, a, m, bias, true)
				}
				b.ReportMetric(2*float64(m*k*n)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOPS")
			})
		}
	}
}

// BenchmarkNetwork evaluates a network 30-64-64-1 with ReLU and a logistic output.
func BenchmarkNetwork(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	w0, w1, w2 := randoms(r, 30*64), randoms(r, 64*64), randoms(r, 64)
	b0, b1, b2 := randoms(r, 64), randoms(r, 64), randoms(r, 1)
	for _, m := range []int{1, 32, 512} {
		a, x, y, z := randoms(r, m*30), make([]float32, m*64), make([]float32, m*64), make([]float32, m)
		for _, l := range levels(b) {
			p0, p1, p2 := pack(w0, 30, 64, false, l), pack(w1, 64, 64, false, l), pack(w2, 64, 1, false, l)
			b.Run(fmt.Sprintf("batch=%d/%v", m, l), func(b *testing.B) {
				for b.Loop() {
					p0.Mul(x, a, m, b0, true)
					p1.Mul(y, x, m, b1, true)
					p2.Mul(z, y, m, b2, false)
					Sigmoid(z, z)
				}
				b.ReportMetric(float64(m)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
