package journal

// Quiet returns o without a maintenance goroutine, so that what a journal does
// to its disk follows from the calls alone.
func (o Options) Quiet() Options {
	o.quiet = true
	return o
}
