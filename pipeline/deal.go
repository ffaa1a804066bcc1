package pipeline

import (
	"strconv"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// dealer deals the rows of a frame to versions.
type dealer struct {
	// all: every row goes to the champion.
	all   bool
	hands []hand
	// beside are rows that besideArm scores too, for comparison.
	beside    []int32
	besideArm *model.Arm
	text      []byte
}

// hand is the rows that one version scores.
type hand struct {
	arm  *model.Arm
	rows []int32
}

// deal gives each row to the champion or, in a rollout, to the challenger by the
// hash of its key. Rows that are dead letters already are left out, and so are
// late ones where the step does not score them, and the share that is ordered away from the model.
func (d *dealer) deal(s *scorer, f *frame, sc *scoring, away float64) {
	sv := sc.serving
	d.beside, d.all = d.beside[:0], false
	late := s.plan.spec.Late != LateAnyway
	if sv.Challenger() == nil && !late && away == 0 && !anyTrue(f.skip) {
		d.all = true
		return
	}
	d.hands = d.hands[:0]
	champion := d.hand(sv.Champion())
	challenger := -1
	published := sv.Challenger() != nil && sv.Challenger().Role != model.Shadow
	if published {
		challenger = d.hand(sv.Challenger())
	}
	now := time.Now().UnixNano()
	for row := range f.rows.N {
		if f.skip[row] {
			continue
		}
		if late && now-f.rows.Arrival[row] > int64(s.target) {
			if s.plan.spec.Late == LateSkip {
				sc.path[row] = lineage.Skipped
			} else {
				sc.failed = append(sc.failed, failure{int32(row), 0, inference.ErrExpired})
			}
			continue
		}
		if away > 0 && s.place(f, row) < away {
			sc.failed = append(sc.failed, failure{int32(row), 0, errRouted})
			continue
		}
		h := champion
		if sv.Challenger() != nil {
			key := d.key(s.plan, f, row)
			sc.keys[row] = sv.KeyHash(key)
			switch {
			case published && sv.Choose(key) == sv.Challenger():
				h = challenger
				if sv.Compared(key) {
					d.beside, d.besideArm = append(d.beside, int32(row)), sv.Champion()
				}
			case sv.Shadowed(key):
				d.beside, d.besideArm = append(d.beside, int32(row)), sv.Challenger()
			}
		}
		d.hands[h].rows = append(d.hands[h].rows, int32(row))
	}
	if len(d.hands[champion].rows) == f.rows.N {
		d.all = true
	}
}

func (d *dealer) hand(a *model.Arm) int {
	if n := len(d.hands); n < cap(d.hands) {
		d.hands = d.hands[:n+1]
		d.hands[n] = hand{a, d.hands[n].rows[:0]}
		return n
	}
	d.hands = append(d.hands, hand{arm: a})
	return len(d.hands) - 1
}

// key is what a row is dealt by.
func (d *dealer) key(ip *inferPlan, f *frame, row int) string {
	if ip.key < 0 {
		return f.rows.Key[row]
	}
	c := f.columns[ip.key]
	if c.IsNull(row) {
		return ""
	}
	switch c.Kind {
	case event.String:
		return c.Strings[row]
	case event.Float:
		d.text = strconv.AppendFloat(d.text[:0], c.Floats[row], 'g', -1, 64)
	case event.Bool:
		d.text = strconv.AppendBool(d.text[:0], c.Bools[row])
	default:
		d.text = strconv.AppendInt(d.text[:0], c.Ints[row], 10)
	}
	return string(d.text)
}

func anyTrue(bs []bool) bool {
	for _, b := range bs {
		if b {
			return true
		}
	}
	return false
}
