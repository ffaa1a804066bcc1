package local

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// Fallback is the tier to which a share of the events can be routed: the fallbacks of the step.
const Fallback = "fallback"

// Unit is what is scaled within a process: a pipeline. It is safe for concurrent use.
type Unit interface {
	// Order puts orders in force; zero numbers mean all that there is.
	Order(o orchestrator.Orders) error
	// Orders are those in force, and the most of each. The Route of most is zero where there is no fallback.
	Orders() (now, most orchestrator.Orders)
}

// Holder holds the orders of a unit. It is an actuator.Driver and safe for concurrent use.
type Holder struct {
	unit Unit

	mu      sync.Mutex
	ours    bool
	expires time.Time
	timer   *time.Timer
	closed  bool
}

// Hold returns the holder of a unit's orders.
func Hold(u Unit) *Holder { return &Holder{unit: u} }

// Status implements actuator.Driver.
func (h *Holder) Status(ctx context.Context) (actuator.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.over(ctx); err != nil {
		return actuator.Status{}, err
	}
	now, most := h.unit.Orders()
	s := actuator.Status{Workers: now.Workers, Ready: now.Workers, Batch: now.Batch, Route: now.Route, Ours: h.ours, Expires: h.expires}
	if most.Workers == 0 {
		return s, errkind.New(errkind.Unsupported, "the pipeline has no model: there is no capacity to order")
	}
	s.Most, s.MostBatch = most.Workers, most.Batch
	return s, nil
}

// Apply implements actuator.Driver. Orders beyond what there is are Invalid.
func (h *Holder) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.over(ctx); err != nil {
		return err
	}
	_, most := h.unit.Orders()
	switch {
	case most.Workers == 0:
		return errkind.New(errkind.Unsupported, "the pipeline has no model: there is no capacity to order")
	case o.Workers < 1 || o.Workers > most.Workers:
		return errkind.Errorf(errkind.Invalid, "%d workers are ordered: the pipeline has 1 to %d, the instances of its model in this process", o.Workers, most.Workers)
	case o.Batch < 0 || o.Batch > most.Batch:
		return errkind.Errorf(errkind.Invalid, "batches of %d are ordered: they have at most %d events, by infer.batch.max", o.Batch, most.Batch)
	case math.IsNaN(o.Route.Share) || o.Route.Share < 0 || o.Route.Share > 1:
		return errkind.Errorf(errkind.Invalid, "a share of %v is routed: it lies between 0 and 1", o.Route.Share)
	case o.Route.Share > 0 && (o.Route.To != Fallback || most.Route.Share == 0):
		return errkind.Errorf(errkind.Unsupported, "a share is routed to %q: within a process it can go to %q, where the step has one", o.Route.To, Fallback)
	}
	wait := time.Until(expires)
	if wait <= 0 {
		return errkind.New(errkind.Invalid, "the orders have expired already: check the clocks")
	}
	if err := h.unit.Order(o); err != nil {
		return err
	}
	h.ours, h.expires = true, expires
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(wait, func() { h.expire(expires) })
	return nil
}

// expire ends orders that were not renewed.
func (h *Holder) expire(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.expires.Equal(at) {
		_ = h.revert() // the pipeline has ended: nothing is in force
	}
}

// Revert implements actuator.Driver: everything that the pipeline has is used again.
func (h *Holder) Revert(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.over(ctx); err != nil {
		return err
	}
	return h.revert()
}

func (h *Holder) revert() error {
	if !h.ours {
		return nil
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	h.ours, h.expires = false, time.Time{}
	return h.unit.Order(orchestrator.Orders{})
}

// Capabilities implements actuator.Driver.
func (h *Holder) Capabilities() actuator.Capabilities {
	_, most := h.unit.Orders()
	return actuator.Capabilities{Workers: true, Batch: true, Route: most.Route.Share > 0, Expires: true, Ready: true}
}

// Close takes the orders back.
func (h *Holder) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.revert()
}

// over says why a call is not carried out.
func (h *Holder) over(ctx context.Context) error {
	if h.closed {
		return errkind.New(errkind.Closed, "the pipeline has ended")
	}
	return ctx.Err()
}
