package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
)

func svmOps() []Entry {
	ml := func(op string, outs int, c Compile) Entry {
		return Entry{Domain: "ai.onnx.ml", Op: op, Min: 1, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: outs, Compile: c}
	}
	return []Entry{ml("SVMClassifier", 2, compileSVMClassifier), ml("SVMRegressor", 1, compileSVMRegressor)}
}

// svm is what the two operators share: vectors and a kernel function.
type svm struct {
	vectors []float32 // count × width
	count   int
	width   int
	coef    []float32
	rho     []float32
	post    transform
	kernel  string
	gamma   float32
	coef0   float32
	degree  float32
}

func readSVM(n *Node) (*svm, error) {
	s := &svm{}
	var err error
	read := func(to *[]float32, name string) {
		if err == nil {
			*to, err = n.floatsAttr(name)
		}
	}
	var params []float32
	read(&s.vectors, "support_vectors")
	read(&s.coef, "coefficients")
	read(&s.rho, "rho")
	read(&params, "kernel_params")
	if err != nil {
		return nil, err
	}
	if s.post, err = n.transformAttr(); err != nil {
		return nil, err
	}
	if s.kernel, err = n.stringAttr("kernel_type", "LINEAR"); err != nil {
		return nil, err
	}
	switch s.kernel {
	case "LINEAR", "POLY", "RBF", "SIGMOID":
	default:
		return nil, fmt.Errorf("kernel_type %q, expected LINEAR, POLY, RBF or SIGMOID", s.kernel)
	}
	if len(params) != 0 {
		if len(params) != 3 {
			return nil, fmt.Errorf("%d kernel_params, expected 3", len(params))
		}
		s.gamma, s.coef0, s.degree = params[0], params[1], params[2]
	}
	if len(s.coef) == 0 || len(s.rho) == 0 {
		return nil, fmt.Errorf("coefficients or rho are missing")
	}
	return s, n.types(0, numberTypes...)
}

// dims takes the number of support vectors.
func (s *svm) dims(count int64) error {
	if count < 0 || count > int64(len(s.vectors)) || count > 0 && int64(len(s.vectors))%count != 0 {
		return fmt.Errorf("%d support vectors of %d values in all", count, len(s.vectors))
	}
	s.count = int(count)
	if count > 0 {
		s.width = len(s.vectors) / s.count
	}
	return nil
}

// product is the kernel function.
func (s *svm) product(a, b []float32) float32 {
	switch s.kernel {
	case "RBF":
		var sum float32
		for i, v := range a {
			e := v - b[i]
			sum += e * e
		}
		return float32(math.Exp(float64(-s.gamma * sum)))
	case "POLY":
		v := s.gamma*dot(a, b) + s.coef0
		switch s.degree {
		case 2:
			return v * v
		case 3:
			return v * v * v
		}
		return float32(math.Pow(float64(v), float64(s.degree)))
	case "SIGMOID":
		return float32(math.Tanh(float64(s.gamma*dot(a, b) + s.coef0)))
	}
	return dot(a, b)
}

func compileSVMRegressor(n *Node) (Kernel, error) {
	s, err := readSVM(n)
	if err != nil {
		return nil, err
	}
	count, err := n.intAttr("n_supports", 0)
	if err != nil {
		return nil, err
	}
	one, err := n.intAttr("one_class", 0)
	if err != nil {
		return nil, err
	}
	if err := s.dims(count); err != nil {
		return nil, err
	}
	vectors, width := s.vectors, s.width
	if s.count == 0 {
		s.kernel, vectors, width = "LINEAR", s.coef, len(s.coef)
	} else if len(s.coef) != s.count {
		return nil, fmt.Errorf("%d coefficients for %d support vectors", len(s.coef), s.count)
	}
	n.result(0, inference.Float32)
	return func(f *Frame, in, out []*Tensor) error {
		rows, w, err := matrix(in[0])
		if err != nil {
			return err
		}
		if w != width {
			return fmt.Errorf("the input has %d features, the support vectors %d", w, width)
		}
		d, err := Alloc[float32](f, out[0], rows, 1)
		if err != nil {
			return err
		}
		x := f.floats(in[0])
		for r := range rows {
			row := x[r*w : (r+1)*w]
			sum := s.rho[0]
			if s.count == 0 {
				sum += dot(row, vectors)
			} else {
				for i := range s.count {
					sum += s.coef[i] * s.product(row, vectors[i*w:(i+1)*w])
				}
			}
			if one != 0 {
				if sum > 0 {
					sum = 1
				} else {
					sum = -1
				}
			}
			d[r] = sum
		}
		return nil
	}, nil
}

