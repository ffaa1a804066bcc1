package wire

// Element types of TensorProto.DataType that have a meaning here.
const (
	TypeUndefined  = 0
	TypeFloat      = 1
	TypeUint8      = 2
	TypeInt8       = 3
	TypeUint16     = 4
	TypeInt16      = 5
	TypeInt32      = 6
	TypeInt64      = 7
	TypeString     = 8
	TypeBool       = 9
	TypeFloat16    = 10
	TypeDouble     = 11
	TypeUint32     = 12
	TypeUint64     = 13
	TypeComplex64  = 14
	TypeComplex128 = 15
	TypeBfloat16   = 16
)

// TypeName names an element type for messages.
func TypeName(t int) string {
	names := [...]string{"undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64",
		"string", "bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"}
	if t >= 0 && t < len(names) {
		return names[t]
	}
	return "an 8-bit or narrower float or integer"
}

// Limits bound what Decode accepts.
type Limits struct {
	// MaxNodes bounds the nodes of the graph; messages of all kinds together
	// may be 64 times as many.
	MaxNodes int
}

// Model is a ModelProto.
type Model struct {
	IRVersion       int64
	ProducerName    string
	ProducerVersion string
	ModelVersion    int64
	Opsets          map[string]int64
	Props           map[string]string
	Graph           Graph
	// Functions counts local functions, which are not read.
	Functions int
}

// Graph is a GraphProto.
type Graph struct {
	Name         string
	Nodes        []Node
	Initializers []Tensor
	Inputs       []ValueInfo
	Outputs      []ValueInfo
	// SparseInitializers counts sparse initializers, which are not read.
	SparseInitializers int
}

// Node is a NodeProto.
type Node struct {
	Name    string
	Op      string
	Domain  string
	Inputs  []string
	Outputs []string
	Attrs   []Attr
}

// Attribute kinds, by the field that holds the value.
const (
	AttrFloat   = 1
	AttrInt     = 2
	AttrString  = 3
	AttrTensor  = 4
	AttrGraph   = 5
	AttrFloats  = 6
	AttrInts    = 7
	AttrStrings = 8
	AttrOther   = 9
)

// Attr is an AttributeProto; Kind says which field holds its value.
type Attr struct {
	Name    string
	Kind    int
	F       float32
	I       int64
	S       string
	T       *Tensor
	Floats  []float32
	Ints    []int64
	Strings []string
}

// Tensor is a TensorProto. Raw and the typed data alias nothing of the file
// but Raw, which must not be kept.
type Tensor struct {
	Name     string
	Type     int
	Dims     []int64
	Raw      []byte
	HasRaw   bool
	Floats   []float32
	Int32s   []int32
	Int64s   []int64
	Doubles  []float64
	Uint64s  []uint64
	Strings  []string
	External bool
}

// Kinds of ValueInfo.
const (
	KindTensor   = 1
	KindSequence = 4
	KindMap      = 5
	KindOther    = 9
)

// ValueInfo is a ValueInfoProto. Dims holds −1 for a size left open; HasShape is
// false where not even the rank is known.
type ValueInfo struct {
	Name     string
	Kind     int
	Type     int
	Dims     []int64
	HasShape bool
}
