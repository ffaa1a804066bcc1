package ort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// process is one worker, from its start to its end.
type process struct {
	cmd     *exec.Cmd
	runtime string // ONNX Runtime's version
	lanes   []net.Conn
	ready   time.Time

	mu      sync.Mutex // writes on control
	control net.Conn
	frames  *frame.Conn

	output *output
	dead   chan struct{} // closed when the process has ended and err is set
	err    error

	endMu sync.Mutex
	ended error // why this side has ended it; nil where it ended by itself
}

// launch starts a worker and hands it the model.
func launch(ctx context.Context, o *Options, load *frame.LoadBody, model []byte) (*process, error) {
	path, err := o.findWorker()
	if err != nil {
		return nil, err
	}
	p := &process{output: &output{log: o.Logger}, dead: make(chan struct{})}
	args := []string{"-lanes", strconv.Itoa(o.Instances)}
	if l := o.library(); l != "" {
		args = append(args, "-library", l)
	}
	if o.Memory > 0 {
		args = append(args, "-memory", strconv.FormatInt(o.Memory, 10))
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), path, args...)
	p.cmd.Stderr = p.output
	p.cmd.WaitDelay = time.Second
	// What the worker need not know it is not told: there are secrets in the environment.
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL"} {
		if v, ok := o.Env(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "GOTRACEBACK=none")
	if err := p.connect(o.Instances); err != nil {
		return nil, err
	}
	err = p.cmd.Start()
	for _, f := range p.cmd.ExtraFiles {
		_ = f.Close()
	}
	if err != nil {
		p.closeConns()
		return nil, errkind.Errorf(errkind.Config, "start the worker of ONNX Runtime: %w", err)
	}
	go p.wait()
	if err := p.greet(ctx, o.start, load, model); err != nil {
		return nil, err
	}
	p.ready = time.Now()
	return p, nil
}

// connect makes the sockets: control, then the lanes.
func (p *process) connect(lanes int) error {
	detach(p.cmd)
	for i := range 1 + lanes {
		ours, theirs, err := socketPair()
		if err != nil {
			p.closeConns()
			for _, f := range p.cmd.ExtraFiles {
				_ = f.Close()
			}
			return err
		}
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, theirs)
		if i == 0 {
			p.control, p.frames = ours, frame.NewConn(ours, 1<<20)
		} else {
			p.lanes = append(p.lanes, ours)
		}
	}
	return nil
}

func (p *process) closeConns() {
	for _, c := range append(p.lanes, p.control) {
		if c != nil {
			_ = c.Close()
		}
	}
}

// wait owns the process.
func (p *process) wait() {
	err := p.cmd.Wait()
	p.endMu.Lock()
	p.err = p.ended
	if p.err == nil {
		how := "exit status 0"
		if err != nil {
			how = err.Error()
		}
		p.err = fmt.Errorf("the worker of ONNX Runtime (process %d) ended by itself: %s%s", p.cmd.Process.Pid, how, p.output.reason())
	}
	p.endMu.Unlock()
	close(p.dead)
	p.closeConns()
}

// end kills the worker, for a reason, and waits for it.
func (p *process) end(why error) {
	p.endMu.Lock()
	if p.ended == nil && !p.isDead() {
		p.ended = why
	}
	p.endMu.Unlock()
	_ = p.cmd.Process.Kill()
	<-p.dead
}

// failed sees to the end of a worker after an error of one of its sockets.
func (p *process) failed(err error) {
	if !gone(err) {
		p.end(fmt.Errorf("the worker of ONNX Runtime (process %d) was ended: %w", p.cmd.Process.Pid, err))
		return
	}
	// It is on its way.
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-p.dead:
	case <-timer.C:
		p.end(errors.New("the worker of ONNX Runtime closed a socket and did not end"))
	}
}

// stop ends the worker in an orderly way.
func (p *process) stop() {
	p.endMu.Lock()
	if p.ended == nil {
		p.ended = errClosing
	}
	p.endMu.Unlock()
	_ = p.control.Close()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-p.dead:
	case <-timer.C:
		p.end(errClosing)
	}
}

