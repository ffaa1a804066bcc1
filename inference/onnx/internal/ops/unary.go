package ops

import (
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/kernel"
)

func unaryOps() []Entry {
	one := func(op string, least int, c Compile) Entry {
		return Entry{Op: op, Min: least, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: c}
	}
	return []Entry{
		one("Abs", 6, unaryNumber(abs[float32], abs[float64], abs[int64], abs[int32])),
		one("Neg", 6, unaryNumber(neg[float32], neg[float64], neg[int64], neg[int32])),
		one("Sign", 9, unaryNumber(sign[float32], sign[float64], sign[int64], sign[int32])),
		one("Relu", 6, compileRelu),
		one("Sqrt", 6, unaryFloat(math.Sqrt)),
		one("Exp", 6, vector(kernel.Exp, math.Exp)),
		one("Log", 6, unaryFloat(math.Log)),
		one("Floor", 6, unaryFloat(math.Floor)),
		one("Ceil", 6, unaryFloat(math.Ceil)),
		one("Round", 11, unaryFloat(math.RoundToEven)),
		one("Reciprocal", 6, unaryFloat(func(v float64) float64 { return 1 / v })),
		one("Sigmoid", 6, vector(kernel.Sigmoid, sigmoid)),
		one("Tanh", 6, vector(kernel.Tanh, math.Tanh)),
		one("Sin", 7, unaryFloat(math.Sin)),
		one("Cos", 7, unaryFloat(math.Cos)),
		one("Tan", 7, unaryFloat(math.Tan)),
		one("Asin", 7, unaryFloat(math.Asin)),
		one("Acos", 7, unaryFloat(math.Acos)),
		one("Atan", 7, unaryFloat(math.Atan)),
		one("Sinh", 9, unaryFloat(math.Sinh)),
		one("Cosh", 9, unaryFloat(math.Cosh)),
		one("Asinh", 9, unaryFloat(math.Asinh)),
		one("Acosh", 9, unaryFloat(math.Acosh)),
		one("Atanh", 9, unaryFloat(math.Atanh)),
		one("Erf", 9, vector(kernel.Erf, math.Erf)),
		one("Softplus", 1, unaryFloat(func(v float64) float64 {
			if v > 0 {
				return v + math.Log1p(math.Exp(-v))
			}
			return math.Log1p(math.Exp(v))
		})),
		one("Softsign", 1, unaryFloat(func(v float64) float64 { return v / (1 + math.Abs(v)) })),
		one("Mish", 18, unaryFloat(func(v float64) float64 { return v * math.Tanh(math.Log1p(math.Exp(v))) })),
		one("HardSwish", 14, unaryFloat(func(v float64) float64 { return v * max(0, min(1, v/6+0.5)) })),
		one("LeakyRelu", 6, withAlpha(0.01, 0, func(a, _ float64) func(float64) float64 {
			return func(v float64) float64 {
				if v < 0 {
					return a * v
				}
				return v
			}
		})),
		one("Elu", 6, withAlpha(1, 0, func(a, _ float64) func(float64) float64 {
			return func(v float64) float64 {
				if v < 0 {
					return a * math.Expm1(v)
				}
				return v
			}
		})),
		one("Celu", 12, withAlpha(1, 0, func(a, _ float64) func(float64) float64 {
			return func(v float64) float64 { return max(0, v) + min(0, a*math.Expm1(v/a)) }
		})),
		one("ThresholdedRelu", 10, withAlpha(1, 0, func(a, _ float64) func(float64) float64 {
			return func(v float64) float64 {
				if v > a {
					return v
				}
				return 0
			}
		})),
		one("Selu", 6, compileSelu),
		one("HardSigmoid", 6, withAlpha(0.2, 0.5, func(a, b float64) func(float64) float64 {
			return func(v float64) float64 { return max(0, min(1, a*v+b)) }
		})),
		one("Gelu", 20, compileGelu),
		one("Not", 1, compileNot),
		one("IsNaN", 9, compileIsNaN),
		one("IsInf", 10, compileIsInf),
		{Op: "Clip", Min: 6, Max: 10, InMin: 1, InMax: 1, OutMax: 1, Compile: compileClipAttrs},
		{Op: "Clip", Min: 11, Max: MaxOpset, InMin: 1, InMax: 3, OutMax: 1, Compile: compileClip},
	}
}

func unary[T, R Elem](fn func(T) R) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		x := Data[T](in[0])
		d, err := Alloc[R](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		x = x[:len(d)]
		for i, v := range x {
			d[i] = fn(v)
		}
		return nil
	}
}

func unaryNumber(f32 func(float32) float32, f64 func(float64) float64, i64 func(int64) int64, i32 func(int32) int32) Compile {
	return func(n *Node) (Kernel, error) {
		n.result(0, n.In[0].Type)
		return byNumber(n.In[0].Type, unary(f32), unary(f64), unary(i64), unary(i32))
	}
}

// vector has a function over slices for float32.
func vector(f32 func(dst, src []float32), f64 func(float64) float64) Compile {
	return func(n *Node) (Kernel, error) {
		n.result(0, n.In[0].Type)
		return byNumber(n.In[0].Type, vectorKernel(f32), unary(f64), nil, nil)
	}
}

func vectorKernel(fn func(dst, src []float32)) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		d, err := Alloc[float32](f, out[0], in[0].Shape...)
		if err == nil {
			fn(d, in[0].F32)
		}
		return err
	}
}

func compileRelu(n *Node) (Kernel, error) {
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, vectorKernel(kernel.Relu), unary(relu[float64]), unary(relu[int64]), unary(relu[int32]))
}

