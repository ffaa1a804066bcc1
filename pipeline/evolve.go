package pipeline

import (
	"fmt"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/feature"
)

// The changelog of a pipeline that was changed begins with records of the old
// definition. They are applied to steps made of that definition; where the
// definition turns, and at the end, the new steps take over what they can use:
// a step whose definition is the same its state as it is, exact windows for
// which the rows kept before suffice those rows. A step that would begin empty
// beside others, or instead of one, is refused unless the user said that it may.

// reading is the steps that records are applied to.
type reading struct {
	began bool
	print uint64
	steps []readStep
	// definitions are those of the records read; own: they are the pipeline's.
	definitions [][]byte
	own         bool
}

// readStep is one step while its records are read; its state is nil where it
// has a definition that this program cannot make anything of.
type readStep struct {
	state feature.State
	pager *pager
}

func (s readStep) apply(change, slice, pages []byte) error {
	if s.state == nil {
		return nil
	}
	if len(change) > 0 {
		if s.pager != nil {
			if err := s.pager.prepareDelta(change); err != nil {
				return err
			}
		}
		if err := s.state.ApplyDelta(change); err != nil {
			return fmt.Errorf("apply a change: %w", err)
		}
	}
	if len(slice) > 0 {
		if err := s.state.ApplySnapshot(slice); err != nil {
			return fmt.Errorf("apply a slice of the state: %w", err)
		}
	}
	if err := applyPages(s.state, pages); err != nil {
		return fmt.Errorf("apply the state of a key: %w", err)
	}
	return nil
}

// turn makes sure that records of a definition can be applied.
func (r *reading) turn(c *changelog, print uint64, definitions [][]byte) error {
	if r.began && r.print == print {
		return nil
	}
	if definitions == nil {
		if print != c.fingerprint {
			return errkind.New(errkind.Corrupt, "the record is of a definition that no record before it gives")
		}
		for _, g := range c.groups {
			definitions = append(definitions, g.definition())
		}
	}
	if print == c.fingerprint && len(definitions) != len(c.groups) {
		return errkind.Errorf(errkind.Corrupt, "the record defines %d steps, and the pipeline of its fingerprint has %d", len(definitions), len(c.groups))
	}
	next := reading{began: true, print: print, definitions: definitions, own: print == c.fingerprint}
	for i, d := range definitions {
		next.steps = append(next.steps, c.stepOf(i, d, next.own))
	}
	if r.began {
		if err := r.handOver(c, &next); err != nil {
			return err
		}
	}
	*r = next
	return nil
}

// stepOf makes the step of a definition: the pipeline's own where the records
// are its own, else a new one.
func (c *changelog) stepOf(i int, definition []byte, own bool) readStep {
	if own {
		return readStep{c.groups[i].keyed(), c.groups[i].pages()}
	}
	for _, g := range c.groups {
		if string(g.definition()) == string(definition) {
			if s, err := g.fresh(); err == nil {
				return readStep{state: s}
			}
		}
	}
	if w, err := feature.NewFromDefinition(definition); err == nil {
		return readStep{state: w}
	}
	return readStep{}
}

// finish brings the state over to the pipeline's own steps, where the records
// read last were of another definition.
func (r *reading) finish(c *changelog) error {
	if !r.began || r.own {
		return nil
	}
	own := reading{began: true, print: c.fingerprint, own: true}
	for i, g := range c.groups {
		own.definitions = append(own.definitions, g.definition())
		own.steps = append(own.steps, c.stepOf(i, nil, true))
	}
	if err := r.handOver(c, &own); err != nil {
		return err
	}
	*r = own
	c.defined = false // the topic does not know these definitions yet
	return nil
}

// handOver gives the state of r's steps to those of next.
func (r *reading) handOver(c *changelog, next *reading) error {
	used := make([]bool, len(r.steps))
	var kept, lost []string
	for i := range next.steps {
		from, convert := -1, false
		why := "there was no such step"
		for j := range r.steps {
			if used[j] || r.steps[j].state == nil {
				continue
			}
			if string(r.definitions[j]) == string(next.definitions[i]) {
				from, convert = j, false
				break
			}
			w, ok := next.steps[i].state.(*feature.Windows)
			if !ok || from >= 0 {
				continue
			}
			switch keep, reason := w.Compatible(r.definitions[j]); keep {
			case feature.Same, feature.Convertible:
				from, convert = j, true
			default:
				why = reason
			}
		}
		name := fmt.Sprintf("step %d", i+1)
		if next.own {
			name = c.groups[i].name()
		}
		if from < 0 {
			lost = append(lost, fmt.Sprintf("%s begins empty: %s", name, why))
			continue
		}
		used[from] = true
		kept = append(kept, name)
		if p := r.steps[from].pager; p != nil {
			if err := p.bringAll(); err != nil {
				return err
			}
		}
		if err := pass(r.steps[from].state, next.steps[i].state, convert); err != nil {
			return fmt.Errorf("take over the state of %s: %w", name, err)
		}
	}
	if r.own { // the pipeline was changed and changed back: its steps begin again
		for _, g := range c.groups {
			if err := g.reset(); err != nil {
				return err
			}
		}
	}
	if next.own && len(lost) > 0 && !c.mayLose {
		what := "nothing of the old state can be kept"
		if len(kept) > 0 {
			what = "kept would be " + strings.Join(kept, ", ")
		}
		return errkind.Errorf(errkind.Config,
			"the pipeline has changed since its state was written: %s; %s. Put the old definition back, give the pipeline another name, or run once with --new-windows-empty to go on so",
			strings.Join(lost, "; "), what)
	}
	return nil
}

// pass moves the whole of a state.
func pass(from, to feature.State, convert bool) error {
	if convert {
		return to.(*feature.Windows).Adopt(from.(*feature.Windows))
	}
	from.BeginSnapshot()
	var b []byte
	for done := false; !done; {
		b, done = from.AppendSnapshot(b[:0], 1<<20)
		if err := to.ApplySnapshot(b); err != nil {
			return err
		}
	}
	return nil
}
