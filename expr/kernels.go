package expr

import (
	"cmp"
	"math"

	"github.com/google/cel-go/common/operators"
)

// Which vector of a register a kernel works on.
func floats(r *register) []float64 { return r.f }
func ints(r *register) []int64     { return r.i }
func bools(r *register) []bool     { return r.b }
func texts(r *register) []string   { return r.s }

// inherit gives a result the flags of its operands, the first operand's first.
func (r *register) inherit(n int, from ...*register) {
	r.some = false
	for _, f := range from {
		if !f.some {
			continue
		}
		if !r.some {
			copy(r.flags[:n], f.flags[:n])
			r.some = true
			continue
		}
		for i, why := range f.flags[:n] {
			if r.flags[i] == 0 {
				r.flags[i] = why
			}
		}
	}
}

// unary compiles a function that cannot fail. It may run on the arbitrary values of flagged rows.
func unary[A, R any](c *code, a int, t slotType, in func(*register) []A, out func(*register) []R, f func(A) R) int {
	to := c.result(t)
	c.add(func(e *Evaluator, n int) {
		x, r := &e.regs[a], &e.regs[to]
		r.inherit(n, x)
		src, dst := in(x)[:n], out(r)[:n]
		for i, v := range src {
			dst[i] = f(v)
		}
	})
	return to
}

// convert compiles a function that may fail with a flag.
func convert[A, R any](c *code, a int, t slotType, in func(*register) []A, out func(*register) []R, f func(A) (R, uint8)) int {
	to := c.result(t)
	c.add(func(e *Evaluator, n int) {
		x, r := &e.regs[a], &e.regs[to]
		r.inherit(n, x)
		src, dst := in(x)[:n], out(r)[:n]
		for i, v := range src {
			var why uint8
			if dst[i], why = f(v); why != 0 {
				r.flag(i, why, n)
			}
		}
	})
	return to
}

// binary compiles a function of two values that cannot fail.
func binary[A, B, R any](c *code, a, b int, t slotType, inA func(*register) []A, inB func(*register) []B, out func(*register) []R, f func(A, B) R) int {
	to := c.result(t)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		r.inherit(n, x, y)
		xs, ys, dst := inA(x)[:n], inB(y)[:n], out(r)[:n]
		for i := range dst {
			dst[i] = f(xs[i], ys[i])
		}
	})
	return to
}

// compare compiles a comparison. NaN is neither equal to nor ordered with anything, as in CEL.
func compare[T cmp.Ordered](c *code, op string, a, b int, in func(*register) []T) int {
	to := c.result(slotBool)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		r.inherit(n, x, y)
		compareLoop(op, r.b[:n], in(x)[:n], in(y)[:n])
	})
	return to
}

// compareLoop has a loop for each operator, so that nothing is decided per row.
func compareLoop[T cmp.Ordered](op string, dst []bool, x, y []T) {
	x, y = x[:len(dst)], y[:len(dst)]
	switch op {
	case operators.Equals:
		for i := range dst {
			dst[i] = x[i] == y[i]
		}
	case operators.NotEquals:
		for i := range dst {
			dst[i] = x[i] != y[i]
		}
	case operators.Less:
		for i := range dst {
			dst[i] = x[i] < y[i]
		}
	case operators.LessEquals:
		for i := range dst {
			dst[i] = x[i] <= y[i]
		}
	case operators.Greater:
		for i := range dst {
			dst[i] = x[i] > y[i]
		}
	default:
		for i := range dst {
			dst[i] = x[i] >= y[i]
		}
	}
}

func (r *register) flagNaN(x, y []float64) {
	for i := range x {
		if x[i] != x[i] || y[i] != y[i] {
			r.flag(i, flagNaN, len(x))
		}
	}
}

// extreme compiles math.least and math.greatest of two values. Of equals, the
// first; NaN is a fault.
func extreme[T cmp.Ordered](c *code, greatest bool, a, b int, in func(*register) []T) int {
	t := c.slots[a].typ
	to := c.result(t)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		r.inherit(n, x, y)
		xs, ys, dst := in(x)[:n], in(y)[:n], in(r)[:n]
		for i := range dst {
			dst[i] = xs[i]
			if greatest && ys[i] > xs[i] || !greatest && ys[i] < xs[i] {
				dst[i] = ys[i]
			}
		}
		if t == slotFloat {
			r.flagNaN(x.f[:n], y.f[:n])
		}
	})
	return to
}

// logic compiles && and ||: an operand that decides alone overrules the other's flag.
func (c *code) logic(and bool, a, b int) int {
	to := c.result(slotBool)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		xs, ys, dst := x.b[:n], y.b[:n], r.b[:n]
		if and {
			for i := range dst {
				dst[i] = xs[i] && ys[i]
			}
		} else {
			for i := range dst {
				dst[i] = xs[i] || ys[i]
			}
		}
		r.inherit(n, x, y)
		if !r.some {
			return
		}
		for i, why := range r.flags[:n] {
			if why == 0 {
				continue
			}
			if (!x.some || x.flags[i] == 0) && xs[i] != and || (!y.some || y.flags[i] == 0) && ys[i] != and {
				r.flags[i] = 0
				dst[i] = !and
			}
		}
	})
	return to
}

