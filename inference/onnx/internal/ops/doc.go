// Package ops holds ONNX operators over tensors of package inference.
//
// An operator is compiled once, at load, for the types, attributes and constants
// of its node (Entry.Compile) and then run by any number of instances at
// a time; what a run needs to remember lies in its Frame. A kernel sets type,
// shape and storage of its outputs through the Frame, which bounds what a run
// may allocate and reuses storage from run to run.
package ops
