package model

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// memorySource is a Source in memory, whose calls can be made to fail.
type memorySource struct {
	mu       sync.Mutex
	state    *State
	versions map[string]*Version
	evidence map[string]map[string][]byte
	fail     error
	stale    *State       // what State returns instead
	before   func()       // called before an Update writes
	fetches  atomic.Int64 // files that were fetched
	changes  []*State     // all states
}

func newMemorySource(versions ...string) *memorySource {
	m := &memorySource{versions: map[string]*Version{}, evidence: map[string]map[string][]byte{}}
	for _, v := range versions {
		m.versions[v] = &Version{Name: "risk", Version: v, File: "model.onnx", Digest: "d-" + v, Format: "onnx"}
	}
	m.state = &State{Generation: 1, Champion: versions[0], Time: noon}
	m.changes = []*State{m.state}
	return m
}

func (m *memorySource) Version(_ context.Context, name, version string) (*Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	v := m.versions[version]
	if v == nil {
		return nil, errkind.Errorf(errkind.NotFound, "model %s has no version %s", name, version)
	}
	return v, nil
}

func (m *memorySource) Fetch(context.Context, *Version) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetches.Add(1)
	return "/models", m.fail
}

func (m *memorySource) State(context.Context, string) (*State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	if m.stale != nil {
		return m.stale.Clone(), nil
	}
	return m.state.Clone(), nil
}

func (m *memorySource) Update(_ context.Context, _, why string, change func(*State) error) (*State, error) {
	for {
		m.mu.Lock()
		s, fail, before := m.state.Clone(), m.fail, m.before
		m.before = nil
		m.mu.Unlock()
		if fail != nil {
			return nil, fail
		}
		if err := change(s); err != nil {
			return nil, err
		}
		if before != nil {
			before()
		}
		m.mu.Lock()
		if m.state.Generation == s.Generation {
			s.Generation++
			s.Why = why
			m.state = s
			m.changes = append(m.changes, s)
			m.mu.Unlock()
			return s.Clone(), nil
		}
		m.mu.Unlock()
	}
}

func (m *memorySource) PutEvidence(_ context.Context, _, rollout, process string, e *Evidence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	b, err := json.Marshal(e)
	if m.evidence[rollout] == nil {
		m.evidence[rollout] = map[string][]byte{}
	}
	m.evidence[rollout][process] = b
	return err
}

func (m *memorySource) Evidence(_ context.Context, _, rollout string) ([]*Evidence, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var all []*Evidence
	for _, b := range m.evidence[rollout] {
		e := &Evidence{}
		if err := json.Unmarshal(b, e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (m *memorySource) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memorySource) update(t *testing.T, change func(*State) error) {
	t.Helper()
	if _, err := m.Update(t.Context(), "risk", "test", change); err != nil {
		t.Fatal(err)
	}
}

func (m *memorySource) begin(t *testing.T, version string, role Role, share float64) {
	t.Helper()
	m.update(t, func(s *State) error { return Begin(s, Start{Version: version, Role: role, Share: share, Now: noon}) })
}

// drivers opens versions, and counts those that are open.
type drivers struct {
	mu     sync.Mutex
	open   map[string]int
	asked  map[string]int
	closed []string
	refuse map[string]error // by version
	silent map[string]error // what Infer returns
	shape  map[string][]int // of the input
}

type versionDriver struct {
	d       *drivers
	shape   []int
	version *Version
	closed  atomic.Bool
}

func (d *drivers) Open(_ context.Context, v *Version, _ string) (inference.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refuse[v.Version]; err != nil {
		return nil, err
	}
	d.open[v.Version]++
	shape := []int{-1}
	if s := d.shape[v.Version]; s != nil {
		shape = s
	}
	return &versionDriver{d: d, shape: shape, version: v}, nil
}

func (d *drivers) isOpen(version string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[version] > 0
}

func (v *versionDriver) Metadata() inference.Metadata {
	sig := []inference.Signature{{Name: "x", Type: inference.Float32, Shape: v.shape}}
	return inference.Metadata{Name: "risk", Version: v.version.Version, Digest: v.version.Digest, Inputs: sig, Outputs: []inference.Signature{{Name: "y", Type: inference.Float32}}}
}

func (v *versionDriver) Infer(_ context.Context, in, out []inference.Tensor) error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if v.closed.Load() {
		return errkind.New(errkind.Closed, "closed")
	}
	v.d.asked[v.version.Version]++
	if err := v.d.silent[v.version.Version]; err != nil {
		return err
	}
	n := in[0].Rows()
	out[0].Type, out[0].Shape, out[0].F32 = inference.Float32, []int{n}, make([]float32, n)
	return nil
}

func (v *versionDriver) Concurrency() int { return 1 }

func (v *versionDriver) Close() error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if !v.closed.Swap(true) {
		v.d.open[v.version.Version]--
		v.d.closed = append(v.d.closed, v.version.Version)
	}
	return nil
}

