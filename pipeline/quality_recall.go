package pipeline

import (
	"hash/maphash"
	"sync"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// recallEvents is how many events a step remembers the scores of while a rollout
// runs; each takes about 48 bytes.
const recallEvents = 1 << 20

// recall remembers what the versions of the running rollout said of the latest
// events, for labels that come soon. Its methods may be called concurrently.
type recall struct {
	seed maphash.Seed

	mu      sync.Mutex
	rollout string
	former  string // frames of it may still be committed
	// Scores by the hash of the event's id, in two generations of half the number each.
	recent, before map[uint64]answers
}

// answers are the scores of both versions of a rollout for an event; NaN for none.
type answers struct {
	champion, challenger float64
	counted              bool
}

var noAnswers = answers{champion: nan, challenger: nan}

func (a *answers) any() bool { return a.champion == a.champion || a.challenger == a.challenger }

func (a *answers) set(champion bool, score float64) {
	if champion {
		a.champion = score
	} else {
		a.challenger = score
	}
}

// counts reports whether an answer is a version's own.
func counts(p lineage.Path) bool { return p == lineage.Scored || p == lineage.Cached }

func newRecall() *recall { return &recall{seed: maphash.MakeSeed()} }

// remember takes a frame that was committed while a rollout ran.
func (m *recall) remember(f *frame, sc *scoring, scores *event.Column) {
	rollout := ""
	for _, a := range sc.arms {
		if a.Rollout != "" {
			rollout = a.Rollout
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if rollout == "" || !m.begin(rollout) {
		return
	}
	for row := range f.rows.N {
		if f.skip[row] || sc.arm[row] == noArm || !counts(sc.path[row]) || scores.IsNull(row) {
			continue
		}
		if arm := sc.arms[sc.arm[row]]; arm.Rollout == rollout {
			m.add(f.rows.ID[row], arm.Role == model.Champion, scores.Floats[row])
		}
	}
	for _, s := range sc.shadowed {
		if !f.skip[s.Row] {
			m.add(f.rows.ID[s.Row], false, s.Score)
		}
	}
}

// begin makes rollout the one that is remembered; false where it is over.
func (m *recall) begin(rollout string) bool {
	if rollout == m.former {
		return false
	}
	if rollout != m.rollout {
		m.former, m.rollout = m.rollout, rollout
		m.recent, m.before = map[uint64]answers{}, nil
	}
	return true
}

func (m *recall) add(id string, champion bool, score float64) {
	h := maphash.String(m.seed, id)
	a, ok := m.get(h)
	if !ok {
		a = noAnswers
	}
	a.set(champion, score)
	m.put(h, a)
}

func (m *recall) get(h uint64) (answers, bool) {
	a, ok := m.recent[h]
	if !ok {
		a, ok = m.before[h]
	}
	return a, ok
}

func (m *recall) put(h uint64, a answers) {
	if len(m.recent) >= recallEvents/2 {
		m.before, m.recent = m.recent, map[uint64]answers{}
	}
	m.recent[h] = a
}

// find returns the scores of an event in a rollout.
func (m *recall) find(rollout, id string) (answers, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rollout != m.rollout {
		return answers{}, false
	}
	return m.get(maphash.String(m.seed, id))
}

// count notes that the label of an event is counted; false where one was already.
func (m *recall) count(rollout, id string, a answers) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.begin(rollout) {
		return false
	}
	h := maphash.String(m.seed, id)
	if b, ok := m.get(h); ok && b.counted {
		return false
	}
	a.counted = true
	m.put(h, a)
	return true
}