type svmClassifier struct {
	*svm
	perClass, start []int
	classes         int
	probA, probB    []float32
	ints            []int64
	strs            []string
	positive        bool
}

func compileSVMClassifier(n *Node) (Kernel, error) {
	s, err := readSVM(n)
	if err != nil {
		return nil, err
	}
	c := &svmClassifier{svm: s, positive: true}
	if c.ints, err = n.intsAttr("classlabels_ints"); err != nil {
		return nil, err
	}
	if c.strs, err = n.stringsAttr("classlabels_strings"); err != nil {
		return nil, err
	}
	if c.probA, err = n.floatsAttr("prob_a"); err != nil {
		return nil, err
	}
	if c.probB, err = n.floatsAttr("prob_b"); err != nil {
		return nil, err
	}
	per, err := n.intsAttr("vectors_per_class")
	if err != nil {
		return nil, err
	}
	if len(c.strs) > 0 {
		c.ints = nil
	}
	c.classes = len(c.ints) + len(c.strs)
	total := int64(0)
	for _, v := range per {
		if v < 0 || v > int64(len(s.vectors)) {
			return nil, fmt.Errorf("vectors_per_class holds %d", v)
		}
		c.start = append(c.start, int(total))
		c.perClass = append(c.perClass, int(v))
		total += v
	}
	if err := s.dims(total); err != nil {
		return nil, err
	}
	pairs := c.classes * (c.classes - 1) / 2
	switch {
	case c.classes < 2 || c.classes > 1<<12:
		return nil, unsupported("%d classes", c.classes)
	case s.count > 0 && (len(per) != c.classes || len(s.coef) < (c.classes-1)*s.count || len(s.rho) < pairs):
		return nil, fmt.Errorf("%d coefficients, %d rho and %d vectors_per_class for %d classes and %d support vectors", len(s.coef), len(s.rho), len(per), c.classes, s.count)
	case s.count == 0 && len(s.coef)%c.classes != 0:
		return nil, fmt.Errorf("%d coefficients for %d classes", len(s.coef), c.classes)
	case len(c.probA) != len(c.probB) || len(c.probA) != 0 && len(c.probA) < pairs:
		return nil, fmt.Errorf("%d prob_a and %d prob_b for %d pairs of classes", len(c.probA), len(c.probB), pairs)
	}
	if s.count == 0 {
		s.kernel, s.width = "LINEAR", len(s.coef)/c.classes
		c.probA = nil
	}
	for _, v := range s.coef {
		c.positive = c.positive && v >= 0
	}
	n.result(0, inference.Int64)
	if c.strs != nil {
		n.result(0, inference.String)
	}
	n.result(1, inference.Float32)
	return c.run, nil
}

func (c *svmClassifier) run(f *Frame, in, out []*Tensor) error {
	rows, w, err := matrix(in[0])
	if err != nil {
		return err
	}
	if w != c.width {
		return fmt.Errorf("the input has %d features, the support vectors %d", w, c.width)
	}
	pairs := c.classes * (c.classes - 1) / 2
	width := c.classes
	if c.count > 0 && len(c.probA) == 0 && c.classes > 2 {
		width = pairs
	}
	var z []float32
	if out[1] != nil {
		z, err = Alloc[float32](f, out[1], rows, width)
	} else if _, err = f.take([]int{rows, width}); err == nil {
		z = make([]float32, rows*width)
	}
	if err != nil {
		return err
	}
	var l label
	if err := l.alloc(f, out[0], rows, c.ints, c.strs); err != nil {
		return err
	}
	x := f.floats(in[0])
	mem := f.scratch(1, c.count+pairs+c.classes+2*c.classes*c.classes+c.classes)
	for r := range rows {
		l.set(r, c.row(x[r*w:(r+1)*w], z[r*width:(r+1)*width], mem))
	}
	return nil
}

