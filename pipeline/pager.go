package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/state"
)

// StoreOpener opens an empty local store for keyed state that does not fit into
// memory. kind is what the pipeline file says, and name tells pipelines apart.
type StoreOpener func(kind, name string) (*state.Store, error)

// pagedState is keyed state whose cold keys can lie in a store.
type pagedState interface {
	feature.State
	Missing(keys []string, dst []int32) []int32
	DeltaKeys(delta []byte, dst []string) ([]string, error)
	AppendKey(dst []byte, key string) ([]byte, bool)
	Load(state []byte) error
	Evict(budget int64, visit func(key string, state []byte) error) error
}

// labelledState is such state that knows which of the keys in the store a label may be about.
type labelledState interface {
	LabelKeys(b *feature.Labels, dst []string) []string
	Discard(state []byte) error
}

// pager keeps the keys of one step that do not fit into memory in a local
// store. A key in memory is the truth, whatever the store holds of it; one that
// is not is in the store. The store holds nothing that the changelog does not:
// it begins empty with each task.
//
// A cycle of the changelog has to hold every key, those in the store too. First
// go the keys in memory; then the store is scanned. A key that is brought back
// while a cycle runs may have been passed by in memory and not be met in the
// store any more, so it is written at once.
type pager struct {
	state  pagedState
	labels labelledState // nil without
	space  *state.Space
	budget int64 // bytes of memory
	life   int64 // a key this much older than the newest event is forgotten

	newest  int64 // time of any event
	cycle   bool  // one runs, and this step is not through
	from    []byte
	brought []string // by the frame at hand
	pages   []byte   // its states for the changelog, each behind its length

	rows  []int32
	keys  []string
	bytes [][]byte
	batch *state.Batch
	buf   []byte
}

// stampBytes is the length of the newest time of any event that stands before a stored state.
const stampBytes = 8

func newPager(s pagedState, space *state.Space, budget int64, life time.Duration) *pager {
	p := &pager{state: s, space: space, budget: budget, life: int64(life), newest: math.MinInt64, batch: space.NewBatch()}
	p.labels, _ = s.(labelledState)
	return p
}

// prepare makes room and brings in what an update of the batch needs.
func (p *pager) prepare(b *feature.Batch) error {
	p.brought = p.brought[:0]
	if err := p.evict(); err != nil {
		return err
	}
	for _, t := range b.Times[:b.N] {
		p.newest = max(p.newest, t)
	}
	p.keys = p.keys[:0]
	p.rows = p.state.Missing(b.Keys[:b.N], p.rows[:0])
	for _, r := range p.rows {
		p.keys = append(p.keys, b.Keys[r])
	}
	if p.labels != nil && len(b.Labels.IDs) > 0 {
		p.keys = p.labels.LabelKeys(&b.Labels, p.keys)
	}
	return p.bring()
}

// prepareDelta does the same before a change is replayed.
func (p *pager) prepareDelta(delta []byte) (err error) {
	p.brought = p.brought[:0]
	if err := p.evict(); err != nil {
		return err
	}
	if p.keys, err = p.state.DeltaKeys(delta, p.keys[:0]); err != nil {
		return err
	}
	return p.bring()
}

