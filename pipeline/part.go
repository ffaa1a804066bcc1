package pipeline

import (
	"context"
	"fmt"
)

// part is one goroutine of a task behind the front: it takes a model's answers,
// computes the steps behind the model, and hands frames to the next part.
type part struct {
	scorer *scorer // nil where there is no model
	steps  []frameStep
	full   chan *frame
}

func newPart(s *scorer, steps []frameStep) *part {
	return &part{scorer: s, steps: steps, full: make(chan *frame, framesInFlight)}
}

// take sends the frame's rows to the part's model and the frame to the part.
func (p *part) take(ctx context.Context, f *frame) error {
	if p.scorer != nil {
		if err := p.scorer.submit(context.WithoutCancel(ctx), f); err != nil {
			return fmt.Errorf("submit to the model of step %s: %w", p.scorer.plan.spec.Name, err)
		}
	}
	p.full <- f // never blocks: there is room for every frame
	return nil
}

// runBack takes the answers of the i-th model and passes frames on; behind the
// last one results are written. It works until the part in front has closed the
// queue, and takes the answers of every frame even after a failure, because the
// rows belong to the model until then.
func (t *task) runBack(ctx context.Context, i int, stopFront func()) (err error) {
	p, last := t.back[i], i == len(t.back)-1
	defer func() {
		if last {
			close(t.ready)
		} else {
			close(t.back[i+1].full)
		}
	}()
	if p.scorer != nil {
		defer p.scorer.shadows.wait()
	}
	for f := range p.full {
		ferr := t.answer(ctx, p, f)
		if ferr == nil && err == nil {
			if !last {
				ferr = t.back[i+1].take(ctx, f)
			} else {
				ferr = t.finish(f)
			}
		}
		if ferr != nil && err == nil {
			err = ferr
			stopFront()
		}
		if err != nil || last {
			for j := range f.scorings {
				f.scorings[j].release()
			}
		}
		if err != nil {
			f.recs.Release()
			continue
		}
		if last {
			t.ready <- f // never blocks: there is room for every frame
		}
	}
	return err
}

// answer takes the model's answers for a frame and computes what stands behind it.
func (t *task) answer(ctx context.Context, p *part, f *frame) error {
	if p.scorer != nil {
		t.p.counters.failures.Add(uint64(p.scorer.collect(ctx, f)))
	}
	return t.runSteps(ctx, p.steps, f)
}
