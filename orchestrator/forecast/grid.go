package forecast

import "time"

// Grid is the regular grid that members live on.
type Grid struct {
	// Step is the length of one step.
	Step time.Duration
	// Phase is where step 0 begins, less than Step after the Unix epoch.
	Phase time.Duration
}

// Time returns when a step begins.
func (g Grid) Time(step int64) time.Time {
	return time.Unix(0, int64(g.Phase)+step*int64(g.Step))
}
