package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData leaves out the metadata that reading back does not need.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}
