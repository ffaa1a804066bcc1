package forecast

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/orchestrator"
)

// stream shows an ensemble a stream of about 1000 events a second.
type stream struct {
	e  *Ensemble
	at time.Time
	r  *rand.Rand
}

func newStream(c Config) *stream { return &stream{e: New(c), at: t0, r: rand.New(rand.NewPCG(5, 6))} }

func (s *stream) run(d time.Duration, level float64) {
	for end := s.at.Add(d); s.at.Before(end); {
		s.at = s.at.Add(10 * time.Second)
		s.e.Observe(s.at, 10*time.Second, max(0, level*(1+0.05*s.r.NormFloat64())))
	}
}

// expect checks the medians a minute and ten minutes ahead.
func (s *stream) expect(t *testing.T, when string, low, high float64) *orchestrator.Demand {
	t.Helper()
	d := ask(s.e, s.at)
	checkSound(t, d)
	for _, lead := range []int{6, 59} {
		if m := d.Rates[lead][0]; m < low || m > high {
			t.Errorf("%s: median of lead %d is %.1f, want %.0f to %.0f", when, lead, m, low, high)
		}
	}
	return d
}

func TestTroubleIsOutlived(t *testing.T) {
	for _, c := range []struct {
		name    string
		trouble func(s *stream)
	}{
		{"a gap of minutes", func(s *stream) { s.at = s.at.Add(7 * time.Minute) }},
		{"a gap of days", func(s *stream) { s.at = s.at.Add(77 * time.Hour) }},
		{"a gap of years", func(s *stream) { s.at = s.at.Add(5 * 365 * 24 * time.Hour) }},
		{"a clock set back by minutes", func(s *stream) { s.at = s.at.Add(-13 * time.Minute) }},
		{"a clock set back by days", func(s *stream) { s.at = s.at.Add(-99 * time.Hour) }},
		{"an hour without events", func(s *stream) { s.run(time.Hour, 0) }},
		{"nothing that can be taken", func(s *stream) {
			for i := range 100 {
				s.at = s.at.Add(10 * time.Second)
				s.e.Observe(s.at, 10*time.Second, []float64{math.NaN(), math.Inf(1), math.Inf(-1), -5, 1e200}[i%5])
			}
		}},
		{"a spike beyond belief", func(s *stream) { s.run(20*time.Second, 1e9) }},
		{"tenfold for a minute", func(s *stream) { s.run(time.Minute, 10000) }},
		{"one reading of a wild clock", func(s *stream) { s.e.Observe(s.at.Add(1000*time.Hour), 10*time.Second, 1000) }},
		{"repeats", func(s *stream) {
			for range 50 {
				s.e.Observe(s.at, 10*time.Second, 5)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStream(Config{})
			s.run(30*time.Hour, 1000)
			s.expect(t, "before", 950, 1050)
			c.trouble(s)
			checkSound(t, ask(s.e, s.at))
			s.run(20*time.Minute, 1000)
			d := s.expect(t, "20 minutes after", 900, 1100)
			if d.Note != "" {
				t.Errorf("note %q 20 minutes after", d.Note)
			}
		})
	}
}

func TestZerosAreForetoldAndNotForGood(t *testing.T) {
	s := newStream(Config{})
	s.run(5*time.Hour, 1000)
	s.run(40*time.Minute, 0)
	d := s.expect(t, "without events", 0, 60)
	if d.Rates[30][4] < 0.01 {
		t.Errorf("0.99 quantile is %v after 40 minutes without events: it may come back", d.Rates[30][4])
	}
	s.run(5*time.Minute, 1000)
	s.expect(t, "five minutes after they came back", 700, 1100)
}

func TestNothingButZeros(t *testing.T) {
	s := newStream(Config{})
	s.run(3*time.Hour, 0)
	s.expect(t, "zeros", 0, 0.5)
}

// wild is a member that goes mad for a time.
type wild struct {
	last
	mad bool
	say float64
}

func (w *wild) Name() string { return "wild" }

func (w *wild) Predict(leads []int, dst []float64) {
	w.last.Predict(leads, dst)
	if w.mad {
		for k := range leads {
			dst[k] = w.say
		}
	}
}

func TestMembersThatDivergeAreShutOut(t *testing.T) {
	for name, say := range map[string]float64{"infinite": math.Inf(1), "huge": 1e30, "hugely negative": -1e30} {
		t.Run(name, func(t *testing.T) {
			w := &wild{last: last{value: nan}, say: say}
			s := newStream(Config{Members: []string{"mean-5m"}, Extra: []func(Grid) Member{func(Grid) Member { return w }}})
			s.run(2*time.Hour, 1000)
			w.mad = true
			s.run(time.Minute, 1000)
			d := s.expect(t, "while it is mad", 900, 1100)
			if !strings.Contains(d.Note, "wild diverged") {
				t.Errorf("note %q", d.Note)
			}
			for _, m := range d.Members {
				if m.Name == "wild" && m.Weight != 0 {
					t.Errorf("weight %v while it is mad", m.Weight)
				}
			}
			w.mad = false
			s.run(time.Hour, 1000)
			if d := s.expect(t, "after", 900, 1100); d.Note != "" {
				t.Errorf("note %q an hour after", d.Note)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		w := &wild{last: last{value: nan}, say: nan, mad: true}
		s := newStream(Config{Members: []string{}, Extra: []func(Grid) Member{func(Grid) Member { return w }}})
		s.run(time.Hour, 1000)
		s.expect(t, "with no member that says anything", 900, 1100)
	})
	t.Run("wrong within bounds", func(t *testing.T) {
		w := &wild{last: last{value: nan}, say: 1800, mad: true}
		s := newStream(Config{Members: []string{"mean-5m"}, Extra: []func(Grid) Member{func(Grid) Member { return w }}})
		s.run(2*time.Hour, 1000)
		s.expect(t, "with one member wrong", 950, 1050)
	})
}

func TestForecastOfNothing(t *testing.T) {
	e := New(Config{})
	if d := ask(e, t0); len(d.Rates) != 0 || d.Note == "" {
		t.Errorf("%d rows, note %q before anything was observed", len(d.Rates), d.Note)
	}
	e.Observe(t0, 10*time.Second, 500)
	d := ask(e, t0)
	checkSound(t, d)
	if len(d.Rates) != 60 || d.Note == "" {
		t.Fatalf("%d rows, note %q after one observation", len(d.Rates), d.Note)
	}
	if q := d.Rates[30][3] / d.Rates[30][0]; q < 1.2 {
		t.Errorf("0.95 quantile is %.2f of the median after one observation: want a wide forecast", q)
	}
	for _, bad := range []*orchestrator.Demand{{}, {Step: time.Second}, {Step: -time.Second, Levels: []float64{0.5}}} {
		e.Forecast(bad, 10)
		if len(bad.Rates) != 0 || bad.Note == "" {
			t.Errorf("%d rows, note %q for %+v", len(bad.Rates), bad.Note, bad)
		}
	}
	odd := &orchestrator.Demand{Time: t0.Add(-time.Hour), Step: time.Nanosecond, Levels: []float64{-1, 0, 0.3, 1, 2, math.NaN()}}
	e.Forecast(odd, 3)
	checkSound(t, odd)
}

func TestSilenceWidensTheForecastAndIsNoted(t *testing.T) {
	s := newStream(Config{})
	s.run(6*time.Hour, 1000)
	near := ask(s.e, s.at)
	far := ask(s.e, s.at.Add(3*time.Hour))
	if w, v := near.Rates[0][3]-near.Rates[0][0], far.Rates[0][3]-far.Rates[0][0]; v < 2*w {
		t.Errorf("0.95 quantile is %.0f above the median, and %.0f after three hours of silence", w, v)
	}
	if !strings.Contains(far.Note, "nothing was observed for 3h") {
		t.Errorf("note %q", far.Note)
	}
}

func TestSameObservationsGiveSameForecasts(t *testing.T) {
	var got [2]*orchestrator.Demand
	for i := range got {
		s := newStream(Config{})
		s.run(26*time.Hour, 1000)
		got[i] = ask(s.e, s.at)
	}
	if d := cmp.Diff(got[0], got[1]); d != "" {
		t.Error(d)
	}
}

func TestAskingChangesNothing(t *testing.T) {
	a, b := newStream(Config{}), newStream(Config{})
	ask(a.e, a.at)
	ask(b.e, b.at)
	for range 600 {
		a.run(10*time.Second, 1000)
		b.run(10*time.Second, 1000)
		ask(a.e, a.at)
		ask(a.e, a.at.Add(3*time.Second))
	}
	if d := cmp.Diff(ask(a.e, a.at), ask(b.e, b.at)); d != "" {
		t.Error(d)
	}
}

func TestLongerMeansAreToldMoreSharply(t *testing.T) {
	width := func(span time.Duration) float64 {
		s := newStream(Config{Span: span})
		s.run(10*time.Hour, 1000)
		d := ask(s.e, s.at)
		return d.Rates[12][3] - d.Rates[12][0]
	}
	short, long := width(10*time.Second), width(2*time.Minute)
	if long > 0.6*short {
		t.Errorf("0.95 quantile is %.1f above the median for means of 10 s and %.1f for 2 min", short, long)
	}
}

func TestStepOfTheFirstDemandIsTheSpan(t *testing.T) {
	e := New(Config{})
	e.Forecast(&orchestrator.Demand{Time: t0, Step: 30 * time.Second, Levels: []float64{0.5}}, 20)
	if e.span != 3 {
		t.Errorf("span of %d steps, want 3", e.span)
	}
}

func TestNothingIsAllocatedOnceRunning(t *testing.T) {
	s := newStream(Config{})
	s.run(30*time.Hour, 1000)
	d := ask(s.e, s.at)
	if n := testing.AllocsPerRun(300, func() {
		s.run(10*time.Second, 1000)
		d.Time = s.at
		s.e.Forecast(d, 60)
	}); n > 0.5 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := (&Config{}).Validate(); err != nil {
		t.Error(err)
	}
	for want, c := range map[string]Config{"oracle": {Members: []string{"oracle"}}, "negative": {Grid: -1}} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %s", err, want)
		}
	}
}
