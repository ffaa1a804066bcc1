package parquet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/freshet-io/freshet/errkind"
)

// summaryFile tells a finished export. Readers of Parquet folders skip names that begin so.
const summaryFile = "_export.json"

// folder is an export in the making: everything is written to staging, which
// takes the place of dir in the end.
type folder struct {
	dir, staging string
	replace      bool
}

// newFolder checks that dir may be made and makes the folder that will become it.
func newFolder(dir string, overwrite bool) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, errkind.Errorf(errkind.Config, "export to %s: %w", dir, err)
	case len(entries) == 0:
		f.replace = true
	default:
		if _, err := os.Stat(filepath.Join(dir, summaryFile)); err != nil {
			return nil, errkind.Errorf(errkind.Config, "export to %s: the folder is not empty and holds no export; choose another", dir)
		}
		if !overwrite {
			return nil, errkind.Errorf(errkind.Config, "export to %s: there is an export already; choose another folder, or replace it with --overwrite", dir)
		}
		f.replace = true
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, errkind.Errorf(errkind.Config, "export to %s: %w", dir, err)
	}
	if f.staging, err = os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-"); err != nil {
		return nil, errkind.Errorf(errkind.Config, "export to %s: %w", dir, err)
	}
	return f, os.Chmod(f.staging, 0o755)
}

// clear empties staging.
func (f *folder) clear() error {
	entries, err := os.ReadDir(f.staging)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(f.staging, e.Name())))
	}
	return err
}

// abandon removes staging.
func (f *folder) abandon() error { return os.RemoveAll(f.staging) }

// publish makes staging the export.
func (f *folder) publish(s *Summary) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.staging, summaryFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	err = filepath.WalkDir(f.staging, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && d.Name() != summaryFile {
			return err
		}
		return syncPath(path)
	})
	if err != nil {
		return fmt.Errorf("sync the export: %w", err)
	}
	if f.replace {
		old, err := os.MkdirTemp(filepath.Dir(f.dir), "."+filepath.Base(f.dir)+".old-")
		if err != nil {
			return err
		}
		if err := os.Rename(f.dir, filepath.Join(old, "export")); err != nil {
			return errors.Join(err, os.Remove(old))
		}
		if err := os.Rename(f.staging, f.dir); err != nil {
			return errors.Join(err, os.Rename(filepath.Join(old, "export"), f.dir), os.Remove(old))
		}
		return errors.Join(os.RemoveAll(old), syncPath(filepath.Dir(f.dir)))
	}
	if err := os.Rename(f.staging, f.dir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(f.dir))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
