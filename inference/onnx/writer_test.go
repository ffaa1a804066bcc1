package onnx

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The functions below write ONNX's protobuf messages for tests, sound ones and others.

type pb []byte

func (b pb) msg(num protowire.Number, m pb) pb {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), m)
}

func (b pb) str(num protowire.Number, s string) pb { return b.msg(num, pb(s)) }

func (b pb) num(num protowire.Number, v int64) pb {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
}

// attr writes an AttributeProto; its kind follows from v.
func attr(name string, v any) pb {
	b := pb{}.str(1, name)
	kind := int64(0)
	switch v := v.(type) {
	case float32:
		b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), math.Float32bits(v))
		kind = 1
	case int:
		b, kind = b.num(3, int64(v)), 2
	case string:
		b, kind = b.str(4, v), 3
	case tensorPB:
		b, kind = b.msg(5, pb(v)), 4
	case []float32:
		var p []byte
		for _, f := range v {
			p = protowire.AppendFixed32(p, math.Float32bits(f))
		}
		b, kind = b.msg(7, p), 6
	case []int64:
		var p []byte
		for _, i := range v {
			p = protowire.AppendVarint(p, uint64(i))
		}
		b, kind = b.msg(8, p), 7
	case []string:
		for _, s := range v {
			b = b.str(9, s)
		}
		kind = 8
	}
	return b.num(20, kind)
}

func node(op, domain string, in, out []string, attrs ...pb) pb {
	b := pb{}
	for _, s := range in {
		b = b.str(1, s)
	}
	for _, s := range out {
		b = b.str(2, s)
	}
	b = b.str(3, op+"_"+out[0]).str(4, op)
	for _, a := range attrs {
		b = b.msg(5, a)
	}
	return b.str(7, domain)
}

type tensorPB pb

// tensorOf writes a TensorProto of float32, float64, int64 or uint8.
func tensorOf(name string, dims []int64, data any) tensorPB {
	b := pb{}
	for _, d := range dims {
		b = b.num(1, d)
	}
	switch v := data.(type) {
	case []float32:
		var p []byte
		for _, f := range v {
			p = protowire.AppendFixed32(p, math.Float32bits(f))
		}
		b = b.num(2, 1).msg(4, p)
	case []float64:
		var p []byte
		for _, f := range v {
			p = protowire.AppendFixed64(p, math.Float64bits(f))
		}
		b = b.num(2, 11).msg(10, p)
	case []int64:
		var p []byte
		for _, i := range v {
			p = protowire.AppendVarint(p, uint64(i))
		}
		b = b.num(2, 7).msg(7, p)
	case []uint8:
		b = b.num(2, 2).msg(9, pb(v))
	}
	return tensorPB(b.str(8, name))
}

// tensorInfo writes a ValueInfoProto; −1 is an open size.
func tensorInfo(name string, elem int64, dims ...int64) pb {
	shape := pb{}
	for _, d := range dims {
		if d < 0 {
			shape = shape.msg(1, pb{}.str(2, "N"))
		} else {
			shape = shape.msg(1, pb{}.num(1, d))
		}
	}
	return pb{}.str(1, name).msg(2, pb{}.msg(1, pb{}.num(1, elem).msg(2, shape)))
}

type graphPB struct {
	nodes, inits, ins, outs []pb
}

// modelOf writes a ModelProto with operator sets 17 and ai.onnx.ml 3.
func modelOf(g graphPB) []byte { return modelAt(3, g) }

// modelAt writes a ModelProto with operator set 17 and this one of ai.onnx.ml.
func modelAt(ml int64, g graphPB) []byte {
	b := pb{}
	for _, n := range g.nodes {
		b = b.msg(1, n)
	}
	b = b.str(2, "test")
	for _, t := range g.inits {
		b = b.msg(5, t)
	}
	for _, v := range g.ins {
		b = b.msg(11, v)
	}
	for _, v := range g.outs {
		b = b.msg(12, v)
	}
	return pb{}.num(1, 8).str(2, "writer").str(3, "1").msg(7, b).
		msg(8, pb{}.str(1, "").num(2, 17)).msg(8, pb{}.str(1, "ai.onnx.ml").num(2, ml))
}

// trees builds the arrays of a tree operator.
type trees struct {
	tree, node, feat, yes, no, missing []int64
	modes                              []string
	values                             []float32
	leafTree, leafNode, leafID         []int64
	weights                            []float32
}

func (t *trees) branch(tree, node, feat int64, mode string, v float32, yes, no, missing int64) {
	t.tree, t.node, t.feat = append(t.tree, tree), append(t.node, node), append(t.feat, feat)
	t.modes, t.values = append(t.modes, mode), append(t.values, v)
	t.yes, t.no, t.missing = append(t.yes, yes), append(t.no, no), append(t.missing, missing)
}

func (t *trees) leaf(tree, node, id int64, w float32) {
	t.branch(tree, node, 0, "LEAF", 0, 0, 0, 0)
	t.leafTree, t.leafNode = append(t.leafTree, tree), append(t.leafNode, node)
	t.leafID, t.weights = append(t.leafID, id), append(t.weights, w)
}

// attrs writes the attributes with the prefix of leaf weights, class or target.
func (t *trees) attrs(prefix string) []pb {
	return []pb{
		attr("nodes_treeids", t.tree), attr("nodes_nodeids", t.node), attr("nodes_featureids", t.feat),
		attr("nodes_modes", t.modes), attr("nodes_values", t.values), attr("nodes_truenodeids", t.yes),
		attr("nodes_falsenodeids", t.no), attr("nodes_missing_value_tracks_true", t.missing),
		attr(prefix+"_treeids", t.leafTree), attr(prefix+"_nodeids", t.leafNode), attr(prefix+"_ids", t.leafID),
		attr(prefix+"_weights", t.weights),
	}
}

// regressor is a model of one TreeEnsembleRegressor.
func regressor(t *trees, features int64, more ...pb) []byte {
	return modelOf(graphPB{
		nodes: []pb{node("TreeEnsembleRegressor", "ai.onnx.ml", []string{"x"}, []string{"y"}, append(t.attrs("target"), more...)...)},
		ins:   []pb{tensorInfo("x", 1, -1, features)},
		outs:  []pb{tensorInfo("y", 1, -1, 1)},
	})
}
