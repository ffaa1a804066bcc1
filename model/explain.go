package model

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
)

const (
	// sampledPermutations is how many orders of the inputs a sampled explanation
	// tries, each forwards and backwards.
	sampledPermutations = 32
	sampledSeed         = 1
)

// ExplainerOf makes a model explainable with a background sample: by its own
// methods, or else by sampling. It is nil where the model has no methods and the
// sample is nil.
func ExplainerOf(d inference.Driver, background []inference.Tensor) (inference.Explainer, error) {
	x, own := d.(inference.Explainer)
	switch {
	case !own && background == nil:
		return nil, nil
	case !own:
		return inference.Sampled(d, background, sampledPermutations, sampledSeed)
	case background != nil:
		if err := x.SetBackground(background); err != nil {
			return nil, fmt.Errorf("take the background sample: %w", err)
		}
	}
	return x, nil
}
