// Package network simulates the telemetry of a water network's district metered
// areas, with leaks that begin, are repaired and are known.
package network

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Config is what is simulated.
type Config struct {
	Areas, Days int
	Seed        uint64
	// Leaks says whether there are any, after Quiet.
	Leaks bool
}

// Start is the time of the first readings, a Monday.
var Start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// interval is the usual time between two readings of an area.
const interval = 5 * time.Minute

// Quiet is how long there is no leak: the pipeline compares with the week before.
const Quiet = 14 * 24 * time.Hour

// Reading is one message of an area's meter; a nil value is missing.
type Reading struct {
	ID       string    `json:"reading_id"`
	Area     string    `json:"area_id"`
	Time     time.Time `json:"time"`
	Flow     *float64  `json:"flow,omitempty"`     // m³/h into the area
	Pressure *float64  `json:"pressure,omitempty"` // metres of water column
}

// Leak is a known leak: from its start until it is repaired.
type Leak struct {
	Area            string
	Start, Repaired time.Time
	Flow            float64 // m³/h when fully open
}

// Simulate returns the readings, in order of time, and the leaks. The same
// configuration gives the same.
func Simulate(c Config) ([]Reading, []Leak) {
	var readings []Reading
	var leaks []Leak
	weather := make([]float64, c.Days)
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	for d := range weather {
		weather[d] = 1 + 0.02*rng.NormFloat64()
	}
	for i := range c.Areas {
		a := newArea(fmt.Sprintf("dma-%02d", i+1), rand.New(rand.NewPCG(c.Seed, uint64(i+1))))
		if c.Leaks {
			a.drawLeaks(c.Days)
		}
		readings = append(readings, a.readings(c.Days, weather)...)
		leaks = append(leaks, a.leaks...)
	}
	slices.SortStableFunc(readings, func(a, b Reading) int { return a.Time.Compare(b.Time) })
	slices.SortStableFunc(leaks, func(a, b Leak) int { return a.Start.Compare(b.Start) })
	return readings, leaks
}

// area is one district: its habits, its meter's faults and its leaks.
type area struct {
	name  string
	rng   *rand.Rand
	mean  float64 // m³/h
	head  float64 // m, without flow
	loss  float64 // m, at the mean flow
	leaks []Leak
}

func newArea(name string, rng *rand.Rand) *area {
	return &area{name: name, rng: rng, mean: 15 + 65*rng.Float64(), head: 45 + 15*rng.Float64(), loss: 2 + 3*rng.Float64()}
}

// drawLeaks gives the area up to two leaks of 8 to 60 hours.
func (a *area) drawLeaks(days int) {
	at := Start.Add(Quiet)
	end := Start.Add(time.Duration(days) * 24 * time.Hour)
	for range a.rng.IntN(3) {
		at = at.Add(time.Duration(6+a.rng.IntN(120)) * time.Hour)
		l := Leak{Area: a.name, Start: at, Flow: round((0.06+0.24*a.rng.Float64())*a.mean, 2)}
		l.Repaired = at.Add(time.Duration(8*60+a.rng.IntN(52*60)) * time.Minute)
		if l.Repaired.After(end) {
			return
		}
		a.leaks = append(a.leaks, l)
		at = l.Repaired
	}
}

// readings are every five minutes or so. Single ones get lost, and now and then
// the line is down for up to two hours.
func (a *area) readings(days int, weather []float64) []Reading {
	var all []Reading
	drift, down := 0.0, time.Time{}
	for n := range days * int(24*time.Hour/interval) {
		t := Start.Add(time.Duration(n)*interval + time.Duration(a.rng.IntN(40))*time.Second)
		drift = 0.9*drift + 0.02*a.rng.NormFloat64()
		demand := a.mean * habit(t) * weather[n*int(interval)/int(24*time.Hour)] * (1 + drift + 0.015*a.rng.NormFloat64())
		flow := demand + a.leaking(t)
		pressure := a.head - a.loss*math.Pow(max(flow, 0)/a.mean, 1.85) + 0.15*a.rng.NormFloat64()
		if a.rng.IntN(700) == 0 {
			down = t.Add(time.Duration(5+a.rng.IntN(115)) * time.Minute)
		}
		lost, noFlow, noPressure := a.rng.IntN(50) == 0, a.rng.IntN(100) == 0, a.rng.IntN(100) == 0
		if lost || t.Before(down) {
			continue
		}
		r := Reading{ID: fmt.Sprintf("%s-%06d", a.name, n), Area: a.name, Time: t}
		if flow = round(max(flow, 0), 2); !noFlow {
			r.Flow = &flow
		}
		if pressure = round(max(pressure, 0), 2); !noPressure {
			r.Pressure = &pressure
		}
		all = append(all, r)
	}
	return all
}

// leaking is the area's leakage at t; a leak opens within two hours.
func (a *area) leaking(t time.Time) float64 {
	for _, l := range a.leaks {
		if !t.Before(l.Start) && t.Before(l.Repaired) {
			return l.Flow * min(1, t.Sub(l.Start).Hours()/2)
		}
	}
	return 0
}

// habit is the demand at a time of the week against its mean: a low at night, a
// peak in the morning, later at weekends, and one in the evening.
func habit(t time.Time) float64 {
	hour := float64(t.Hour()) + float64(t.Minute())/60
	morning, width := 7.5, 1.3
	if d := t.Weekday(); d == time.Saturday || d == time.Sunday {
		morning, width = 9.5, 2
	}
	bell := func(at, width float64) float64 { return math.Exp(-(hour - at) * (hour - at) / (2 * width * width)) }
	return 0.42 + 1.1*bell(morning, width) + 0.5*bell(13, 3) + 0.9*bell(19.5, 2.2)
}

func round(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
