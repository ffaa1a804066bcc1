package lookuptest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// slack is how much later than asked a call may return on a busy machine.
const slack = 3 * time.Second

// relayed opens a driver on rows through a relay, and makes sure that it works.
func (e *env) relayed(rows []Row) (*relay, lookup.Driver) {
	e.Helper()
	r := newRelay(e.T, e.h.Address)
	d := e.openAt(r.addr, e.h.Put(e.T, rows))
	e.want(d, e.get(d, rows[0].Key), []string{rows[0].Key}, []*Row{&rows[0]})
	return r, d
}

func (e *env) endedContext() {
	d := e.open(makeRows("a", 1)...)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.within("Get with an ended context", func() {
		if err := try(ctx, d, "a"); !canceled(err) {
			e.Errorf("got %v, want the context's error or kind Canceled", err)
		}
	})
}

func (e *env) cancelled() {
	r, d := e.relayed(makeRows("a", 1))
	r.hush()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	timer := time.AfterFunc(50*time.Millisecond, cancel)
	defer timer.Stop()
	took := e.within("Get on a silent server", func() {
		if err := try(ctx, d, "a"); !canceled(err) {
			e.Errorf("got %v, want the context's error or kind Canceled", err)
		}
	})
	if took > slack {
		e.Errorf("returned %v after the call, want soon after the cancellation", took)
	}
}

func (e *env) silent() {
	r, d := e.relayed(makeRows("a", 1))
	r.hush()
	ctx, cancel := context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	took := e.within("Get on a silent server", func() {
		e.wantKind("Get on a silent server", try(ctx, d, "a"), errkind.Transient)
	})
	if took > slack {
		e.Errorf("returned after %v, want soon after the deadline", took)
	}
	// A connection made while the server is silent ends at the deadline too.
	fresh := e.openAt(r.addr, e.h.Put(e.T, makeRows("a", 1)))
	ctx, cancel = context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	took = e.within("connecting to a silent server", func() {
		e.wantKind("connecting to a silent server", try(ctx, fresh, "a"), errkind.Transient)
	})
	if took > slack {
		e.Errorf("connecting: returned after %v, want soon after the deadline", took)
	}
}

func (e *env) refused() {
	r := newRelay(e.T, e.h.Address)
	r.cut()
	d := e.openAt(r.addr, e.h.Put(e.T, makeRows("a", 1)))
	ctx, cancel := context.WithTimeout(e.ctx, e.h.Patience)
	defer cancel()
	took := e.within("Get on a server that is not there", func() {
		e.wantKind("Get on a server that is not there", try(ctx, d, "a"), errkind.Transient)
		e.wantKind("Check on a server that is not there", d.Check(ctx), errkind.Transient)
	})
	if took > slack {
		e.Errorf("returned after %v, want at once: a Table repeats by itself", took)
	}
}

func (e *env) comesBack() {
	rows := makeRows("a", 1)
	r, d := e.relayed(rows)
	r.cut()
	e.within("Get on a lost server", func() {
		e.wantKind("Get on a lost server", try(e.ctx, d, rows[0].Key), errkind.Transient)
	})
	r.mend()
	var err error
	for range 5 { // connections of a pool may have to be found dead one by one
		if err = try(e.ctx, d, rows[0].Key); err == nil {
			break
		}
		e.wantKind("Get on a server that is back", err, errkind.Transient)
	}
	if err != nil {
		e.Errorf("Get on a server that is back: %v", err)
	}
}

func (e *env) secrets() {
	r, d := e.relayed(makeRows("a", 1))
	var errs []error
	r.hush()
	ctx, cancel := context.WithTimeout(e.ctx, 50*time.Millisecond)
	defer cancel()
	errs = append(errs, try(ctx, d, "a"))
	r.speak()
	r.cut()
	errs = append(errs, try(e.ctx, d, "a"), d.Check(e.ctx))
	for _, err := range errs {
		for _, s := range e.h.Secrets {
			if err != nil && strings.Contains(err.Error(), s) {
				e.Errorf("an error holds %q: %v", s, err)
			}
		}
	}
}

func (e *env) closeEnds() {
	r := newRelay(e.T, e.h.Address)
	rows := makeRows("a", 1)
	d := e.h.Open(e.T, r.addr, e.h.Put(e.T, rows))
	_ = try(e.ctx, d, rows[0].Key)
	r.hush()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(e.ctx, e.h.Patience)
			defer cancel()
			e.wantKind("Get in progress at Close", try(ctx, d, rows[0].Key), errkind.Closed)
		})
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = d.Close() })
	took := e.within("Get in progress at Close", wg.Wait)
	if took > slack {
		e.Errorf("returned after %v, want soon after Close", took)
	}
}

// outputs makes what Table.Lookup fills for n rows.
func outputs(n int) ([]*event.Column, []int64, []lookup.Outcome) {
	out := make([]*event.Column, len(Fields))
	for i := range out {
		out[i] = new(event.Column)
	}
	return out, make([]int64, n), make([]lookup.Outcome, n)
}

func (e *env) duplicates() {
	rows := makeRows("d", 3)
	t := lookup.New(e.h.Open(e.T, e.h.Address, e.h.Put(e.T, rows)), lookup.Config{Timeout: e.h.Patience})
	defer t.Close()
	keys := []string{rows[1].Key, "nobody", rows[0].Key, rows[1].Key, "nobody", rows[1].Key, ""}
	out, at, state := outputs(len(keys))
	for range 2 { // from the server, then from the cache
		if err := t.Lookup(e.ctx, keys, len(keys), out, at, state); err != nil {
			e.Fatal(err)
		}
		for i, want := range []int64{1, -1, 0, 1, -1, 1, -1} {
			switch {
			case want < 0 && (state[i] != lookup.Missing || !out[1].IsNull(i) || at[i] != lookup.Unknown):
				e.Errorf("row %d: %v at %d, want it missing", i, state[i], at[i])
			case want >= 0 && (state[i] != lookup.Found || out[1].Ints[i] != want):
				e.Errorf("row %d: %v, visits %d, want %d", i, state[i], out[1].Ints[i], want)
			}
		}
	}
	if n := t.Stats().Keys.Snapshot().Sum; n != 3 {
		e.Errorf("asked for %d keys, want 3", n)
	}
}

func (e *env) table() {
	rows := makeRows("g", 2)
	r := newRelay(e.T, e.h.Address)
	t := lookup.New(e.h.Open(e.T, r.addr, e.h.Put(e.T, rows)), lookup.Config{Timeout: time.Second})
	defer t.Close()
	out, at, state := outputs(2)
	if err := t.Lookup(e.ctx, []string{rows[0].Key}, 1, out, at, state); err != nil {
		e.Fatal(err)
	}
	r.cut()
	keys := []string{rows[0].Key, rows[1].Key}
	var err error
	took := e.within("Lookup on a lost server", func() { err = t.Lookup(e.ctx, keys, 2, out, at, state) })
	if !lookup.MayPass(err) || state[0] != lookup.Found || state[1] != lookup.Failed || took > time.Second+slack {
		e.Errorf("got %v, %v after %v: want the cached row found, the other failed, and an error that may pass", err, state, took)
	}
	r.mend()
	for err != nil {
		if werr := t.Wait(e.ctx); werr != nil {
			e.Fatalf("Wait: %v; last error: %v", werr, err)
		}
		err = t.Lookup(e.ctx, keys, 2, out, at, state)
	}
	if state[1] != lookup.Found || out[1].Ints[1] != 1 {
		e.Errorf("after the server came back: %v", state)
	}
}