func newDrivers() *drivers {
	return &drivers{open: map[string]int{}, asked: map[string]int{}, refuse: map[string]error{}, silent: map[string]error{}, shape: map[string][]int{}}
}

func serviceOf(src Source, d *drivers) ServiceConfig {
	return ServiceConfig{Name: "risk", Source: src, Open: d.Open, Process: "p1",
		Policy: Policy{Steps: []float64{0.1, 0.5}, Hold: time.Minute, MinRows: 10}}
}

func start(t *testing.T, c ServiceConfig) *Service {
	t.Helper()
	s, err := NewService(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func refresh(t *testing.T, s *Service) {
	t.Helper()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceWithoutAChampionSaysWhatToDo(t *testing.T) {
	src := newMemorySource("")
	_, err := NewService(t.Context(), serviceOf(src, newDrivers()))
	if !errkind.Is(err, errkind.NotFound) {
		t.Errorf("error %v (%s)", err, errkind.Of(err))
	}
}

func TestAVersionServesOnlyAfterItGaveAFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		s := start(t, serviceOf(src, d))
		src.update(t, func(s *State) error { return PromoteNow(s, "v2", noon) })
		d.silent["v2"] = errkind.New(errkind.Transient, "no answer")
		if err := s.Refresh(t.Context()); !errkind.Is(err, errkind.Transient) {
			t.Errorf("error %v", err)
		}
		if st := s.Status(); st.Champion != "v1" || d.isOpen("v2") {
			t.Errorf("serving %s, v2 open: %v", st.Champion, d.isOpen("v2"))
		}
		d.mu.Lock()
		delete(d.silent, "v2")
		d.mu.Unlock()
		if err := s.Refresh(t.Context()); err == nil {
			t.Error("it is opened again at once")
		}
		time.Sleep(5 * time.Second)
		refresh(t, s)
		if d.asked["v2"] != 2 || s.Status().Champion != "v2" {
			t.Errorf("v2 was asked %d times; serving %s", d.asked["v2"], s.Status().Champion)
		}
	})
}

func TestAVersionDrainsBeforeItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		s := start(t, serviceOf(src, d))
		frame := s.Acquire()
		src.update(t, func(s *State) error { return PromoteNow(s, "v2", noon) })
		refresh(t, s)
		synctest.Wait()
		if !d.isOpen("v1") {
			t.Fatal("v1 is closed while a frame holds it")
		}
		if st := s.Status(); st.Draining != 1 || st.Champion != "v2" {
			t.Errorf("status %+v", st)
		}
		r := &inference.Request{In: []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{1, 1}, F32: []float32{1}}}}
		if err := frame.Choose("k").Model.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(t.Context()); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
		frame.Release()
		synctest.Wait()
		if d.isOpen("v1") || !d.isOpen("v2") {
			t.Errorf("open: %v", d.open)
		}
		if st := s.Status(); st.Draining != 0 {
			t.Errorf("%d still draining", st.Draining)
		}
	})
}

func TestAPromotedVersionIsNotOpenedAgain(t *testing.T) {
	src, d := newMemorySource("v1", "v2"), newDrivers()
	src.begin(t, "v2", Canary, 0.1)
	s := start(t, serviceOf(src, d))
	src.update(t, func(s *State) error { return PromoteNow(s, "v2", noon) })
	refresh(t, s)
	if v := s.Acquire(); v.Champion().Version != "v2" || v.Challenger() != nil || v.Champion().Rollout != "" {
		t.Errorf("serving %+v", v.Champion())
	} else {
		v.Release()
	}
	if n := src.fetches.Load(); n != 2 {
		t.Errorf("%d fetches of 2 versions", n)
	}
}

