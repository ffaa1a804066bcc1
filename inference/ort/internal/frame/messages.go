package frame

import (
	"encoding/json"
	"fmt"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// HelloBody is the worker's first word.
type HelloBody struct {
	Version int    `json:"version"` // of the frames
	Runtime string `json:"runtime"` // ONNX Runtime's
}

// LoadBody says how to load the model that follows.
type LoadBody struct {
	// Size is that of the model, whose bytes follow.
	Size    int      `json:"size"`
	Threads int      `json:"threads"`
	Spin    bool     `json:"spin"`
	Inputs  []Input  `json:"inputs"`
	Outputs []string `json:"outputs"`
}

// Input is an input of the model: a dimension of −1 is open.
type Input struct {
	Name string             `json:"name"`
	Type inference.DataType `json:"type"`
	Dims []int64            `json:"dims"`
}

// FailedBody is an error.
type FailedBody struct {
	Kind    errkind.Kind `json:"kind"`
	Message string       `json:"message"`
}

// Err is the error that the body of Failed tells.
func (f *Frame) Err() error {
	var b FailedBody
	if err := json.Unmarshal(f.Body, &b); err != nil {
		return fmt.Errorf("%w: an error that is none: %w", errPeer, err)
	}
	switch b.Kind {
	case errkind.Invalid, errkind.Unsupported, errkind.Exhausted, errkind.Canceled, errkind.Config:
	default:
		b.Kind = errkind.Permanent
	}
	if len(b.Message) > 2000 {
		b.Message = b.Message[:2000] + "…"
	}
	return errkind.New(b.Kind, b.Message)
}

// JSON reads the body.
func (f *Frame) JSON(to any) error {
	if err := json.Unmarshal(f.Body, to); err != nil {
		return fmt.Errorf("%w: %v: %w", errPeer, f.Kind, err)
	}
	return nil
}
