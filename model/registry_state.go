package model

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// maxConflicts is how often Update begins anew before it gives up.
const maxConflicts = 100

// storedState is a state as it lies in the store. Nonce tells the own write from
// that of another where the outcome of a write was unknown.
type storedState struct {
	State
	Nonce string `json:"nonce"`
}

// State is in Source; a model with versions and no state has generation 0.
func (r *Registry) State(ctx context.Context, name string) (*State, error) {
	if err := CheckName("model name", name); err != nil {
		return nil, err
	}
	generations, err := r.generations(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read state of model %s: %w", name, err)
	}
	if len(generations) > 0 {
		return r.readState(ctx, name, generations[len(generations)-1])
	}
	names, err := r.versionNames(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, r.unknown(ctx, name)
	}
	return &State{}, nil
}

// generations returns the numbers of the states of a model, rising.
func (r *Registry) generations(ctx context.Context, name string) (all []uint64, err error) {
	list, err := r.objects.List(ctx, statesOf(name))
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		number, ok := strings.CutSuffix(strings.TrimPrefix(o.Name, statesOf(name)), ".json")
		g, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || len(number) != 12 {
			continue // not one of ours
		}
		all = append(all, g)
	}
	return all, nil
}

func (r *Registry) readState(ctx context.Context, name string, g uint64) (*State, error) {
	b, err := r.get(ctx, stateObject(name, g))
	if err != nil {
		return nil, fmt.Errorf("read state %d of model %s: %w", g, name, err)
	}
	var s storedState
	if err := json.Unmarshal(b, &s); err != nil || s.Generation != g || s.Nonce == "" {
		return nil, errkind.Errorf(errkind.Corrupt,
			"read state %d of model %s: %s is damaged; delete it to go back to the state before, which freshet models log shows", g, name, stateObject(name, g))
	}
	return &s.State, nil
}

// Update is in Source. A version that is deleted can be neither champion nor in a
// rollout, which is a Conflict. Where change leaves the state as it was nothing is written.
func (r *Registry) Update(ctx context.Context, name, why string, change func(*State) error) (*State, error) {
	for range maxConflicts {
		before, err := r.State(ctx, name)
		if err != nil {
			return nil, err
		}
		s := storedState{State: *before.Clone(), Nonce: rand.Text()}
		if err := change(&s.State); err != nil {
			return nil, err
		}
		if reflect.DeepEqual(before, &s.State) {
			return before, nil
		}
		if err := s.check(name); err != nil {
			return nil, err
		}
		s.Generation, s.Time, s.By, s.Why = before.Generation+1, r.o.Now().UTC(), r.o.By, why
		b, err := json.Marshal(&s)
		if err != nil {
			return nil, fmt.Errorf("write state %d of model %s: %w", s.Generation, name, err)
		}
		object := stateObject(name, s.Generation)
		err = r.objects.Create(ctx, object, b)
		if errkind.Is(err, errkind.Conflict) {
			// It may be this very write, repeated after its answer was lost.
			if there, err := r.get(ctx, object); err != nil || !bytes.Equal(there, b) {
				continue
			}
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("write state %d of model %s: %w", s.Generation, name, err)
		}
		return &s.State, nil
	}
	return nil, errkind.Errorf(errkind.Conflict, "write state of model %s: others changed it %d times meanwhile; try again", name, maxConflicts)
}

func (s *State) check(name string) error {
	inUse := []string{s.Champion}
	if s.Rollout.Running() {
		inUse = append(inUse, s.Rollout.Version, s.Rollout.Champion)
	}
	for _, v := range inUse {
		if slices.Contains(s.Deleted, v) {
			return errkind.Errorf(errkind.Conflict, "model %s: version %s is deleted", name, v)
		}
	}
	return nil
}

// Log returns the states of a model, the first first.
func (r *Registry) Log(ctx context.Context, name string) ([]*State, error) {
	if _, err := r.State(ctx, name); err != nil && !errkind.Is(err, errkind.Corrupt) {
		return nil, err
	}
	generations, err := r.generations(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read states of model %s: %w", name, err)
	}
	var all []*State
	for _, g := range generations {
		s, err := r.readState(ctx, name, g)
		if errkind.Is(err, errkind.Corrupt) {
			s, err = &State{Generation: g, Why: "damaged: " + stateObject(name, g)}, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// PutEvidence is in Source.
func (r *Registry) PutEvidence(ctx context.Context, name, rollout, process string, e *Evidence) error {
	object, err := evidenceObject(name, rollout, process)
	if err == nil {
		err = r.put(ctx, object, e)
	}
	if err != nil {
		return fmt.Errorf("write evidence of rollout %s of model %s: %w", rollout, name, err)
	}
	return nil
}

// Evidence is in Source.
func (r *Registry) Evidence(ctx context.Context, name, rollout string) ([]*Evidence, error) {
	fail := func(err error) ([]*Evidence, error) {
		return nil, fmt.Errorf("read evidence of rollout %s of model %s: %w", rollout, name, err)
	}
	first, err := evidenceObject(name, rollout, "x")
	if err != nil {
		return fail(err)
	}
	objects, err := r.objects.List(ctx, strings.TrimSuffix(first, "x.json"))
	if err != nil {
		return fail(err)
	}
	var all []*Evidence
	for _, o := range objects {
		b, err := r.get(ctx, o.Name)
		if errkind.Is(err, errkind.NotFound) {
			continue
		}
		if err != nil {
			return fail(err)
		}
		e := &Evidence{}
		if err := json.Unmarshal(b, e); err != nil {
			return fail(errkind.Errorf(errkind.Corrupt, "%s is damaged: %w", o.Name, err))
		}
		all = append(all, e)
	}
	return all, nil
}

// evidenceObject is where a process' evidence lies; a process' name that is no
// part of an object name is replaced by its hash.
func evidenceObject(name, rollout, process string) (string, error) {
	if err := CheckName("model name", name); err != nil {
		return "", err
	}
	if err := CheckName("rollout", rollout); err != nil {
		return "", err
	}
	if CheckName("process", process) != nil {
		process = sumOf([]byte(process))[:32]
	}
	object := name + "/evidence/" + rollout + "/" + process + ".json"
	return object, state.CheckName(object)
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