func TestAnOlderGenerationIsNeverTakenIn(t *testing.T) {
	src, d := newMemorySource("v1", "v2"), newDrivers()
	src.begin(t, "v2", Canary, 0.1)
	s := start(t, serviceOf(src, d))
	old, _ := src.State(t.Context(), "risk")
	src.update(t, func(s *State) error { return Grow(s, 0.5, noon) })
	refresh(t, s)
	src.set(func() { src.stale = old })
	refresh(t, s)
	v := s.Acquire()
	defer v.Release()
	if v.Generation() != 3 || s.Status().Rollout.Share != 0.5 {
		t.Errorf("generation %d, share %v", v.Generation(), s.Status().Rollout.Share)
	}
}

func TestAVersionOnTrialThatDoesNotOpenIsRolledBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(*memorySource, *drivers, *ServiceConfig)
	}{
		{"refused by its runtime", func(_ *memorySource, d *drivers, _ *ServiceConfig) {
			d.refuse["v2"] = errkind.New(errkind.Unsupported, "operator Foo")
		}},
		{"gone", func(m *memorySource, _ *drivers, _ *ServiceConfig) { delete(m.versions, "v2") }},
		{"does not fit the step", func(_ *memorySource, _ *drivers, c *ServiceConfig) {
			c.Check = func(v *Version) error {
				if v.Version == "v2" {
					return errkind.New(errkind.Config, "input amount is missing")
				}
				return nil
			}
		}},
		{"claims inputs beyond measure", func(_ *memorySource, d *drivers, _ *ServiceConfig) {
			d.shape["v2"] = []int{1 << 40, 1 << 40, -1}
		}},
		{"another file than registered", func(m *memorySource, _ *drivers, c *ServiceConfig) {
			open := c.Open
			c.Open = func(ctx context.Context, v *Version, dir string) (inference.Driver, error) {
				if v.Version == "v2" {
					other := *v
					other.Digest = "tampered"
					v = &other
				}
				return open(ctx, v, dir)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				src, d := newMemorySource("v1", "v2"), newDrivers()
				c := serviceOf(src, d)
				tc.damage(src, d, &c)
				if !late {
					src.begin(t, "v2", Canary, 0.1)
				}
				s := start(t, c)
				if late {
					src.begin(t, "v2", Canary, 0.1)
					refresh(t, s)
				}
				st, _ := src.State(t.Context(), "risk")
				if r := st.Rollout; r.Outcome != RolledBack || st.Champion != "v1" || len(r.Past) != 1 {
					t.Errorf("rollout %+v", r)
				}
				if got := s.Status(); got.Champion != "v1" || got.Challenger != "" || got.Generation != st.Generation || d.isOpen("v2") {
					t.Errorf("status %+v", got)
				}
			}
		})
	}
}

func TestAVersionOnTrialThatCannotBeReachedIsWaitedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		s := start(t, serviceOf(src, d))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		d.refuse["v2"] = errkind.New(errkind.Transient, "connection refused")
		src.begin(t, "v2", Canary, 0.1)
		time.Sleep(30 * time.Second)
		if st := s.Status(); !src.running() || st.Challenger != "" || st.Problem == nil {
			t.Errorf("after 30 s: running %v, status %+v", src.running(), st)
		}
		time.Sleep(2 * time.Minute)
		if st := s.Status(); src.running() || st.Problem != nil {
			t.Errorf("after 150 s: running %v, problem %v", src.running(), st.Problem)
		}
	})
}

func TestAStartWaitsForAVersionOnTrial(t *testing.T) {
	// Without it, its keys would go back to the champion for a while.
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		src.begin(t, "v2", Canary, 0.1)
		d.refuse["v2"] = errkind.New(errkind.Transient, "connection refused")
		time.AfterFunc(20*time.Second, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.refuse, "v2")
		})
		s := start(t, serviceOf(src, d))
		if st := s.Status(); st.Challenger != "v2" || !src.running() {
			t.Errorf("status %+v", st)
		}
	})
}

func (m *memorySource) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Rollout.Running()
}

func TestASourceThatVanishesLeavesWhatServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		src.begin(t, "v2", Canary, 0.1)
		s := start(t, serviceOf(src, d))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		src.set(func() { src.fail = errkind.New(errkind.Transient, "no such host") })
		time.Sleep(time.Minute)
		if st := s.Status(); st.Champion != "v1" || st.Challenger != "v2" || st.Problem == nil || time.Since(st.Since) < 50*time.Second {
			t.Errorf("while it is gone: %+v", st)
		}
		src.set(func() { src.fail = nil })
		time.Sleep(10 * time.Second)
		if st := s.Status(); st.Problem != nil {
			t.Errorf("after it is back: %v", st.Problem)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestADeletedVersionServesOn(t *testing.T) {
	src, d := newMemorySource("v1"), newDrivers()
	s := start(t, serviceOf(src, d))
	src.set(func() { delete(src.versions, "v1"); src.state.Generation++ })
	refresh(t, s)
	if v := s.Acquire(); v.Champion().Version != "v1" || v.Generation() != 2 {
		t.Errorf("serving %+v", v.Champion())
	} else {
		v.Release()
	}
}

func TestTheFormerChampionStandsBy(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		src, d := newMemorySource("v2", "v1"), newDrivers()
		src.state.Former = []string{"v0", "v1", "v2"}
		c := serviceOf(src, d)
		c.Previous = ahead
		s := start(t, c)
		if d.isOpen("v1") != ahead {
			t.Errorf("ahead %v: v1 is open: %v", ahead, d.isOpen("v1"))
		}
		v := s.Acquire()
		if p := v.Previous(); p == nil || p.Version != "v1" {
			t.Errorf("previous %+v", p)
		}
		v.Release()
		if !d.isOpen("v1") {
			t.Error("v1 is closed while the serving that opened it is current")
		}
	}
	src := newMemorySource("v1")
	src.state.Former = []string{"v0"} // deleted
	s := start(t, serviceOf(src, newDrivers()))
	v := s.Acquire()
	defer v.Release()
	if p := v.Previous(); p != nil {
		t.Errorf("previous %+v", p)
	}
}

func TestAFixedModelServesForEver(t *testing.T) {
	d := newDrivers()
	driver, _ := d.Open(t.Context(), &Version{Version: "1"}, "")
	s := Fixed(Arm{Name: "risk", Version: "1", Model: inference.New(driver, inference.Config{})})
	v := s.Acquire()
	if a := v.Choose("k"); a.Version != "1" || v.Shadowed("k") || v.Compared("k") || v.Previous() != nil {
		t.Errorf("arm %+v", a)
	}
	s.Report(&Outcomes{Arm: v.Champion(), Rows: 1})
	s.Label("1", 0.5, 1)
	refresh(t, s)
	v.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(s.Run(ctx), s.Close(), s.Close()); err != nil || d.isOpen("1") {
		t.Errorf("error %v, open %v", err, d.open)
	}
	if a := s.Acquire(); a.Choose("k").Version != "1" {
		t.Errorf("after Close: %+v", a)
	} else {
		a.Release()
	}
}

func TestShadowsAreNeverChosen(t *testing.T) {
	src, d := newMemorySource("v1", "v2"), newDrivers()
	src.begin(t, "v2", Shadow, 0.5)
	s := start(t, serviceOf(src, d))
	v := s.Acquire()
	defer v.Release()
	shadowed := 0
	for i := range 1000 {
		key := string(rune('a'+i%26)) + string(rune(i))
		if v.Choose(key).Version != "v1" || v.Compared(key) {
			t.Fatalf("key %q is chosen for the shadow", key)
		}
		if v.Shadowed(key) {
			shadowed++
		}
	}
	if shadowed < 400 || shadowed > 600 {
		t.Errorf("%d of 1000 keys are shadowed at a share of 0.5", shadowed)
	}
}

func TestComparedKeysAreASampleOfTheChallengers(t *testing.T) {
	src, d := newMemorySource("v1", "v2"), newDrivers()
	src.begin(t, "v2", Canary, 0.5)
	c := serviceOf(src, d)
	c.Policy.Gates.Agreement, c.Policy.Compare = 0.9, 0.2
	s := start(t, c)
	v := s.Acquire()
	defer v.Release()
	var chosen, compared int
	for i := range 20000 {
		key := string(rune('a'+i%26)) + string(rune(i))
		isChosen, isCompared := v.Choose(key).Role == Canary, v.Compared(key)
		if isCompared && !isChosen {
			t.Fatalf("key %q is compared and the champion's", key)
		}
		if isChosen {
			chosen++
		}
		if isCompared {
			compared++
		}
	}
	if share := float64(compared) / float64(chosen); share < 0.17 || share > 0.23 {
		t.Errorf("%d of %d are compared: want 0.2", compared, chosen)
	}
}

