//go:build !ort || !cgo

package main

import "github.com/freshet-io/freshet/inference"

// newORT is nil: this build has no ONNX Runtime.
var newORT func(path string, m inference.Metadata, batch int) (evaluator, error)

// newORTCallers is nil too.
var newORTCallers func(path string, m inference.Metadata, batch, callers, threads int) (evaluatorSide, error)
