package rule

import (
	"context"
	"math"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
)

// Rule is a rule as a driver.
type Rule struct {
	meta    inference.Metadata
	bytes   int64
	vars    []expr.Var
	outputs []output
	gate    *tensors.Gate
	idle    chan *instance
}

type output struct {
	name    string
	program *expr.Program
	inputs  []int // of the program's variables, in its order
}

// instance is the memory of one call at a time.
type instance struct {
	columns    []event.Column // one for each input
	nulls      [][]bool       // their marks, kept when a batch has none
	evaluators []*expr.Evaluator
	arguments  [][]*event.Column
	result     event.Column
}

var (
	_ inference.Driver    = (*Rule)(nil)
	_ inference.Inspector = (*Rule)(nil)
)

func (r *Rule) start(instances int) {
	r.gate = tensors.NewGate(r.meta.Name, instances)
	r.idle = make(chan *instance, instances)
	for range instances {
		x := &instance{columns: make([]event.Column, len(r.vars)), nulls: make([][]bool, len(r.vars))}
		for i, v := range r.vars {
			x.columns[i].Name, x.columns[i].Kind = v.Name, v.Kind
		}
		for _, o := range r.outputs {
			x.evaluators = append(x.evaluators, o.program.Evaluator())
			var arguments []*event.Column
			for _, i := range o.inputs {
				arguments = append(arguments, &x.columns[i])
			}
			x.arguments = append(x.arguments, arguments)
		}
		r.idle <- x
	}
}

// Metadata implements inference.Driver.
func (r *Rule) Metadata() inference.Metadata { return r.meta }

// Concurrency implements inference.Driver.
func (r *Rule) Concurrency() int { return cap(r.idle) }

// Complexity implements inference.Inspector: Nodes counts the expressions.
func (r *Rule) Complexity() inference.Complexity {
	return inference.Complexity{Bytes: r.bytes, Nodes: len(r.outputs)}
}

// Vectorised reports whether every expression runs over columns; see expr.Program.
func (r *Rule) Vectorised() bool {
	for _, o := range r.outputs {
		if !o.program.Vectorised() {
			return false
		}
	}
	return true
}

// Close implements inference.Driver.
func (r *Rule) Close() error {
	r.gate.Close()
	return nil
}

// Infer implements inference.Driver.
func (r *Rule) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if err := r.gate.Enter(ctx); err != nil {
		return err
	}
	defer r.gate.Leave()
	n, err := tensors.Check(&r.meta, in, out)
	if err != nil {
		return err
	}
	x := <-r.idle
	defer func() {
		x.forget()
		r.idle <- x
	}()
	x.take(in, n)
	for i := range r.outputs {
		if err := r.evaluate(x, i, n, &out[i]); err != nil {
			return err
		}
	}
	return nil
}

// take makes the inputs the instance's columns, without copying them.
func (x *instance) take(in []inference.Tensor, n int) {
	for i := range in {
		c := &x.columns[i]
		switch c.Kind {
		case event.Float:
			c.Floats = in[i].F64
			c.Null = x.missing(i, c.Floats)
		case event.Int:
			c.Ints = in[i].I64
		case event.Bool:
			c.Bools = in[i].Bool
		case event.String:
			c.Strings = in[i].Str
		}
	}
}

// missing marks NaN; nil where there is none.
func (x *instance) missing(i int, values []float64) []bool {
	var marks []bool
	for row, v := range values {
		if v == v {
			continue
		}
		if marks == nil {
			if cap(x.nulls[i]) < len(values) {
				x.nulls[i] = make([]bool, len(values))
			}
			marks = x.nulls[i][:len(values)]
			clear(marks)
		}
		marks[row] = true
	}
	return marks
}

// forget lets go of the caller's slices.
func (x *instance) forget() {
	for i := range x.columns {
		c := &x.columns[i]
		c.Floats, c.Ints, c.Bools, c.Strings, c.Null = nil, nil, nil, nil, nil
	}
}

func (r *Rule) evaluate(x *instance, i, n int, out *inference.Tensor) error {
	o := &r.outputs[i]
	c := &x.result
	if faults := x.evaluators[i].Eval(x.arguments[i], n, c); len(faults) > 0 {
		return errkind.Errorf(errkind.Invalid, "rule %q: output %s of row %d: %w", r.meta.Name, o.name, faults[0].Row, faults[0].Err)
	}
	tensors.Make(out, &r.meta.Outputs[i], n)
	switch c.Kind {
	case event.Float:
		copy(out.F64, c.Floats)
		for row, null := range c.Null {
			if null {
				out.F64[row] = math.NaN()
			}
		}
		return nil
	case event.Int:
		copy(out.I64, c.Ints)
	case event.Bool:
		copy(out.Bool, c.Bools)
	case event.String:
		copy(out.Str, c.Strings)
	}
	for row, null := range c.Null {
		if null {
			return errkind.Errorf(errkind.Invalid, "rule %q: output %s of row %d is null, which %s cannot be: give it a value with has(…) ? … : …",
				r.meta.Name, o.name, row, kindNames[c.Kind])
		}
	}
	return nil
}
