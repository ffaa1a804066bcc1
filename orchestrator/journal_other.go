//go:build !unix && !windows

package orchestrator

// lockDir does nothing: one process is all that such a system runs.
func lockDir(string) (unlock func() error, err error) { return func() error { return nil }, nil }

func syncDir(string) error { return nil }