func TestPoliciesThatCannotBeAreRefused(t *testing.T) {
	src := newMemorySource("v1")
	for _, p := range []Policy{
		{Steps: []float64{0.5, 0.1}}, {Steps: []float64{0}}, {Steps: []float64{0.5, 1}}, {Hold: -1}, {MinRows: -1}, {Compare: 2},
		{Gates: Gates{Alpha: 0.7}}, {Gates: Gates{Errors: 1}}, {Gates: Gates{Slower: 0.5}}, {Gates: Gates{Agreement: 1}},
		{Gates: Gates{Shift: 3}}, {Gates: Gates{MinLabels: -1}},
	} {
		c := serviceOf(src, newDrivers())
		c.Policy = p
		if _, err := NewService(t.Context(), c); !errkind.Is(err, errkind.Config) {
			t.Errorf("policy %+v: error %v", p, err)
		}
	}
}

// busy makes frames go through services as tasks do, until stop: for each key it
// holds that the arm never goes back from the challenger within a rollout.
type busy struct {
	mu    sync.Mutex
	arms  map[string]bool // rollout and key → the challenger's
	flips []string
}

func (b *busy) frame(s *Service, keys []string, failing float64) {
	v := s.Acquire()
	defer v.Release()
	if v.Challenger() == nil {
		s.Report(&Outcomes{Arm: v.Champion(), Rows: len(keys), Scores: make([]float64, len(keys)), Service: 0.002, Batch: len(keys)})
		return
	}
	var out [2]Outcomes
	b.mu.Lock()
	for _, key := range keys {
		arm := v.Choose(key)
		i, id := 0, arm.Rollout+" "+key
		if arm.Role == Canary {
			i = 1
		}
		if b.arms[id] && i == 0 {
			b.flips = append(b.flips, id)
		}
		b.arms[id] = b.arms[id] || i == 1
		o := &out[i]
		o.Arm = arm
		o.Rows++
		if i == 1 && float64(len(o.Scores)) > float64(o.Rows)*(1-failing) {
			o.Failures[errkind.Transient]++
			continue
		}
		o.Scores = append(o.Scores, 0.5)
	}
	b.mu.Unlock()
	for i := range out {
		if o := &out[i]; o.Rows > 0 {
			o.Service, o.Batch = 0.002, o.Rows
			s.Report(o)
		}
	}
}

// TestManyProcessesDecideAsOneAndNoKeyFlips runs three processes over one source,
// with partitions that move between them, restarts, and a source that fails at times.
func TestManyProcessesDecideAsOneAndNoKeyFlips(t *testing.T) {
	for _, tc := range []struct {
		name    string
		failing float64
		want    Outcome
	}{
		{"a good version", 0, Promoted},
		{"a version with 5 % more errors", 0.05, RolledBack},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, d := newMemorySource("v1", "v2"), newDrivers()
				b := &busy{arms: map[string]bool{}}
				const processes, partitions = 3, 6
				type process struct {
					s      *Service
					cancel context.CancelFunc
					done   chan error
				}
				var all [processes]process
				starts := 0
				launch := func(i int) {
					c := serviceOf(src, d)
					starts++
					c.Process = string(rune('a' + starts))
					s, err := NewService(t.Context(), c)
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					all[i] = process{s, cancel, make(chan error, 1)}
					go func() { all[i].done <- s.Run(ctx) }()
				}
				stop := func(i int) {
					all[i].cancel()
					if err := errors.Join(<-all[i].done, all[i].s.Close()); err != nil {
						t.Error(err)
					}
				}
				for i := range all {
					launch(i)
				}
				began := time.Now()
				src.begin(t, "v2", Canary, 0)
				owner := [partitions]int{0, 1, 2, 0, 1, 2}
				var keys [partitions][]string
				for i := range 600 {
					keys[i%partitions] = append(keys[i%partitions], "c"+string(rune('a'+i%26))+string(rune(i)))
				}
				for tick := 0; tick < 12000 && (tick == 0 || src.running()); tick++ {
					for p := range partitions {
						b.frame(all[owner[p]].s, keys[p], tc.failing)
					}
					if tick%37 == 0 { // a partition moves: its new owner reads the state first
						p := tick % partitions
						owner[p] = (owner[p] + 1) % processes
						if err := all[owner[p]].s.Refresh(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if tick%211 == 100 {
						i := tick % processes
						stop(i)
						launch(i)
					}
					if tick%97 == 50 {
						src.set(func() { src.fail = errkind.New(errkind.Transient, "no such host") })
						time.AfterFunc(150*time.Millisecond, func() { src.set(func() { src.fail = nil }) })
						time.Sleep(200 * time.Millisecond)
					}
					time.Sleep(300 * time.Millisecond)
				}
				for i := range all {
					stop(i)
				}
				st := src.state
				if st.Rollout.Outcome != tc.want {
					t.Errorf("outcome %q: %s", st.Rollout.Outcome, st.Why)
				}
				t.Logf("%s after %s: %s", st.Rollout.Outcome, time.Since(began).Round(time.Second), st.Why)
				if len(b.flips) > 0 {
					t.Errorf("%d keys went back to the champion: %v …", len(b.flips), b.flips[0])
				}
				var shares []float64
				for _, s := range src.changes {
					if s.Rollout.Running() && (len(shares) == 0 || shares[len(shares)-1] != s.Rollout.Share) {
						shares = append(shares, s.Rollout.Share)
					}
				}
				if !slices.IsSorted(shares) || len(src.changes) > 6 {
					t.Errorf("%d states with the shares %v: three processes decided a step more than once", len(src.changes), shares)
				}
				if d.isOpen("v1") || d.isOpen("v2") {
					t.Errorf("open at the end: %v", d.open)
				}
			})
		})
	}
}

func TestADecisionThatAPersonOvertookIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		src.begin(t, "v2", Canary, 0)
		s := start(t, serviceOf(src, d))
		src.set(func() {
			src.before = func() { // between the decision and its writing
				src.update(t, func(s *State) error { return Abort(s, noon) })
			}
		})
		if err := s.judge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, _ := src.State(t.Context(), "risk"); st.Rollout.Outcome != Aborted || st.Rollout.Share != 0 {
			t.Errorf("rollout %+v", st.Rollout)
		}
		if st := s.Status(); st.Challenger != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestARolloutEndsWhenItsChampionIsReplaced(t *testing.T) {
	src, d := newMemorySource("v1", "v2", "v3"), newDrivers()
	src.begin(t, "v2", Canary, 0.1)
	s := start(t, serviceOf(src, d))
	src.update(t, func(s *State) error { s.SetChampion("v3"); return nil })
	refresh(t, s)
	if err := s.judge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if src.running() || s.Status().Champion != "v3" || s.Status().Challenger != "" {
		t.Errorf("running %v, status %+v", src.running(), s.Status())
	}
}

func TestEvidenceIsStoredAtTheEndAndFoundAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, d := newMemorySource("v1", "v2"), newDrivers()
		src.begin(t, "v2", Canary, 0.1)
		for i := range 3 {
			c := serviceOf(src, d)
			c.Process = string(rune('a' + i))
			s, err := NewService(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			v := s.Acquire()
			s.Report(&Outcomes{Arm: v.Challenger(), Rows: 10, Scores: make([]float64, 10)})
			s.Label("v2", 0.5, 1)
			s.Label("v7", 0.5, 1)
			v.Release()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		all, err := src.Evidence(t.Context(), "risk", src.state.Rollout.ID)
		if err != nil {
			t.Fatal(err)
		}
		m := Merge(src.state.Rollout.ID, 0, all)
		if m.Challenger.Rows != 30 || m.ChallengerQuality.N != 3 || m.Champion.Rows != 0 {
			t.Errorf("evidence %+v", m)
		}
	})
}

func TestServingsAreAcquiredWhileTheyChange(t *testing.T) {
	src, d := newMemorySource("v1", "v2"), newDrivers()
	s := start(t, serviceOf(src, d))
	stop := make(chan struct{})
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			var last uint64
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := s.Acquire()
				if v.Generation() < last {
					t.Errorf("generation %d after %d", v.Generation(), last)
				}
				last = v.Generation()
				a := v.Choose("k")
				r := &inference.Request{In: []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{1, 1}, F32: []float32{1}}}}
				if err := a.Model.Submit(t.Context(), r); err != nil {
					t.Error(err)
				} else if err := r.Wait(t.Context()); err != nil || r.Err != nil {
					t.Error(err, r.Err)
				}
				s.Report(&Outcomes{Arm: a, Rows: 1, Scores: []float64{1}})
				v.Release()
				_ = s.Status()
			}
		})
	}
	for i := range 60 {
		switch i % 3 {
		case 0:
			next := map[string]string{"v1": "v2", "v2": "v1"}[s.Status().Champion]
			src.begin(t, next, Canary, 0.5)
		case 1:
			src.update(t, func(s *State) error { return PromoteNow(s, s.Rollout.Version, noon) })
		case 2:
			src.update(t, func(s *State) error { s.Archived = append(s.Archived, "x"); return nil })
		}
		refresh(t, s)
	}
	close(stop)
	tasks.Wait()
}
