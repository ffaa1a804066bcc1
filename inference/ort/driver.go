package ort

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// Driver is a model in a worker. It implements inference.Driver.
type Driver struct {
	o        *Options
	meta     inference.Metadata
	strict   bool // the outputs' shapes are known for sure
	source   *source
	workers  *supervisor
	gate     *tensors.Gate
	pool     chan *lane
	alone    chan struct{} // held by who wants all lanes
	suspects *suspects
	drains   sync.WaitGroup
}

var _ inference.Driver = (*Driver)(nil)

// lane is the way of one call at a time to the worker.
type lane struct {
	index int
	proc  *process // that conn leads to
	conn  net.Conn
	c     *frame.Conn
	seq   uint64
	views []frame.View

	// interrupt ends reads and writes under way, and says so.
	interrupt   func()
	interrupted chan struct{}
}

func newLane(index int) *lane {
	l := &lane{index: index, interrupted: make(chan struct{}, 1)}
	l.interrupt = func() {
		_ = l.conn.SetDeadline(time.Unix(1, 0))
		l.interrupted <- struct{}{}
	}
	return l
}

// lead makes the lane lead to p.
func (l *lane) lead(p *process) {
	if l.proc != p {
		l.proc, l.conn = p, p.lanes[l.index]
		l.c = frame.NewConn(l.conn, math.MaxInt32)
	}
}

// Metadata describes the model.
func (d *Driver) Metadata() inference.Metadata { return d.meta }

// Concurrency is the number of instances.
func (d *Driver) Concurrency() int { return cap(d.pool) }

// Infer evaluates a batch; see inference.Driver. Beside what is said there, Transient
// is a worker that has ended or is being started, and Permanent are rows that end it.
func (d *Driver) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if err := d.gate.Enter(ctx); err != nil {
		return d.wrap(err)
	}
	defer d.gate.Leave()
	rows, err := tensors.Check(&d.meta, in, out)
	if err != nil {
		return err
	}
	if rows == 0 {
		d.empty(out)
		return nil
	}
	switch ends := d.suspects.of(in); {
	case ends >= guilty:
		return d.wrap(d.refusal(nil))
	case ends > 0:
		return d.wrap(d.tryAlone(ctx, in, out, rows))
	}
	l, err := d.take(ctx)
	if err != nil {
		return d.wrap(err)
	}
	if err := d.call(ctx, l, in, out, rows); err != nil {
		var ended *endedError
		if errors.As(err, &ended) && ended.byItself {
			d.suspects.add(d.suspects.hash(in))
		}
		return d.wrap(err)
	}
	return nil
}

// tryAlone runs rows beside which a worker has ended, with no other call under way.
func (d *Driver) tryAlone(ctx context.Context, in, out []inference.Tensor, rows int) error {
	select {
	case d.alone <- struct{}{}:
		defer func() { <-d.alone }()
	case <-ctx.Done():
		return ctx.Err()
	case <-d.gate.Closing():
		return errClosing
	}
	var held []*lane
	defer func() {
		for _, l := range held {
			d.pool <- l
		}
	}()
	for range cap(d.pool) {
		l, err := d.take(ctx)
		if err != nil {
			return err
		}
		held = append(held, l)
	}
	l := held[0]
	held = held[1:]
	hash := d.suspects.hash(in)
	err := d.call(ctx, l, in, out, rows)
	var ended *endedError
	switch {
	case errors.As(err, &ended):
		if ended.byItself && d.suspects.add(hash) >= guilty {
			return d.refusal(err)
		}
	case err == nil:
		d.suspects.clear(hash)
	}
	return err
}

func (d *Driver) refusal(err error) error {
	const what = "these rows end the worker of ONNX Runtime: it has ended %d times while it evaluated them, the last ones while it did nothing else"
	if err == nil {
		return errkind.Errorf(errkind.Permanent, what+"; they are not tried again", guilty)
	}
	return errkind.Errorf(errkind.Permanent, what+": %w", guilty, err)
}

func (d *Driver) wrap(err error) error { return fmt.Errorf("infer %s: %w", d.meta.Name, err) }

// take waits for a lane.
func (d *Driver) take(ctx context.Context) (*lane, error) {
	select {
	case l := <-d.pool:
		return l, nil
	default:
	}
	select {
	case l := <-d.pool:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.gate.Closing():
		return nil, errClosing
	}
}

// endedError is the end of the worker during a call.
type endedError struct {
	error
	byItself bool
}

func (e *endedError) Unwrap() error { return e.error }

