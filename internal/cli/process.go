package cli

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// Process is what a command may touch of the process that it runs in.
type Process struct {
	// Args are the arguments without the program's name.
	Args []string
	// Program is what a user types to run this program; empty means freshet.
	Program string
	// Env looks an environment variable up.
	Env    func(name string) (string, bool)
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Now is the clock.
	Now func() time.Time
	// Signals begins to deliver interrupts (Ctrl-C, SIGTERM) until stop is called.
	Signals func() (signals <-chan os.Signal, stop func())
	// Width returns the width in columns of the terminal behind a stream; ok is
	// false where it is not a terminal.
	Width func(stream any) (columns int, ok bool)
	// Exit ends the process at once; it is called on the second interrupt.
	Exit func(code int)
}

// OS returns the Process of the running program.
func OS() Process {
	return Process{
		Args:    os.Args[1:],
		Program: programName(os.Args[0]),
		Env:     os.LookupEnv,
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Now:     time.Now,
		Signals: func() (<-chan os.Signal, func()) {
			c := make(chan os.Signal, 2)
			signal.Notify(c, os.Interrupt, syscall.SIGTERM)
			return c, func() { signal.Stop(c) }
		},
		Width: func(stream any) (int, bool) {
			f, ok := stream.(*os.File)
			if !ok {
				return 0, false
			}
			w, _, err := term.GetSize(int(f.Fd()))
			return w, err == nil && w > 0
		},
		Exit: os.Exit,
	}
}

// programName is what a user types for the program that runs as arg0: go run
// puts it into a folder of its own.
func programName(arg0 string) string {
	if strings.Contains(arg0, "go-build") {
		return "go run ./cmd/freshet"
	}
	return arg0
}

// program is Program, or freshet.
func (p *Process) program() string { return cmp.Or(p.Program, "freshet") }

// drainContext returns a context that ends at the first interrupt, so that
// commands drain. The second interrupt ends the process.
func (p *Process) drainContext(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals, stopSignals := p.Signals()
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for n := 0; ; n++ {
			select {
			case <-signals:
				if n > 0 {
					p.Exit(exitFailed)
					return
				}
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		stopSignals()
		close(done)
		<-finished
		cancel()
	}
}

// wait sleeps for d or until ctx ends; it reports whether the time passed.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
