package cli

import (
	"context"
	"os"
	"testing"

	"github.com/freshet-io/freshet/errkind"
)

func TestFirstInterruptDrainsAndSecondEndsTheProcess(t *testing.T) {
	signals := make(chan os.Signal, 2)
	exited := make(chan int, 1)
	p := Process{
		Signals: func() (<-chan os.Signal, func()) { return signals, func() {} },
		Exit:    func(code int) { exited <- code },
	}
	ctx, stop := p.drainContext(context.Background())
	defer stop()
	signals <- os.Interrupt
	<-ctx.Done()
	select {
	case code := <-exited:
		t.Fatalf("ended with code %d at the first interrupt", code)
	default:
	}
	signals <- os.Interrupt
	if code := <-exited; code != exitFailed {
		t.Errorf("ended with code %d", code)
	}
}

func TestErrorKindsBecomeExitCodes(t *testing.T) {
	if got := exitCode(nil); got != exitDone {
		t.Errorf("no error: %d", got)
	}
	for k := errkind.Unknown; k <= errkind.Closed; k++ {
		want := exitFailed
		if k == errkind.Config || k == errkind.Unsupported {
			want = exitUsage
		}
		if got := exitCode(errkind.New(k, "x")); got != want {
			t.Errorf("%s: exit code %d, expected %d", k, got, want)
		}
	}
}
