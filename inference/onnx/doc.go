// Package onnx evaluates ONNX files in pure Go, behind inference.Driver.
//
// Load reads a file, checks it in full and plans its graph; Infer then runs
// the plan. What the file asks for and this package does not offer is named at load,
// all of it in one error of kind Unsupported. A malformed or hostile file is an error of
// kind Invalid: nothing is allocated beyond Options and the bytes that are there.
//
// Outputs are plain tensors, one row per row of the batch. A ZipMap, by which converters
// turn probabilities into a list of dictionaries, is left out: the output is the
// tensor [rows, classes], and the output's Signature.Labels says which class each column
// belongs to.
//
// Results agree with those of ONNX Runtime to rounding, also where ONNX's text leaves a
// choice; docs/models.md lists the operators and how to export models.
package onnx
