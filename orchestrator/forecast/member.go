package forecast

// A Member forecasts a series of mean rates on a regular grid: one value for each step of
// the grid. It holds no clock and no randomness beyond its seed, and is used by one goroutine.
//
// The ensemble owns everything around it: it makes the grid out of whatever was observed,
// turns points into quantiles by the member's recent errors, weighs the member by
// recent loss, and shuts it out while its forecasts are not finite or absurd. So a member is free to be
// wrong, and has to be cheap: Update and Predict together should take at most a few
// microseconds on average. What costs more (a fit) is done now and then within Update.
type Member interface {
	// Name is short, as tables print it.
	Name() string
	// Update takes the mean rate (events a second, at least 0) of a step, or NaN where nothing is
	// known of it. Step i covers Unix time i·Grid.Step + Grid.Phase on. Steps rise: by one, but for gaps
	// longer than an hour, which are skipped.
	Update(step int64, rate float64)
	// Predict fills dst[k] with the expected mean rate of the step leads[k] steps after the
	// last one of Update. Leads rise from 1. NaN where the member cannot tell (yet).
	// Called at any number of times between two Updates, and changes nothing.
	Predict(leads []int, dst []float64)
}
