package worker

import "golang.org/x/sys/unix"

// limitMemory bounds what the process may allocate: memory mapped for writing, not
// the address space, of which Go and C reserve much more than they use.
func limitMemory(bytes uint64) error {
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: bytes, Max: bytes})
}