// choose compiles the conditional operator.
func choose[T any](c *code, cond, a, b int, in func(*register) []T) int {
	to := c.result(c.slots[a].typ)
	c.add(func(e *Evaluator, n int) {
		k, x, y, r := &e.regs[cond], &e.regs[a], &e.regs[b], &e.regs[to]
		xs, ys, dst := in(x)[:n], in(y)[:n], in(r)[:n]
		for i, first := range k.b[:n] {
			dst[i] = ys[i]
			if first {
				dst[i] = xs[i]
			}
		}
		r.inherit(n, k)
		if !x.some && !y.some {
			return
		}
		for i, first := range k.b[:n] {
			if from := y; first {
				if x.some && x.flags[i] != 0 {
					r.flag(i, x.flags[i], n)
				}
			} else if from.some && from.flags[i] != 0 {
				r.flag(i, from.flags[i], n)
			}
		}
	})
	return to
}

// nullTest compiles isNull.
func (c *code) nullTest(a int) int {
	to := c.result(slotBool)
	c.add(func(e *Evaluator, n int) {
		x, r := &e.regs[a], &e.regs[to]
		r.inherit(n, x)
		dst := r.b[:n]
		clear(dst)
		if !r.some {
			return
		}
		for i, why := range r.flags[:n] {
			if why == flagNull {
				r.flags[i] = 0
				dst[i] = true
			}
		}
	})
	return to
}

func (c *code) floatArithmetic(op string, a, b int) (int, error) {
	var loop func(dst, x, y []float64)
	switch op {
	case operators.Add:
		loop = func(dst, x, y []float64) {
			for i := range dst {
				dst[i] = x[i] + y[i]
			}
		}
	case operators.Subtract:
		loop = func(dst, x, y []float64) {
			for i := range dst {
				dst[i] = x[i] - y[i]
			}
		}
	case operators.Multiply:
		loop = func(dst, x, y []float64) {
			for i := range dst {
				dst[i] = x[i] * y[i]
			}
		}
	case operators.Divide:
		loop = func(dst, x, y []float64) {
			for i := range dst {
				dst[i] = x[i] / y[i]
			}
		}
	default:
		return 0, errNotLowered
	}
	to := c.result(slotFloat)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		r.inherit(n, x, y)
		loop(r.f[:n], x.f[:n], y.f[:n])
	})
	return to, nil
}

// intArithmetic is checked: what does not fit is a fault.
func (c *code) intArithmetic(op string, t slotType, a, b int) (int, error) {
	var f func(x, y int64) (int64, uint8)
	switch op {
	case operators.Add:
		f = addInt
	case operators.Subtract:
		f = subtractInt
	case operators.Multiply:
		f = multiplyInt
	case operators.Divide:
		f = divideInt
	case operators.Modulo:
		f = moduloInt
	default:
		return 0, errNotLowered
	}
	to := c.result(t)
	c.add(func(e *Evaluator, n int) {
		x, y, r := &e.regs[a], &e.regs[b], &e.regs[to]
		r.inherit(n, x, y)
		xs, ys, dst := x.i[:n], y.i[:n], r.i[:n]
		for i := range dst {
			var why uint8
			if dst[i], why = f(xs[i], ys[i]); why != 0 {
				r.flag(i, why, n)
			}
		}
	})
	return to, nil
}

func addInt(x, y int64) (int64, uint8) {
	s := x + y
	if (s > x) != (y > 0) && y != 0 {
		return 0, flagOverflow
	}
	return s, 0
}

func subtractInt(x, y int64) (int64, uint8) {
	s := x - y
	if (s < x) != (y > 0) && y != 0 {
		return 0, flagOverflow
	}
	return s, 0
}

func multiplyInt(x, y int64) (int64, uint8) {
	if x == 0 || y == 0 {
		return 0, 0
	}
	p := x * y
	if x == -1 && y == math.MinInt64 || y == -1 && x == math.MinInt64 || p/y != x {
		return 0, flagOverflow
	}
	return p, 0
}

func divideInt(x, y int64) (int64, uint8) {
	switch {
	case y == 0:
		return 0, flagDivision
	case y == -1 && x == math.MinInt64:
		return 0, flagOverflow
	}
	return x / y, 0
}

func moduloInt(x, y int64) (int64, uint8) {
	switch {
	case y == 0:
		return 0, flagModulus
	case y == -1 && x == math.MinInt64:
		return 0, flagOverflow
	}
	return x % y, 0
}
