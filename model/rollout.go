package model

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Rollout is the try-out of one version beside the champion.
type Rollout struct {
	// ID is unique; keys are dealt to arms by its hash with the key.
	ID   string `json:"id"`
	Role Role   `json:"role"` // Canary, Variant or Shadow
	// Version is on trial, Champion is what it is compared with.
	Version  string `json:"version"`
	Champion string `json:"champion"`
	// Share is the share of keys that the version scores, 0 to 1. It never falls
	// while the rollout runs; 0 is until the policy's first step.
	Share float64   `json:"share"`
	Began time.Time `json:"began"`
	// Step counts the changes of Share; Stepped is the time of the last. Evidence
	// is of one step.
	Step    int       `json:"step"`
	Stepped time.Time `json:"stepped"`
	// Past are the decisions that ended earlier steps, and the one that ended the
	// rollout, with their evidence.
	Past []Decision `json:"past,omitempty"`
	// Ended is when the rollout ended, Outcome how; zero while it runs.
	Ended   time.Time `json:"ended,omitzero"`
	Outcome Outcome   `json:"outcome,omitempty"`
}

// Outcome is how a rollout ended.
type Outcome string

const (
	// Promoted: the version became champion.
	Promoted Outcome = "promoted"
	// RolledBack: a gate failed, or the version did not open.
	RolledBack Outcome = "rolled back"
	// Aborted: a person ended it, or the champion changed.
	Aborted Outcome = "aborted"
)

// Running reports whether r deals keys; nil does not.
func (r *Rollout) Running() bool { return r != nil && r.Ended.IsZero() }

// Start is a rollout to be.
type Start struct {
	// Version is on trial.
	Version string
	// Role is Canary, Variant or Shadow.
	Role Role
	// Share is the first share of keys. 0 leaves it to the policy for a canary, and
	// means 0.5 for a variant and 1 for a shadow.
	Share float64
	Now   time.Time
}

// Begin puts a rollout into the state. It is refused while another one runs
// (Conflict), and for a version that is the champion or archived (Invalid).
// Whether the version exists is for the caller to ask the Source; see BeginRollout.
func Begin(s *State, st Start) error {
	switch r := s.Rollout; {
	case st.Version == "":
		return errkind.New(errkind.Invalid, "begin rollout: no version is named")
	case r.Running():
		return errkind.Errorf(errkind.Conflict, "begin rollout of %s: the %s of %s still runs (%s of keys): abort or promote it first",
			st.Version, r.Role, r.Version, percent(r.Share))
	case s.Champion == "":
		return errkind.Errorf(errkind.Invalid, "begin rollout of %s: there is no champion to compare with: promote the version", st.Version)
	case st.Version == s.Champion:
		return errkind.Errorf(errkind.Invalid, "begin rollout of %s: it is the champion already", st.Version)
	case slices.Contains(s.Archived, st.Version):
		return errkind.Errorf(errkind.Invalid, "begin rollout of %s: it is archived", st.Version)
	case st.Role == Champion || int(st.Role) >= len(roleNames):
		return errkind.Errorf(errkind.Invalid, "begin rollout of %s: the role is canary, variant or shadow, not %s", st.Version, st.Role)
	case !(st.Share >= 0 && st.Share < 1) && (st.Role != Shadow || st.Share != 1):
		return errkind.Errorf(errkind.Invalid, "begin rollout of %s: the share is %v, not between 0 and 1", st.Version, st.Share)
	}
	share := st.Share
	if share == 0 {
		switch st.Role {
		case Variant:
			share = 0.5
		case Shadow:
			share = 1
		}
	}
	s.Rollout = &Rollout{
		// At most one rollout begins in a generation; the time is for a history that was lost.
		ID:   fmt.Sprintf("%.60s-%d-%s", st.Version, s.Generation+1, strconv.FormatInt(st.Now.UnixMilli(), 36)),
		Role: st.Role, Version: st.Version, Champion: s.Champion, Share: share, Began: st.Now, Stepped: st.Now,
	}
	return nil
}

