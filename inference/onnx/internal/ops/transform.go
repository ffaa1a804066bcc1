package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference/onnx/internal/kernel"
)

// transform is a post_transform of ai.onnx.ml.
type transform uint8

const (
	transformNone transform = iota
	transformSoftmax
	transformLogistic
	transformSoftmaxZero
	transformProbit
)

func transformByName(name string) (transform, error) {
	switch name {
	case "NONE":
		return transformNone, nil
	case "LOGISTIC":
		return transformLogistic, nil
	case "SOFTMAX":
		return transformSoftmax, nil
	case "SOFTMAX_ZERO":
		return transformSoftmaxZero, nil
	case "PROBIT":
		return transformProbit, nil
	}
	return 0, fmt.Errorf("post_transform %q, expected NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT", name)
}

func (n *Node) transformAttr() (transform, error) {
	s, err := n.stringAttr("post_transform", "NONE")
	if err != nil {
		return 0, err
	}
	return transformByName(s)
}

// apply transforms the scores of one row in place.
func (t transform) apply(scores []float32) {
	switch t {
	case transformLogistic:
		for i, v := range scores {
			scores[i] = logistic(v)
		}
	case transformProbit:
		for i, v := range scores {
			scores[i] = probit(v)
		}
	case transformSoftmax:
		softmaxRow(scores)
	case transformSoftmaxZero:
		softmaxZero(scores)
	}
}

func logistic(v float32) float32 {
	p := float32(1 / (1 + math.Exp(-math.Abs(float64(v)))))
	if v < 0 {
		return 1 - p
	}
	return p
}

// probit is the quantile function of the normal distribution with Winitzki's
// approximation of the inverse error function, as ONNX Runtime has it.
func probit(v float32) float32 {
	x := 2*v - 1
	sign := float32(1)
	if x < 0 {
		sign = -1
	}
	l := float32(math.Log(float64((1 - x) * (1 + x))))
	a := 2/(float32(3.14159)*0.147) + 0.5*l
	b := 1 / float32(0.147) * l
	return 1.41421356 * sign * float32(math.Sqrt(float64(-a+float32(math.Sqrt(float64(a*a-b))))))
}

func softmaxRow[T Float](x []T) {
	if len(x) == 0 {
		return
	}
	top := T(-math.MaxFloat32)
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	var sum T
	if y, ok := any(x).([]float32); ok && len(y) >= 8 {
		for i, v := range y {
			y[i] = v - float32(top)
		}
		kernel.Exp(y, y)
		for _, e := range x {
			sum += e
		}
	} else {
		for i, v := range x {
			e := T(math.Exp(float64(v - top)))
			x[i] = e
			sum += e
		}
	}
	for i := range x {
		x[i] /= sum
	}
}

// softmaxZero is a softmax that leaves zeros alone.
func softmaxZero(x []float32) {
	top := float32(-math.MaxFloat32)
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	small := float32(math.Exp(float64(-top)))
	var sum float32
	for i, v := range x {
		if v > 0.0000001 || v < -0.0000001 {
			x[i] = float32(math.Exp(float64(v - top)))
			sum += x[i]
		} else {
			x[i] = v * small
		}
	}
	for i := range x {
		x[i] /= sum
	}
}
