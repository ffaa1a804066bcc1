package kernel

import "math"

// Relu sets dst[i] to max(0, src[i]); NaN stays NaN. dst may be src.
func Relu(dst, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = max(v, 0)
	}
}

// Exp sets dst[i] to e to the power of src[i], within two units in the last place. dst may be src.
func Exp(dst, src []float32) { expBest(dst[:len(src)], src) }

// Sigmoid sets dst[i] to 1/(1+e^−src[i]), within three units in the last place. dst may be src.
func Sigmoid(dst, src []float32) { sigmoidBest(dst[:len(src)], src) }

// Tanh sets dst[i] to the hyperbolic tangent of src[i], within three units in the last place. dst may be src.
func Tanh(dst, src []float32) { tanhBest(dst[:len(src)], src) }

// Erf sets dst[i] to the error function of src[i], within three units in the last place. dst may be src.
func Erf(dst, src []float32) { erfBest(dst[:len(src)], src) }

func expPortable(dst, src []float32) {
	for i, v := range src {
		dst[i] = float32(exp(float64(v)))
	}
}

func sigmoidPortable(dst, src []float32) {
	for i, v := range src {
		dst[i] = float32(1 / (1 + exp(-float64(v))))
	}
}

func tanhPortable(dst, src []float32) {
	for i, v := range src {
		x := float64(v)
		if x > -0.02 && x < 0.02 {
			// 1−2/(e^2x+1) would cancel: the series is exact enough here.
			s := x * x
			dst[i] = float32(x - x*s*(1.0/3-s*(2.0/15)))
			continue
		}
		dst[i] = float32(1 - 2/(exp(2*x)+1))
	}
}

// Coefficients of erf x = x + x·E(x²) for |x| < erfSplit and of 1 − erf x = e^F(x) from there to 4, lowest power
// first: fits at the points of Chebyshev.
const erfSplit = 0.921875

var (
	erfNear = [...]float64{0.12837915122509003, -0.3761250376701355, 0.11281904578208923, -0.026769496500492096, 0.004997011739760637, -0.0006008737254887819}
	erfFar  = [...]float64{0.0003025418263860047, -1.1301640272140503, -0.6319416165351868, -0.10997404903173447, 0.026362380012869835,
		-0.004739417694509029, 0.0005926017183810472, -4.557118518278003e-05, 1.6131018583109835e-06}
)

func erfPortable(dst, src []float32) {
	for i, v := range src {
		x := math.Abs(float64(v))
		var y float64
		switch {
		case x < erfSplit:
			s := x * x
			for k := len(erfNear) - 1; k >= 0; k-- {
				y = y*s + erfNear[k]
			}
			y = x + x*y
		case x < 4:
			for k := len(erfFar) - 1; k >= 0; k-- {
				y = y*x + erfFar[k]
			}
			y = 1 - exp(y)
		case x == x:
			y = 1
		default:
			y = x
		}
		dst[i] = float32(math.Copysign(y, float64(v)))
	}
}

const (
	expSteps = 32
	// Beyond these, e^x and 1/(1+e^−x) are infinite, zero or one in single precision.
	expMost  = 120
	expLeast = -120
	// rounder added to a small number leaves the nearest integer in its low bits.
	rounder = 3 << 51
)

// exp2Table holds 2^(j/32).
var exp2Table = func() (t [expSteps]float64) {
	for j := range t {
		t[j] = math.Exp2(float64(j) / expSteps)
	}
	return t
}()

// exp returns e^x with a relative error below 1e-11: x = (32·q + j)·ln2/32 + r
// with |r| ≤ ln2/64, so that e^x = 2^q · 2^(j/32) · e^r, the last by its series.
// The argument is a float32 or twice one.
func exp(x float64) float64 {
	if !(x > expLeast && x < expMost) {
		switch {
		case x != x:
			return x
		case x > 0:
			return math.Inf(1)
		default:
			return 0
		}
	}
	t := x*(expSteps/math.Ln2) + rounder
	n := int64(math.Float64bits(t) << 12 >> 12)
	n -= 1 << 51
	r := x - (t-rounder)*(math.Ln2/expSteps)
	scale := math.Float64frombits(math.Float64bits(exp2Table[n&(expSteps-1)]) + uint64(n>>5)<<52)
	return scale * (1 + r*(1+r*(1.0/2+r*(1.0/6+r*(1.0/24)))))
}