// BeginRollout begins a rollout in a source, after it has found the version there
// (NotFound otherwise).
func BeginRollout(ctx context.Context, src Source, name string, st Start) (*State, error) {
	v, err := src.Version(ctx, name, st.Version)
	if err != nil {
		return nil, fmt.Errorf("begin rollout of %s: %w", st.Version, err)
	}
	st.Version = v.Version // where "latest" was asked for
	return src.Update(ctx, name, fmt.Sprintf("begin %s of %s", st.Role, st.Version), func(s *State) error {
		return Begin(s, st)
	})
}

// Seen returns what all processes have stored about the step of the rollout in s,
// with their latest decision about it; nil where s has no rollout.
func Seen(ctx context.Context, src Source, name string, s *State) (*Evidence, error) {
	r := s.Rollout
	if r == nil {
		return nil, nil
	}
	all, err := src.Evidence(ctx, name, r.ID)
	if err != nil {
		return nil, fmt.Errorf("read evidence of rollout %s: %w", r.ID, err)
	}
	return Merge(r.ID, r.Step, all), nil
}

// Grow raises the share of the running rollout by hand. It is Invalid to lower it:
// a key would go back to the champion.
func Grow(s *State, share float64, now time.Time) error {
	r := s.Rollout
	if !r.Running() {
		return errkind.New(errkind.NotFound, "grow rollout: none is running")
	}
	if !(share > r.Share && share < 1) && (r.Role != Shadow || share != 1) {
		return errkind.Errorf(errkind.Invalid, "grow rollout of %s: the share goes from %v up to below 1, not to %v: it never falls while a rollout runs, so that no key changes back",
			r.Version, r.Share, share)
	}
	r.Share, r.Step, r.Stepped = share, r.Step+1, now
	return nil
}

// Abort ends the running rollout: the champion scores all keys again. Without one
// it is NotFound.
func Abort(s *State, now time.Time) error {
	if !s.Rollout.Running() {
		return errkind.New(errkind.NotFound, "abort rollout: none is running")
	}
	s.Rollout.Ended, s.Rollout.Outcome = now, Aborted
	return nil
}

// PromoteNow makes version the champion, by hand. A running rollout ends with it:
// promoted where it was of this version, aborted otherwise.
func PromoteNow(s *State, version string, now time.Time) error {
	switch {
	case version == "":
		return errkind.New(errkind.Invalid, "promote: no version is named")
	case version == s.Champion:
		return errkind.Errorf(errkind.Invalid, "promote %s: it is the champion already", version)
	}
	if r := s.Rollout; r.Running() {
		r.Ended, r.Outcome = now, Aborted
		if r.Version == version {
			r.Outcome = Promoted
		}
	}
	s.SetChampion(version)
	return nil
}

// Apply changes the state by a decision about its rollout: id and step are those
// that were decided about. Where they are over (another process was first, or a
// person), it is a Conflict, and nothing is to be done.
func Apply(s *State, id string, step int, d Decision) error {
	r := s.Rollout
	if !r.Running() || r.ID != id || r.Step != step {
		return fmt.Errorf("decide rollout %s at step %d: %w", id, step, errOver)
	}
	switch d.Action {
	case Advance:
		if err := Grow(s, d.Share, d.Time); err != nil {
			return err
		}
	case Promote:
		r.Ended, r.Outcome = d.Time, Promoted
		s.SetChampion(r.Version)
	case RollBack:
		r.Ended, r.Outcome = d.Time, RolledBack
	default:
		return errkind.Errorf(errkind.Invalid, "decide rollout %s: %q changes nothing", id, d.Action)
	}
	r.Past = append(slices.Clip(r.Past), d) // a copy of the state may share the old one
	return nil
}

// errOver is the failure of a decision about a step that another one ended.
var errOver = errkind.New(errkind.Conflict, "the step is over: another process or a person was first")

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }
