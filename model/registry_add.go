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
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// Names of a version's files beside the model's own.
const (
	GoldenFile     = "golden.json"
	BackgroundFile = "background.json"
)

// maxNumbering is how often Add takes the next number when others add versions too.
const maxNumbering = 20

// Add admits a version: it is examined first (see Submission and Caps), then its
// files are written, then version.json, which makes it a candidate. Errors are
// Invalid and Exhausted for a model that is not let in, Conflict where the
// version is there already or was once.
func (r *Registry) Add(ctx context.Context, sub Submission) (*Admitted, error) {
	a, err := r.add(ctx, &sub)
	if err != nil {
		return nil, fmt.Errorf("add a version of model %s: %w", sub.Name, err)
	}
	return a, nil
}

func (r *Registry) add(ctx context.Context, sub *Submission) (*Admitted, error) {
	if err := sub.check(); err != nil {
		return nil, err
	}
	s, err := r.State(ctx, sub.Name)
	if errkind.Is(err, errkind.NotFound) {
		s, err = &State{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.vacant(ctx, sub.Name, sub.Version, s); err != nil {
		return nil, err
	}
	var champion *Version
	if s.Champion != "" && len(sub.Features) == 0 {
		if champion, err = r.read(ctx, sub.Name, s.Champion); err != nil && !errkind.Is(err, errkind.NotFound) {
			return nil, err
		}
	}

	v := &Version{
		Name: sub.Name, Version: sub.Version, URL: sub.URL, Owner: sub.Owner, Data: sub.Data, Notes: sub.Notes, Metrics: sub.Metrics,
		Sums: map[string]string{},
	}
	// What is examined is a copy, so that it is what is written, whatever becomes
	// of the file meanwhile.
	dir, err := r.workspace()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := v.take(dir, sub, r.o.Caps.withDefaults().Bytes)
	if err != nil {
		return nil, err
	}
	a, background, err := r.examine(ctx, sub, path, v, champion)
	if err != nil {
		return nil, err
	}
	if sub.Golden != "" {
		v.Golden = GoldenFile
		if v.Sums[v.Golden], _, err = copySum(filepath.Join(dir, v.Golden), sub.Golden, maxDocument); err != nil {
			return nil, err
		}
	}
	if background != nil {
		v.Background = BackgroundFile
		b, err := encodeBackground(background)
		if err != nil {
			return nil, err
		}
		v.Sums[v.Background] = sumOf(b)
		if err := os.WriteFile(filepath.Join(dir, v.Background), b, 0o600); err != nil {
			return nil, errkind.With(errkind.Permanent, err)
		}
	}
	return a, r.publish(ctx, v, dir)
}

func (s *Submission) check() error {
	if err := CheckName("model name", s.Name); err != nil {
		return err
	}
	if s.Version != "" {
		if err := checkVersionName(s.Version); err != nil {
			return err
		}
	}
	switch {
	case (s.Path == "") == (s.URL == ""):
		return errkind.New(errkind.Config, "give either the model's file or the URL where it is served")
	case s.Digest != "" && s.URL != "":
		return errkind.New(errkind.Config, "a served model has no file whose SHA-256 could be compared")
	case s.Golden == "" && !s.NoGolden:
		return errkind.New(errkind.Config, "no golden rows: give a file of rows with known answers (--golden golden.json), or say that there are none (--no-golden)")
	case strings.Contains(s.URL, "@"):
		return errkind.New(errkind.Config, "the URL holds a user or a password, which would be stored: name secrets by options such as token_env")
	}
	return nil
}

// vacant is nil where a version of that name can be added.
func (r *Registry) vacant(ctx context.Context, name, version string, s *State) error {
	if version == "" {
		return nil
	}
	if slices.Contains(s.Deleted, version) {
		return errkind.Errorf(errkind.Conflict, "version %s was there once and is deleted: records name it; choose another name", version)
	}
	_, err := r.read(ctx, name, version)
	switch {
	case err == nil:
		return errkind.Errorf(errkind.Conflict, "version %s is there already, and versions never change: choose another name", version)
	case errkind.Is(err, errkind.NotFound):
		return nil
	}
	return err
}

func (r *Registry) workspace() (string, error) {
	if r.o.Cache != "" {
		if err := os.MkdirAll(r.o.Cache, 0o700); err != nil {
			return "", errkind.With(errkind.Permanent, err)
		}
	}
	dir, err := os.MkdirTemp(r.o.Cache, ".adding-")
	return dir, errkind.With(errkind.Permanent, err)
}

// take copies the model's file into dir and fills in what it is.
func (v *Version) take(dir string, sub *Submission, limit int64) (path string, err error) {
	if sub.URL != "" {
		v.Format, v.Digest = FormatRemote, sumOf([]byte(sub.URL))
		return "", nil
	}
	base := strings.ToLower(filepath.Base(sub.Path))
	ending := filepath.Ext(base)
	v.Format = strings.TrimPrefix(ending, ".")
	if yaml := ".rule" + ending; (ending == ".yaml" || ending == ".yml") && strings.HasSuffix(base, yaml) {
		v.Format, ending = FormatRule, yaml
	}
	v.File = v.Name + ending
	if err := CheckName("file", v.File); err != nil {
		return "", err
	}
	path = filepath.Join(dir, v.File)
	if v.Digest, v.Size, err = copySum(path, sub.Path, limit); err != nil {
		return "", err
	}
	if sub.Digest != "" && !strings.EqualFold(sub.Digest, v.Digest) {
		return "", errkind.Errorf(errkind.Corrupt, "%s has the SHA-256 %s, expected %s: it was changed or damaged on its way", sub.Path, v.Digest, sub.Digest)
	}
	v.Sums[v.File] = v.Digest
	return path, nil
}

// copySum copies a file of at most limit bytes and returns its SHA-256 and size.
func copySum(to, from string, limit int64) (sum string, size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		kind := errkind.Permanent
		if errors.Is(err, fs.ErrNotExist) {
			kind = errkind.NotFound
		}
		return "", 0, errkind.With(kind, err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, errkind.With(errkind.Permanent, err)
	}
	defer out.Close()
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, limit+1))
	if err != nil {
		return "", 0, errkind.Errorf(errkind.Permanent, "copy %s: %w", from, err)
	}
	if size > limit {
		return "", 0, errkind.Errorf(errkind.Exhausted, "%s has more than %d bytes", from, limit)
	}
	return hex.EncodeToString(h.Sum(nil)), size, errkind.With(errkind.Permanent, out.Close())
}

