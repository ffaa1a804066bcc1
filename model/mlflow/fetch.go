package mlflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

const (
	// digestTag pins the SHA-256 of a version's model file.
	digestTag = "freshet.sha256"
	// maxModel and maxBeside bound the model file and the files beside it in bytes.
	maxModel  = 2 << 30
	maxBeside = 256 << 20
)

// Fetch is in model.Source. What is in the cache serves when MLflow cannot be reached.
func (s *Source) Fetch(ctx context.Context, v *model.Version) (string, error) {
	if dir := s.folder(v); sound(dir, v) {
		return dir, nil
	}
	s.mu.Lock()
	delete(s.fetched, [2]string{v.Name, v.Version})
	s.mu.Unlock()
	got, err := s.Version(ctx, v.Name, v.Version)
	if err != nil {
		return "", err
	}
	if got.Digest != v.Digest {
		return "", errkind.Errorf(errkind.Corrupt, "fetch version %s of model %s: its file has the SHA-256 %s, and it had %s: it was changed in MLflow", v.Version, v.Name, got.Digest, v.Digest)
	}
	return s.folder(v), nil
}

// folder is where a version's files lie in the cache.
func (s *Source) folder(v *model.Version) string {
	which := sha256.Sum256([]byte(s.c.base + "\n" + v.Name + "\n" + v.Version))
	return filepath.Join(s.o.Cache, v.Digest, hex.EncodeToString(which[:8]))
}

// sound reports whether a folder holds the version's files.
func sound(dir string, v *model.Version) bool {
	for file, want := range v.Sums {
		sum, _, err := sumOf(filepath.Join(dir, filepath.Base(file)))
		if err != nil || sum != want {
			return false
		}
	}
	return len(v.Sums) > 0
}

func sumOf(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// download fetches a version's files into its folder, and fills in what is known
// by them: digest, size and signature.
func (s *Source) download(ctx context.Context, v *model.Version, path string) error {
	if s.o.Cache == "" {
		return errkind.New(errkind.Config, "there is no cache folder")
	}
	if err := os.MkdirAll(s.o.Cache, 0o700); err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	making, err := os.MkdirTemp(s.o.Cache, ".making-")
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	defer os.RemoveAll(making)
	pinned := v.Digest
	v.Sums = map[string]string{}
	if v.Digest, v.Size, err = s.save(ctx, v, path, filepath.Join(making, v.File), maxModel); err != nil {
		return err
	}
	if pinned != "" && pinned != v.Digest {
		return errkind.Errorf(errkind.Corrupt, "%s has the SHA-256 %s, and its tag %s says %s: it was changed in MLflow, or damaged", path, v.Digest, digestTag, pinned)
	}
	v.Sums[v.File] = v.Digest
	for _, beside := range []struct {
		file string
		to   *string
	}{{model.GoldenFile, &v.Golden}, {model.BackgroundFile, &v.Background}} {
		sum, _, err := s.save(ctx, v, beside.file, filepath.Join(making, beside.file), maxBeside)
		if errkind.Is(err, errkind.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		*beside.to, v.Sums[beside.file] = beside.file, sum
	}
	if err := s.inspect(ctx, v, making); err != nil {
		return err
	}
	document, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(filepath.Join(making, "version.json"), document, 0o600)
	}
	dir := s.folder(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(dir), 0o700)
	}
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	if os.Rename(making, dir) == nil || sound(dir, v) { // another process may have been quicker
		return nil
	}
	if err = os.RemoveAll(dir); err == nil {
		err = os.Rename(making, dir)
	}
	return errkind.With(errkind.Permanent, err)
}

// inspect loads the file for its signature, and holds it to its golden rows.
func (s *Source) inspect(ctx context.Context, v *model.Version, dir string) error {
	v.Complexity.Bytes = v.Size
	if s.o.Open == nil {
		return nil
	}
	d, err := s.o.Open(filepath.Join(dir, v.File), v)
	if err != nil {
		return err
	}
	take(v, d.Metadata())
	if i, ok := d.(inference.Inspector); ok {
		v.Complexity = i.Complexity()
	}
	return errors.Join(model.CheckGolden(ctx, d, v, dir), d.Close())
}

// save fetches one artifact. A download that was cut is repeated from its beginning.
func (s *Source) save(ctx context.Context, v *model.Version, path, to string, limit int64) (sum string, size int64, err error) {
	err = s.c.repeat(ctx, func() error {
		sum, size, err = s.saveOnce(ctx, v, path, to, limit)
		return err
	})
	return sum, size, err
}

func (s *Source) saveOnce(ctx context.Context, v *model.Version, path, to string, limit int64) (string, int64, error) {
	body, err := s.artifact(ctx, v, path)
	if err != nil {
		return "", 0, err
	}
	defer body.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, errkind.With(errkind.Permanent, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(body, limit+1))
	if err != nil {
		return "", 0, s.c.network(fmt.Errorf("read %s: %w", path, err))
	}
	if n > limit {
		return "", 0, errkind.Errorf(errkind.Exhausted, "%s has more than %d bytes", path, limit)
	}
	if err := f.Sync(); err != nil {
		return "", 0, errkind.With(errkind.Permanent, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, errkind.With(errkind.Permanent, f.Close())
}
