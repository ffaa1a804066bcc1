package inference

import "context"

// Method is how an output is attributed to the inputs.
type Method uint8

const (
	// PathAttribution follows each row's path through the trees and gives every
	// split the change of the node's value (Saabas, 2014). Cheap enough for every row.
	PathAttribution Method = iota + 1
	// LinearAttribution is weight × (value − mean of the background); exact for linear models.
	LinearAttribution
	// TreeSHAP is the exact Shapley value of tree ensembles against a background
	// sample (Lundberg et al., 2020).
	TreeSHAP
	// SampledShapley estimates Shapley values by permutations with calls of the
	// model itself (Štrumbelj and Kononenko, 2014); works on any model.
	SampledShapley
)

var methodNames = [...]string{"?", "path", "linear", "treeshap", "sampled"}

// String returns the method's name as pipelines and records carry it.
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return methodNames[0]
}

// Target is what is explained: one element of a row of one output.
type Target struct {
	// Output is the index of the output in Metadata.Outputs.
	Output int
	// Element is the index in the output's row.
	Element int
}

// Link turns the raw output that attributions add up to into the model's output.
type Link uint8

const (
	// Identity: the raw output is the model's.
	Identity Link = iota
	// Logistic: the model's output is 1/(1+exp(−raw)).
	Logistic
)

// String returns the link's name as records carry it.
func (l Link) String() string { return [...]string{"identity", "logistic"}[l] }

// Attributions says what each input value did to the target in each row. For
// every row Base + Σ Values = Raw, to 1e-6 of the greater of 1 and |Raw|. The
// receiver reuses the slices.
type Attributions struct {
	Method Method
	Link   Link
	// Width is the number of values of a row: those of all inputs, in order.
	Width int
	// Base is what the target is without knowledge of the row, one for each row.
	Base []float64
	// Values has Width attributions for each row.
	Values []float64
	// Raw is the raw output of each row, in front of Link.
	Raw []float64
}

// Explainer is a Driver that can explain its outputs. Its methods may be called
// concurrently with Infer and with each other, except SetBackground, which comes first.
type Explainer interface {
	// Methods are those that this model offers for a target, best first; empty for none.
	Methods(t Target) []Method
	// SetBackground gives the sample of rows (one tensor per input) that base
	// values, covers and means are taken from. Without one, methods that need it are not offered.
	SetBackground(in []Tensor) error
	// Explain fills a for the rows of in. A method that is not offered is Unsupported.
	Explain(ctx context.Context, in []Tensor, t Target, m Method, a *Attributions) error
}

// Complexity is the size of a model, for the caps of admission.
type Complexity struct {
	Bytes int64
	// Nodes counts operators of the graph, Trees and TreeNodes what tree ensembles hold.
	Nodes, Trees, TreeNodes int
	// Depth is that of the deepest tree.
	Depth int
	// Parameters counts the numbers of weights.
	Parameters int64
}

// Inspector is a Driver that knows the size of its model.
type Inspector interface{ Complexity() Complexity }
