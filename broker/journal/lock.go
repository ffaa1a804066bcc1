package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/freshet-io/freshet/errkind"
)

const lockName = "LOCK"

// Owner is the process that holds a journal's folder.
type Owner struct {
	PID int `json:"pid"`
	// Address is where the owner serves HTTP, such as http://127.0.0.1:8080; empty where it does not.
	Address string `json:"address,omitempty"`
}

func (o Owner) String() string {
	if o.Address == "" {
		return fmt.Sprintf("process %d", o.PID)
	}
	return fmt.Sprintf("process %d (%s)", o.PID, o.Address)
}

// FindOwner says which process holds the journal in dir, if one does. A missing
// folder has none.
func FindOwner(dir string) (Owner, bool, error) {
	return findOwner(osFS{}, dir)
}

func findOwner(fs FS, dir string) (Owner, bool, error) {
	name := filepath.Join(dir, lockName)
	b, err := readWhole(fs, name)
	if errors.Is(err, os.ErrNotExist) {
		return Owner{}, false, nil
	}
	if err != nil {
		return Owner{}, false, fmt.Errorf("read owner of journal %s: %w", dir, err)
	}
	f, err := fs.Lock(name)
	if err == nil {
		return Owner{}, false, f.Close()
	}
	if !errors.Is(err, ErrLocked) {
		return Owner{}, false, fmt.Errorf("look for owner of journal %s: %w", dir, err)
	}
	var o Owner
	// A lock taken this instant has no content yet: the owner is there all the same.
	_ = json.Unmarshal(b, &o)
	return o, true, nil
}

// takeLock makes this process the owner of dir.
func takeLock(fs FS, dir string, o Owner) (File, error) {
	name := filepath.Join(dir, lockName)
	f, err := fs.Lock(name)
	if errors.Is(err, ErrLocked) {
		who := "another process"
		if b, err := readWhole(fs, name); err == nil {
			var other Owner
			if json.Unmarshal(b, &other) == nil && other.PID != 0 {
				who = other.String()
			}
		}
		return nil, errkind.Errorf(errkind.Conflict,
			"journal %s is in use by %s: stop that process, talk to it over HTTP, or choose another folder", dir, who)
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	// On a full disk the journal still opens, to be read and trimmed; then
	// nobody can be told who has it.
	if err := writeOwner(f, o); err != nil && !diskFull(err) {
		_ = f.Close()
		return nil, openError(dir, err)
	}
	return f, nil
}

func writeOwner(f File, o Owner) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, '\n'), 0)
	return err
}

// openError words what the operating system says when a folder cannot be used.
func openError(dir string, err error) error {
	switch {
	case diskFull(err):
		return errkind.Errorf(errkind.Exhausted, "open journal %s: no space left on the device: free some and start again: %w", dir, err)
	case errors.Is(err, os.ErrPermission) || readOnly(err):
		return errkind.Errorf(errkind.Config, "open journal %s: the folder cannot be written: make it writable for this user or choose another: %w", dir, err)
	default:
		return fmt.Errorf("open journal %s: %w", dir, err)
	}
}