// unaryFloat evaluates in float64 and rounds once.
func unaryFloat(fn func(float64) float64) Compile {
	return func(n *Node) (Kernel, error) { return floatKernel(n, fn) }
}

func floatKernel(n *Node, fn func(float64) float64) (Kernel, error) {
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, unary(func(v float32) float32 { return float32(fn(float64(v))) }), unary(fn), nil, nil)
}

func abs[T Number](v T) T {
	switch {
	case v < 0:
		return -v
	case v == 0:
		return 0 // from −0 too
	}
	return v
}

func neg[T Number](v T) T { return -v }

func sign[T Number](v T) T {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return v // 0 or NaN
}

func relu[T Number](v T) T {
	if v < 0 {
		return 0
	}
	return v
}

func sigmoid(v float64) float64 {
	if v >= 0 {
		return 1 / (1 + math.Exp(-v))
	}
	e := math.Exp(v)
	return e / (1 + e)
}

// withAlpha compiles a function of attributes alpha and beta.
func withAlpha(alpha, beta float32, fn func(a, b float64) func(float64) float64) Compile {
	return func(n *Node) (Kernel, error) {
		a, err := n.floatAttr("alpha", alpha)
		if err != nil {
			return nil, err
		}
		b := beta
		if n.has("beta") {
			if b, err = n.floatAttr("beta", beta); err != nil {
				return nil, err
			}
		}
		return floatKernel(n, fn(float64(a), float64(b)))
	}
}

func compileSelu(n *Node) (Kernel, error) {
	a, err := n.floatAttr("alpha", 1.67326319217681884765625)
	if err != nil {
		return nil, err
	}
	g, err := n.floatAttr("gamma", 1.05070102214813232421875)
	if err != nil {
		return nil, err
	}
	alpha, gamma := float64(a), float64(g)
	return floatKernel(n, func(v float64) float64 {
		if v > 0 {
			return gamma * v
		}
		return gamma * alpha * math.Expm1(v)
	})
}

func compileGelu(n *Node) (Kernel, error) {
	s, err := n.stringAttr("approximate", "none")
	if err != nil {
		return nil, err
	}
	switch s {
	case "none":
		return vector(func(dst, src []float32) {
			gelu(dst, src, kernel.Erf, func(v float32) float32 { return v * (1 / math.Sqrt2) })
		},
			func(v float64) float64 { return 0.5 * v * (1 + math.Erf(v/math.Sqrt2)) })(n)
	case "tanh":
		return vector(func(dst, src []float32) {
			gelu(dst, src, kernel.Tanh, func(v float32) float32 { return float32(math.Sqrt(2/math.Pi)) * (v + 0.044715*v*v*v) })
		}, func(v float64) float64 {
			return 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		})(n)
	}
	return nil, unsupported("approximate=%s", s)
}

// gelu sets dst[i] to v/2 · (1 + fn(inner(v))); dst is not src.
func gelu(dst, src []float32, fn func(dst, src []float32), inner func(float32) float32) {
	for i, v := range src {
		dst[i] = inner(v)
	}
	fn(dst, dst)
	for i, v := range src {
		dst[i] = 0.5 * v * (1 + dst[i])
	}
}

func compileNot(n *Node) (Kernel, error) {
	if err := n.types(0, inference.Bool); err != nil {
		return nil, err
	}
	n.result(0, inference.Bool)
	return unary(func(v bool) bool { return !v }), nil
}

func compileIsNaN(n *Node) (Kernel, error) {
	n.result(0, inference.Bool)
	return byNumber(n.In[0].Type, unary(func(v float32) bool { return v != v }), unary(func(v float64) bool { return v != v }), nil, nil)
}

func compileIsInf(n *Node) (Kernel, error) {
	neg, err := n.intAttr("detect_negative", 1)
	if err != nil {
		return nil, err
	}
	pos, err := n.intAttr("detect_positive", 1)
	if err != nil {
		return nil, err
	}
	is := func(v float64) bool { return pos != 0 && math.IsInf(v, 1) || neg != 0 && math.IsInf(v, -1) }
	n.result(0, inference.Bool)
	return byNumber(n.In[0].Type, unary(func(v float32) bool { return is(float64(v)) }), unary(is), nil, nil)
}

func compileClipAttrs(n *Node) (Kernel, error) {
	lo, err := n.floatAttr("min", -math.MaxFloat32)
	if err != nil {
		return nil, err
	}
	hi, err := n.floatAttr("max", math.MaxFloat32)
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type,
		unary(func(v float32) float32 { return clip(v, lo, hi) }),
		unary(func(v float64) float64 { return clip(v, float64(lo), float64(hi)) }), nil, nil)
}

// clip lets NaN pass, as ONNX Runtime does.
func clip[T Number](v, lo, hi T) T {
	if v < lo {
		v = lo
	}
	if v > hi {
		v = hi
	}
	return v
}

func compileClip(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, clipKernel[float32], clipKernel[float64], clipKernel[int64], clipKernel[int32])
}

func clipKernel[T Number](f *Frame, in, out []*Tensor) error {
	x := Data[T](in[0])
	d, err := Alloc[T](f, out[0], in[0].Shape...)
	if err != nil {
		return err
	}
	copy(d, x)
	for side := 1; side <= 2; side++ {
		if in[side] == nil {
			continue
		}
		b := Data[T](in[side])
		if len(b) != 1 {
			return valueError("a bound of %d elements, expected one", len(b))
		}
		for i, v := range d {
			if side == 1 && v < b[0] || side == 2 && v > b[0] {
				d[i] = b[0]
			}
		}
	}
	return nil
}
