package trace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// generators by name. Each gives the rate relative to its usual level, for
// every step of generatedStep.
var generators = map[string]func(rng *rand.Rand, rates []float64){
	"smooth": smooth,
	"bursts": bursts,
	"spikes": spikes,
	"on-off": onOff,
}

const (
	generatedStep = 10 * time.Second
	perDay        = int(24 * time.Hour / generatedStep)
)

// Kinds are the names that Generate knows.
func Kinds() []string { return []string{"smooth", "bursts", "spikes", "on-off"} }

// Generate makes up a trace of 100 events a second on the mean, in steps of 10 s:
//
//   - smooth: days and weeks as of many people, a little noise
//   - bursts: days with sudden rises to 2 to 5 times the level, which go within minutes
//   - spikes: a level day and night, ten times as much for a minute or two a few times a day
//   - on-off: work that comes for about 20 minutes and stays away for about 40
//
// The same seed makes the same. It fails where the kind is unknown, or the
// duration under two steps or above ten years.
func Generate(kind string, seed uint64, duration time.Duration) (*Trace, error) {
	g, ok := generators[kind]
	if !ok {
		return nil, errkind.Errorf(errkind.Config, "generate trace %q: expected one of %v", kind, Kinds())
	}
	if duration < 2*generatedStep || duration > 10*366*24*time.Hour {
		return nil, errkind.Errorf(errkind.Config, "generate trace of %s: expected %s to 10 years", duration, 2*generatedStep)
	}
	t := &Trace{
		Name:   fmt.Sprintf("generated-%s", kind),
		Start:  time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), // a Monday
		Step:   generatedStep,
		Counts: make([]float64, int(duration/generatedStep)),
	}
	g(rand.New(rand.NewPCG(seed, uint64(slices.Index(Kinds(), kind)))), t.Counts)
	return t.Scale(100), nil
}

// daily is the rate of many people at step i: low before dawn, a peak in the evening, less at the weekend.
func daily(i int) float64 {
	x := 2 * math.Pi * (float64(i)/float64(perDay) - 0.3)
	day := 1 + 0.55*math.Sin(x) + 0.12*math.Sin(2*x)
	if weekday := i / perDay % 7; weekday >= 5 {
		day *= 0.8
	}
	return day
}

func smooth(rng *rand.Rand, rates []float64) {
	drift := 0.0
	for i := range rates {
		drift = 0.999*drift + 0.002*rng.NormFloat64()
		rates[i] = daily(i) * math.Exp(drift)
	}
}

func bursts(rng *rand.Rand, rates []float64) {
	smooth(rng, rates)
	extra := make([]float64, len(rates))
	for at := rng.ExpFloat64() * 240; at < float64(len(rates)); at += rng.ExpFloat64() * 240 {
		height := 1 + 3*rng.Float64()
		rise, fall := 3+9*rng.Float64(), 18+72*rng.Float64()
		for i := int(at); i < len(rates) && i < int(at+6*fall); i++ {
			x := float64(i) - at
			extra[i] += height * (1 - math.Exp(-x/rise)) * math.Exp(-x/fall)
		}
	}
	for i := range rates {
		rates[i] *= 1 + extra[i]
	}
}

func spikes(rng *rand.Rand, rates []float64) {
	for i := range rates {
		rates[i] = 1 + 0.1*math.Sin(2*math.Pi*float64(i)/float64(perDay))
	}
	gap := float64(perDay) / 5
	for at := rng.ExpFloat64() * gap; at < float64(len(rates)); at += rng.ExpFloat64() * gap {
		for n := 6 + rng.IntN(7); n > 0; n-- {
			if i := int(at) + n; i < len(rates) {
				rates[i] = 10
			}
		}
	}
}

func onOff(rng *rand.Rand, rates []float64) {
	for i := 0; i < len(rates); {
		on, off := 90+rng.IntN(60), 180+rng.IntN(120)
		level := 0.7 + 0.6*rng.Float64()
		for n := 0; n < on && i < len(rates); n++ {
			rates[i] = level
			i++
		}
		for n := 0; n < off && i < len(rates); n++ {
			rates[i] = 0.05
			i++
		}
	}
}
