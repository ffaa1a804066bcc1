package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator/trace"
)

// drawn is a trace of steps of 10 s made by a function of the step.
func drawn(n int, f func(i int, r *rand.Rand) float64) *trace.Trace {
	t := &trace.Trace{Name: "drawn", Start: t0, Step: 10 * time.Second, Counts: make([]float64, n)}
	r := rand.New(rand.NewPCG(11, 12))
	for i := range t.Counts {
		rate := f(i, r)
		// Counts around the rate, as of independent events.
		t.Counts[i] = max(0, 10*rate+math.Sqrt(10*rate)*r.NormFloat64())
	}
	return t
}

// busy is a day's wave with bursts to 2 to 4 times the level, that come at random and fade within minutes.
func busy() func(i int, r *rand.Rand) float64 {
	burst := 0.0
	return func(i int, r *rand.Rand) float64 {
		burst *= 0.95
		if r.Float64() < 1./300 {
			burst += 1 + 2*r.Float64()
		}
		return 100 * (1 + 0.5*math.Sin(2*math.Pi*float64(i)/8640)) * (1 + burst)
	}
}

// shifting is noise around a level that changes for good every few hours.
func shifting() func(i int, r *rand.Rand) float64 {
	level, noise := 100.0, 0.0
	return func(i int, r *rand.Rand) float64 {
		if r.Float64() < 1./1000 {
			level = 30 + 300*r.Float64()
		}
		noise = 0.9*noise + 0.03*r.NormFloat64()
		return level * math.Exp(noise)
	}
}

func TestQuantilesCoverWhatTheySay(t *testing.T) {
	for name, f := range map[string]func(i int, r *rand.Rand) float64{"bursts": busy(), "level shifts": shifting()} {
		t.Run(name, func(t *testing.T) {
			tab := Backtest(drawn(5*8640, f), Config{Span: 30 * time.Second}, []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute}, 0.2)
			for _, r := range tab.Rows {
				if r.Name != "ensemble" {
					continue
				}
				t.Logf("lead %v: pinball %.4f, WAPE %.4f, coverage %.3f", r.Lead, r.Pinball, r.WAPE, r.Coverage)
				for j, l := range tab.Levels {
					if tol := 0.015 + 0.03*math.Sqrt(4*l*(1-l)); math.Abs(r.Coverage[j]-l) > tol {
						t.Errorf("lead %v: %.3f of what came was below the quantile %v", r.Lead, r.Coverage[j], l)
					}
				}
			}
		})
	}
}

func TestEnsembleIsNearItsBestMember(t *testing.T) {
	for name, f := range map[string]func(i int, r *rand.Rand) float64{
		"bursts": busy(), "level shifts": shifting(),
		"season": func(i int, _ *rand.Rand) float64 { return 1000 + 500*math.Sin(2*math.Pi*float64(i)/8640) },
		"noise":  func(_ int, _ *rand.Rand) float64 { return 3 },
	} {
		t.Run(name, func(t *testing.T) {
			tab := Backtest(drawn(4*8640, f), Config{}, []time.Duration{time.Minute, 5 * time.Minute}, 0.4)
			for _, r := range tab.Rows {
				if r.Name != "ensemble" {
					continue
				}
				best, who := math.Inf(1), ""
				for _, m := range tab.Rows {
					if m.Lead == r.Lead && m.Name != "ensemble" && m.Scored == r.Scored && m.Pinball < best {
						best, who = m.Pinball, m.Name
					}
				}
				t.Logf("lead %v: ensemble %.4f, %s %.4f", r.Lead, r.Pinball, who, best)
				if r.Pinball > 1.08*best {
					t.Errorf("lead %v: the ensemble loses %.4f, %s alone %.4f", r.Lead, r.Pinball, who, best)
				}
			}
		})
	}
}

func TestRiseOfTheLevelIsFollowedWithinAMinute(t *testing.T) {
	e := New(Config{})
	r := rand.New(rand.NewPCG(3, 4))
	at := t0
	see := func(n int, level float64) {
		for range n {
			at = at.Add(10 * time.Second)
			e.Observe(at, 10*time.Second, level+10*r.NormFloat64())
		}
	}
	see(6000, 1000)
	see(6, 3000)
	d := ask(e, at)
	if m := d.Rates[6][0]; m < 2000 {
		t.Errorf("median a minute ahead is %.0f a minute after the level rose from 1000 to 3000", m)
	}
	if q := d.Rates[6][3]; q < 2700 {
		t.Errorf("0.95 quantile is %.0f", q)
	}
	see(30, 3000)
	if m := ask(e, at).Rates[30][0]; math.Abs(m-3000) > 300 {
		t.Errorf("median is %.0f six minutes after", m)
	}
}

func TestCalibrationIsWorthIts(t *testing.T) {
	tr := drawn(4*8640, busy())
	loss := func(c Config) float64 {
		c.Span = 30 * time.Second
		return Backtest(tr, c, []time.Duration{5 * time.Minute}, 0.3).Rows[0].Pinball
	}
	with, without := loss(Config{}), loss(Config{Uncalibrated: true})
	t.Logf("pinball loss %.4f, %.4f without calibration", with, without)
	if with > 0.95*without {
		t.Errorf("pinball loss is %.4f with calibration and %.4f without", with, without)
	}
}
