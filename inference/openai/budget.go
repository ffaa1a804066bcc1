package openai

import (
	"context"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

const (
	// slots is the number of parts that a minute is counted in. What was spent in
	// one of them counts until all of it is a minute ago, so a minute is
	// never overspent, and room comes up to a second late.
	slots    = 60
	slotTime = time.Minute / slots

	// firstPause is how long a server is left alone that refuses calls without
	// saying how long; it doubles up to mostPause while it goes on so.
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

// window is what was spent within the last minute.
type window struct {
	limit  float64 // 0: none
	spent  [slots + 1]float64
	newest int64 // number of the newest slot
}

// turn forgets what is a minute ago.
func (w *window) turn(now time.Time) {
	at := now.UnixNano() / int64(slotTime)
	for i := max(w.newest+1, at-slots); i <= at; i++ {
		w.spent[i%(slots+1)] = 0
	}
	w.newest = max(w.newest, at)
}

func (w *window) add(amount float64) { w.spent[w.newest%(slots+1)] += amount }

// correct changes what was added in a slot: less where it was taken, more where it is now.
func (w *window) correct(slot int64, by float64) {
	if by > 0 {
		w.add(by)
	} else if slot > w.newest-slots-1 {
		w.spent[slot%(slots+1)] = max(0, w.spent[slot%(slots+1)]+by)
	}
}

// room is how long it takes until amount fits, 0 for now. turn comes before.
func (w *window) room(now time.Time, amount float64) time.Duration {
	if w.limit == 0 {
		return 0
	}
	sum := amount
	for _, v := range w.spent {
		sum += v
	}
	if sum <= w.limit {
		return 0
	}
	// The oldest slots go first.
	for i := w.newest - slots; i <= w.newest; i++ {
		sum -= w.spent[i%(slots+1)]
		if sum <= w.limit {
			return time.Unix(0, (i+slots+1)*int64(slotTime)).Sub(now)
		}
	}
	return time.Minute
}

// pacer holds calls back: to the budgets of a minute, and while the server has
// asked for a pause. Its methods may be called concurrently.
type pacer struct {
	wait    time.Duration // how long a call is held back at most
	closing <-chan struct{}

	mu           sync.Mutex
	tokens, cost window
	until        time.Time     // of the pause
	next         time.Duration // the pause after the next refusal without one
}

// spend takes amounts out of the budgets, waiting for room for p.wait at most and not
// beyond ctx's deadline, and returns the slot for settle. Otherwise the error is
// Throttled with the time until there is room.
func (p *pacer) spend(ctx context.Context, tokens, cost float64) (slot int64, err error) {
	give := time.Now().Add(p.wait)
	if d, ok := ctx.Deadline(); ok && d.Before(give) {
		give = d
	}
	for {
		now := time.Now()
		slot, rest, why := p.try(now, tokens, cost)
		switch {
		case rest == 0:
			return slot, nil
		case now.Add(rest).After(give):
			return 0, inference.RetryAfterError(errkind.New(errkind.Throttled, why), rest)
		}
		t := time.NewTimer(rest)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return 0, ctx.Err()
		case <-p.closing:
			t.Stop()
			return 0, errkind.New(errkind.Closed, "the model is closed")
		}
	}
}

func (p *pacer) try(now time.Time, tokens, cost float64) (slot int64, rest time.Duration, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens.turn(now)
	p.cost.turn(now)
	if rest := p.until.Sub(now); rest > 0 {
		return 0, rest, "the server has asked for a pause"
	}
	if rest := p.tokens.room(now, tokens); rest > 0 {
		return 0, rest, "the budget of tokens per minute is spent"
	}
	if rest := p.cost.room(now, cost); rest > 0 {
		return 0, rest, "the budget of cost per minute is spent"
	}
	p.tokens.add(tokens)
	p.cost.add(cost)
	return p.tokens.newest, 0, ""
}

// settle corrects what spend took in a slot by what the call came to beyond it, or less.
func (p *pacer) settle(slot int64, tokens, cost float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tokens.turn(now)
	p.cost.turn(now)
	p.tokens.correct(slot, tokens)
	p.cost.correct(slot, cost)
}

// refused leaves the server alone for d, or for a growing while where it did not say,
// and returns how long.
func (p *pacer) refused(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d <= 0 {
		p.next = min(max(p.next*2, firstPause), mostPause)
		d = p.next
	}
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
	return d
}

// answered ends the growth of pauses.
func (p *pacer) answered() {
	p.mu.Lock()
	p.next = 0
	p.mu.Unlock()
}
