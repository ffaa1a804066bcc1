package pipeline

// Shrink makes frames and cycles of the state small, so that a short history
// has many of both.
func (p *Pipeline) Shrink(events int, cycle int64) { p.frameEvents, p.cycle = events, cycle }
