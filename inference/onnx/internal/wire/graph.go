package wire

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

func (d *decoder) model(b []byte) (*Model, error) {
	m := &Model{Opsets: map[string]int64{}, Props: map[string]string{}}
	hasGraph := false
	err := d.message(b, func(f field) (err error) {
		switch f.num {
		case 1:
			err = setInt(&m.IRVersion, f)
		case 2:
			err = d.setStr(&m.ProducerName, f)
		case 3:
			err = d.setStr(&m.ProducerVersion, f)
		case 5:
			err = setInt(&m.ModelVersion, f)
		case 7:
			var body []byte
			if body, err = sub(f); err == nil {
				hasGraph = true
				err = d.graph(body, &m.Graph)
			}
		case 8:
			err = d.opset(f, m.Opsets)
		case 14:
			err = d.prop(f, m.Props)
		case 25:
			m.Functions++
		}
		return err
	})
	if err == nil && !hasGraph {
		err = fmt.Errorf("no graph: this is not an ONNX model")
	}
	return m, err
}

func setInt(to *int64, f field) error {
	v, err := number(f)
	*to = int64(v)
	return err
}

func (d *decoder) opset(f field, to map[string]int64) error {
	b, err := sub(f)
	if err != nil {
		return err
	}
	var domain string
	var version int64
	err = d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return d.setStr(&domain, f)
		case 2:
			return setInt(&version, f)
		}
		return nil
	})
	to[Domain(domain)] = version
	return err
}

// Domain maps the two spellings of the default operator domain to "".
func Domain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

func (d *decoder) prop(f field, to map[string]string) error {
	b, err := sub(f)
	if err != nil {
		return err
	}
	var key, value string
	err = d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return d.setStr(&key, f)
		case 2:
			return d.setStr(&value, f)
		}
		return nil
	})
	to[key] = value
	return err
}

func (d *decoder) graph(b []byte, g *Graph) error {
	return d.message(b, func(f field) error {
		switch f.num {
		case 2:
			return d.setStr(&g.Name, f)
		case 1, 5, 11, 12:
		case 15:
			g.SparseInitializers++
			return nil
		default:
			return nil
		}
		body, err := sub(f)
		if err != nil {
			return err
		}
		switch f.num {
		case 1:
			if len(g.Nodes) >= d.limits.MaxNodes {
				return fmt.Errorf("more than %d nodes", d.limits.MaxNodes)
			}
			g.Nodes = append(g.Nodes, Node{})
			n := &g.Nodes[len(g.Nodes)-1]
			if err := d.node(body, n); err != nil {
				return fmt.Errorf("node %d (%s %q): %w", len(g.Nodes)-1, n.Op, n.Name, err)
			}
		case 5:
			g.Initializers = append(g.Initializers, Tensor{})
			t := &g.Initializers[len(g.Initializers)-1]
			if err := d.tensor(body, t); err != nil {
				return fmt.Errorf("initializer %q: %w", t.Name, err)
			}
		case 11, 12:
			var v ValueInfo
			if err := d.valueInfo(body, &v); err != nil {
				return fmt.Errorf("value %q: %w", v.Name, err)
			}
			if f.num == 11 {
				g.Inputs = append(g.Inputs, v)
			} else {
				g.Outputs = append(g.Outputs, v)
			}
		}
		return nil
	})
}

func (d *decoder) node(b []byte, n *Node) error {
	return d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return d.appendStr(&n.Inputs, f)
		case 2:
			return d.appendStr(&n.Outputs, f)
		case 3:
			return d.setStr(&n.Name, f)
		case 4:
			return d.setStr(&n.Op, f)
		case 5:
			body, err := sub(f)
			if err != nil {
				return err
			}
			n.Attrs = append(n.Attrs, Attr{})
			a := &n.Attrs[len(n.Attrs)-1]
			if err := d.attr(body, a); err != nil {
				return fmt.Errorf("attribute %q: %w", a.Name, err)
			}
		case 7:
			err := d.setStr(&n.Domain, f)
			n.Domain = Domain(n.Domain)
			return err
		}
		return nil
	})
}

