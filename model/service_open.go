package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// opened is a version at work in this process, shared by all servings that name it.
type opened struct {
	version   *Version
	digest    string
	model     *inference.Model
	explainer inference.Explainer
	refs      int // servings that hold it, under Service.mu
}

// failure is a version that did not open.
type failure struct {
	version string
	since   time.Time
	next    time.Time
	pause   time.Duration
	waits   bool // it is on trial, and will be opened again
	err     error
}

const (
	// openTimeout bounds fetching and opening one version.
	openTimeout = 5 * time.Minute
	// maxElements bounds a row of one input, whatever a model says of itself.
	maxElements = 1 << 24
)

// Refresh reads the state and takes it in, if it is a newer one. A version that
// does not open leaves what serves now; where it is on trial, its rollout is rolled back.
func (s *Service) Refresh(ctx context.Context) error {
	if s.cfg.Source == nil {
		return nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	st, err := s.cfg.Source.State(ctx, s.cfg.Name)
	if err != nil {
		return fmt.Errorf("read the state of model %s: %w", s.cfg.Name, err)
	}
	return s.take(ctx, st)
}

// take makes st what serves. change is held.
func (s *Service) take(ctx context.Context, st *State) error {
	now := s.cfg.Now()
	if s.state != nil && st.Generation <= s.state.Generation {
		return nil
	}
	if st.Champion == "" {
		return errkind.Errorf(errkind.NotFound, "model %s has no champion: promote a version with freshet models promote", s.cfg.Name)
	}
	want := []string{st.Champion}
	if st.Rollout.Running() && st.Rollout.Version != st.Champion {
		want = append(want, st.Rollout.Version)
	}
	if err := s.patience(want, now); err != nil {
		return err
	}
	var held []*opened
	for _, version := range want {
		o, err := s.open(ctx, version)
		if err != nil {
			s.release(held)
			return s.refused(ctx, st, version, err)
		}
		held = append(held, o)
	}
	s.forgive()
	s.serve(st, held)
	return nil
}

// patience returns the last error of a version whose time to be opened again has not come.
func (s *Service) patience(want []string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.failing; f.err != nil && slices.Contains(want, f.version) && now.Before(f.next) {
		return f.err
	}
	return nil
}

func (s *Service) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = failure{}
}

// refused deals with a version of st that did not open.
func (s *Service) refused(ctx context.Context, st *State, version string, err error) error {
	err = fmt.Errorf("open version %s of model %s: %w", version, s.cfg.Name, err)
	if ctx.Err() != nil {
		return err
	}
	now := s.cfg.Now()
	s.mu.Lock()
	f := &s.failing
	if f.err == nil || f.version != version {
		*f = failure{version: version, since: now, pause: s.cfg.Poll / 2}
	}
	f.err = err
	f.pause = min(2*f.pause, time.Minute)
	f.next = now.Add(f.pause)
	r := st.Rollout
	trial := r.Running() && r.Version == version && st.Champion != version
	f.waits = trial && errkind.Of(err).Retryable() && now.Sub(f.since) < s.cfg.Patience
	waits := f.waits
	s.mu.Unlock()
	if waits || !trial {
		return err
	}
	after, uerr := s.decided(ctx, r, Decision{Action: RollBack, Time: now, Step: r.Step, Reason: "it does not open: " + err.Error()})
	if uerr != nil {
		return errors.Join(err, uerr)
	}
	s.cfg.Logger.Error("the version on trial does not open: rolled back", "version", version, "error", err)
	if terr := s.take(ctx, after); terr != nil {
		return errors.Join(err, terr)
	}
	return nil
}

