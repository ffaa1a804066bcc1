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

var activations = []struct {
	name  string
	f     func(dst, src []float32)
	exact func(float64) float64
}{
	{"Exp", Exp, math.Exp},
	{"Sigmoid", Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
	{"Tanh", Tanh, math.Tanh},
	{"Relu", Relu, func(x float64) float64 { return math.Max(0, x) }},
}

func TestActivationsAreWithinOneUlp(t *testing.T) {
	var src []float32
	// Every 4,099th float32, both signs.
	for bits := uint64(0); bits < 1<<32; bits += 4099 {
		src = append(src, math.Float32frombits(uint32(bits)))
	}
	for x := float32(-110); x < 110; x += 0.0037 {
		src = append(src, x)
	}
	for _, x := range []float32{0, 0.02, 88.72284, 88.7228, 89, -87.33655, -103.97, -104, 100, -120, 50, math.MaxFloat32, inf, nan} {
		src = append(src, x, -x, math.Nextafter32(x, inf), math.Nextafter32(x, -inf))
	}
	dst := make([]float32, len(src))
	for _, a := range activations {
		a.f(dst, src)
		for i, x := range src {
			if u := ulps(dst[i], a.exact(float64(x))); !(u <= 1) {
				t.Fatalf("%s(%v) is %v, want %v: %v units off", a.name, x, dst[i], a.exact(float64(x)), u)
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
	}{{"Exp", Exp, inf, 0}, {"Sigmoid", Sigmoid, 1, 0}, {"Tanh", Tanh, 1, -1}, {"Relu", Relu, inf, 0}} {
		got := make([]float32, 3)
		c.f(got, []float32{nan, inf, -inf})
		if got[0] == got[0] || got[1] != c.plus || got[2] != c.less {
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
