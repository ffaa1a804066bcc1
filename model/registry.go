package model

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/state"
)

// Registry keeps models in an object store: a folder or a bucket. It implements
// Source. Objects are
//
//	NAME/versions/VERSION/version.json      what a Version is, written last, once
//	NAME/versions/VERSION/SUM/FILE          its files, each below the beginning of its SHA-256
//	NAME/states/000000000001.json           its states, each written once
//	NAME/evidence/ROLLOUT/PROCESS.json      what processes have seen of a rollout
//
// A version is there when its version.json is, and then all of its files are: a
// process that dies before leaves files that nobody reads. Of two that add the
// same version, or write the same state, one succeeds. Nothing that is there is
// changed, only deleted.
type Registry struct {
	objects state.Objects
	o       RegistryOptions

	mu      sync.Mutex
	checked map[string]bool // folders of the cache whose files this process has checked
	fetches map[string]*sync.Mutex
}

var _ Source = (*Registry)(nil)

// RegistryOptions are what a registry needs beside its objects.
type RegistryOptions struct {
	// Cache is the local folder of fetched files.
	Cache string
	// Open loads a version to admit it: the file at path, or v.URL where that is set.
	Open func(path string, v *Version) (inference.Driver, error)
	// Caps bound the models that are admitted.
	Caps Caps
	// By names the process and its user in states; host and process id by default.
	By     string
	Logger *slog.Logger
	Now    func() time.Time
}

