package model

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Catalog is a Source that can be looked through: a Registry, or another
// registry's server.
type Catalog interface {
	Source
	// Models returns the names of all models, in order.
	Models(ctx context.Context) ([]string, error)
	// Versions returns a model's versions, those added first first. What has to be
	// fetched to be known may be missing in them; Source.Version has all of it.
	Versions(ctx context.Context, name string) ([]*Version, error)
	// Log returns the states of a model, the first that is kept first.
	Log(ctx context.Context, name string) ([]*State, error)
}

var _ Catalog = (*Registry)(nil)

// PromoteVersion makes a version (champion, latest and previous are some too) the
// champion at once. A running rollout ends with it, see PromoteNow.
func PromoteVersion(ctx context.Context, src Source, name, version, why string) (*State, error) {
	v, err := src.Version(ctx, name, version)
	if err != nil {
		return nil, fmt.Errorf("promote a version of model %s: %w", name, err)
	}
	s, err := src.Update(ctx, name, reason("promoted "+v.Version, why), func(s *State) error {
		return PromoteNow(s, v.Version, time.Now().UTC())
	})
	if err != nil {
		return nil, fmt.Errorf("promote version %s of model %s: %w", v.Version, name, err)
	}
	return s, nil
}

// RollBackModel ends the running rollout, so that the champion scores every key
// again. Where none runs, the former champion becomes champion again; the version
// that it replaces is no former champion after that, so that the next one goes
// further back. ended is the version whose rollout ended; empty for none.
func RollBackModel(ctx context.Context, src Source, name, why string) (s *State, ended string, err error) {
	s, err = src.State(ctx, name)
	if err != nil {
		return nil, "", fmt.Errorf("roll back model %s: %w", name, err)
	}
	if s.Rollout.Running() {
		ended = s.Rollout.Version
		id := s.Rollout.ID
		s, err = src.Update(ctx, name, reason("ended the rollout of "+ended, why), func(s *State) error {
			if !s.Rollout.Running() || s.Rollout.ID != id {
				return errkind.Errorf(errkind.Conflict, "rollout %s is over already", id)
			}
			return Abort(s, time.Now().UTC())
		})
	} else {
		s, err = rollBackChampion(ctx, src, s, name, why)
	}
	if err != nil {
		return nil, "", fmt.Errorf("roll back model %s: %w", name, err)
	}
	return s, ended, nil
}

func rollBackChampion(ctx context.Context, src Source, s *State, name, why string) (*State, error) {
	number, err := s.Resolve(name, PreviousAlias)
	if err != nil {
		return nil, err
	}
	// It has to be there still.
	if _, err := src.Version(ctx, name, number); err != nil {
		return nil, err
	}
	return src.Update(ctx, name, reason("rolled back to "+number, why), func(s *State) error {
		n := len(s.Former)
		if s.Rollout.Running() || n == 0 || s.Former[n-1] != number {
			return errkind.New(errkind.Conflict, "somebody promoted a version or began a rollout meanwhile: look at the log")
		}
		s.Former = without(s.Former, number)
		s.Champion = number
		return nil
	})
}

// ArchiveVersion puts a version away; while it is in use that is a Conflict.
func ArchiveVersion(ctx context.Context, src Source, name, version, why string) (*State, error) {
	v, err := src.Version(ctx, name, version)
	if err != nil {
		return nil, fmt.Errorf("archive a version of model %s: %w", name, err)
	}
	return src.Update(ctx, name, reason("archived "+v.Version, why), func(s *State) error {
		if use := s.InUse(v.Version); use != "" {
			return errkind.Errorf(errkind.Conflict, "archive version %s of model %s: %s", v.Version, name, use)
		}
		s.Former = without(s.Former, v.Version)
		if !slices.Contains(s.Archived, v.Version) {
			s.Archived = append(s.Archived, v.Version)
		}
		return nil
	})
}

// Promote is PromoteVersion in r.
func (r *Registry) Promote(ctx context.Context, name, version, why string) (*State, error) {
	return PromoteVersion(ctx, r, name, version, why)
}

// Rollback is RollBackModel in r.
func (r *Registry) Rollback(ctx context.Context, name, why string) (*State, error) {
	s, _, err := RollBackModel(ctx, r, name, why)
	return s, err
}

// Archive is ArchiveVersion in r.
func (r *Registry) Archive(ctx context.Context, name, version, why string) (*State, error) {
	return ArchiveVersion(ctx, r, name, version, why)
}

func reason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// Difference is one field in which two versions differ, as people read it.
type Difference struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Diff returns in what b differs from a: digest, size, signature, features,
// metrics and where it comes from.
func Diff(a, b *Version) (all []Difference) {
	field := func(name, x, y string) {
		if x != y {
			all = append(all, Difference{name, x, y})
		}
	}
	field("digest", a.Digest, b.Digest)
	field("format", a.Format, b.Format)
	field("url", a.URL, b.URL)
	field("size", fmt.Sprint(a.Size), fmt.Sprint(b.Size))
	field("trees", fmt.Sprint(a.Complexity.Trees), fmt.Sprint(b.Complexity.Trees))
	field("tree nodes", fmt.Sprint(a.Complexity.TreeNodes), fmt.Sprint(b.Complexity.TreeNodes))
	field("depth", fmt.Sprint(a.Complexity.Depth), fmt.Sprint(b.Complexity.Depth))
	field("weights", fmt.Sprint(a.Complexity.Parameters), fmt.Sprint(b.Complexity.Parameters))
	field("signature", SignatureText(a.Inputs, a.Outputs), SignatureText(b.Inputs, b.Outputs))
	for _, o := range b.Outputs {
		for _, p := range a.Outputs {
			if o.Name == p.Name {
				field("labels of "+o.Name, fmt.Sprint(p.Labels), fmt.Sprint(o.Labels))
			}
		}
	}
	for _, f := range a.FeatureNames {
		if !slices.Contains(b.FeatureNames, f) {
			field("feature "+f, "there", "-")
		}
	}
	for _, f := range b.FeatureNames {
		if !slices.Contains(a.FeatureNames, f) {
			field("feature "+f, "-", "there")
		}
	}
	if len(a.FeatureNames) == len(b.FeatureNames) {
		for i, f := range a.FeatureNames {
			if slices.Contains(b.FeatureNames, f) {
				field(fmt.Sprintf("feature %d", i+1), f, b.FeatureNames[i])
			}
		}
	}
	metric := func(v *Version, name string) string {
		if x, ok := v.Metrics[name]; ok {
			return fmt.Sprintf("%.6g", x)
		}
		return "-"
	}
	names := make([]string, 0, len(a.Metrics)+len(b.Metrics))
	for name := range a.Metrics {
		names = append(names, name)
	}
	for name := range b.Metrics {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		field("metric "+name, metric(a, name), metric(b, name))
	}
	field("golden rows", a.Sums[a.Golden], b.Sums[b.Golden])
	field("background", a.Sums[a.Background], b.Sums[b.Background])
	field("owner", a.Owner, b.Owner)
	field("data", a.Data, b.Data)
	field("notes", a.Notes, b.Notes)
	return all
}
