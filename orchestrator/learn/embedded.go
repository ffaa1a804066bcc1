package learn

import (
	_ "embed" // the policy's file
)

//go:generate go run ./trainpolicy policy.onnx

// policyFile is what Recipe gives on amd64.
//
//go:embed policy.onnx
var policyFile string

// Policy returns the trained policy as an ONNX file: see Trained.ONNX for its form, and Recipe for how it was made.
func Policy() []byte { return []byte(policyFile) }

// Recipe is how the embedded policy was trained: `go generate ./orchestrator/learn` does
// it again, in about five minutes of one core.
func Recipe() (Task, Training) {
	return Practice{}, Training{
		Iterations: 300, Episodes: 32, Siblings: 4, Whim: 4, Epochs: 4, Batch: 256, Rate: 1.5e-3, Seed: 1,
	}
}
