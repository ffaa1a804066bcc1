package openai

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func TestNoMinuteIsOverspent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{wait: time.Hour, tokens: window{limit: 1000}}
		r := rand.New(rand.NewPCG(1, 2))
		type call struct {
			at     time.Time
			tokens float64
		}
		var calls []call
		began := time.Now()
		for range 500 {
			reserved := float64(50 + r.IntN(300))
			slot, err := p.spend(t.Context(), reserved, 0)
			if err != nil {
				t.Fatal(err)
			}
			real := float64(r.IntN(int(reserved) + 1))
			calls = append(calls, call{time.Now(), real})
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			p.settle(slot, real-reserved, 0)
		}
		var total float64
		for i, c := range calls {
			total += c.tokens
			sum := 0.0
			for _, o := range calls[:i+1] {
				if c.at.Sub(o.at) < time.Minute {
					sum += o.tokens
				}
			}
			if sum > 1000 {
				t.Fatalf("%v tokens in the minute before call %d", sum, i)
			}
		}
		if rate := total / time.Since(began).Minutes(); rate < 600 {
			t.Errorf("only %.0f of 1000 tokens a minute were used", rate)
		}
	})
}

func TestBeyondTheBudgetCallsWaitOrSayWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{wait: 2 * time.Second, tokens: window{limit: 100}, cost: window{limit: 1}}
		if _, err := p.spend(t.Context(), 90, 0.1); err != nil {
			t.Fatal(err)
		}
		_, err := p.spend(t.Context(), 20, 0.1)
		var ra *inference.RetryAfter
		if !errkind.Is(err, errkind.Throttled) || !errors.As(err, &ra) || ra.After < 59*time.Second || ra.After > 61*time.Second {
			t.Fatalf("%v", err)
		}
		if _, err := p.spend(t.Context(), 5, 0.95); !errkind.Is(err, errkind.Throttled) {
			t.Fatalf("the cost: %v", err)
		}
		time.Sleep(ra.After - time.Second)
		began := time.Now()
		if _, err := p.spend(t.Context(), 20, 0.1); err != nil || time.Since(began) > 2*time.Second || time.Since(began) == 0 {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		// A call whose time would be over before there is room fails at once.
		if _, err := p.spend(t.Context(), 75, 0.1); err != nil {
			t.Fatal(err)
		}
		p.wait = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := p.spend(ctx, 20, 0.1); !errkind.Is(err, errkind.Throttled) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		// Closing and giving up end the wait.
		closing := make(chan struct{})
		p.closing = closing
		time.AfterFunc(time.Second, func() { close(closing) })
		if _, err := p.spend(t.Context(), 20, 0.1); !errkind.Is(err, errkind.Closed) {
			t.Errorf("closing: %v", err)
		}
		p.closing = nil
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := p.spend(ctx, 20, 0.1); !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
	})
}

func TestPausesGrowWhileAServerRefusesWithoutSayingHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{wait: time.Minute}
		var got []time.Duration
		for range 7 {
			began := time.Now()
			p.refused(0)
			if _, err := p.spend(t.Context(), 1, 0); err != nil {
				t.Fatal(err)
			}
			got = append(got, time.Since(began))
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
		for i := range want {
			if got[i] != want[i]*time.Second {
				t.Fatalf("pauses %v", got)
			}
		}
		p.answered()
		if d := p.refused(0); d != time.Second {
			t.Errorf("after an answer: %v", d)
		}
	})
}

func TestUsageCorrectsWhatWasSetAside(t *testing.T) {
	s := start(t)
	d := open(t, s, map[string]any{"max_tokens": 900, "budget": map[string]any{"tokens_per_minute": 1100, "wait": "1ms"}})
	out := make([]inference.Tensor, 1)
	// Each call sets about 1,000 aside and comes to 30.
	for i := range 4 {
		if err := d.Infer(t.Context(), rows(string(rune('a'+i))), out); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	d.pacer.settle(0, 500, 0)
	err := d.Infer(t.Context(), rows("z"), out)
	var ra *inference.RetryAfter
	if !errkind.Is(err, errkind.Throttled) || !errors.As(err, &ra) || d.Stats().Held != 1 {
		t.Errorf("%v, %+v", err, d.Stats())
	}
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	if err := d.Infer(t.Context(), rows(string(long)), out); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("a prompt beyond the budget of a minute: %v", err)
	}
}
