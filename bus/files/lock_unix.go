//go:build unix

package files

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/freshet-io/freshet/errkind"
)

// lockFolder holds a folder for this process.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open folder %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errkind.Errorf(errkind.Conflict, "open folder %s: another process writes to it: give each its own", dir)
	}
	return f, nil
}

func syncDir(d *os.File) error { return d.Sync() }
