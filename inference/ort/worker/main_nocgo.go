//go:build !cgo

package worker

import (
	"fmt"
	"io"
)

// Main says what this build is missing.
func Main(_ []string, stderr io.Writer) int {
	fmt.Fprintln(stderr, "freshet-onnxruntime: this build cannot load ONNX Runtime: build it with a C compiler and CGO_ENABLED=1")
	return 1
}