// call runs in on l, which it gives back, and fills out; rows is −1 for a trial.
func (d *Driver) call(ctx context.Context, l *lane, in, out []inference.Tensor, rows int) error {
	p, err := d.workers.acquire(ctx)
	if err != nil {
		d.pool <- l
		return err
	}
	l.lead(p)
	l.seq++
	stop := context.AfterFunc(ctx, l.interrupt)
	var f frame.Frame
	if err = l.c.WriteTensors(frame.Frame{Kind: frame.Infer, Seq: l.seq}, in); err == nil {
		f, err = l.c.Read()
	}
	if !stop() {
		<-l.interrupted
		_ = l.conn.SetDeadline(time.Time{})
	}
	switch {
	case err == nil:
		err = d.accept(l, &f, out, rows)
		d.pool <- l
		return err
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		l.c.Detach()
		hash := d.suspects.hash(in)
		d.drains.Go(func() { d.drain(l, hash) })
		return ctx.Err()
	}
	d.pool <- l
	p.failed(err)
	return d.ended(p)
}

func (d *Driver) ended(p *process) error {
	return &endedError{errkind.With(errkind.Transient, p.err), p.byItself()}
}

// accept takes the answer.
func (d *Driver) accept(l *lane, f *frame.Frame, out []inference.Tensor, rows int) (err error) {
	switch {
	case f.Seq != l.seq:
		err = fmt.Errorf("an answer to call %d, expected %d", f.Seq, l.seq)
	case f.Kind == frame.Failed:
		return f.Err()
	case f.Kind != frame.Result:
		err = fmt.Errorf("a call is answered with %v", f.Kind)
	default:
		l.views, err = frame.Tensors(f.Body, l.views)
	}
	if err != nil {
		l.proc.failed(err)
		return d.ended(l.proc)
	}
	if len(l.views) != len(out) {
		return errkind.Errorf(errkind.Permanent, "%d outputs, expected %d", len(l.views), len(out))
	}
	for k := range out {
		v, sig := &l.views[k], &d.meta.Outputs[k]
		if err := d.fits(v, sig, rows); err != nil {
			return err
		}
		out[k].Name = sig.Name
		if err := v.CopyTo(&out[k]); err != nil {
			return errkind.Errorf(errkind.Permanent, "output %q: %w", sig.Name, err)
		}
	}
	return nil
}

// fits holds an output against its signature.
func (d *Driver) fits(v *frame.View, sig *inference.Signature, rows int) error {
	if rows < 0 {
		return nil
	}
	ok := v.Type == sig.Type && len(v.Shape) > 0 && v.Shape[0] == int64(rows)
	if d.strict {
		ok = ok && len(v.Shape) == len(sig.Shape)+1
		for i := 0; ok && i < len(sig.Shape); i++ {
			ok = sig.Shape[i] < 0 || int64(sig.Shape[i]) == v.Shape[i+1]
		}
	}
	if !ok {
		return errkind.Errorf(errkind.Permanent, "output %q is %v %v for a batch of %d rows, expected %v with rows of %v",
			sig.Name, v.Type, append([]int64(nil), v.Shape...), rows, sig.Type, sig.Shape)
	}
	return nil
}

// drain brings a call that nobody waits for any more to its end, so that the lane can be
// used again. It interrupts the call; where that does not help, the worker ends.
func (d *Driver) drain(l *lane, hash uint64) {
	defer func() { d.pool <- l }()
	p := l.proc
	p.cancel(l.index, l.seq)
	_ = l.conn.SetDeadline(time.Now().Add(d.o.killAfter))
	err := l.c.Flush()
	if err == nil {
		_, err = l.c.Read()
	}
	if err == nil {
		_ = l.conn.SetDeadline(time.Time{})
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.suspects.add(hash)
		p.end(fmt.Errorf("the worker of ONNX Runtime (process %d) was ended: a call went on for %v after its deadline", p.cmd.Process.Pid, d.o.killAfter))
		return
	}
	p.failed(err)
	if p.byItself() {
		d.suspects.add(hash)
	}
}

// empty sets the outputs of a batch without rows.
func (d *Driver) empty(out []inference.Tensor) {
	for k := range out {
		sig := d.meta.Outputs[k]
		for i, n := range sig.Shape {
			if n < 0 {
				shape := append([]int(nil), sig.Shape...)
				shape[i] = 0
				sig.Shape = shape
			}
		}
		tensors.Make(&out[k], &sig, 0)
	}
}

// Close waits for calls in progress and ends the worker; a second Close returns nil.
func (d *Driver) Close() error {
	if !d.gate.Close() {
		return nil
	}
	if d.workers != nil {
		d.workers.close()
	}
	d.drains.Wait()
	return d.source.file.Close()
}
