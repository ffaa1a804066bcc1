//go:build !purego

package kernel

// The functions of the assembly take n elements, a multiple of 8; dst may be src.

//go:noescape
func expAVX2(dst, src *float32, n int)

//go:noescape
func sigmoidAVX2(dst, src *float32, n int)

//go:noescape
func tanhAVX2(dst, src *float32, n int)

//go:noescape
func erfAVX2(dst, src *float32, n int)

type function uint8

const (
	exponential function = iota
	logistic
	hyperbolic
	errorFunction
)

// run computes n elements, a multiple of 8. It is a switch and no function
// value, so that the compiler sees that nothing escapes.
func (f function) run(dst, src *float32, n int) {
	switch f {
	case exponential:
		expAVX2(dst, src, n)
	case logistic:
		sigmoidAVX2(dst, src, n)
	case errorFunction:
		erfAVX2(dst, src, n)
	default:
		tanhAVX2(dst, src, n)
	}
}

// apply computes whole steps of 8 in place and the rest in a step of its own.
func (f function) apply(dst, src []float32) {
	whole := len(src) &^ 7
	if whole > 0 {
		f.run(&dst[0], &src[0], whole)
	}
	if rest := src[whole:]; len(rest) > 0 {
		var step [8]float32
		copy(step[:], rest)
		f.run(&step[0], &step[0], len(step))
		copy(dst[whole:], step[:len(rest)])
	}
}

func expBest(dst, src []float32) {
	if best < avx2 {
		expPortable(dst, src)
	} else {
		exponential.apply(dst, src)
	}
}

func sigmoidBest(dst, src []float32) {
	if best < avx2 {
		sigmoidPortable(dst, src)
	} else {
		logistic.apply(dst, src)
	}
}

func tanhBest(dst, src []float32) {
	if best < avx2 {
		tanhPortable(dst, src)
	} else {
		hyperbolic.apply(dst, src)
	}
}

func erfBest(dst, src []float32) {
	if best < avx2 {
		erfPortable(dst, src)
	} else {
		errorFunction.apply(dst, src)
	}
}
