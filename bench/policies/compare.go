package policies

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator/policy"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Config is what is compared.
type Config struct {
	Traces []*trace.Trace
	World  World
	// Policies are names of Names(); empty means all.
	Policies []string
	// Ablation adds parts of ours alone.
	Ablation bool
	// Seeds is how often each policy is run, with arrivals and start-ups drawn anew; 0 means 5.
	Seeds int
	// Longest is the most of a trace that is tuned by, and the most that is judged; 0 means all of it.
	Longest time.Duration
	// Workers is how many runs are made at a time; 0 means one for each core.
	Workers int
	// Progress, where set, is told of every run that is done; by one goroutine at a time.
	Progress func(done, total int, what string)
	// Clock, where set, times decisions for the goal on them; without it the report is the same for the same Config.
	Clock func() time.Time
	// Made is copied to the report.
	Made string
}

// field is a trace on its way through the comparison.
type field struct {
	whole       *trace.Trace // scaled
	first, rest *trace.Trace // as tuned by and as judged
	drawnFirst  *trace.Trace
	tick        time.Duration
	chosen      map[string]int // setting by tuned policy
	rows        []contender
	seeds       []*draw
	results     [][]*simulate.Result // by contender and seed
	bounds      []float64
}

// contender is a policy with one setting.
type contender struct {
	entrant *entrant
	setting int
	name    string
	group   Group
}

// draw is what arrives with one seed; made when first wanted and forgotten after the last use.
type draw struct {
	mu       sync.Mutex
	arrivals *trace.Trace
	uses     int
}

func (d *draw) take(make func() *trace.Trace) *trace.Trace {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrivals == nil {
		d.arrivals = make()
	}
	return d.arrivals
}

func (d *draw) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.uses--; d.uses == 0 {
		d.arrivals = nil
	}
}

