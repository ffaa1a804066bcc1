// Command freshet-onnxruntime evaluates a model with ONNX Runtime in a process of
// its own, which freshet starts. It needs a C compiler to build and ONNX Runtime's
// shared library to run; freshet itself needs neither.
package main

import (
	"os"

	"github.com/freshet-io/freshet/inference/ort/worker"
)

func main() {
	os.Exit(worker.Main(os.Args[1:], os.Stderr))
}