// row writes the scores of one row and returns its class, as ONNX Runtime decides.
func (c *svmClassifier) row(x, z, mem []float32) int {
	k := c.classes
	if c.count == 0 {
		best := 0
		for j := range k {
			z[j] = dot(x, c.coef[j*c.width:(j+1)*c.width]) + c.rho[0]
			if z[j] > z[best] {
				best = j
			}
		}
		if k == 2 && !c.positive && z[best] > 0 || k == 2 && c.positive && z[best] >= 0.5 {
			best = 1
		}
		c.post.apply(z)
		return best
	}
	dots, mem := mem[:c.count], mem[c.count:]
	for i := range dots {
		dots[i] = c.product(x, c.vectors[i*c.width:(i+1)*c.width])
	}
	pairs := k * (k - 1) / 2
	scores, mem := mem[:pairs], mem[pairs:]
	votes, mem := mem[:k], mem[k:]
	clear(votes)
	p := 0
	for i := range k - 1 {
		for j := i + 1; j < k; j++ {
			sum := 0.0
			for m := range c.perClass[i] {
				sum += float64(c.coef[(j-1)*c.count+c.start[i]+m] * dots[c.start[i]+m])
			}
			for m := range c.perClass[j] {
				sum += float64(c.coef[i*c.count+c.start[j]+m] * dots[c.start[j]+m])
			}
			sum += float64(c.rho[p])
			scores[p] = float32(sum)
			if sum > 0 {
				votes[i]++
			} else {
				votes[j]++
			}
			p++
		}
	}
	best := 0
	for i, v := range votes {
		if v > votes[best] {
			best = i
		}
	}
	switch {
	case len(c.probA) > 0:
		c.probabilities(scores, z, mem)
		c.post.apply(z)
	case k == 2:
		c.binary(scores[0], z)
	default:
		copy(z, scores)
		c.post.apply(z)
	}
	return best
}

// binary writes two scores for one.
func (c *svmClassifier) binary(s float32, z []float32) {
	switch {
	case c.post == transformProbit:
		z[0], z[1] = probit(s), 0
	case c.post == transformNone:
		z[0], z[1] = -s, s
	case c.post == transformLogistic:
		z[0], z[1] = logistic(-s), logistic(s)
	default:
		z[0], z[1] = 1-s, s
	}
}

// probabilities couples pairwise probabilities by the second method of Wu, Lin and Weng,
// "Probability estimates for multi-class classification by pairwise coupling" (2004), with
// libsvm's stopping rule.
func (c *svmClassifier) probabilities(scores, p, mem []float32) {
	k := c.classes
	r, mem := mem[:k*k], mem[k*k:]
	q, mem := mem[:k*k], mem[k*k:]
	qp := mem[:k]
	clear(r)
	clear(q)
	at := 0
	for i := range k - 1 {
		for j := i + 1; j < k; j++ {
			v := 1 - logistic(scores[at]*c.probA[at]+c.probB[at])
			v = min(max(v, 1e-7), 1-1e-7)
			r[i*k+j], r[j*k+i] = v, 1-v
			at++
		}
	}
	for i := range k {
		p[i] = 1 / float32(k)
		for j := range k {
			if j != i {
				q[i*k+i] += r[j*k+i] * r[j*k+i]
				q[i*k+j] = -r[j*k+i] * r[i*k+j]
			}
		}
	}
	eps := 0.005 / float32(k)
	for range 100 {
		var pqp float32
		for i := range k {
			qp[i] = dot(q[i*k:(i+1)*k], p)
			pqp += p[i] * qp[i]
		}
		var worst float32
		for i := range k {
			if e := abs(qp[i] - pqp); e > worst { // NaN stops at equal shares, as in ONNX Runtime
				worst = e
			}
		}
		if worst < eps {
			return
		}
		for i := range k {
			d := (pqp - qp[i]) / q[i*k+i]
			p[i] += d
			pqp = (pqp + d*(d*q[i*k+i]+2*qp[i])) / (1 + d) / (1 + d)
			for j := range k {
				qp[j] = (qp[j] + d*q[i*k+j]) / (1 + d)
				p[j] /= 1 + d
			}
		}
	}
}

// dot keeps four sums, as one would wait for each addition.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
