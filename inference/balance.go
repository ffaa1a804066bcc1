package inference

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Balance makes one driver of several endpoints of one model. Each call goes
// to the endpoint with the fewest calls under way for its Concurrency; the sum of
// all is the Concurrency of the whole. An endpoint whose call has failed gets none for a
// second, then one that tries, and twice the time after each that fails, up to
// half a minute; what its server asks for by RetryAfter counts instead. Where all are in trouble,
// the one whose time is up first is asked all the same. A failed call is not
// repeated here: the model does that, and it then goes elsewhere.
//
// Endpoints that disagree about the model are a Config error. Balance takes the
// drivers over and closes them, on failure too.
func Balance(drivers []Driver) (Driver, error) {
	if len(drivers) == 1 {
		return drivers[0], nil
	}
	b := &balanced{}
	err := b.join(drivers)
	if err != nil {
		for _, d := range drivers {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	return b, nil
}

const (
	troubleMin = time.Second
	troubleMax = 30 * time.Second
)

type balanced struct {
	meta Metadata

	mu        sync.Mutex
	endpoints []*endpoint
	turn      int // who is first among equals
}

type endpoint struct {
	driver  Driver
	places  int
	calls   int
	until   time.Time     // no call before, but one that tries
	since   time.Time     // when the trouble was last seen
	trouble time.Duration // zero: none
}

func (b *balanced) join(drivers []Driver) error {
	if len(drivers) == 0 {
		return errkind.New(errkind.Config, "balance a model: no endpoints")
	}
	for i, d := range drivers {
		meta := d.Metadata()
		b.endpoints = append(b.endpoints, &endpoint{driver: d, places: max(1, d.Concurrency())})
		if i == 0 {
			b.meta = meta
			continue
		}
		if what, ours, theirs := disagree(&b.meta, &meta); what != "" {
			return errkind.Errorf(errkind.Config, "balance model %q: endpoint %d has %s %s, the first has %s: all have to serve the same version",
				b.meta.Name, i+1, what, theirs, ours)
		}
		if meta.MaxBatch > 0 && (b.meta.MaxBatch == 0 || meta.MaxBatch < b.meta.MaxBatch) {
			b.meta.MaxBatch = meta.MaxBatch
		}
	}
	return nil
}

// disagree names the first difference that matters.
func disagree(a, b *Metadata) (what, ours, theirs string) {
	switch {
	case a.Name != b.Name:
		return "name", a.Name, b.Name
	case a.Version != b.Version:
		return "version", a.Version, b.Version
	case a.Digest != b.Digest:
		return "digest", a.Digest, b.Digest
	case !slices.Equal(a.FeatureNames, b.FeatureNames):
		return "feature names", fmt.Sprint(a.FeatureNames), fmt.Sprint(b.FeatureNames)
	}
	for _, side := range []struct {
		what string
		a, b []Signature
	}{{"inputs", a.Inputs, b.Inputs}, {"outputs", a.Outputs, b.Outputs}} {
		if len(side.a) != len(side.b) {
			return "a number of " + side.what, fmt.Sprint(len(side.a)), fmt.Sprint(len(side.b))
		}
		for i := range side.a {
			x, y := &side.a[i], &side.b[i]
			if x.Name != y.Name || x.Type != y.Type || !slices.Equal(x.Shape, y.Shape) || !slices.Equal(x.Labels, y.Labels) {
				return side.what, x.describe(), y.describe()
			}
		}
	}
	return "", "", ""
}

func (s *Signature) describe() string {
	if len(s.Labels) > 0 {
		return fmt.Sprintf("%s %v %v of %v", s.Name, s.Type, s.Shape, s.Labels)
	}
	return fmt.Sprintf("%s %v %v", s.Name, s.Type, s.Shape)
}

func (b *balanced) Metadata() Metadata { return b.meta }

func (b *balanced) Concurrency() int {
	n := 0
	for _, e := range b.endpoints {
		n += e.places
	}
	return n
}

func (b *balanced) Infer(ctx context.Context, in, out []Tensor) error {
	began := time.Now()
	e := b.choose(began)
	returned := false
	defer func() {
		if !returned { // it panicked
			b.settle(e, errkind.New(errkind.Permanent, "panic"), began, time.Now())
		}
	}()
	err := e.driver.Infer(ctx, in, out)
	returned = true
	b.settle(e, err, began, time.Now())
	return err
}

// choose takes the endpoint for the next call.
func (b *balanced) choose(now time.Time) *endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn = (b.turn + 1) % len(b.endpoints)
	var best *endpoint
	for i := range b.endpoints {
		e := b.endpoints[(b.turn+i)%len(b.endpoints)]
		if e.trouble > 0 && !now.Before(e.until) {
			best = e // this call tries it, and the next ones do not
			break
		}
		if best == nil || e.before(best) {
			best = e
		}
	}
	if best.trouble > 0 {
		best.until = now.Add(best.trouble)
	}
	best.calls++
	return best
}

// before says whether e is the better choice.
func (e *endpoint) before(o *endpoint) bool {
	if well := e.trouble == 0; well != (o.trouble == 0) {
		return well
	}
	if e.trouble > 0 && !e.until.Equal(o.until) {
		return e.until.Before(o.until)
	}
	return e.calls*o.places < o.calls*e.places
}

// settle takes the outcome of a call. What was begun before the trouble was known
// says nothing new.
func (b *balanced) settle(e *endpoint, err error, began, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.calls--
	kind := errkind.Of(err)
	switch {
	case e.trouble > 0 && began.Before(e.since), err != nil && kind == errkind.Canceled:
	case err == nil, kind == errkind.Invalid: // it answers
		e.trouble = 0
	default:
		e.trouble = min(max(2*e.trouble, troubleMin), troubleMax)
		e.since, e.until = now, now.Add(max(e.trouble, retryAfter(err)))
	}
}

func (b *balanced) Close() error {
	var errs []error
	for _, e := range b.endpoints {
		errs = append(errs, e.driver.Close())
	}
	return errors.Join(errs...)
}