// Compare tunes, judges and compares. Each trace is scaled to the world. Policies that have settings
// are tuned by the first third, with one seed: the cheapest setting that keeps the objective there, or, where none does, the one
// that is least late. What is reported is of the rest. Ours has one setting for all traces, and has only seen the arrivals of
// the first third, as it would have in service.
//
// It returns ctx's error when it ends early; runs in hand are finished first. Errors of the
// configuration are of kind Config.
func Compare(ctx context.Context, c Config) (*Report, error) {
	entrants, err := c.prepare()
	if err != nil {
		return nil, err
	}
	fields := make([]*field, len(c.Traces))
	for i, t := range c.Traces {
		if fields[i], err = c.field(t); err != nil {
			return nil, err
		}
	}
	total := 0
	for _, e := range entrants {
		if e.tuned {
			total += len(e.settings) * len(fields)
		}
		runs := c.Seeds + 1 // one to draw
		if e.group == Ablation {
			runs--
		}
		total += len(fields) * runs * len(e.groups())
	}
	p := &pool{ctx: ctx, workers: c.Workers, total: total, progress: c.Progress}
	if err := c.tune(p, entrants, fields); err != nil {
		return nil, err
	}
	if err := c.judge(p, entrants, fields); err != nil {
		return nil, err
	}
	r := c.report(entrants, fields)
	if err := c.draw(p, fields, r); err != nil {
		return nil, err
	}
	if err := c.conclude(r); err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Config) prepare() ([]*entrant, error) {
	if len(c.Traces) == 0 {
		return nil, errkind.New(errkind.Config, "compare policies: no trace")
	}
	if c.Seeds == 0 {
		c.Seeds = 5
	}
	if c.Seeds < 1 || c.Seeds > 1000 {
		return nil, errkind.Errorf(errkind.Config, "compare policies: %d seeds, expected 1 to 1000", c.Seeds)
	}
	if c.Longest < 0 {
		return nil, errkind.Errorf(errkind.Config, "compare policies: longest part %s, expected 0 or more", c.Longest)
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if err := c.World.validate(); err != nil {
		return nil, fmt.Errorf("compare policies: %w", err)
	}
	return chosenEntrants(c.Policies, c.Ablation)
}

// field scales a trace and parts it.
func (c *Config) field(t *trace.Trace) (*field, error) {
	if t.Duration() < 3*time.Minute || len(t.Counts) < 6 {
		return nil, errkind.Errorf(errkind.Config, "compare policies: %s covers %s in %d steps, expected at least six steps and three minutes", t.Name, t.Duration(), len(t.Counts))
	}
	f := &field{whole: t.Scale(c.World.Mean()), tick: t.Tick(), chosen: map[string]int{}}
	f.first, f.rest = f.whole.Thirds()
	if c.Longest > 0 {
		f.first = f.first.Slice(f.first.Duration()-c.Longest, f.first.Duration())
		f.rest = f.rest.Slice(0, c.Longest)
	}
	f.drawnFirst = f.first.Draw(0, f.tick)
	for range c.Seeds {
		f.seeds = append(f.seeds, &draw{})
	}
	f.bounds = make([]float64, c.Seeds)
	return f, nil
}

// tune picks the settings.
func (c *Config) tune(p *pool, entrants []*entrant, fields []*field) error {
	type trial struct {
		field   *field
		entrant *entrant
		setting int
		result  *simulate.Result
	}
	var trials []trial
	for _, f := range byLength(fields) {
		for _, e := range entrants {
			if e.tuned {
				for i := range e.settings {
					trials = append(trials, trial{field: f, entrant: e, setting: i})
				}
			}
		}
	}
	err := p.each(len(trials), func(i int) (string, error) {
		t := &trials[i]
		var err error
		t.result, err = c.run(t.field, t.field.drawnFirst, t.entrant, t.setting, 0, 0)
		return fmt.Sprintf("%s: tune %s %s", t.field.whole.Name, t.entrant.name, t.entrant.settings[t.setting].text), err
	})
	if err != nil {
		return err
	}
	best := map[*field]map[string]*trial{}
	most := allowed(&c.World.Objective)
	for i := range trials {
		t := &trials[i]
		if best[t.field] == nil {
			best[t.field] = map[string]*trial{}
		}
		b := best[t.field][t.entrant.name]
		if b == nil || better(t.result, b.result, most) {
			best[t.field][t.entrant.name] = t
			t.field.chosen[t.entrant.name] = t.setting
		}
	}
	return nil
}

// better reports whether a is to be preferred: it keeps the late share allowed at less cost, or comes nearer to it.
func better(a, b *simulate.Result, most float64) bool {
	la, lb := lateShare(a), lateShare(b)
	switch {
	case la <= most && lb <= most:
		return a.Cost < b.Cost
	case la <= most || lb <= most:
		return la <= most
	}
	return la < lb
}

func lateShare(r *simulate.Result) float64 {
	if r.Events <= 0 {
		return 0
	}
	return r.Late / r.Events
}

// judge runs every contender with every seed on the rest.
func (c *Config) judge(p *pool, entrants []*entrant, fields []*field) error {
	type run struct {
		field           *field
		contender, seed int
	}
	var runs []run
	for _, f := range byLength(fields) {
		for _, e := range entrants {
			for _, g := range e.groups() {
				row := contender{entrant: e, name: e.name, group: g}
				switch g {
				case Tuned:
					row.setting, row.name = f.chosen[e.name], e.name+" tuned"
				case Default:
					row.name = e.defaultName
				}
				f.rows = append(f.rows, row)
			}
		}
		f.results = make([][]*simulate.Result, len(f.rows))
		for i := range f.rows {
			f.results[i] = make([]*simulate.Result, c.Seeds)
		}
		for s := range c.Seeds {
			f.seeds[s].uses = len(f.rows)
			for i := range f.rows {
				runs = append(runs, run{f, i, s})
			}
		}
	}
	return p.each(len(runs), func(i int) (string, error) {
		r := runs[i]
		f, row := r.field, &r.field.rows[r.contender]
		seed := uint64(r.seed + 1)
		d := f.seeds[r.seed]
		arrivals := d.take(func() *trace.Trace {
			a := f.rest.Draw(seed, f.tick)
			f.bounds[r.seed] = policy.Bound(a, c.World.Capacity, c.World.Objective).Cost
			return a
		})
		defer d.release()
		var err error
		setting := row.setting
		if row.group == Default {
			setting = defaults
		}
		f.results[r.contender][r.seed], err = c.run(f, arrivals, row.entrant, setting, seed, 0)
		return fmt.Sprintf("%s: %s, seed %d", f.whole.Name, row.name, seed), err
	})
}

// run simulates one contender.
func (c *Config) run(f *field, arrivals *trace.Trace, e *entrant, setting int, seed uint64, points int) (*simulate.Result, error) {
	s := e.defaults
	if setting != defaults {
		s = e.settings[setting]
	}
	pilot, err := s.make(&task{world: &c.World, arrivals: arrivals, first: f.drawnFirst})
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", e.name, err)
	}
	w := c.World.simulated(arrivals, seed)
	w.Points = points
	res, err := simulate.Run(w, pilot)
	if err != nil {
		return nil, fmt.Errorf("run %s on %s: %w", e.name, f.whole.Name, err)
	}
	return res, nil
}

// byLength is the longest first, so that at the end no core waits for one long run.
func byLength(fields []*field) []*field {
	fs := slices.Clone(fields)
	slices.SortStableFunc(fs, func(a, b *field) int { return len(b.drawnFirst.Counts) - len(a.drawnFirst.Counts) })
	return fs
}

// pool makes runs in order, a few at a time.
type pool struct {
	ctx      context.Context
	workers  int
	progress func(done, total int, what string)
	mu       sync.Mutex
	done     int
	total    int
}

// each calls do for 0 to n-1 and waits. The first error, or the end of the context, ends it early.
func (p *pool) each(n int, do func(i int) (string, error)) error {
	ctx, stop := context.WithCancelCause(p.ctx)
	defer stop(nil)
	next := 0
	var wg sync.WaitGroup
	for range min(p.workers, n) {
		wg.Go(func() {
			for {
				p.mu.Lock()
				i := next
				next++
				p.mu.Unlock()
				if i >= n || ctx.Err() != nil {
					return
				}
				what, err := do(i)
				if err != nil {
					stop(err)
					return
				}
				p.mu.Lock()
				p.done++
				if p.progress != nil {
					p.progress(p.done, p.total, what)
				}
				p.mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("compare policies: %w", context.Cause(ctx))
	}
	return nil
}

// settingText writes settings as they are printed: name=value in order, without arrivals.
func settingText(m map[string]any) string {
	var parts []string
	for k, v := range m {
		if k != policy.SettingArrivals {
			parts = append(parts, fmt.Sprintf("%s=%v", k, v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
