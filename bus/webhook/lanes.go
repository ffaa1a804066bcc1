package webhook

import (
	"bytes"
	"cmp"
	"context"
	"hash/maphash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// maxBody bounds the body of a batch of several events, in bytes.
const maxBody = 1 << 20

var seed = maphash.MakeSeed()

// sendLanes sends a batch, the records of one key one after another. stop ends the other lanes when one fails.
func (s *Sender) sendLanes(ctx context.Context, stop func(), b *bus.Batch) error {
	lanes := make([][]int, min(s.concurrency, max(len(b.Records), 1)))
	for i := range b.Records {
		lane := uint64(i) // without a key there is no order
		if key := b.Records[i].Key; len(key) > 0 {
			lane = maphash.Bytes(seed, key)
		}
		lane %= uint64(len(lanes))
		lanes[lane] = append(lanes[lane], i)
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		first   error
		refused []bus.Refused
	)
	for _, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			mine, err := s.sendLane(ctx, b.Records, lane)
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, mine...)
			if err != nil && first == nil {
				first = err
				stop()
			}
		})
	}
	wg.Wait()
	if first != nil {
		return first
	}
	slices.SortFunc(refused, func(x, y bus.Refused) int { return cmp.Compare(x.Index, y.Index) })
	return bus.Refuse(refused)
}

// sendLane sends the records at indices, in order, until one fails for another
// reason than itself.
func (s *Sender) sendLane(ctx context.Context, recs []event.Record, indices []int) (refused []bus.Refused, err error) {
	for len(indices) > 0 {
		if s.mode != batched {
			refused, err = s.deliver(ctx, recs, indices[:1], refused)
			if err != nil {
				return refused, err
			}
			indices = indices[1:]
			continue
		}
		n, size := 0, 0
		for n < len(indices) && n < s.batch {
			if size += recs[indices[n]].Size() + 256; n > 0 && size > maxBody {
				break
			}
			n++
		}
		if refused, err = s.deliver(ctx, recs, indices[:n], refused); err != nil {
			return refused, err
		}
		indices = indices[n:]
	}
	return refused, nil
}

// deliver sends records in one request, and each half by itself where it is refused.
func (s *Sender) deliver(ctx context.Context, recs []event.Record, indices []int, refused []bus.Refused) ([]bus.Refused, error) {
	m, err := s.message(recs, indices)
	if err == nil {
		err = s.post(ctx, m)
	}
	if err == nil || !errkind.Is(err, errkind.Invalid) {
		return refused, err
	}
	if len(indices) == 1 {
		return append(refused, bus.Refused{Index: indices[0], Err: err}), nil
	}
	half := len(indices) / 2
	if refused, err = s.deliver(ctx, recs, indices[:half], refused); err != nil {
		return refused, err
	}
	return s.deliver(ctx, recs, indices[half:], refused)
}

// post sends one request and reads its answer.
func (s *Sender) post(ctx context.Context, m *message) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(m.body))
	if err != nil {
		return errkind.Errorf(errkind.Config, "send to %s: the URL makes no request", s.where)
	}
	for k, v := range s.header {
		m.header[k] = v
	}
	r.Header = m.header
	if s.secret != nil {
		s.sign(r.Header, m, time.Now())
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return s.failed("send to", err)
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	_ = answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return nil
	}
	kind := kindOfStatus(answer.StatusCode)
	if kind.Retryable() {
		s.pace.hold(answer.Header.Get("Retry-After"))
	}
	return errkind.Errorf(kind, "send to %s: %s", s.where, describe(answer, body))
}

// pace is when requests may be sent.
type pace struct {
	every time.Duration // between two, as the endpoint allows; set before the first

	mu   sync.Mutex
	next time.Time
}

// maxHold bounds how long an endpoint can make us wait.
const maxHold = 5 * time.Minute

// wait waits for the turn of a request.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if p.every > 0 {
		if at.Before(now) {
			at = now
		}
		p.next = at.Add(p.every)
	}
	p.mu.Unlock()
	if !at.After(now) {
		return ctx.Err()
	}
	t := time.NewTimer(at.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold sends nothing for as long as an answer's Retry-After says.
func (p *pace) hold(retryAfter string) {
	if retryAfter == "" {
		return
	}
	now := time.Now()
	until := now
	if seconds, err := strconv.Atoi(retryAfter); err == nil && seconds >= 0 {
		until = now.Add(time.Duration(min(seconds, int(maxHold/time.Second))) * time.Second)
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		until = at
	}
	if latest := now.Add(maxHold); until.After(latest) {
		until = latest
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.next) {
		p.next = until
	}
}