// NewRegistry returns the registry in objects, which stay the caller's to close.
func NewRegistry(objects state.Objects, o RegistryOptions) *Registry {
	if o.By == "" {
		host, _ := os.Hostname()
		o.By = fmt.Sprintf("%s:%d", cmp.Or(host, "localhost"), os.Getpid())
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{objects: objects, o: o, checked: map[string]bool{}, fetches: map[string]*sync.Mutex{}}
}

const (
	versionFile = "version.json"
	// maxDocument bounds version.json, states and evidence in bytes.
	maxDocument = 16 << 20
)

func versionsOf(name string) string            { return name + "/versions/" }
func versionObject(name, v string) string      { return versionsOf(name) + v + "/" + versionFile }
func statesOf(name string) string              { return name + "/states/" }
func stateObject(name string, g uint64) string { return fmt.Sprintf("%s%012d.json", statesOf(name), g) }

// fileObject is where a version's file lies: its sum in the name lets two that add
// the same version at once not touch each other's files.
func fileObject(name, version, file, sum string) string {
	return versionsOf(name) + version + "/" + sum[:16] + "/" + file
}

// Models returns the names of all models that have a version, in order.
func (r *Registry) Models(ctx context.Context) ([]string, error) {
	all, err := r.objects.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	var names []string
	for _, o := range all {
		part := strings.Split(o.Name, "/")
		if len(part) == 4 && part[1] == "versions" && part[3] == versionFile {
			names = append(names, part[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Versions returns the versions of a model, those added first first; NotFound for
// an unknown model.
func (r *Registry) Versions(ctx context.Context, name string) ([]*Version, error) {
	s, err := r.State(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.versions(ctx, name, s)
}

func (r *Registry) versions(ctx context.Context, name string, s *State) ([]*Version, error) {
	names, err := r.versionNames(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []*Version
	for _, n := range names {
		if slices.Contains(s.Deleted, n) {
			continue // its deletion was cut short
		}
		v, err := r.read(ctx, name, n)
		if errkind.Is(err, errkind.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	slices.SortStableFunc(all, compareVersions)
	return all, nil
}

func (r *Registry) versionNames(ctx context.Context, name string) (names []string, err error) {
	all, err := r.objects.List(ctx, versionsOf(name))
	if err != nil {
		return nil, fmt.Errorf("list versions of %s: %w", name, err)
	}
	for _, o := range all {
		if v, ok := strings.CutSuffix(strings.TrimPrefix(o.Name, versionsOf(name)), "/"+versionFile); ok && !strings.Contains(v, "/") {
			names = append(names, v)
		}
	}
	return names, nil
}

// Version is in Source; version may also be "previous", the champion before.
func (r *Registry) Version(ctx context.Context, name, version string) (*Version, error) {
	if err := CheckName("model name", name); err != nil {
		return nil, err
	}
	if !isAlias(version) {
		if err := CheckName("version", version); err != nil {
			return nil, err
		}
		v, err := r.read(ctx, name, version)
		if errkind.Is(err, errkind.NotFound) {
			return nil, r.missing(ctx, name, version)
		}
		return v, err
	}
	s, err := r.State(ctx, name)
	if err != nil {
		return nil, err
	}
	if version == LatestAlias {
		all, err := r.versions(ctx, name, s)
		if err != nil {
			return nil, err
		}
		for _, v := range slices.Backward(all) {
			if s.Stage(v.Version) != Archived {
				return v, nil
			}
		}
		return nil, errkind.Errorf(errkind.NotFound, "model %s: every version is archived", name)
	}
	number, err := s.Resolve(name, version)
	if err != nil {
		return nil, err
	}
	v, err := r.read(ctx, name, number)
	if errkind.Is(err, errkind.NotFound) {
		return nil, errkind.Errorf(errkind.NotFound,
			"model %s: its %s, version %s, is gone from the registry: somebody deleted it; promote another version or put its files back", name, version, number)
	}
	return v, err
}

// Resolve returns the version of model name that champion or previous stands for.
func (s *State) Resolve(name, alias string) (string, error) {
	switch {
	case alias == ChampionAlias && s.Champion == "":
		return "", errkind.Errorf(errkind.NotFound, "model %s has no champion: promote a version of it", name)
	case alias == ChampionAlias:
		return s.Champion, nil
	case len(s.Former) == 0:
		return "", errkind.Errorf(errkind.NotFound, "model %s has had no champion before this one", name)
	}
	return s.Former[len(s.Former)-1], nil
}

// missing says what there is instead of a version that is not.
func (r *Registry) missing(ctx context.Context, name, version string) error {
	names, err := r.versionNames(ctx, name)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return r.unknown(ctx, name)
	}
	if n := len(names); n > 8 {
		names = append([]string{"…"}, names[n-8:]...)
	}
	return errkind.Errorf(errkind.NotFound, "model %s has no version %s; it has %s", name, version, strings.Join(names, ", "))
}

func (r *Registry) unknown(ctx context.Context, name string) error {
	names, err := r.Models(ctx)
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return errkind.Errorf(errkind.NotFound, "no model %s: the registry is empty", name)
	case len(names) > 8:
		names = append(names[:8], "…")
	}
	return errkind.Errorf(errkind.NotFound, "no model %s in the registry; it has %s", name, strings.Join(names, ", "))
}

func (r *Registry) read(ctx context.Context, name, version string) (*Version, error) {
	object := versionObject(name, version)
	b, err := r.get(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("read version %s of model %s: %w", version, name, err)
	}
	v := &Version{}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read version %s of model %s: %s is damaged: %w", version, name, object, err)
	}
	if v.Name != name || v.Version != version || len(v.Digest) != 64 {
		return nil, errkind.Errorf(errkind.Corrupt, "read version %s of model %s: %s is damaged: it describes version %q of %q with digest %q",
			version, name, object, v.Version, v.Name, v.Digest)
	}
	if err := v.checkFiles(); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read version %s of model %s: %s is damaged: %w", version, name, object, err)
	}
	return v, nil
}

// checkFiles refuses names that would leave the folder and sums that are none.
func (v *Version) checkFiles() error {
	for _, file := range []string{v.File, v.Background, v.Golden} {
		if file != "" && v.Sums[file] == "" {
			return fmt.Errorf("no sum of %q", file)
		}
	}
	for file, sum := range v.Sums {
		if err := CheckName("file", file); err != nil || file == versionFile || len(sum) != 64 || state.CheckName(sum) != nil {
			return fmt.Errorf("file %q with sum %q", file, sum)
		}
	}
	if v.File != "" && v.Sums[v.File] != v.Digest {
		return fmt.Errorf("digest %s, and the sum of %s is %s", v.Digest, v.File, v.Sums[v.File])
	}
	return nil
}

// get reads a small object.
func (r *Registry) get(ctx context.Context, object string) ([]byte, error) {
	body, err := r.objects.Get(ctx, object)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxDocument {
		return nil, errkind.Errorf(errkind.Corrupt, "%s has more than %d bytes", object, maxDocument)
	}
	return b, nil
}

// put writes a document in place of what is there.
func (r *Registry) put(ctx context.Context, object string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.objects.Put(ctx, object, int64(len(b)), bytes.NewReader(b))
}

// Delete removes a version and its files. While it is in use that is a Conflict.
// Its name is not used again.
func (r *Registry) Delete(ctx context.Context, name, version string) error {
	if isAlias(version) {
		return errkind.Errorf(errkind.Config, "delete version of %s: name the version, not %q", name, version)
	}
	v, err := r.Version(ctx, name, version)
	if errkind.Is(err, errkind.NotFound) {
		// One whose deletion was cut short still has files.
		if s, err2 := r.State(ctx, name); err2 != nil || !slices.Contains(s.Deleted, version) {
			return err
		}
	} else if err != nil && !errkind.Is(err, errkind.Corrupt) {
		return err
	}
	// The state comes first: from then on nobody can promote the version.
	_, err = r.Update(ctx, name, "deleted "+version, func(s *State) error {
		if use := s.InUse(version); use != "" {
			return errkind.Errorf(errkind.Conflict, "delete version %s of model %s: %s", version, name, use)
		}
		s.Former = without(s.Former, version)
		s.Archived = without(s.Archived, version)
		if !slices.Contains(s.Deleted, version) {
			s.Deleted = append(s.Deleted, version)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if v != nil {
		if err := r.objects.Delete(ctx, versionObject(name, version)); err != nil {
			return fmt.Errorf("delete version %s of model %s: %w", version, name, err)
		}
	}
	left, err := r.objects.List(ctx, versionsOf(name)+version+"/")
	for _, o := range left {
		if err == nil {
			err = r.objects.Delete(ctx, o.Name)
		}
	}
	if err != nil {
		return fmt.Errorf("delete version %s of model %s: %w; repeat it to remove the rest", version, name, err)
	}
	return nil
}

func without(all []string, one string) []string {
	if all = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one }); len(all) == 0 {
		return nil // as it is read back
	}
	return all
}

// nextVersion is one more than the greatest version that is or was a number.
func nextVersion(names, deleted []string) string {
	n := 0
	for _, name := range slices.Concat(names, deleted) {
		if k, err := strconv.Atoi(name); err == nil && k > n {
			n = k
		}
	}
	return strconv.Itoa(n + 1)
}

// cacheFolder is where a version's files are kept: what is in it is in its name.
func (r *Registry) cacheFolder(v *Version, document []byte) string {
	return filepath.Join(r.o.Cache, v.Digest, sumOf(document)[:16])
}