// bring loads p.keys, as far as the store has them. One that is in memory is not
// loaded, though a label's id may still be listed for its state in the store: that
// is older where the key came back by a slice of the changelog.
func (p *pager) bring() error {
	p.rows = p.state.Missing(p.keys, p.rows[:0])
	for i, r := range p.rows {
		p.keys[i] = p.keys[r]
	}
	p.keys = p.keys[:len(p.rows)]
	if len(p.keys) == 0 {
		return nil
	}
	p.bytes = p.bytes[:0]
	for _, k := range p.keys {
		p.bytes = append(p.bytes, keyBytes(k))
	}
	var failed error
	err := p.space.Load(p.bytes, func(i int, value []byte) {
		if failed != nil || len(value) < stampBytes {
			return
		}
		if failed = p.state.Load(value[stampBytes:]); failed == nil && p.cycle {
			p.brought = append(p.brought, p.keys[i])
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("bring in state: %w", err)
	}
	return nil
}

// bringAll loads every key, whatever the budget.
func (p *pager) bringAll() error {
	var failed error
	var key [1]string
	err := p.space.Scan(nil, func(k, value []byte) bool {
		key[0] = textOf(k)
		if len(value) >= stampBytes && len(p.state.Missing(key[:], p.rows[:0])) > 0 {
			failed = p.state.Load(value[stampBytes:])
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("bring in state: %w", err)
	}
	return nil
}

// clear empties the store.
func (p *pager) clear() error {
	p.batch.Reset()
	err := p.space.Scan(nil, func(k, _ []byte) bool {
		p.batch.Delete(k)
		return true
	})
	if err == nil && p.batch.Len() > 0 {
		err = p.space.Apply(p.batch)
	}
	return err
}

// evict moves cold keys to the store until the rest fits into the budget.
func (p *pager) evict() error {
	if p.state.Bytes() <= p.budget {
		return nil
	}
	p.batch.Reset()
	err := p.state.Evict(p.budget-p.budget/8, func(key string, state []byte) error {
		p.buf = binary.BigEndian.AppendUint64(p.buf[:0], uint64(p.newest))
		p.buf = append(p.buf, state...)
		p.batch.Put(keyBytes(key), p.buf, 0)
		if p.batch.Size() < 4<<20 {
			return nil
		}
		err := p.space.Apply(p.batch)
		p.batch.Reset()
		return err
	})
	if err == nil && p.batch.Len() > 0 {
		err = p.space.Apply(p.batch)
	}
	if err != nil {
		return fmt.Errorf("move state out of memory: %w", err)
	}
	return nil
}

// begin starts the step's part of a cycle.
func (p *pager) begin() { p.cycle, p.from = true, nil }

// page adds to the changelog what was brought in, and, once the keys in memory
// are through, the next keys of the store, about budget bytes. It reports
// whether the store is through too.
func (p *pager) page(inMemory bool, budget int) (done bool, err error) {
	p.pages = p.pages[:0]
	for _, k := range p.brought {
		var ok bool
		if p.buf, ok = p.state.AppendKey(p.buf[:0], k); ok {
			p.add(p.buf)
		}
	}
	if !p.cycle || !inMemory {
		return !p.cycle, nil
	}
	p.batch.Reset()
	done = true
	key := [1]string{}
	var failed error
	err = p.space.Scan(p.from, func(k, value []byte) bool {
		p.from = append(append(p.from[:0], k...), 0)
		key[0] = textOf(k)
		switch {
		case len(value) < stampBytes || len(p.state.Missing(key[:], p.rows[:0])) == 0:
			return true // what is in memory is newer
		case p.newest-int64(binary.BigEndian.Uint64(value)) > p.life:
			if p.labels != nil {
				if failed = p.labels.Discard(value[stampBytes:]); failed != nil {
					return false
				}
			}
			p.batch.Delete(k)
			return true
		}
		p.add(value[stampBytes:])
		done = len(p.pages) < budget
		return done
	})
	if err == nil {
		err = failed
	}
	if err == nil && p.batch.Len() > 0 {
		err = p.space.Apply(p.batch)
	}
	if err != nil {
		return false, fmt.Errorf("write stored state to the changelog: %w", err)
	}
	p.cycle = !done
	return done, nil
}

func (p *pager) add(state []byte) {
	p.pages = binary.AppendUvarint(p.pages, uint64(len(state)))
	p.pages = append(p.pages, state...)
}

// applyPages takes states of keys from the changelog.
func applyPages(s feature.State, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	p, ok := s.(interface{ Load(state []byte) error })
	if !ok {
		return errkind.New(errkind.Corrupt, "the record holds states of keys of a step that has none")
	}
	for c := (cursor{b: b}); len(c.b) > 0; {
		state := c.bytes()
		if c.bad {
			return errkind.New(errkind.Corrupt, "the record is cut short")
		}
		if err := p.Load(state); err != nil {
			return err
		}
	}
	return nil
}

// usePager gives each of the task's paged steps its part of the local store.
func (t *task) usePager() error {
	if t.p.store == nil {
		return nil
	}
	steps := 0
	for _, st := range t.p.plan.stages {
		for _, s := range st.steps {
			if _, ok := s.(*windowsPlan); ok {
				steps++
			}
		}
	}
	budget := t.p.plan.Spec.State.Memory / int64(max(1, steps*t.p.partitions))
	for i, g := range t.groups {
		w, ok := g.(*windowsStep)
		if !ok {
			continue
		}
		s, ok := w.windows.(pagedState)
		if !ok {
			continue
		}
		space, err := t.p.store.Space(t.stage.state+"/"+strconv.Itoa(t.claim.Partition()), "step-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		w.pager = newPager(s, space, budget, w.plan.life())
		t.p.counters.store([2]int{t.stage.index, t.claim.Partition()}, space)
	}
	return nil
}

// dropPages empties the task's part of the local store.
func (t *task) dropPages() {
	for _, g := range t.groups {
		if w, ok := g.(*windowsStep); ok && w.pager != nil {
			if err := w.pager.space.Drop(); err != nil {
				t.log.Warn("empty the local store", "error", err) // it is emptied at the next start
			}
		}
	}
}

// life is how long after a key's newest event nothing of it can be asked for any more.
func (g *windowsPlan) life() time.Duration {
	longest := time.Duration(0)
	for i := range g.config.Windows {
		w := &g.config.Windows[i]
		over := w.Over + w.Delay
		switch {
		case w.Aggregate == feature.Decayed:
			over = 40 * w.Over
		case w.Shape != feature.Sliding:
			over = 2 * w.Over
		}
		longest = max(longest, over)
	}
	longest += g.config.Retain
	return longest + longest/4
}
