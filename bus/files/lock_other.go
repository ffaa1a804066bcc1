//go:build !unix

package files

import (
	"os"
	"path/filepath"

	"github.com/freshet-io/freshet/errkind"
)

// lockFolder does not hold the folder here.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open folder %s: %w", dir, err)
	}
	return f, nil
}

// syncDir: names are safe with their files here, and folders cannot be synced.
func syncDir(*os.File) error { return nil }
