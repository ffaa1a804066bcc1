package forecast

import (
	"fmt"
	"slices"
	"time"
)

// Config says what an ensemble is made of. The zero value is a good one.
type Config struct {
	// Grid is the step of the grid that members live on; 0 means 10 s.
	Grid time.Duration
	// Horizon is how far ahead forecasts are scored and calibrated; 0 means 10 minutes.
	// Leads behind it are told as the last one before, wider.
	Horizon time.Duration
	// Span is how long the means are whose quantiles are told: row i of a Demand has the
	// quantiles of the mean rate over Span from the beginning of lead i on. 0 means
	// the Step of the first Demand that is asked for. A longer mean has less noise, so who can let work wait for half a
	// minute is told more sharply what it needs by a Span of half a minute.
	Span time.Duration
	// Members are names of Names(); nil means Defaults().
	Members []string
	// Extra are members that were made elsewhere; each function is called once, when the
	// first observation has settled the grid.
	Extra []func(Grid) Member
	// Uncalibrated leaves out the adaptive conformal inference and the learned scale: quantiles are those of
	// the ensemble's recent errors relative to its forecast.
	Uncalibrated bool
	// Equal gives every member the same weight.
	Equal bool
	// Holidays are days unlike others; only "harmonic" knows them.
	Holidays []Holiday
}

// Holiday is a day that differs from others, in the same way every time that its name comes.
type Holiday struct {
	Name string
	// Start and Duration; 0 means 24 hours.
	Start    time.Time
	Duration time.Duration
}

// Names returns the names of all members that Config.Members may hold.
func Names() []string {
	return []string{"last", "mean-1m", "mean-5m", "hour", "day", "week", "day-shape", "holt-winters", "arima", "harmonic", "ridge"}
}

// Defaults returns the names of the members of an ensemble that names none.
func Defaults() []string { return Names() }

// ForScaling is the configuration that the orchestrator uses and the comparisons of policies judge: a
// grid as fine as the period of its policy, so that a jump is seen within seconds.
func ForScaling() Config { return Config{Grid: 5 * time.Second} }

// Validate reports what is wrong with c; New repairs it instead where it can.
func (c *Config) Validate() error {
	for _, m := range c.Members {
		if !slices.Contains(Names(), m) {
			return fmt.Errorf("forecast: no member is named %q: there are %v", m, Names())
		}
	}
	if c.Grid < 0 || c.Horizon < 0 || c.Span < 0 {
		return fmt.Errorf("forecast: grid %v, horizon %v and span %v must not be negative", c.Grid, c.Horizon, c.Span)
	}
	return nil
}

// filled returns c with its defaults, within what memory and time allow.
func (c Config) filled() Config {
	if c.Grid <= 0 {
		c.Grid = 10 * time.Second
	}
	c.Grid = min(max(c.Grid, time.Millisecond), 6*time.Hour)
	if c.Horizon <= 0 {
		c.Horizon = 10 * time.Minute
	}
	c.Horizon = min(max(c.Horizon, c.Grid), 1000*c.Grid)
	if c.Members == nil {
		c.Members = Defaults()
	}
	return c
}

// build makes the member of a name; nil where there is none.
func build(name string, g Grid, c *Config) Member {
	switch name {
	case "last":
		return &last{value: nan}
	case "mean-1m":
		return newMean(name, g, time.Minute)
	case "mean-5m":
		return newMean(name, g, 5*time.Minute)
	case "hour":
		return newHour(g)
	case "day":
		return newSeasonal(name, g, 1, false)
	case "week":
		return newSeasonal(name, g, 7, false)
	case "day-shape":
		return newSeasonal(name, g, 1, true)
	case "holt-winters":
		return newHoltWinters(g)
	case "arima":
		return newARIMA(g)
	case "harmonic":
		return newHarmonic(g, c.Holidays)
	case "ridge":
		return newRidge(g, c.Horizon)
	}
	return nil
}
