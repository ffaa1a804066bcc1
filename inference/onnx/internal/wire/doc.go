// Package wire reads the parts of ONNX's protobuf messages that evaluation needs.
//
// The reader trusts nothing: what it allocates is bounded by the bytes that
// are there and by Limits, it does not recurse, and every fault is an error
// that names the message and field.
package wire
