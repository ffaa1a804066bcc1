package builtin

import (
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/local"
	"github.com/freshet-io/freshet/pipeline"
)

// unit is a pipeline as something whose capacity can be ordered: its workers are the calls of
// its model at a time.
type unit struct{ p *pipeline.Pipeline }

// HoldCapacity makes the capacity of a pipeline in this process one that can be ordered.
func HoldCapacity(p *pipeline.Pipeline) actuator.Driver { return local.Hold(unit{p}) }

func (u unit) Order(o orchestrator.Orders) error {
	return u.p.SetCapacity(pipeline.Capacity{Calls: o.Workers, Batch: o.Batch, Fallback: o.Route.Share})
}

func (u unit) Orders() (now, most orchestrator.Orders) {
	n, m := u.p.Capacity()
	return orders(n), orders(m)
}

func orders(c pipeline.Capacity) orchestrator.Orders {
	o := orchestrator.Orders{Workers: c.Calls, Batch: c.Batch}
	if c.Fallback > 0 {
		o.Route = orchestrator.Route{To: local.Fallback, Share: c.Fallback}
	}
	return o
}
