package pipeline

import (
	"time"

	"github.com/freshet-io/freshet/contract"
)

// LatenessOf is the lateness of the source and of the labels, over contracts that have one hour.
func LatenessOf(s *Spec) (source, labels time.Duration) {
	c := &contract.Contract{Time: contract.TimeRule{Lateness: time.Hour}}
	return s.Source.timeRule(c).Lateness, s.Labels.timeRule(c).Lateness
}
