package lookup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// flight is the keys that one caller asks for, and, once done is closed, the
// answer. Whoever needs one of them meanwhile waits for it.
type flight struct {
	keys   []string // copies
	hashes []uint64
	done   chan struct{}

	// Set before done is closed, and constant from then on.
	parts   []Rows // of MaxKeys keys each, as many as were answered
	err     error  // why the others were not
	givenUp bool   // the caller gave up; the server is not to blame
}

func (f *flight) add(hash uint64, key string) place {
	f.keys = append(f.keys, strings.Clone(key))
	f.hashes = append(f.hashes, hash)
	return place{f, int32(len(f.keys) - 1)}
}

// row returns the answer to key i: a row of a part, or nil where there is none.
func (f *flight) row(maxKeys int, i int32) (*Rows, int) {
	part := int(i) / maxKeys
	if part >= len(f.parts) {
		return nil, 0
	}
	return &f.parts[part], int(i) % maxKeys
}

// fly asks for the flight's keys, part after part, and lands it in any case.
func (t *Table) fly(ctx context.Context, f *flight) {
	f.err = errkind.New(errkind.Permanent, "the lookup driver panicked")
	defer t.land(f)
	for from := 0; from < len(f.keys); from += t.caps.MaxKeys {
		keys := f.keys[from:min(from+t.caps.MaxKeys, len(f.keys))]
		var rows Rows
		if err := t.request(ctx, keys, &rows); err != nil {
			f.err, f.givenUp = err, ctx.Err() != nil
			return
		}
		f.parts = append(f.parts, rows)
	}
	f.err = nil
}

// land puts what came back into the cache and lets those go on who wait.
func (t *Table) land(f *flight) {
	now := t.cfg.Now().UnixNano()
	mask := uint64(len(t.shards) - 1)
	var evicted, invalid uint64
	for i, key := range f.keys {
		hash := f.hashes[i]
		s := t.shards[hash&mask]
		rows, k := f.row(t.caps.MaxKeys, int32(i))
		s.mu.Lock()
		delete(s.pending, key)
		if rows != nil {
			if ttl := t.life(hash, rows.IsFound(k)); ttl > 0 {
				evicted += uint64(s.put(hash, key, rows, k, now+int64(ttl)))
			}
		}
		s.mu.Unlock()
		if rows != nil && rows.Reason(k) != nil {
			invalid++
			t.warn(now, key, rows.Reason(k))
		}
	}
	t.stats.Evicted.Add(evicted)
	t.stats.Invalid.Add(invalid)
	close(f.done)
}

// life is how long a row is kept.
func (t *Table) life(hash uint64, found bool) time.Duration {
	ttl := t.cfg.TTL
	if !found {
		ttl = t.cfg.MissingTTL
	}
	return ttl - time.Duration(float64(ttl)/10*float64(hash>>32)/(1<<32))
}

// warn logs why a row cannot be used, at most once a minute.
func (t *Table) warn(now int64, key string, reason error) {
	last := t.warned.Load()
	if t.cfg.Logger == nil || (last != 0 && now-last < int64(time.Minute)) || !t.warned.CompareAndSwap(last, now) {
		return
	}
	t.cfg.Logger.Warn("looked-up row cannot be used and counts as missing", "key", quote(key), "reason", reason)
}

// request asks the driver for one part and repeats what may pass, within Config.Timeout.
func (t *Table) request(ctx context.Context, keys []string, rows *Rows) error {
	if err := t.health.admit(t.cfg.Now(), t.cfg.Timeout); err != nil {
		return err
	}
	first := true
	err := t.attempt(ctx, func(ctx context.Context) error {
		rows.Reset(t.fields, len(keys))
		t.stats.Requests.Add(1)
		t.stats.Keys.Record(int64(len(keys)))
		if !first {
			t.stats.Repeats.Add(1)
		}
		first = false
		begin := t.cfg.Now()
		err := t.driver.Get(ctx, keys, rows)
		t.stats.Seconds.Record(int64(t.cfg.Now().Sub(begin)))
		if err != nil {
			t.stats.Errors.Add(1)
		}
		return err
	})
	switch {
	case err == nil:
		t.health.up()
	case ctx.Err() != nil || errkind.Is(err, errkind.Closed):
		t.health.unknown()
	default:
		t.health.down(t.cfg.Now(), &t.cfg.Retry, err)
	}
	return err
}

// attempt calls f until it succeeds, fails for good, has had its attempts, or
// Config.Timeout, ctx or the table ends.
func (t *Table) attempt(caller context.Context, f func(context.Context) error) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return closedError()
	}
	t.running.Add(1)
	t.mu.Unlock()
	defer t.running.Done()

	ctx, cancel := context.WithTimeout(caller, t.cfg.Timeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	var last error
	for n := 0; ; n++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if n == 0 || ctx.Err() == nil {
			last = err // a repetition that was cut off says less than what failed before
		}
		k := errkind.Of(err)
		switch {
		case k == errkind.Config, k == errkind.Unsupported:
			return err
		case ctx.Err() != nil:
			return t.ended(caller, last)
		case !k.Retryable():
			return err
		case n+1 >= t.cfg.Retry.Attempts:
			return fmt.Errorf("given up after %d attempts: %w", n+1, err)
		}
		pause := time.NewTimer(t.cfg.Retry.Wait(n, k))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return t.ended(caller, last)
		}
	}
}

// ended says why a request's context has ended: for the caller, for the table
// or for Config.Timeout.
func (t *Table) ended(caller context.Context, last error) error {
	switch {
	case caller.Err() != nil:
		return fmt.Errorf("look up: %w", caller.Err())
	case t.ctx.Err() != nil:
		return closedError()
	}
	return t.late(last)
}

// late is the error of a request that Config.Timeout has ended.
func (t *Table) late(last error) error {
	if errors.Is(last, context.DeadlineExceeded) || errors.Is(last, context.Canceled) {
		return errkind.Errorf(errkind.Transient, "look up: no answer within %v", t.cfg.Timeout)
	}
	kind := errkind.Of(last)
	if !kind.Retryable() {
		kind = errkind.Transient
	}
	return errkind.Errorf(kind, "look up: no answer within %v; last: %w", t.cfg.Timeout, last)
}
