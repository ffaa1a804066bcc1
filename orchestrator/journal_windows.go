package orchestrator

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockDir waits until no other process has the lock.
func lockDir(name string) (unlock func() error, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f.Close, nil
}

// syncDir does nothing: Windows has no such call, and NTFS journals names itself.
func syncDir(string) error { return nil }
