package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// progress redraws one line on a terminal's standard error until it is stopped.
// Elsewhere it prints nothing.
type progress struct {
	stop chan struct{}
	wg   sync.WaitGroup
	a    *app
}

func (a *app) startProgress(line func(elapsed time.Duration) string) *progress {
	p := &progress{stop: make(chan struct{}), a: a}
	width, ok := a.Width(a.Stderr)
	if !ok {
		return p
	}
	start := a.Now()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprint(a.Stderr, "\r"+cut(line(a.Now().Sub(start)), width-1)+"\x1b[K")
			case <-p.stop:
				fmt.Fprint(a.Stderr, "\r\x1b[K")
				return
			}
		}
	}()
	return p
}

func (p *progress) finish() {
	close(p.stop)
	p.wg.Wait()
}

// bar draws how much of the whole is done.
func bar(done, total int64, width int) string {
	full := int(float64(width) * float64(done) / float64(max(total, 1)))
	full = min(width, max(0, full))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}

// cut shortens s to at most width runes.
func cut(s string, width int) string {
	if width <= 0 {
		return ""
	}
	n := 0
	for i := range s {
		if n == width {
			return s[:i]
		}
		n++
	}
	return s
}

// group writes a whole number with commas: 1,234,567.
func group(n int64) string {
	s := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), -1
	for f >= unit && i < 4 {
		f /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// perSecond is a rate over a time; 0 for no time.
func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// durationText writes a duration without parts that are zero: 168h, 1h30m.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
