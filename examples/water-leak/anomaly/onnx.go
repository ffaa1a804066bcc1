package anomaly

import (
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message of ONNX (onnx.proto, IR version 8) under construction.
type message []byte

func (m message) bytes(field protowire.Number, v []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) text(field protowire.Number, v string) message { return m.bytes(field, []byte(v)) }

func (m message) number(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

const (
	floatTensor = 1 // TensorProto.FLOAT
	intKind     = 2 // AttributeProto.INT
	intsKind    = 7 // AttributeProto.INTS
)

// ONNX writes the detector as a model with one input, features [n, columns], and
// one output, score [n, 1].
func (d *Detector) ONNX(name, version string, features []string) []byte {
	n := len(d.Mean)
	mean := make([]float32, n)
	whiten := make([]float32, n*n)
	for i := range n {
		mean[i] = float32(d.Mean[i])
		for j := range n {
			whiten[j*n+i] = float32(d.Whiten[i][j])
		}
	}
	graph := message{}.
		bytes(1, node("Sub", []string{"features", "mean"}, "centred")).
		bytes(1, node("MatMul", []string{"centred", "whiten"}, "white")).
		bytes(1, node("ReduceSumSquare", []string{"white"}, "squared",
			message{}.text(1, "axes").bytes(8, []byte{1}).number(20, intsKind),
			message{}.text(1, "keepdims").number(3, 1).number(20, intKind))).
		bytes(1, node("Sqrt", []string{"squared"}, "distance")).
		bytes(1, node("Div", []string{"distance", "limit"}, "score")).
		text(2, name).
		bytes(5, tensor("mean", mean, n)).
		bytes(5, tensor("whiten", whiten, n, n)).
		bytes(5, tensor("limit", []float32{float32(d.Limit)}, 1)).
		bytes(11, value("features", n)).
		bytes(12, value("score", 1))
	return message{}.number(1, 8).text(2, "freshet water-leak example").
		bytes(7, graph).
		bytes(8, message{}.text(1, "").number(2, 17)).
		bytes(14, message{}.text(1, "version").text(2, version)).
		bytes(14, message{}.text(1, "feature_names").text(2, strings.Join(features, ",")))
}

func node(op string, inputs []string, output string, attributes ...message) message {
	var m message
	for _, in := range inputs {
		m = m.text(1, in)
	}
	m = m.text(2, output).text(3, output).text(4, op)
	for _, a := range attributes {
		m = m.bytes(5, a)
	}
	return m
}

func tensor(name string, data []float32, dims ...int) message {
	var m message
	for _, d := range dims {
		m = m.number(1, uint64(d))
	}
	var packed []byte
	for _, v := range data {
		packed = protowire.AppendFixed32(packed, math.Float32bits(v))
	}
	return m.number(2, floatTensor).bytes(4, packed).text(8, name)
}

// value describes a tensor of any number of rows.
func value(name string, columns int) message {
	shape := message{}.bytes(1, message{}.text(2, "n")).bytes(1, message{}.number(1, uint64(columns)))
	return message{}.text(1, name).bytes(2, message{}.bytes(1, message{}.number(1, floatTensor).bytes(2, shape)))
}
