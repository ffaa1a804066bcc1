package lineage

import (
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/freshet-io/freshet/errkind"
)

// Policy says what a Store keeps.
type Policy struct {
	// Keep are the rules; the first that holds for a prediction says how long it is
	// kept, and one for which none holds is not. Without rules everything is kept for a week.
	Keep []Rule
	// MaxBytes bounds the store, approximately; what would expire first goes first. 0 is 8 GiB.
	MaxBytes int64
}

// Rule keeps the predictions for which it holds.
type Rule struct {
	// When is a CEL condition on the prediction; "" holds for all.
	When string
	// Share is the share of events, dealt by the hash of their ids; 0 and 1 are all.
	Share float64
	// For is how long after its publication a prediction is kept; 0 is for ever.
	For time.Duration
}

const (
	defaultKeep     = 7 * 24 * time.Hour
	defaultMaxBytes = 8 << 30
)

func (p Policy) withDefaults() Policy {
	if len(p.Keep) == 0 {
		p.Keep = []Rule{{For: defaultKeep}}
	}
	if p.MaxBytes <= 0 {
		p.MaxBytes = defaultMaxBytes
	}
	return p
}

// Validate says what is wrong with a policy, a Config error. Names in conditions
// are checked when there are predictions.
func (p Policy) Validate() error {
	for i, r := range p.Keep {
		if !(r.Share >= 0 && r.Share <= 1) {
			return errkind.Errorf(errkind.Config, "rule %d of what is kept: share %v, expected 0 to 1", i+1, r.Share)
		}
		if r.For < 0 {
			return errkind.Errorf(errkind.Config, "rule %d of what is kept: for %v, expected 0 or longer", i+1, r.For)
		}
	}
	return nil
}

// keeper applies a policy.
type keeper struct {
	rules []Rule
	conds []*condition
}

func newKeeper(p Policy) *keeper {
	k := &keeper{rules: p.Keep}
	for _, r := range p.Keep {
		k.conds = append(k.conds, newCondition(r.When))
	}
	return k
}

const never = math.MaxInt64

// expiries says when each row may go, in Unix nanoseconds: never, or 0 for one that is not kept.
func (k *keeper) expiries(m *Message) []int64 {
	out := make([]int64, m.Rows)
	left := m.Rows
	for i, r := range k.rules {
		if left == 0 {
			break
		}
		holds := k.conds[i].rows(m)
		at := expiry(m.Published, r.For)
		for row, h := range holds {
			if h && out[row] == 0 && dealt(m, row, r.Share) {
				out[row] = at
				left--
			}
		}
	}
	return out
}

// expiry rounds up to a sixteenth of the time, from a minute to a day, so that
// what expires together lies together.
func expiry(published int64, keep time.Duration) int64 {
	if keep == 0 {
		return never
	}
	step := int64(min(max(keep/16, time.Minute), 24*time.Hour))
	at := published + int64(keep)
	if at < published || at > never-step {
		return never
	}
	if at <= 0 {
		return 1
	}
	return (at + step - 1) / step * step
}

func dealt(m *Message, row int, share float64) bool {
	if share == 0 || share >= 1 {
		return true
	}
	id := m.Batch.IDs[row]
	if id == "" {
		id = placeOf(m, row)
	}
	return float64(xxhash.Sum64String(id)>>11) < share*(1<<53)
}
