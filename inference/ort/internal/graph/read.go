package graph

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Model is what a file says.
type Model struct {
	// Bytes are the file, or the file without ZipMap where it had one.
	Bytes    []byte
	Producer string
	Version  int64 // model_version
	Props    map[string]string
	Inputs   []Value
	Outputs  []Value
	// Labels are class labels by the name of the output.
	Labels map[string][]string
}

// Value is an input or output of the graph.
type Value struct {
	Name string
	// Type is 0 where the file does not say it.
	Type inference.DataType
	// Dims are −1 where they are open.
	Dims     []int64
	HasShape bool

	sequence bool
	raw      []byte
}

// field numbers of onnx.proto3.
const (
	modelProducer, modelProducerVersion, modelVersion, modelGraph, modelOpset, modelProp = 2, 3, 5, 7, 8, 14

	graphNode, graphInitializer, graphInput, graphOutput = 1, 5, 11, 12

	nodeInput, nodeOutput, nodeName, nodeOp, nodeAttr, nodeDomain = 1, 2, 3, 4, 5, 7

	attrName, attrInts, attrStrings = 1, 8, 9

	tensorName, tensorLocation = 8, 14
)

// maxValues bounds nodes, inputs, outputs and initializers, each.
const maxValues = 1 << 20

// Read reads a file. Errors are Invalid (it is no sound model) or Unsupported.
func Read(data []byte) (*Model, error) {
	m := &Model{Bytes: data, Props: map[string]string{}, Labels: map[string][]string{}}
	r := &reader{m: m, initializers: map[string]bool{}, labels: m.Labels, zipped: map[string]bool{}}
	if err := r.model(data); err != nil {
		if errkind.Of(err) == errkind.Unknown {
			err = errkind.Errorf(errkind.Invalid, "not a sound ONNX file: %w", err)
		}
		return nil, err
	}
	m.Producer = strings.TrimSpace(m.Producer)
	m.Inputs = dropNamed(m.Inputs, r.initializers)
	for i := range m.Outputs {
		o := &m.Outputs[i]
		if r.zipped[o.Name] {
			*o = Value{Name: o.Name, Type: inference.Float32, raw: o.raw}
		} else if o.sequence {
			return nil, errkind.Errorf(errkind.Unsupported, "output %q is no tensor; export the model with plain tensors as outputs", o.Name)
		}
	}
	if len(m.Outputs) == 0 || len(m.Inputs) == 0 {
		return nil, errkind.Errorf(errkind.Unsupported, "the model has %d inputs and %d outputs", len(m.Inputs), len(m.Outputs))
	}
	if len(r.zipped) > 0 {
		m.Bytes = r.unzipped(data)
	}
	return m, nil
}

func dropNamed(vs []Value, names map[string]bool) []Value {
	out := vs[:0]
	for _, v := range vs {
		if !names[v.Name] {
			out = append(out, v)
		}
	}
	return out
}

type reader struct {
	m            *Model
	initializers map[string]bool
	labels       map[string][]string // by the name of any value
	zipped       map[string]bool     // outputs of ZipMap that are the graph's
	mapped       []string            // outputs of ZipMap
	graph        []byte
	plainOpset   bool
	nodes        int
}

// fields calls use with each field of a message: its number, its value where that is a
// varint, its bytes where it has some, and the field as it stands.
func fields(b []byte, use func(num protowire.Number, v uint64, body, whole []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		var v uint64
		var body []byte
		var m int
		switch typ {
		case protowire.VarintType:
			v, m = protowire.ConsumeVarint(b[n:])
		case protowire.BytesType:
			body, m = protowire.ConsumeBytes(b[n:])
		case protowire.Fixed32Type:
			_, m = protowire.ConsumeFixed32(b[n:])
		case protowire.Fixed64Type:
			_, m = protowire.ConsumeFixed64(b[n:])
		default:
			return fmt.Errorf("field %d has the obsolete wire type %d", num, typ)
		}
		if m < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(m))
		}
		if err := use(num, v, body, b[:n+m]); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}

