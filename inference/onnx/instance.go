package onnx

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
)

// instance is the memory in which a program runs, one run at a time.
type instance struct {
	p     *program
	vals  []ops.Tensor
	steps []bound
	frame ops.Frame
}

// bound is a step with its values' addresses.
type bound struct {
	in, out []*ops.Tensor
}

func newInstance(p *program) *instance {
	i := &instance{p: p, vals: make([]ops.Tensor, p.slots)}
	i.frame.MaxElements = p.maxElements
	for _, c := range p.consts {
		i.vals[c.slot] = *c.value
	}
	at := func(slots []int) []*ops.Tensor {
		out := make([]*ops.Tensor, len(slots))
		for k, s := range slots {
			if s >= 0 {
				out[k] = &i.vals[s]
			}
		}
		return out
	}
	for _, s := range p.steps {
		i.steps = append(i.steps, bound{at(s.in), at(s.out)})
	}
	return i
}

// run evaluates the program: in holds the inputs in order, out receives the outputs and lends its
// storage to them while the run lasts.
func (i *instance) run(ctx context.Context, in, out []inference.Tensor) (err error) {
	p := i.p
	i.take(in)
	for k := range p.outputs {
		if o := &p.outputs[k]; !o.copied {
			i.vals[o.slot] = out[k]
		}
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v: please report it with the model", errInternal, r)
		}
		i.release()
	}()
	done := ctx.Done()
	for k := range p.steps {
		if done != nil && k&7 == 7 {
			select {
			case <-done:
				return ctx.Err()
			default:
			}
		}
		if err := i.step(k); err != nil {
			return err
		}
	}
	for k := range p.outputs {
		o := &p.outputs[k]
		if o.copied {
			if err := ops.Copy(&i.frame, &out[k], &i.vals[o.slot]); err != nil {
				return errRun("output "+o.name, err)
			}
		} else {
			out[k] = i.vals[o.slot]
		}
		out[k].Name = o.name
	}
	return nil
}

// take begins a run with the inputs.
func (i *instance) take(in []inference.Tensor) {
	i.frame.Reset()
	for k, s := range i.p.inputs {
		v := &i.vals[s]
		v.Shape = append(v.Shape[:0], in[k].Shape...)
		shape := v.Shape
		*v = in[k]
		v.Shape = shape
	}
}

// step evaluates one step.
func (i *instance) step(k int) error {
	b := &i.steps[k]
	if i.frame.Limited {
		if err := spend(&i.frame, b.in); err != nil {
			return errRun(i.p.steps[k].name, err)
		}
	}
	if err := i.p.steps[k].kernel(&i.frame, b.in, b.out); err != nil {
		return errRun(i.p.steps[k].name, err)
	}
	return nil
}

// spend counts what a node reads.
func spend(f *ops.Frame, in []*ops.Tensor) error {
	for _, t := range in {
		if t == nil {
			continue
		}
		if err := f.Spend(ops.Len(t)); err != nil {
			return err
		}
	}
	return nil
}

// forget lets go of the inputs.
func (i *instance) forget() {
	for _, s := range i.p.inputs {
		i.vals[s] = ops.Tensor{Shape: i.vals[s].Shape}
	}
	for _, s := range i.p.views {
		i.vals[s] = ops.Tensor{Shape: i.vals[s].Shape}
	}
}

// release lets go of the caller's slices.
func (i *instance) release() {
	i.forget()
	for k := range i.p.outputs {
		if o := &i.p.outputs[k]; !o.copied {
			i.vals[o.slot] = ops.Tensor{}
		}
	}
}
