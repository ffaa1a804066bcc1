package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
)

func encodeOps() []Entry {
	e := func(op string, least, most, inMin, inMax int, c Compile) Entry {
		return Entry{Domain: "ai.onnx.ml", Op: op, Min: least, Max: most, InMin: inMin, InMax: inMax, OutMax: 1, Compile: c}
	}
	return []Entry{
		e("LabelEncoder", 1, 1, 1, 1, compileLabelEncoder1),
		e("LabelEncoder", 2, MaxMLOpset, 1, 1, compileLabelEncoder),
		e("CategoryMapper", 1, MaxMLOpset, 1, 1, compileCategoryMapper),
		e("OneHotEncoder", 1, MaxMLOpset, 1, 1, compileOneHot),
		e("ArrayFeatureExtractor", 1, MaxMLOpset, 2, 2, compileArrayFeatureExtractor),
		e("FeatureVectorizer", 1, MaxMLOpset, 1, -1, compileFeatureVectorizer),
	}
}

// lookup is the kernel of a map with a default. NaN keys are found too.
func lookup[K, V Elem](keys []K, values []V, otherwise V) (Kernel, error) {
	if len(keys) != len(values) {
		return nil, fmt.Errorf("%d keys for %d values", len(keys), len(values))
	}
	m := make(map[K]V, len(keys))
	var ofNaN *V
	for i, k := range keys {
		if k != k {
			if ofNaN == nil {
				ofNaN = &values[i]
			}
			continue
		}
		if _, twice := m[k]; !twice {
			m[k] = values[i]
		}
	}
	return func(f *Frame, in, out []*Tensor) error {
		x := Data[K](in[0])
		d, err := Alloc[V](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		for i, k := range x {
			v, ok := m[k]
			if !ok {
				v = otherwise
				if k != k && ofNaN != nil {
					v = *ofNaN
				}
			}
			d[i] = v
		}
		return nil
	}, nil
}

// between makes a lookup in one of two directions, by the input's type.
func between(n *Node, strs []string, ints []int64, asString string, asInt int64) (Kernel, error) {
	switch n.In[0].Type {
	case inference.String:
		n.result(0, inference.Int64)
		return lookup(strs, ints, asInt)
	case inference.Int64:
		n.result(0, inference.String)
		return lookup(ints, strs, asString)
	}
	return nil, unsupported("an input of %v; supported are string and int64", n.In[0].Type)
}

func (n *Node) defaults() (s string, i int64, err error) {
	if s, err = n.stringAttr("default_string", "_Unused"); err != nil {
		return
	}
	i, err = n.intAttr("default_int64", -1)
	return
}

func compileLabelEncoder1(n *Node) (Kernel, error) {
	classes, err := n.stringsAttr("classes_strings")
	if err != nil {
		return nil, err
	}
	s, i, err := n.defaults()
	if err != nil {
		return nil, err
	}
	ints := make([]int64, len(classes))
	for k := range ints {
		ints[k] = int64(k)
	}
	return between(n, classes, ints, s, i)
}

func compileCategoryMapper(n *Node) (Kernel, error) {
	strs, err := n.stringsAttr("cats_strings")
	if err != nil {
		return nil, err
	}
	ints, err := n.intsAttr("cats_int64s")
	if err != nil {
		return nil, err
	}
	s, i, err := n.defaults()
	if err != nil {
		return nil, err
	}
	return between(n, strs, ints, s, i)
}

// side reads keys or values of a LabelEncoder, whichever attribute holds them.
func (n *Node) side(prefix string) (*Tensor, error) {
	t, err := n.tensorAttr(prefix + "_tensor")
	if err != nil {
		return nil, err
	}
	strs, err := n.stringsAttr(prefix + "_strings")
	if err != nil {
		return nil, err
	}
	ints, err := n.intsAttr(prefix + "_int64s")
	if err != nil {
		return nil, err
	}
	floats, err := n.floatsAttr(prefix + "_floats")
	if err != nil {
		return nil, err
	}
	switch {
	case t != nil:
		return t, nil
	case len(strs) > 0:
		return &Tensor{Type: inference.String, Str: strs}, nil
	case len(ints) > 0:
		return &Tensor{Type: inference.Int64, I64: ints}, nil
	case len(floats) > 0:
		return &Tensor{Type: inference.Float32, F32: floats}, nil
	}
	return nil, fmt.Errorf("no %s", prefix)
}

func compileLabelEncoder(n *Node) (Kernel, error) {
	keys, err := n.side("keys")
	if err != nil {
		return nil, err
	}
	values, err := n.side("values")
	if err != nil {
		return nil, err
	}
	s, i, err := n.defaults()
	if err != nil {
		return nil, err
	}
	fl, err := n.floatAttr("default_float", float32(math.Copysign(0, -1)))
	if err != nil {
		return nil, err
	}
	def, err := n.tensorAttr("default_tensor")
	if err != nil {
		return nil, err
	}
	if def == nil {
		def = &Tensor{Type: values.Type, Str: []string{s}, I64: []int64{i}, I32: []int32{int32(i)}, F32: []float32{fl}, F64: []float64{float64(fl)}}
	}
	if def.Type != values.Type || Len(def) != 1 {
		return nil, fmt.Errorf("the default is %d elements of %v, the values are %v", Len(def), def.Type, values.Type)
	}
	if err := n.types(0, keys.Type); err != nil {
		return nil, err
	}
	n.result(0, values.Type)
	switch keys.Type {
	case inference.String:
		return lookupTo(keys.Str, values, def)
	case inference.Int64:
		return lookupTo(keys.I64, values, def)
	case inference.Int32:
		return lookupTo(keys.I32, values, def)
	case inference.Float32:
		return lookupTo(keys.F32, values, def)
	case inference.Float64:
		return lookupTo(keys.F64, values, def)
	}
	return nil, unsupported("keys of %v", keys.Type)
}

func lookupTo[K Elem](keys []K, values, def *Tensor) (Kernel, error) {
	switch values.Type {
	case inference.String:
		return lookup(keys, values.Str, def.Str[0])
	case inference.Int64:
		return lookup(keys, values.I64, def.I64[0])
	case inference.Int32:
		return lookup(keys, values.I32, def.I32[0])
	case inference.Float32:
		return lookup(keys, values.F32, def.F32[0])
	case inference.Float64:
		return lookup(keys, values.F64, def.F64[0])
	}
	return nil, unsupported("values of %v", values.Type)
}

func compileOneHot(n *Node) (Kernel, error) {
	ints, err := n.intsAttr("cats_int64s")
	if err != nil {
		return nil, err
	}
	strs, err := n.stringsAttr("cats_strings")
	if err != nil {
		return nil, err
	}
	zeros, err := n.intAttr("zeros", 1)
	if err != nil {
		return nil, err
	}
	if (len(ints) > 0) == (len(strs) > 0) {
		return nil, fmt.Errorf("expected either cats_int64s or cats_strings")
	}
	n.result(0, inference.Float32)
	if len(strs) > 0 {
		if err := n.types(0, inference.String); err != nil {
			return nil, err
		}
		return oneHot(strs, func(s string) string { return s }, zeros != 0), nil
	}
	return byNumber(n.In[0].Type,
		oneHot(ints, func(v float32) int64 { i, _ := number[int64](v); return i }, zeros != 0),
		oneHot(ints, func(v float64) int64 { i, _ := number[int64](v); return i }, zeros != 0),
		oneHot(ints, func(v int64) int64 { return v }, zeros != 0),
		oneHot(ints, func(v int32) int64 { return int64(v) }, zeros != 0))
}

func oneHot[K, T Elem](cats []K, key func(T) K, zeros bool) Kernel {
	at := make(map[K]int, len(cats))
	for i, c := range cats {
		if _, twice := at[c]; !twice {
			at[c] = i
		}
	}
	return func(f *Frame, in, out []*Tensor) error {
		var shape [MaxRank + 1]int
		rank := copy(shape[:], in[0].Shape)
		shape[rank] = len(cats)
		d, err := Alloc[float32](f, out[0], shape[:rank+1]...)
		if err != nil {
			return err
		}
		clear(d)
		for i, v := range Data[T](in[0]) {
			j, ok := at[key(v)]
			if ok {
				d[i*len(cats)+j] = 1
			} else if !zeros {
				return valueError("category %v is unknown", v)
			}
		}
		return nil
	}
}

func compileArrayFeatureExtractor(n *Node) (Kernel, error) {
	if err := n.types(1, inference.Int64); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, extract[float32], extract[float64], extract[int64], extract[int32], nil, extract[string])
}

