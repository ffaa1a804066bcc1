package pipeline

import (
	"math"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

// Capacity is how much of the model of the step that gives the score is used in this
// process: what an orchestrator orders, and may change at any time.
type Capacity struct {
	// Calls is how many calls of the model may run at once, Batch the most rows of one. Zero
	// means as many as the pipeline file and the runtime allow.
	Calls, Batch int
	// Fallback is the share of the events, 0 to 1, that the step's fallbacks answer without the model
	// being asked. An event is among them or not by its id.
	Fallback float64
}

// errRouted stands for the model's answer of a row that an order sends to the fallbacks.
var errRouted = errkind.New(errkind.Throttled, "sent to the fallback: the model has no capacity for it")

// SetCapacity orders capacity, from the next batch on. What lies outside of what the step allows is
// brought within it. It is Unsupported without a model, and where a share is
// to go to fallbacks that the step does not have; Invalid where a number makes no sense.
func (p *Pipeline) SetCapacity(c Capacity) error {
	main := p.plan.main()
	switch {
	case main == nil || main.service == nil:
		return errkind.Errorf(errkind.Unsupported, "pipeline %s has no model: there is no capacity to order", p.plan.Spec.Name)
	case c.Calls < 0 || c.Batch < 0 || math.IsNaN(c.Fallback) || c.Fallback < 0 || c.Fallback > 1:
		return errkind.Errorf(errkind.Invalid, "capacity of %d calls, batches of %d, a share of %v to the fallback: numbers are not negative, and a share lies between 0 and 1", c.Calls, c.Batch, c.Fallback)
	case c.Fallback > 0 && len(main.fallbacks) == 0:
		return errkind.Errorf(errkind.Unsupported, "step %s of pipeline %s has no fallback to send events to", main.spec.Name, p.plan.Spec.Name)
	}
	p.capacity.Store(&c)
	var a appliedCapacity
	sv := main.service.Acquire()
	defer sv.Release()
	a.to(sv, &c)
	return nil
}

// Capacity is what is in force, and the most that can be ordered of each. Zero without a model.
func (p *Pipeline) Capacity() (now, most Capacity) {
	main := p.plan.main()
	if main == nil || main.service == nil {
		return now, most
	}
	sv := main.service.Acquire()
	defer sv.Release()
	m := sv.Champion().Model
	l := m.Limit()
	now, most = Capacity{Calls: l.Calls, Batch: l.Batch}, Capacity{Calls: m.Instances(), Batch: m.MaxBatch()}
	if c := p.capacity.Load(); c != nil {
		now.Fallback = c.Fallback
	}
	if len(main.fallbacks) > 0 {
		most.Fallback = 1
	}
	return now, most
}

// appliedCapacity is what was ordered of which versions, so that each is told once.
type appliedCapacity struct {
	capacity *Capacity
	arms     [2]*model.Arm
}

// to tells the versions that serve.
func (a *appliedCapacity) to(sv *model.Serving, c *Capacity) {
	arms := [2]*model.Arm{sv.Champion(), sv.Challenger()}
	if a.capacity == c && a.arms == arms {
		return
	}
	for _, arm := range arms {
		if arm != nil {
			arm.Model.SetLimit(inference.Limit{Calls: c.Calls, Batch: c.Batch})
		}
	}
	a.capacity, a.arms = c, arms
}

// order applies what was ordered to the versions of a frame, and returns the share of rows that the model is not
// asked for.
func (s *scorer) order(sv *model.Serving) float64 {
	if s.ordered == nil {
		return 0
	}
	c := s.ordered.Load()
	if c == nil {
		return 0
	}
	s.applied.to(sv, c)
	return c.Fallback
}

// place deals a row to a place between 0 and 1 by its event: other places than those of explanations.
func (s *scorer) place(f *frame, row int) float64 {
	partition, position, _ := f.place(row, s.partition)
	s.id = appendSource(append(s.id[:0], "capacity "...), f.rows.ID[row], partition, position)
	return shareOf(s.id)
}