func (d *decoder) attr(b []byte, a *Attr) error {
	declared, seen := 0, 0
	err := d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return d.setStr(&a.Name, f)
		case 2:
			if f.typ != protowire.Fixed32Type {
				return fmt.Errorf("field 2 is not a float")
			}
			a.F = math.Float32frombits(uint32(f.v))
			seen = AttrFloat
		case 3:
			seen = AttrInt
			return setInt(&a.I, f)
		case 4:
			seen = AttrString
			return d.setStr(&a.S, f)
		case 5:
			body, err := sub(f)
			if err != nil {
				return err
			}
			seen = AttrTensor
			a.T = &Tensor{}
			return d.tensor(body, a.T)
		case 6, 11:
			seen = AttrGraph
		case 7:
			seen = AttrFloats
			return appendFloats(&a.Floats, f)
		case 8:
			seen = AttrInts
			return appendVarints(&a.Ints, f)
		case 9:
			seen = AttrStrings
			return d.appendStr(&a.Strings, f)
		case 10, 14, 15, 22, 23, 21:
			seen = AttrOther
		case 20:
			v, err := number(f)
			declared = int(min(v, 1000))
			return err
		}
		return nil
	})
	// The declared kind wins: a zero value may be absent from the bytes.
	switch {
	case declared == 0:
		a.Kind = seen
	case declared >= AttrFloat && declared <= AttrStrings:
		a.Kind = declared
	default:
		a.Kind = AttrOther
	}
	if err == nil && a.Kind == AttrTensor && a.T == nil {
		err = fmt.Errorf("a tensor is declared but absent")
	}
	return err
}

func (d *decoder) tensor(b []byte, t *Tensor) error {
	return d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return appendVarints(&t.Dims, f)
		case 2:
			v, err := number(f)
			t.Type = int(min(v, 1000))
			return err
		case 3:
			return fmt.Errorf("segmented tensors are not allowed")
		case 4:
			return appendFloats(&t.Floats, f)
		case 5:
			return appendVarints(&t.Int32s, f)
		case 6:
			s, err := d.str(f)
			t.Strings = append(t.Strings, s)
			return err
		case 7:
			return appendVarints(&t.Int64s, f)
		case 8:
			return d.setStr(&t.Name, f)
		case 9:
			body, err := sub(f)
			t.Raw, t.HasRaw = body, true
			return err
		case 10:
			return appendDoubles(&t.Doubles, f)
		case 11:
			return appendVarints(&t.Uint64s, f)
		case 13:
			t.External = true
		case 14:
			t.External = t.External || f.v != 0
		}
		return nil
	})
}

func (d *decoder) valueInfo(b []byte, v *ValueInfo) error {
	return d.message(b, func(f field) error {
		switch f.num {
		case 1:
			return d.setStr(&v.Name, f)
		case 2:
			body, err := sub(f)
			if err != nil {
				return err
			}
			return d.message(body, func(f field) error {
				switch f.num {
				case 1:
					v.Kind = KindTensor
					body, err := sub(f)
					if err != nil {
						return err
					}
					return d.tensorType(body, v)
				case 4:
					v.Kind = KindSequence
				case 5:
					v.Kind = KindMap
				case 6:
				default:
					v.Kind = KindOther
				}
				return nil
			})
		}
		return nil
	})
}

func (d *decoder) tensorType(b []byte, v *ValueInfo) error {
	return d.message(b, func(f field) error {
		switch f.num {
		case 1:
			n, err := number(f)
			v.Type = int(min(n, 1000))
			return err
		case 2:
			v.HasShape = true
			body, err := sub(f)
			if err != nil {
				return err
			}
			return d.message(body, func(f field) error {
				if f.num != 1 {
					return nil
				}
				body, err := sub(f)
				if err != nil {
					return err
				}
				dim := int64(-1)
				err = d.message(body, func(f field) error {
					if f.num != 1 {
						return nil
					}
					return setInt(&dim, f)
				})
				if dim < 0 {
					dim = -1
				}
				v.Dims = append(v.Dims, dim)
				return err
			})
		}
		return nil
	})
}
