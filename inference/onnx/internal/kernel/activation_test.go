package kernel

import (
	"math"
	"testing"
)

// ulps returns how many float32 steps lie between got and the exact want.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	if got == w || got != got && w != w {
		return 0
	}
	step := float64(math.Nextafter32(float32(math.Abs(want)), inf)) - float64(float32(math.Abs(want)))
	return math.Abs(float64(got)-want) / step
}

func exactSigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// activations are the functions of this machine and, with ".Go", those of others;
// off is how many units in the last place they may be off.
var activations = []struct {
	name  string
	f     func(dst, src []float32)
	exact func(float64) float64
	off   float64
}{
	{"Exp", Exp, math.Exp, 2},
	{"Sigmoid", Sigmoid, exactSigmoid, 3},
	{"Tanh", Tanh, math.Tanh, 3},
	{"Erf", Erf, math.Erf, 3},
	{"Relu", Relu, func(x float64) float64 { return math.Max(0, x) }, 0},
	{"Exp.Go", expPortable, math.Exp, 1},
	{"Sigmoid.Go", sigmoidPortable, exactSigmoid, 1},
	{"Tanh.Go", tanhPortable, math.Tanh, 1},
	{"Erf.Go", erfPortable, math.Erf, 2},
}

func TestActivationsAreAccurate(t *testing.T) {
	var src []float32
	stride := uint64(1021) // from one float32 to the next, both signs
	if testing.Short() || raceEnabled {
		stride = 65521
	}
	for bits := uint64(0); bits < 1<<32; bits += stride {
		src = append(src, math.Float32frombits(uint32(bits)))
	}
	for x := float32(-110); x < 110; x += 0.0037 {
		src = append(src, x)
	}
	for _, x := range []float32{0, 0.02, 0.625, 88.72284, 88.7228, 89, -87.33655, -103.97, -104, 100, -120, 50, math.MaxFloat32, inf, nan} {
		src = append(src, x, -x, math.Nextafter32(x, inf), math.Nextafter32(x, -inf))
	}
	dst := make([]float32, len(src))
	for _, a := range activations {
		a.f(dst, src)
		worst := 0.0
		for i, x := range src {
			u := ulps(dst[i], a.exact(float64(x)))
			if !(u <= a.off) {
				t.Fatalf("%s(%v) is %v, want %v: %v units off", a.name, x, dst[i], a.exact(float64(x)), u)
			}
			worst = max(worst, u)
		}
		t.Logf("%s is at most %.2f units in the last place off", a.name, worst)
	}
}

func TestActivationsDoNotDependOnPlace(t *testing.T) {
	src := make([]float32, 37)
	for i := range src {
		src[i] = float32(i-18) * 0.37
	}
	for _, a := range activations {
		whole := make([]float32, len(src))
		a.f(whole, src)
		for from := range src {
			for to := from; to <= len(src); to++ {
				part := make([]float32, to-from+1)
				part[to-from] = guard
				a.f(part[:to-from], src[from:to])
				if part[to-from] != guard {
					t.Fatalf("%s wrote beyond its %d elements", a.name, to-from)
				}
				for i := from; i < to; i++ {
					if part[i-from] != whole[i] {
						t.Fatalf("%s(%v) is %v alone and %v in the whole", a.name, src[i], part[i-from], whole[i])
					}
				}
			}
		}
	}
}

func TestActivationsWorkInPlace(t *testing.T) {
	for _, a := range activations {
		src := []float32{-2, -1, 0, 1, 2, 3, 4, 5, 6}
		want := make([]float32, len(src))
		a.f(want, src)
		a.f(src, src)
		for i := range src {
			if src[i] != want[i] {
				t.Errorf("%s in place gives %v, want %v", a.name, src, want)
				break
			}
		}
	}
}

func TestActivationsOfSpecialValues(t *testing.T) {
	for _, c := range []struct {
		name       string
		f          func(dst, src []float32)
		plus, less float32
	}{
		{"Exp", Exp, inf, 0}, {"Sigmoid", Sigmoid, 1, 0}, {"Tanh", Tanh, 1, -1}, {"Erf", Erf, 1, -1}, {"Relu", Relu, inf, 0},
		{"Exp.Go", expPortable, inf, 0}, {"Sigmoid.Go", sigmoidPortable, 1, 0}, {"Tanh.Go", tanhPortable, 1, -1}, {"Erf.Go", erfPortable, 1, -1},
	} {
		got := make([]float32, 3)
		c.f(got, []float32{nan, inf, -inf})
		if got[0] == got[0] || // NaN
			got[1] != c.plus || got[2] != c.less {
			t.Errorf("%s of NaN, +Inf, -Inf is %v, want NaN, %v, %v", c.name, got, c.plus, c.less)
		}
	}
}

func BenchmarkActivation(b *testing.B) {
	src, dst := make([]float32, 1024), make([]float32, 1024)
	for i := range src {
		src[i] = float32(i-512) / 64
	}
	for _, a := range activations {
		b.Run(a.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(src)))
			for b.Loop() {
				a.f(dst, src)
			}
		})
	}
}