var errClosing = errkind.New(errkind.Closed, "the model is closed")

func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// byItself says that the worker, which is dead, was not ended by this side.
func (p *process) byItself() bool {
	p.endMu.Lock()
	defer p.endMu.Unlock()
	return p.ended == nil
}

// cancel tells the worker that a call is not wanted any more.
func (p *process) cancel(lane int, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// There is room in the socket for one such frame from each lane.
	_ = p.frames.Write(frame.Frame{Kind: frame.Cancel, Lane: uint32(lane), Seq: seq})
}

// greet takes the worker's first word, hands it the model and waits until it is loaded.
func (p *process) greet(ctx context.Context, limit time.Duration, load *frame.LoadBody, model []byte) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.control.SetDeadline(time.Unix(1, 0)) })
	said, err := p.handshake(load, model)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	stop()
	var failed *loadError
	switch {
	case errors.As(err, &failed):
		p.end(err)
		return failed.error
	case ctx.Err() != nil:
		p.end(ctx.Err())
		return fmt.Errorf("wait for the worker of ONNX Runtime to load the model: %w", ctx.Err())
	case gone(err):
		p.failed(err)
		if !said {
			return errkind.With(errkind.Config, p.err)
		}
		return errkind.Errorf(errkind.Permanent, "the model ends ONNX Runtime when it is loaded: %w", p.err)
	}
	p.end(err)
	return errkind.Errorf(errkind.Config, "start the worker of ONNX Runtime: %w", err)
}

// loadError is what the worker says of the model.
type loadError struct{ error }

// handshake reports whether the worker has said hello.
func (p *process) handshake(load *frame.LoadBody, model []byte) (said bool, err error) {
	f, err := p.frames.Read()
	if err != nil {
		return false, err
	}
	var hello frame.HelloBody
	if f.Kind != frame.Hello {
		return false, fmt.Errorf("it begins with %v", f.Kind)
	}
	if err := f.JSON(&hello); err != nil {
		return false, err
	}
	if hello.Version != frame.Version {
		return false, fmt.Errorf("it speaks version %d of the protocol, expected %d: build %s from the same release as freshet", hello.Version, frame.Version, workerName)
	}
	p.runtime = hello.Runtime
	load.Size = len(model)
	if err := p.frames.WriteJSON(frame.Frame{Kind: frame.Load}, load); err != nil {
		return true, err
	}
	if err := p.frames.WriteRaw(model); err != nil {
		return true, err
	}
	f, err = p.frames.Read()
	switch {
	case err != nil:
		return true, err
	case f.Kind == frame.Failed:
		return true, &loadError{f.Err()}
	case f.Kind != frame.Ready:
		return true, fmt.Errorf("it answers a model with %v", f.Kind)
	}
	return true, nil
}

// gone says that a socket's other end has been closed, or ours because of that.
func gone(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &op) && !op.Timeout()
}

// output is what the worker writes to its standard error: to the log, and what
// explains its end is kept.
type output struct {
	log *slog.Logger

	mu        sync.Mutex
	line      []byte
	why, last string
	lines     int
}

const maxLine = 1000

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for rest := b; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		o.line = append(o.line, part[:min(len(part), maxLine-len(o.line))]...)
		if ended {
			o.take(strings.TrimSpace(string(o.line)))
			o.line = o.line[:0]
		}
		rest = after
	}
	return len(b), nil
}

func (o *output) take(line string) {
	if line == "" {
		return
	}
	o.last = line
	for _, prefix := range []string{"[signal ", "SIG", "fatal error:", "panic:", "runtime:", "terminate called", workerName + ":"} {
		if o.why == "" && strings.HasPrefix(line, prefix) {
			o.why = line
		}
	}
	// A worker that talks without end does not fill the log.
	if o.lines++; o.lines <= 200 {
		o.log.Debug("worker of ONNX Runtime", "says", line)
	}
}

func (o *output) reason() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if why := o.why; why != "" {
		return ": " + why
	}
	if o.last != "" {
		return ": " + o.last
	}
	return ""
}
