package ops

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/kernel"
)

func linearOps() []Entry {
	ml := func(op string, outs int, c Compile) Entry {
		return Entry{Domain: "ai.onnx.ml", Op: op, Min: 1, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: outs, Compile: c}
	}
	return []Entry{ml("LinearClassifier", 2, compileLinearClassifier), ml("LinearRegressor", 1, compileLinearRegressor)}
}

// linear is a set of linear functions over the features.
type linear struct {
	packed    *kernel.Packed // features × targets
	intercept []float32      // by target; may be empty
	targets   int
	post      transform
	coef      []float32 // targets × features
}

func readLinear(n *Node, targets int) (*linear, error) {
	if err := n.types(0, numberTypes...); err != nil {
		return nil, err
	}
	l := &linear{targets: targets}
	coef, err := n.floatsAttr("coefficients")
	if err != nil {
		return nil, err
	}
	if l.intercept, err = n.floatsAttr("intercepts"); err != nil {
		return nil, err
	}
	if l.post, err = n.transformAttr(); err != nil {
		return nil, err
	}
	if targets <= 0 || len(coef) == 0 || len(coef)%targets != 0 {
		return nil, fmt.Errorf("%d coefficients for %d targets or classes", len(coef), targets)
	}
	if len(l.intercept) != 0 && len(l.intercept) != targets {
		return nil, fmt.Errorf("%d intercepts for %d targets or classes", len(l.intercept), targets)
	}
	if len(l.intercept) == 0 {
		l.intercept = nil
	}
	l.coef = coef
	l.packed = kernel.Pack(coef, len(coef)/targets, targets, true)
	return l, nil
}

// scores writes rows × targets scores, stride apart.
func (l *linear) scores(f *Frame, x *Tensor, z []float32, stride int) error {
	rows, width, err := matrix(x)
	if err != nil {
		return err
	}
	k := l.targets
	if width != l.packed.K() {
		return fmt.Errorf("the input has %d features, the coefficients are for %d", width, l.packed.K())
	}
	data := f.floats(x)
	if stride == k {
		l.packed.Mul(z, data, rows, l.intercept, false)
		return nil
	}
	own := f.scratch(2, rows*k)
	l.packed.Mul(own, data, rows, l.intercept, false)
	for r := range rows {
		copy(z[r*stride:r*stride+k], own[r*k:(r+1)*k])
	}
	return nil
}

func compileLinearRegressor(n *Node) (Kernel, error) {
	targets, err := n.intAttr("targets", 1)
	if err != nil {
		return nil, err
	}
	l, err := readLinear(n, int(max(min(targets, 1<<24), 0)))
	if err != nil {
		return nil, err
	}
	n.result(0, inference.Float32)
	n.Source = l.regressionSource
	return func(f *Frame, in, out []*Tensor) error {
		rows, _, err := matrix(in[0])
		if err != nil {
			return err
		}
		z, err := Alloc[float32](f, out[0], rows, l.targets)
		if err != nil {
			return err
		}
		if err := l.scores(f, in[0], z, l.targets); err != nil {
			return err
		}
		for r := 0; l.post != transformNone && r < rows; r++ {
			row := z[r*l.targets : (r+1)*l.targets]
			if l.targets == 1 && l.post != transformProbit {
				break // ONNX Runtime transforms a lone target by PROBIT alone
			}
			l.post.apply(row)
		}
		return nil
	}, nil
}

func compileLinearClassifier(n *Node) (Kernel, error) {
	ints, err := n.intsAttr("classlabels_ints")
	if err != nil {
		return nil, err
	}
	strs, err := n.stringsAttr("classlabels_strings")
	if err != nil {
		return nil, err
	}
	if len(strs) > 0 {
		ints = nil
	}
	intercepts, err := n.floatsAttr("intercepts")
	if err != nil {
		return nil, err
	}
	n.ignore("multi_class")
	classes := len(ints) + len(strs)
	targets := len(intercepts)
	if targets == 0 {
		targets = classes
	}
	l, err := readLinear(n, targets)
	if err != nil {
		return nil, err
	}
	if classes != targets && !(targets == 1 && classes <= 2) {
		return nil, fmt.Errorf("%d class labels for %d scores", classes, targets)
	}
	if targets == 1 && classes != 2 { // a lone score decides between 0 and 1
		if strs != nil {
			strs = []string{"0", "1"}
		} else {
			ints = []int64{0, 1}
		}
	}
	width := targets
	if targets == 1 && classes == 2 {
		width = 2
	}
	n.result(0, inference.Int64)
	if strs != nil {
		n.result(0, inference.String)
	}
	n.result(1, inference.Float32)
	n.Source = func() *Source { return l.classifierSource(width) }
	return func(f *Frame, in, out []*Tensor) error {
		rows, _, err := matrix(in[0])
		if err != nil {
			return err
		}
		var z []float32
		if out[1] != nil {
			z, err = Alloc[float32](f, out[1], rows, width)
		} else if _, err = f.take([]int{rows, width}); err == nil {
			z = f.scratch(1, rows*width)
		}
		if err != nil {
			return err
		}
		if err := l.scores(f, in[0], z, width); err != nil {
			return err
		}
		var lab label
		if err := lab.alloc(f, out[0], rows, ints, strs); err != nil {
			return err
		}
		for r := range rows {
			row := z[r*width : (r+1)*width]
			best := 0
			if targets == 1 {
				if row[0] > 0 {
					best = 1
				}
				if width == 2 {
					l.pair(row)
				} else {
					l.lone(row)
				}
			} else {
				for j, v := range row {
					if v > row[best] {
						best = j
					}
				}
				l.post.apply(row)
			}
			lab.set(r, best)
		}
		return nil
	}, nil
}

// pair makes two scores of the first.
func (l *linear) pair(z []float32) {
	s := z[0]
	switch l.post {
	case transformLogistic:
		z[0], z[1] = logistic(-s), logistic(s)
	case transformProbit:
		z[0], z[1] = probit(s), 0
	default:
		z[0], z[1] = 1-s, s
	}
}

func (l *linear) lone(z []float32) {
	if l.post == transformProbit {
		l.post.apply(z)
	}
}
