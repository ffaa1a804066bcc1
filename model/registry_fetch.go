package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// Fetch is in Source. What is in the cache already is checked once a process, and
// serves when the registry cannot be reached.
func (r *Registry) Fetch(ctx context.Context, v *Version) (string, error) {
	if err := v.checkFiles(); err != nil {
		return "", errkind.Errorf(errkind.Corrupt, "fetch version %s of model %s: %w", v.Version, v.Name, err)
	}
	document, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("fetch version %s of model %s: %w", v.Version, v.Name, err)
	}
	dir := r.cacheFolder(v, document)
	lock := r.fetchLock(dir)
	lock.Lock()
	defer lock.Unlock()
	r.mu.Lock()
	known := r.checked[dir]
	r.mu.Unlock()
	if known {
		if _, err := os.Stat(filepath.Join(dir, versionFile)); err == nil {
			return dir, nil
		}
	}
	if err := checkFolder(dir, v); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.o.Logger.Warn("the cached files of a model are damaged: fetching them again", "model", v.Name, "version", v.Version, "error", err)
		}
		if err := r.fill(ctx, dir, v, document); err != nil {
			return "", fmt.Errorf("fetch version %s of model %s: %w", v.Version, v.Name, err)
		}
	}
	r.mu.Lock()
	r.checked[dir] = true
	r.mu.Unlock()
	return dir, nil
}

// fetchLock lets one goroutine at a time fill a folder.
func (r *Registry) fetchLock(dir string) *sync.Mutex {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[dir] == nil {
		r.fetches[dir] = &sync.Mutex{}
	}
	return r.fetches[dir]
}

// checkFolder compares the files of dir with their sums.
func checkFolder(dir string, v *Version) error {
	if _, err := os.Stat(filepath.Join(dir, versionFile)); err != nil {
		return err
	}
	for file, want := range v.Sums {
		sum, err := fileSum(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if sum != want {
			return fmt.Errorf("%s has the SHA-256 %s, expected %s", file, sum, want)
		}
	}
	return nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fill makes dir with the version's files: in a folder beside it, which takes
// its place when all of them are there and right.
func (r *Registry) fill(ctx context.Context, dir string, v *Version, document []byte) error {
	if r.o.Cache == "" {
		return errkind.New(errkind.Config, "the registry has no cache folder")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	making, err := os.MkdirTemp(filepath.Dir(dir), ".making-")
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	defer os.RemoveAll(making)
	for file, sum := range v.Sums {
		if err := r.copyFile(ctx, fileObject(v.Name, v.Version, file, sum), filepath.Join(making, file), sum); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(making, versionFile), document, 0o600); err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	if err := os.Rename(making, dir); err == nil {
		return nil
	}
	// Another process was quicker, or what is there is damaged.
	if checkFolder(dir, v) == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	return errkind.With(errkind.Permanent, os.Rename(making, dir))
}

func (r *Registry) copyFile(ctx context.Context, object, path, sum string) error {
	body, err := r.objects.Get(ctx, object)
	if errkind.Is(err, errkind.NotFound) {
		return errkind.Errorf(errkind.NotFound, "%s is gone from the registry: %w", object, err)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), body); err != nil {
		if errkind.Of(err) == errkind.Unknown {
			err = errkind.With(errkind.Permanent, err)
		}
		return fmt.Errorf("read %s: %w", object, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return errkind.Errorf(errkind.Corrupt, "%s has the SHA-256 %s, and %s was recorded: the file was changed or damaged; add the version again under another name", object, got, sum)
	}
	if err := f.Sync(); err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	return errkind.With(errkind.Permanent, f.Close())
}
