// Package rule is a model that somebody wrote down: CEL expressions over named
// inputs, behind inference.Driver. It serves as a model of its own, as the champion
// that a first trained model has to beat, and as what answers when another fails.
//
// A rule is a YAML file, NAME.rule.yaml:
//
//	version: "3"                       # optional; else the beginning of the file's SHA-256
//	description: flags large amounts   # optional
//	inputs: {amount: float, night: bool}
//	outputs:
//	  score: "amount > 220.0 ? (night ? 0.95 : 0.9) : 0.1"
//
// An input is float, int, bool or string, in the order of the file, and becomes a
// tensor of one value a row (Float64, Int64, Bool, String; Shape nil). An output is
// an expression over the inputs, in the language of package expr, and its kind is that of the
// expression. Expressions run over columns where package expr compiles them.
//
// # Values that are not there
//
// A float of NaN is a value that is not there: null in the expressions. So
// null and NaN are one here, as they are in the pipeline's tensors: has(amount)
// tells, and an operator over it gives null again rather than a comparison that is
// quietly false. The other kinds carry no such mark, and what the caller
// puts in its place (0, false, "") is taken as a value. Infinities are values.
//
// An output whose result is null is NaN where it is a float. For other kinds the
// row is Invalid, and so is one whose expression fails (an integer that overflows,
// a division of integers by zero): the whole call fails then and names the first such row.
// A float result that is NaN by calculation stays NaN.
package rule
