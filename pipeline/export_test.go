package pipeline

import "time"

// Shrink makes frames and cycles of the state small, so that a short history
// has many of both.
func (p *Pipeline) Shrink(events int, cycle int64) { p.frameEvents, p.cycle = events, cycle }

// LabelPatience is how old labels become without a prediction of their event.
func (p *Pipeline) LabelPatience(d time.Duration) { p.labelPatience = d }

// Crowd lets few rows wait at each input of a merge, and few records between two
// stages, for which tasks look at each frame.
func (p *Pipeline) Crowd(rows int, records int64) {
	p.laneRows = rows
	p.ahead = ahead{records, 1, 20 * time.Millisecond}
}
