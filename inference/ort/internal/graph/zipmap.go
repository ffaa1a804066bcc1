package graph

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// unzipped is the file with Identity in the place of each ZipMap whose output is the
// graph's: the probabilities come out as a table. All else stays byte for byte.
func (r *reader) unzipped(data []byte) []byte {
	out := make([]byte, 0, len(data)+64)
	// What Read went through without an error has none now.
	_ = fields(data, func(num protowire.Number, _ uint64, body, whole []byte) error {
		if num != modelGraph {
			out = append(out, whole...)
			return nil
		}
		out = appendSub(out, modelGraph, r.unzippedGraph(body))
		return nil
	})
	if !r.plainOpset {
		var opset []byte
		opset = protowire.AppendVarint(protowire.AppendTag(opset, 2, protowire.VarintType), 13)
		out = appendSub(out, modelOpset, opset)
	}
	return out
}

func (r *reader) unzippedGraph(data []byte) []byte {
	out := make([]byte, 0, len(data)+64)
	_ = fields(data, func(num protowire.Number, _ uint64, body, whole []byte) error {
		switch num {
		case graphNode:
			n, err := readNode(body)
			if err == nil && n.op == "ZipMap" && len(n.outputs) == 1 && r.zipped[n.outputs[0]] {
				whole = identity(n)
			}
		case graphOutput:
			v, err := readValue(body)
			if err == nil && r.zipped[v.Name] {
				whole = floats(v.Name)
			}
		}
		out = append(out, whole...)
		return nil
	})
	return out
}

func identity(n *node) []byte {
	var b []byte
	for _, in := range n.inputs {
		b = appendSub(b, nodeInput, []byte(in))
	}
	b = appendSub(b, nodeOutput, []byte(n.outputs[0]))
	b = appendSub(b, nodeName, []byte(n.name))
	b = appendSub(b, nodeOp, []byte("Identity"))
	return appendSub(nil, graphNode, b)
}

// floats declares an output of float32 whose shape is open.
func floats(name string) []byte {
	var elem []byte
	elem = protowire.AppendVarint(protowire.AppendTag(elem, 1, protowire.VarintType), 1)
	b := appendSub(nil, 1, []byte(name))
	b = appendSub(b, 2, appendSub(nil, 1, elem))
	return appendSub(nil, graphOutput, b)
}

func appendSub(b []byte, num protowire.Number, body []byte) []byte {
	b = protowire.AppendTag(slices.Grow(b, len(body)+16), num, protowire.BytesType)
	return protowire.AppendBytes(b, body)
}