func extract[T Elem](f *Frame, in, out []*Tensor) error {
	if len(in[0].Shape) == 0 {
		return fmt.Errorf("a scalar input")
	}
	w := columns(in[0])
	ix, err := f.intsOf(in[1])
	if err != nil {
		return err
	}
	for _, j := range ix {
		if j < 0 || j >= w {
			return fmt.Errorf("feature %d of %d", j, w)
		}
	}
	var shape [MaxRank]int
	rank := copy(shape[:], in[0].Shape)
	shape[rank-1] = len(ix)
	if rank == 1 {
		shape[0], shape[1], rank = 1, len(ix), 2
	}
	d, err := Alloc[T](f, out[0], shape[:rank]...)
	if err != nil {
		return err
	}
	x := Data[T](in[0])
	at := 0
	for base := 0; base < len(x); base += w {
		row := x[base : base+w]
		for _, j := range ix {
			d[at] = row[j]
			at++
		}
	}
	return nil
}

func compileFeatureVectorizer(n *Node) (Kernel, error) {
	dims, err := n.intsAttr("inputdimensions")
	if err != nil {
		return nil, err
	}
	if len(dims) != 0 && len(dims) != len(n.In) {
		return nil, fmt.Errorf("%d inputdimensions for %d inputs", len(dims), len(n.In))
	}
	for i := range n.In {
		if err := n.types(i, numberTypes...); err != nil {
			return nil, err
		}
	}
	k := len(n.In)
	n.result(0, inference.Float32)
	return func(f *Frame, in, out []*Tensor) error {
		rows, width := 0, 0
		// want is how many columns an input gives: missing ones are zero, more are cut.
		want := func(i, have int) int {
			if len(dims) == 0 {
				return have
			}
			return int(max(min(dims[i], int64(f.MaxElements)), 0))
		}
		for i, t := range in[:k] {
			r, w, err := matrix(t)
			if err != nil {
				return fmt.Errorf("input %d: %w", i, err)
			}
			if i > 0 && r != rows {
				return fmt.Errorf("input %d has %d rows, input 0 has %d", i, r, rows)
			}
			rows = r
			if width += want(i, w); width > f.MaxElements {
				return fmt.Errorf("more than %d columns", f.MaxElements)
			}
		}
		d, err := Alloc[float32](f, out[0], rows, width)
		if err != nil {
			return err
		}
		clear(d)
		at := 0
		for i, t := range in[:k] {
			_, w, _ := matrix(t)
			x, c := f.floats(t), want(i, w)
			for r := range rows {
				copy(d[r*width+at:r*width+at+c], x[r*w:(r+1)*w])
			}
			at += c
		}
		return nil
	}, nil
}
