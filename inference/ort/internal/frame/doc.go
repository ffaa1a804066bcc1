// Package frame is what Freshet and its worker of ONNX Runtime say to each
// other, over socket pairs that the worker inherits.
//
// File descriptor 3 is for control and those from 4 on are lanes, each for one
// call at a time. The worker begins with Hello; the process that started it
// answers with Load, which the bytes of the ONNX file follow, and the worker with Ready or
// Failed. From then on each lane carries Infer one way and Result or Failed back, and control
// carries Cancel, which names a lane and the number of its call. The end of control is the end of the worker.
//
// A frame is a header of 64 bytes, then a body. The body of Infer and Result are
// tensors: for each its type, rank and dimensions, then for each its elements as they lie
// in memory, in the machine's byte order, from a multiple of 64 bytes on; a text is
// its length in four bytes, then its bytes. Other bodies are JSON.
package frame