func (r *reader) model(data []byte) error {
	var name, version string
	err := fields(data, func(num protowire.Number, v uint64, body, _ []byte) error {
		switch num {
		case modelProducer:
			name = string(body)
		case modelProducerVersion:
			version = string(body)
		case modelVersion:
			r.m.Version = int64(v)
		case modelGraph:
			if r.graph != nil {
				return fmt.Errorf("it has two graphs")
			}
			r.graph = body
		case modelOpset:
			domain, _, err := pair(body)
			r.plainOpset = r.plainOpset || domain == "" || domain == "ai.onnx"
			return err
		case modelProp:
			key, value, err := pair(body)
			r.m.Props[key] = value
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.m.Producer = name + " " + version
	if r.graph == nil {
		return fmt.Errorf("it has no graph")
	}
	if err := fields(r.graph, r.graphField); err != nil {
		return err
	}
	for _, name := range r.mapped {
		for _, o := range r.m.Outputs {
			if o.Name == name {
				r.zipped[name] = true
			}
		}
	}
	return nil
}

// pair reads the texts in fields 1 and 2.
func pair(b []byte) (key, value string, err error) {
	err = fields(b, func(num protowire.Number, _ uint64, body, _ []byte) error {
		switch num {
		case 1:
			key = string(body)
		case 2:
			value = string(body)
		}
		return nil
	})
	return key, value, err
}

func (r *reader) graphField(num protowire.Number, _ uint64, body, _ []byte) error {
	switch num {
	case graphNode, graphInitializer, graphInput, graphOutput:
		if r.nodes++; r.nodes > maxValues {
			return fmt.Errorf("it has more than %d nodes and values", maxValues)
		}
	}
	switch num {
	case graphNode:
		n, err := readNode(body)
		if err != nil {
			return err
		}
		r.label(n)
	case graphInitializer:
		external := false
		err := fields(body, func(num protowire.Number, v uint64, body, _ []byte) error {
			switch num {
			case tensorName:
				r.initializers[string(body)] = true
			case tensorLocation:
				external = v == 1
			}
			return nil
		})
		if external {
			return errkind.New(errkind.Unsupported, "the model's weights lie in another file; export it with all weights in the one file")
		}
		return err
	case graphInput, graphOutput:
		v, err := readValue(body)
		if err != nil {
			return err
		}
		if num == graphInput {
			r.m.Inputs = append(r.m.Inputs, v)
		} else {
			r.m.Outputs = append(r.m.Outputs, v)
		}
	}
	return nil
}

// node is what matters of one.
type node struct {
	op, name        string
	inputs, outputs []string
	labels          []string
}

func readNode(b []byte) (*node, error) {
	n := &node{}
	return n, fields(b, func(num protowire.Number, _ uint64, body, _ []byte) error {
		switch num {
		case nodeInput:
			n.inputs = append(n.inputs, string(body))
		case nodeOutput:
			n.outputs = append(n.outputs, string(body))
		case nodeName:
			n.name = string(body)
		case nodeOp:
			n.op = string(body)
		case nodeAttr:
			labels, err := readLabels(body)
			if err != nil {
				return err
			}
			if len(labels) > 0 {
				n.labels = labels
			}
		}
		return nil
	})
}

// readLabels reads an attribute that lists class labels; it is nil for others.
func readLabels(b []byte) (labels []string, err error) {
	name := ""
	err = fields(b, func(num protowire.Number, _ uint64, body, _ []byte) error {
		if num == attrName {
			name = string(body)
		}
		return nil
	})
	switch name {
	case "classlabels_strings", "classlabels_int64s", "classlabels_ints":
	default:
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	err = fields(b, func(num protowire.Number, v uint64, body, _ []byte) error {
		switch {
		case num == attrStrings:
			labels = append(labels, string(body))
		case num == attrInts && body == nil:
			labels = append(labels, fmt.Sprint(int64(v)))
		case num == attrInts:
			for len(body) > 0 {
				v, n := protowire.ConsumeVarint(body)
				if n < 0 {
					return protowire.ParseError(n)
				}
				labels = append(labels, fmt.Sprint(int64(v)))
				body = body[n:]
			}
		}
		return nil
	})
	return labels, err
}

// label notes labels where they arise and follows them to the outputs.
func (r *reader) label(n *node) {
	switch n.op {
	case "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier":
		if len(n.outputs) > 1 && len(n.labels) > 0 {
			r.labels[n.outputs[1]] = n.labels
		}
	case "Cast", "Normalizer", "Identity", "Mul", "Softmax", "ZipMap":
		if len(n.inputs) == 0 || len(n.outputs) == 0 {
			return
		}
		labels := r.labels[n.inputs[0]]
		if n.op == "ZipMap" {
			r.mapped = append(r.mapped, n.outputs[0])
			if len(n.labels) > 0 {
				labels = n.labels
			}
		}
		if len(labels) > 0 {
			r.labels[n.outputs[0]] = labels
		}
	}
}

// readValue reads a ValueInfoProto.
func readValue(b []byte) (Value, error) {
	v := Value{raw: b}
	return v, fields(b, func(num protowire.Number, _ uint64, body, _ []byte) error {
		switch num {
		case 1:
			v.Name = string(body)
		case 2: // type
			return fields(body, func(num protowire.Number, _ uint64, body, _ []byte) error {
				if num == 1 {
					return v.tensor(body)
				}
				v.sequence = v.sequence || num == 4 || num == 5 || num == 8 || num == 9
				return nil
			})
		}
		return nil
	})
}

func (v *Value) tensor(b []byte) error {
	return fields(b, func(num protowire.Number, n uint64, body, _ []byte) error {
		switch num {
		case 1:
			switch n {
			case 0:
			case 1:
				v.Type = inference.Float32
			case 6:
				v.Type = inference.Int32
			case 7:
				v.Type = inference.Int64
			case 8:
				v.Type = inference.String
			case 9:
				v.Type = inference.Bool
			case 11:
				v.Type = inference.Float64
			default:
				return errkind.Errorf(errkind.Unsupported, "%q has elements of type %d (onnx.proto3); inputs and outputs are float32, float64, int64, int32, bool or string: cast in the model", v.Name, n)
			}
		case 2: // shape
			v.HasShape = true
			return fields(body, func(num protowire.Number, _ uint64, body, _ []byte) error {
				if num != 1 {
					return nil
				}
				dim := int64(-1)
				err := fields(body, func(num protowire.Number, n uint64, _, _ []byte) error {
					if num == 1 && n <= 1<<40 {
						dim = int64(n)
					}
					return nil
				})
				v.Dims = append(v.Dims, dim)
				return err
			})
		}
		return nil
	})
}
