package learn

import (
	"encoding/binary"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Names and kinds of the exported file, as onnx.proto numbers them.
const (
	irVersion   = 8
	opset       = 17
	elemFloat   = 1
	kindInt     = 2
	inputName   = "observation"
	outputName  = "logits"
	producer    = "freshet"
	graphName   = "ppo"
	openRows    = "rows"
	gemmTransB  = "transB"
	opGemm      = "Gemm"
	opTanh      = "Tanh"
	weightsName = "weights"
	biasName    = "bias"
)

// ONNX returns the policy as an ONNX file: Gemm and Tanh in turns, from "observation" [rows, values] to "logits"
// [rows, actions], in single precision.
func (t *Trained) ONNX() []byte {
	var graph message
	n := t.net
	below := inputName
	for i := range n.layers {
		id := string(rune('0' + i))
		w, b, sum := weightsName+id, biasName+id, "sum"+id
		last := i == len(n.layers)-1
		if last {
			sum = outputName
		}
		graph = graph.message(1, operator(opGemm, []string{below, w, b}, sum, gemmTransB))
		if !last {
			below = "hidden" + id
			graph = graph.message(1, operator(opTanh, []string{sum}, below, ""))
		}
	}
	graph = graph.text(2, graphName)
	for i := range n.layers {
		l := &n.layers[i]
		id := string(rune('0' + i))
		graph = graph.message(5, tensor(weightsName+id, l.w, l.out, l.in))
		graph = graph.message(5, tensor(biasName+id, l.b, l.out))
	}
	graph = graph.message(11, value(inputName, n.sizes[0]))
	graph = graph.message(12, value(outputName, n.sizes[len(n.sizes)-1]))
	var domain message
	m := message{}.number(1, irVersion).text(2, producer).message(7, graph).
		message(8, domain.text(1, "").number(2, opset))
	if n.sizes[0] == Observations {
		m = m.message(14, message{}.text(1, "feature_names").text(2, strings.Join(observationNames[:], ",")))
	}
	return m
}

// message is a protobuf message while it is written.
type message []byte

func (m message) message(field protowire.Number, v message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) text(field protowire.Number, s string) message { return m.message(field, message(s)) }

func (m message) number(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

// operator is a NodeProto; flag, where given, is an integer attribute of 1.
func operator(kind string, in []string, out, flag string) message {
	var m message
	for _, name := range in {
		m = m.text(1, name)
	}
	m = m.text(2, out).text(3, kind+"_"+out).text(4, kind)
	if flag != "" {
		m = m.message(5, message{}.text(1, flag).number(3, 1).number(20, kindInt))
	}
	return m
}

// tensor is a TensorProto of floats, little-endian.
func tensor(name string, values []float64, dims ...int) message {
	var m message
	for _, d := range dims {
		m = m.number(1, uint64(d))
	}
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
	}
	return m.number(2, elemFloat).text(8, name).message(9, raw)
}

// value is a ValueInfoProto of rows of floats.
func value(name string, width int) message {
	shape := message{}.message(1, message{}.text(2, openRows)).message(1, message{}.number(1, uint64(width)))
	return message{}.text(1, name).message(2, message{}.message(1, message{}.number(1, elemFloat).message(2, shape)))
}
