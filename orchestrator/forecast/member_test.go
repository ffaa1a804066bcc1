package forecast

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var grid10 = Grid{Step: 10 * time.Second}

// firstStep is a step that begins a day.
const firstStep = 20000 * 8640

// run shows a member a series and returns the mean absolute errors of what it said in the
// last quarter at a lead, and those of the last value.
func run(m Member, n, lead int, f func(i int) float64) (got, naive float64) {
	values := make([]float64, n)
	for i := range values {
		values[i] = f(i)
	}
	var dst [1]float64
	scored := 0.0
	for i, v := range values {
		m.Update(firstStep+int64(i), v)
		if i < n*3/4 || i+lead >= n {
			continue
		}
		m.Predict([]int{lead}, dst[:])
		got += math.Abs(values[i+lead] - dst[0])
		naive += math.Abs(values[i+lead] - v)
		scored++
	}
	return got / scored, naive / scored
}

func TestMembersRecoverWhatTheyAreMadeFor(t *testing.T) {
	noise := func(seed uint64) func() float64 { return rand.New(rand.NewPCG(seed, 7)).NormFloat64 }
	daily := func(i int) float64 { return 1000 + 500*math.Sin(2*math.Pi*float64(i)/8640) }
	type series func() func(i int) float64
	flat := func(size float64) series {
		return func() func(int) float64 {
			r := noise(1)
			return func(int) float64 { return 1000 + size*r() }
		}
	}
	season := func() func(int) float64 {
		r := noise(2)
		return func(i int) float64 { return daily(i) + 5*r() }
	}
	weekly := func() func(int) float64 {
		r := noise(3)
		return func(i int) float64 { return daily(i)*(1+0.3*math.Sin(2*math.Pi*float64(i)/8640/7)) + 5*r() }
	}
	trend := func() func(int) float64 {
		r := noise(4)
		return func(i int) float64 { return 1000 + float64(i) + 5*r() }
	}
	autoregressive := func() func(int) float64 {
		// Minutes of x' = 0.8·x + e, in steps of 10 s.
		r := noise(5)
		x := 0.0
		return func(i int) float64 {
			if i%6 == 0 {
				x = 0.8*x + 50*r()
			}
			return 1000 + x
		}
	}
	hourly := func() func(int) float64 {
		r := noise(6)
		return func(i int) float64 {
			v := 1000 + 10*r()
			if m := i / 6 % 60; m >= 30 && m < 33 {
				v *= 3
			}
			return v
		}
	}
	walk := func() func(int) float64 {
		r := noise(8)
		x := 1000.0
		return func(int) float64 { x += r(); return x }
	}
	for _, c := range []struct {
		name    string
		member  Member
		days    float64
		lead    int
		of      series
		within  float64 // mean absolute error
		ofNaive float64 // and as a share of the last value's; 0 where that does not matter
	}{
		{"last knows a random walk", &last{value: nan}, 0.5, 1, walk, 0.9, 0},
		{"mean-1m averages noise", newMean("mean-1m", grid10, time.Minute), 0.5, 6, flat(100), 90, 0.8},
		{"mean-5m averages noise", newMean("mean-5m", grid10, 5*time.Minute), 0.5, 6, flat(100), 83, 0.75},
		{"day repeats a day", newSeasonal("day", grid10, 1, false), 3, 60, season, 6, 0.5},
		{"week repeats a week", newSeasonal("week", grid10, 7, false), 15, 60, weekly, 6, 0.5},
		{"day-shape follows a day", newSeasonal("day-shape", grid10, 1, true), 3, 60, season, 8, 0.6},
		{"holt-winters follows a trend", newHoltWinters(grid10), 1, 60, trend, 12, 0.3},
		{"holt-winters follows a season", newHoltWinters(grid10), 4, 60, season, 8, 0.6},
		{"arima knows an autoregression", newARIMA(grid10), 2, 18, autoregressive, 62, 0.93},
		{"arima averages noise", newARIMA(grid10), 1, 6, flat(100), 85, 0.8},
		{"harmonic follows a season", newHarmonic(grid10, nil), 4, 60, season, 8, 0.6},
		{"harmonic follows a week", newHarmonic(grid10, nil), 21, 60, weekly, 12, 0.8},
		{"hour knows what comes every hour", newHour(grid10), 2, 18, hourly, 50, 0.3},
		{"ridge knows what comes every hour", newRidge(grid10, 10*time.Minute), 2, 18, hourly, 100, 0.55},
		{"ridge follows a season", newRidge(grid10, 10*time.Minute), 4, 60, season, 8, 0.6},
		{"ridge averages noise", newRidge(grid10, 10*time.Minute), 1, 6, flat(100), 83, 0.75},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, naive := run(c.member, int(c.days*8640), c.lead, c.of())
			t.Logf("error %.2f, last value's %.2f", got, naive)
			if !(got <= c.within) || c.ofNaive > 0 && got > c.ofNaive*naive {
				t.Errorf("mean absolute error %.2f, last value's %.2f: want at most %.2f and %.2f of the last value's", got, naive, c.within, c.ofNaive)
			}
		})
	}
}

func TestHarmonicKnowsHolidays(t *testing.T) {
	// Every tenth day is a holiday with half the load.
	var days []Holiday
	for d := 4; d < 40; d += 10 {
		days = append(days, Holiday{Name: "feast", Start: grid10.Time(firstStep + int64(d)*8640)})
	}
	off := func(holidays []Holiday) float64 {
		m := newHarmonic(grid10, holidays)
		var dst [1]float64
		var sum float64
		for i := range 25*8640 - 3000 {
			v := 1000 + 200*math.Sin(2*math.Pi*float64(i)/8640)
			if i/8640%10 == 4 {
				v /= 2
			}
			m.Update(firstStep+int64(i), v)
			if i >= 24*8640-60 && i < 24*8640 { // the eve of the third one
				m.Predict([]int{120}, dst[:])
				if j := i + 120; j/8640 == 24 {
					sum += math.Abs(dst[0] - (1000+200*math.Sin(2*math.Pi*float64(j)/8640))/2)
				}
			}
		}
		return sum / 60
	}
	with, without := off(days), off(nil)
	if with > 0.6*without {
		t.Errorf("off by %.0f on the eve with the holidays known, by %.0f without", with, without)
	}
}

func TestMembersSayNothingOrSomethingFinite(t *testing.T) {
	leads := []int{1, 2, 6, 30, 60, 200}
	dst := make([]float64, len(leads))
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			c := Config{}.filled()
			m := build(name, grid10, &c)
			r := rand.New(rand.NewPCG(9, 9))
			step := int64(firstStep)
			for i := range 60000 {
				step++
				var x float64
				switch {
				case i%1000 < 50:
					x = nan
				case i%7000 < 1000:
					x = 0
				case i%9000 == 5000:
					x = 1e9
					step += 700
				case i%13000 == 8000:
					step += 3 * 8640
					x = 1
				default:
					x = 100 * r.ExpFloat64()
				}
				m.Update(step, x)
				if i%7 == 0 {
					m.Predict(leads, dst)
					for _, v := range dst {
						if math.IsInf(v, 0) || math.Abs(v) > 1e12 {
							t.Fatalf("forecast %v after %d steps", dst, i)
						}
					}
				}
			}
			for _, v := range dst {
				if v != v && name != "week" && name != "day" && name != "day-shape" {
					t.Fatalf("no forecast at the end: %v", dst)
				}
			}
		})
	}
}
