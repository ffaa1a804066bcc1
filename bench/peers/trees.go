package main

import (
	"math"
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"
)

// randomTrees writes an ONNX file: a TreeEnsembleClassifier with two classes of
// complete trees, their features and thresholds drawn at random, as a trained
// ensemble of that size at its least predictable. Field numbers are those of onnx.proto3.
func randomTrees(trees, depth, features int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var tree, node, feature, yes, no []int64
	var threshold []float32
	var mode [][]byte
	var leafTree, leafNode, leafClass []int64
	var weight []float32
	inner := 1<<depth - 1
	for t := range int64(trees) {
		for n := range int64(2*inner + 1) {
			tree, node = append(tree, t), append(node, n)
			if n < int64(inner) {
				mode = append(mode, []byte("BRANCH_LEQ"))
				feature = append(feature, rnd.Int64N(int64(features)))
				threshold = append(threshold, float32(rnd.NormFloat64()))
				yes, no = append(yes, 2*n+1), append(no, 2*n+2)
				continue
			}
			mode = append(mode, []byte("LEAF"))
			feature, threshold, yes, no = append(feature, 0), append(threshold, 0), append(yes, 0), append(no, 0)
			leafTree, leafNode, leafClass = append(leafTree, t), append(leafNode, n), append(leafClass, 0)
			weight = append(weight, float32(rnd.NormFloat64()*0.1))
		}
	}
	n := message{}.text(4, "TreeEnsembleClassifier").text(7, "ai.onnx.ml").text(1, "input").text(2, "label").text(2, "probabilities")
	for name, v := range map[string][]int64{
		"nodes_treeids": tree, "nodes_nodeids": node, "nodes_featureids": feature, "nodes_truenodeids": yes, "nodes_falsenodeids": no,
		"class_treeids": leafTree, "class_nodeids": leafNode, "class_ids": leafClass, "classlabels_int64s": {0, 1},
	} {
		n = n.sub(5, message{}.text(1, name).packedInts(8, v).varint(20, 7))
	}
	for name, v := range map[string][]float32{"nodes_values": threshold, "class_weights": weight} {
		n = n.sub(5, message{}.text(1, name).packedFloats(7, v).varint(20, 6))
	}
	modes := message{}.text(1, "nodes_modes").varint(20, 8)
	for _, m := range mode {
		modes = modes.sub(9, m)
	}
	n = n.sub(5, modes).sub(5, message{}.text(1, "post_transform").text(4, "LOGISTIC").varint(20, 3))
	graph := message{}.sub(1, n).text(2, "trees").
		sub(11, tensorInfo("input", 1, int64(features))).
		sub(12, tensorInfo("label", 7)).
		sub(12, tensorInfo("probabilities", 1, 2))
	return message{}.varint(1, 8).sub(7, graph).
		sub(8, message{}.text(1, "ai.onnx.ml").varint(2, 3)).
		sub(8, message{}.text(1, "").varint(2, 18))
}

// tensorInfo is a ValueInfoProto with an open batch dimension; kind 1 is float, 7 int64.
func tensorInfo(name string, kind uint64, dims ...int64) message {
	shape := message{}.sub(1, message{}.text(2, "n"))
	for _, d := range dims {
		shape = shape.sub(1, message{}.varint(1, uint64(d)))
	}
	return message{}.text(1, name).sub(2, message{}.sub(1, message{}.varint(1, kind).sub(2, shape)))
}

// message is a protobuf message under construction.
type message []byte

func (m message) varint(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

func (m message) sub(field protowire.Number, v []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) text(field protowire.Number, v string) message { return m.sub(field, []byte(v)) }

func (m message) packedInts(field protowire.Number, v []int64) message {
	var p []byte
	for _, x := range v {
		p = protowire.AppendVarint(p, uint64(x))
	}
	return m.sub(field, p)
}

func (m message) packedFloats(field protowire.Number, v []float32) message {
	var p []byte
	for _, x := range v {
		p = protowire.AppendFixed32(p, math.Float32bits(x))
	}
	return m.sub(field, p)
}
