package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// worker is a process `freshet run`.
type worker struct {
	cmd     *exec.Cmd
	address string // of its HTTP API
	log     string // a file
	ended   chan struct{}
	err     error // of Wait; read after ended
}

// workerSpec says how the workers of a cell are started.
type workerSpec struct {
	program  string
	pipeline string // a file
	broker   string // URL; "" runs on the journal in data
	dir      string // logs and local state
}

// start runs the n-th worker of a cell and does not wait until it is ready.
func (s *workerSpec) start(n int, args ...string) (*worker, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(s.dir, "data")
	if s.broker != "" {
		data = filepath.Join(s.dir, fmt.Sprintf("data-%d", n))
	}
	w := &worker{address: "http://" + address, log: filepath.Join(s.dir, fmt.Sprintf("worker-%d.log", n)), ended: make(chan struct{})}
	args = append([]string{"run", s.pipeline, "--data", data, "--listen", address, "--log-level", "info"}, args...)
	if s.broker != "" {
		args = append(args, "--broker", s.broker)
	}
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of worker: %w", err)
	}
	w.cmd = exec.CommandContext(context.Background(), s.program, args...)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	err = w.cmd.Start()
	_ = log.Close() // the process has its own
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	go func() {
		w.err = w.cmd.Wait()
		close(w.ended)
	}()
	return w, nil
}

// freeAddress is an address that nobody listens on right now.
func freeAddress() (string, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find free port: %w", err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String(), nil
}

// ready waits until the worker has joined its source.
func (w *worker) ready(ctx context.Context) error {
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		select {
		case <-w.ended:
			return false, fmt.Errorf("the worker ended before it was ready (%s)\n%s", w.exit(), w.tail())
		default:
		}
		status, err := get(ctx, w.address+"/readyz", nil)
		return err == nil && status == http.StatusOK, nil
	})
}

func (w *worker) signal(s os.Signal) error {
	if err := w.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal worker: %w", err)
	}
	return nil
}

// kill ends the worker as kill -9 does. A worker that ended by itself is an error.
func (w *worker) kill() error {
	select {
	case <-w.ended:
		return fmt.Errorf("the worker ended by itself (%s)\n%s", w.exit(), w.tail())
	default:
	}
	if err := w.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-w.ended
	return nil
}

// stop ends the worker in an orderly way, which must take no longer than a minute.
func (w *worker) stop() error {
	if err := w.signal(syscall.SIGTERM); err != nil {
		return err
	}
	t := time.NewTimer(time.Minute)
	defer t.Stop()
	select {
	case <-w.ended:
		if w.err != nil {
			return fmt.Errorf("the worker ended with %w\n%s", w.err, w.tail())
		}
		return nil
	case <-t.C:
		return errors.Join(fmt.Errorf("the worker did not stop within a minute\n%s", w.tail()), w.kill())
	}
}

// exit says how a worker that ended did so.
func (w *worker) exit() string { return w.cmd.ProcessState.String() }

// tail is the end of the worker's log.
func (w *worker) tail() string {
	log, err := os.ReadFile(w.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// poll calls f until it says true or fails.
func poll(ctx context.Context, every time.Duration, f func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
