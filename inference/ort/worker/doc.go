// Package worker is the process that evaluates one model with ONNX Runtime on
// behalf of package ort, which starts it, feeds it and ends it.
//
// The process takes the frames of inference/ort/internal/frame from the sockets that
// it inherits. It opens no other, reads no file but the shared library, and ends when the other end of
// control closes: also where its parent was killed.
package worker
