package journal

// Quiet returns o without a maintenance goroutine, so that what a journal does
// to its disk follows from the calls alone.
func (o Options) Quiet() Options {
	o.quiet = true
	return o
}

// OpenSegments is the number of segments whose file or index is loaded.
func (j *Journal) OpenSegments() int {
	j.cache.mu.Lock()
	defer j.cache.mu.Unlock()
	return len(j.cache.loaded)
}

// SyncData is the sync that the journal uses.
var SyncData = syncData
