package openai

import (
	"crypto/sha256"
	"sync"
	"time"
)

// recallFor is how long the answers of a failed batch are kept.
const recallFor = time.Minute

// outcome is what became of a row: values or an error.
type outcome struct {
	values []any
	err    error
	// said: the model has spoken, and would say the same again.
	said bool
}

// recall keeps what the rows of a batch that failed as a whole had brought already:
// the caller gives the rows again, alone or in halves, and what was paid for
// is not paid for twice. Each outcome serves once.
type recall struct {
	mu    sync.Mutex
	limit int
	kept  map[[sha256.Size]byte]kept
	order [][sha256.Size]byte
}

type kept struct {
	outcome
	until time.Time
}

func (r *recall) put(key [sha256.Size]byte, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		r.kept = map[[sha256.Size]byte]kept{}
	}
	if _, again := r.kept[key]; !again {
		r.order = append(r.order, key)
	}
	r.kept[key] = kept{o, time.Now().Add(recallFor)}
	for len(r.order) > r.limit {
		delete(r.kept, r.order[0])
		r.order = r.order[1:]
	}
}

func (r *recall) take(key [sha256.Size]byte) (outcome, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.kept[key]
	if !ok {
		return outcome{}, false
	}
	delete(r.kept, key)
	for i := range r.order {
		if r.order[i] == key {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
	return k.outcome, time.Now().Before(k.until)
}
