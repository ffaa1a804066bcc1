// Package graph reads from an ONNX file what ONNX Runtime does not say, or says
// another way than Freshet does: the metadata, the types and shapes of inputs and
// outputs, and class labels. It also leaves ZipMap out, whose lists of dictionaries
// are no tensors.
package graph
