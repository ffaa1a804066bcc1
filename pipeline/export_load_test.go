package pipeline

import (
	"time"

	"github.com/freshet-io/freshet/contract"
)

// LatenessOf is the source's lateness over a contract that has one hour.
func LatenessOf(s *Spec) time.Duration {
	return s.Source.timeRule(&contract.Contract{Time: contract.TimeRule{Lateness: time.Hour}}).Lateness
}
