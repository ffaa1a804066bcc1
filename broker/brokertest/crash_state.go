package brokertest

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// crashState is what the owner of a partition of in keeps by Append.
type crashState struct {
	from, next int64 // the step's positions
	done       int   // records of all steps
	end        int64 // of the partition of c.state
}

func (s *crashState) String() string { return fmt.Sprintf("%d %d %d", s.from, s.next, s.done) }

func parseCrashState(value string) (s crashState, err error) {
	_, err = fmt.Sscan(value, &s.from, &s.next, &s.done)
	return s, err
}

// loadState reads the last state of a partition, as of an end that it notes:
// an append of anybody else after that end makes ours a Conflict.
func (c *crashRun) loadState(ctx context.Context, d broker.Driver, p int) (*crashState, error) {
	t, err := d.Describe(ctx, c.state, "")
	if err != nil {
		return nil, err
	}
	end := t.Partitions[p].End
	recs, err := c.states(ctx, d, p, t.Partitions[p].Start, end)
	s := crashState{}
	if err == nil && len(recs) > 0 {
		s, err = parseCrashState(recs[len(recs)-1])
	}
	s.end = end
	return &s, err
}

// states returns the values in a partition of c.state, up to end.
func (c *crashRun) states(ctx context.Context, d broker.Driver, p int, start, end int64) (values []string, err error) {
	if start >= end {
		return nil, nil
	}
	r, err := d.Read(ctx, c.state, p, start)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	for next := start; next < end; {
		// Position may come to the end without a record, so no wait is long.
		fetch, cancel := context.WithTimeout(ctx, 100*pollEvery)
		b, err := r.Fetch(fetch, 100)
		cancel()
		if err == nil {
			for i := range b.Records {
				values = append(values, string(b.Records[i].Value))
			}
			next = b.Next()
			b.Release()
		} else if ctx.Err() != nil || !canceled(err) {
			return nil, err
		}
		if at, ok := r.(broker.Positioner); ok {
			next = at.Position()
		}
	}
	return values, nil
}

// appendStep is the step of a broker without transactions: results, which may
// repeat; then the state with the position, which cannot; then the group's
// position, which only saves work.
func (c *crashRun) appendStep(ctx context.Context, d broker.Driver, claim broker.Claim, s *crashState) error {
	b, err := claim.Fetch(ctx, c.stepSize())
	if err != nil {
		return err
	}
	defer b.Release()
	if err := c.publishOut(ctx, d, b.Records); err != nil {
		return err
	}
	now := crashState{from: s.next, next: b.Next(), done: s.done + len(b.Records)}
	rec := event.Record{Value: []byte(now.String())}
	err = c.repeat(ctx, func() (err error) {
		now.end, err = d.(broker.Appender).Append(ctx, c.state, claim.Partition(), s.end, []event.Record{rec})
		return err
	})
	if err != nil {
		return err
	}
	*s = now
	return c.repeat(ctx, func() error { return claim.Commit(ctx, now.next) })
}

// verifyStates holds what was appended to be one chain of steps over the
// partition, each input in one of them.
func (c *crashRun) verifyStates() {
	c.Helper()
	in := c.all(c.in)
	for p, recs := range c.all(c.state) {
		var last crashState
		for _, r := range recs {
			s, err := parseCrashState(r.Value)
			if err != nil || s.from != last.next {
				c.Fatalf("partition %d position %d: a step from %q follows one to %d", p, r.Position, r.Value, last.next)
			}
			last = s
		}
		if last.done != len(in[p]) {
			c.Errorf("partition %d: the appended states count %d records, %d are there", p, last.done, len(in[p]))
		}
	}
}