// publish writes the files and then version.json.
func (r *Registry) publish(ctx context.Context, v *Version, dir string) error {
	numbered := v.Version == ""
	for range maxNumbering {
		if numbered {
			names, err := r.versionNames(ctx, v.Name)
			if err != nil {
				return err
			}
			s, err := r.State(ctx, v.Name)
			if err != nil && !errkind.Is(err, errkind.NotFound) {
				return err
			}
			if s == nil {
				s = &State{}
			}
			v.Version = nextVersion(names, s.Deleted)
		}
		v.Created = r.o.Now().UTC()
		document, err := json.Marshal(v)
		if err != nil {
			return err
		}
		for file, sum := range v.Sums {
			if err := r.upload(ctx, filepath.Join(dir, file), fileObject(v.Name, v.Version, file, sum)); err != nil {
				return fmt.Errorf("write version %s: %w", v.Version, err)
			}
		}
		err = r.objects.Create(ctx, versionObject(v.Name, v.Version), document)
		if errkind.Is(err, errkind.Conflict) {
			// It may be this very write, repeated after its answer was lost. Files of
			// a write that lost stay until the version is deleted: the winner's may be the same.
			if there, err2 := r.get(ctx, versionObject(v.Name, v.Version)); err2 == nil && string(there) == string(document) {
				return nil
			}
			if numbered {
				continue
			}
			return errkind.Errorf(errkind.Conflict, "version %s was added by somebody else meanwhile", v.Version)
		}
		if err != nil {
			return fmt.Errorf("write version %s: %w", v.Version, err)
		}
		return nil
	}
	return errkind.New(errkind.Conflict, "others added versions all the time; try again, or name the version")
}

func (r *Registry) upload(ctx context.Context, path, object string) error {
	f, err := os.Open(path)
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return errkind.With(errkind.Permanent, err)
	}
	return r.objects.Put(ctx, object, info.Size(), f)
}