// open returns a version with a hold on it.
func (s *Service) open(ctx context.Context, version string) (*opened, error) {
	s.mu.Lock()
	o := s.opens[version]
	if o != nil {
		o.refs++
	}
	closed := s.closed
	s.mu.Unlock()
	if o != nil {
		return o, nil
	}
	if closed {
		return nil, errkind.New(errkind.Closed, "the service is closed")
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	o, err := s.prepare(ctx, version)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work.Add(1)
	if other := s.opens[version]; other != nil { // opened meanwhile as the previous one
		other.refs++
		s.shut(o)
		return other, nil
	}
	o.refs = 1
	s.opens[version] = o
	return o, nil
}

// prepare fetches a version, checks and opens it, and asks it for a first answer.
func (s *Service) prepare(ctx context.Context, version string) (*opened, error) {
	v, err := s.cfg.Source.Version(ctx, s.cfg.Name, version)
	if err != nil {
		return nil, err
	}
	if s.cfg.Check != nil {
		if err := s.cfg.Check(v); err != nil {
			return nil, fmt.Errorf("it does not fit: %w", err)
		}
	}
	dir := ""
	if v.File != "" {
		if dir, err = s.cfg.Source.Fetch(ctx, v); err != nil {
			return nil, fmt.Errorf("fetch its files: %w", err)
		}
	}
	d, err := s.cfg.Open(ctx, v, dir)
	if err != nil {
		return nil, err
	}
	meta := d.Metadata()
	if v.File != "" && v.Digest != "" && meta.Digest != "" && meta.Digest != v.Digest {
		return nil, errors.Join(errkind.Errorf(errkind.Corrupt, "its file has the digest %s, and %s is registered", meta.Digest, v.Digest), d.Close())
	}
	if err := warm(ctx, d, max(1, s.cfg.Model.Warmup)); err != nil {
		return nil, errors.Join(fmt.Errorf("ask it for a first answer: %w", err), d.Close())
	}
	o := &opened{version: v, digest: v.Digest}
	if s.cfg.Explain != nil {
		if o.explainer, err = s.cfg.Explain(d, v, dir); err != nil {
			s.cfg.Logger.Warn("the version gives no explanations", "version", version, "error", err)
			o.explainer = nil
		}
	}
	o.model = inference.New(d, s.cfg.Model)
	return o, nil
}

// warm asks a driver for answers to a row of zeros. That it refuses the row is an answer.
func warm(ctx context.Context, d inference.Driver, calls int) error {
	meta := d.Metadata()
	in := make([]inference.Tensor, len(meta.Inputs))
	for i, sig := range meta.Inputs {
		t := inference.Tensor{Name: sig.Name, Type: sig.Type, Shape: []int{1}}
		n := 1
		for _, size := range sig.Shape {
			size = max(1, size)
			if size > maxElements/n {
				return errkind.Errorf(errkind.Permanent, "input %q is of the shape %v: a row of more than %d values is not taken", sig.Name, sig.Shape, maxElements)
			}
			t.Shape = append(t.Shape, size)
			n *= size
		}
		switch sig.Type {
		case inference.Float32:
			t.F32 = make([]float32, n)
		case inference.Float64:
			t.F64 = make([]float64, n)
		case inference.Int64:
			t.I64 = make([]int64, n)
		case inference.Int32:
			t.I32 = make([]int32, n)
		case inference.Bool:
			t.Bool = make([]bool, n)
		case inference.String:
			t.Str = make([]string, n)
		}
		in[i] = t
	}
	out := make([]inference.Tensor, len(meta.Outputs))
	for range calls {
		if err := d.Infer(ctx, in, out); err != nil && !errkind.Is(err, errkind.Invalid) {
			return err
		}
	}
	return nil
}

// serve swaps what serves for st. held are its champion and challenger. change is held.
func (s *Service) serve(st *State, held []*opened) {
	arm := func(o *opened, role Role) *Arm {
		return &Arm{Role: role, Name: s.cfg.Name, Version: o.version.Version, Digest: o.digest, Model: o.model, Explainer: o.explainer}
	}
	v := &Serving{service: s, generation: st.Generation, champion: arm(held[0], Champion), opened: held}
	for i := len(st.Former) - 1; i >= 0; i-- {
		if st.Former[i] != st.Champion {
			v.former = st.Former[i]
			break
		}
	}
	if len(held) > 1 {
		r := st.Rollout
		v.challenger = arm(held[1], r.Role)
		v.champion.Rollout, v.challenger.Rollout = r.ID, r.ID
		v.deal = newDeal(r.ID, r.Share)
		if s.cfg.Policy.Gates.Agreement > 0 {
			v.compare = bound(s.cfg.Policy.Compare)
		}
	}
	v.holders.Store(1)
	s.mu.Lock()
	s.begin(st, v)
	s.mu.Unlock()
	s.state = st
	old := s.current.Swap(v)
	s.swaps.Add(1)
	if old != nil {
		s.draining.Add(1)
		old.Release()
	}
	s.cfg.Logger.Info("serving", "generation", st.Generation, "champion", st.Champion, "why", st.Why)
	if s.cfg.Previous && v.acquire() {
		v.Previous()
		v.Release()
	}
}

// openPrevious opens the former champion of a serving that somebody holds.
func (s *Serving) openPrevious(ctx context.Context) {
	o, err := s.service.open(ctx, s.former)
	if err != nil {
		s.service.cfg.Logger.Warn("the former champion does not open: there is no falling back to it", "version", s.former, "error", err)
		return
	}
	s.service.mu.Lock()
	s.opened = append(slices.Clip(s.opened), o)
	s.service.mu.Unlock()
	s.previous.Store(&Arm{Role: Champion, Name: s.service.cfg.Name, Version: o.version.Version, Digest: o.digest, Model: o.model, Explainer: o.explainer})
}

// drained releases the versions of a serving that nobody holds any more.
func (s *Service) drained(v *Serving) {
	s.mu.Lock()
	held := v.opened
	s.mu.Unlock()
	s.draining.Add(-1)
	s.release(held)
}

func (s *Service) release(held []*opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range held {
		if o.refs--; o.refs > 0 {
			continue
		}
		for name, other := range s.opens {
			if other == o {
				delete(s.opens, name)
			}
		}
		s.shut(o)
	}
}

// shut closes a version in the background; waitClosed waits for it.
func (s *Service) shut(o *opened) {
	go func() {
		defer s.work.Done()
		if err := o.model.Close(); err != nil {
			s.cfg.Logger.Warn("a version that serves no more does not close", "error", err)
		}
	}()
}

// waitClosed waits until no version is open any more.
func (s *Service) waitClosed(limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errkind.Errorf(errkind.Transient, "close model %s: versions are still in use after %s", s.cfg.Name, limit)
	}
}
