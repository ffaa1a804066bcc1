package mlflow

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/model"
)

// Tags of a registered model.
const (
	stateTag = "freshet.state"
	logTag   = "freshet.log"
	claimTag = "freshet.claim"
)

const (
	// bigTag and smallTag are how much a tag may hold, in bytes: that of MLflow 3, and that of older ones.
	bigTag, smallTag = 90_000, 4_900
	// logEntries are kept, as long as they fit a small tag.
	logEntries = 30
	// maxTurns is how often Update begins anew before it gives up.
	maxTurns = 50
)

// deadClaim is when a claim that does not change, as seen from here, is of a
// process that died: after that many settles, and 5 s at least.
func (s *Source) deadClaim() time.Duration { return max(5*time.Second, 10*s.settle) }

type seenClaim struct {
	value string
	since time.Time
}

// storedState is the tag freshet.state. Nonce tells the own write from another's.
type storedState struct {
	model.State
	Nonce string `json:"nonce"`
}

// read returns the state that the tags hold. moved says that the alias champion is
// elsewhere: somebody set it in MLflow.
func (s *Source) read(ctx context.Context, name string) (m *registeredModel, st *storedState, moved bool, err error) {
	if m, err = s.registered(ctx, name); err != nil {
		return nil, nil, false, err
	}
	st = &storedState{}
	if text := tagOf(m.Tags, stateTag); text != "" {
		if err := json.Unmarshal([]byte(text), st); err != nil {
			return nil, nil, false, errkind.Errorf(errkind.Corrupt, "read state of model %s: the tag %s is damaged: %w; delete it to begin with the alias champion", name, stateTag, err)
		}
	}
	return m, st, m.alias(model.ChampionAlias) != st.Champion, nil
}

// State is in model.Source. Where somebody moved the alias champion in MLflow, that
// becomes a state of its own.
func (s *Source) State(ctx context.Context, name string) (*model.State, error) {
	m, st, moved, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if !moved || s.busy(name, m, st) {
		return &st.State, nil
	}
	adopted, err := s.write(ctx, name, "the alias champion was set in MLflow", nil)
	if err != nil {
		// Without leave to write, each reader makes the state for itself.
		s.o.Logger.Warn("a champion that was set in MLflow cannot be written down", "model", name, "error", err)
		adopt(&st.State, m.alias(model.ChampionAlias))
		st.Generation++
		st.Time, st.By, st.Why = s.o.Now().UTC(), "mlflow", "the alias champion was set in MLflow"
		return &st.State, nil
	}
	return adopted, nil
}

// adopt takes over a champion that was set in MLflow; a running rollout ends.
func adopt(st *model.State, champion string) {
	if champion == "" {
		st.Champion = ""
		return
	}
	st.SetChampion(champion)
	if st.Rollout.Running() {
		st.Rollout.Ended, st.Rollout.Outcome = time.Now().UTC(), model.Aborted
		if st.Rollout.Version == champion {
			st.Rollout.Outcome = model.Promoted
		}
	}
}

// busy reports whether a claim on the next state is there, of a process that may be alive.
func (s *Source) busy(name string, m *registeredModel, st *storedState) bool {
	claim := tagOf(m.Tags, claimTag)
	if generation, _, _ := strings.Cut(claim, " "); generation != strconv.FormatUint(st.Generation+1, 10) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen := s.claims[name]; seen.value != claim {
		s.claims[name] = seenClaim{claim, time.Now()}
		return true
	}
	return time.Since(s.claims[name].since) < s.deadClaim()
}

// Update is in model.Source; the package says how far it excludes others.
func (s *Source) Update(ctx context.Context, name, why string, change func(*model.State) error) (*model.State, error) {
	return s.write(ctx, name, why, change)
}

// write makes the next state: what change makes of the latest one, whose champion
// is MLflow's.
func (s *Source) write(ctx context.Context, name, why string, change func(*model.State) error) (*model.State, error) {
	for turn := range maxTurns {
		if turn > 0 {
			if err := pause(ctx, s.settle/2+time.Duration(float64(s.settle)*s.c.retry.Rand())); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		m, before, moved, err := s.read(ctx, name)
		if err != nil {
			return nil, err
		}
		if s.busy(name, m, before) {
			continue
		}
		next := storedState{State: *before.Clone(), Nonce: rand.Text()}
		if moved {
			adopt(&next.State, m.alias(model.ChampionAlias))
		}
		unchanged := next.State.Clone()
		if change != nil {
			if err := change(&next.State); err != nil {
				return nil, err
			}
		}
		if !moved && reflect.DeepEqual(unchanged, &next.State) {
			return &next.State, nil
		}
		next.Generation, next.Time, next.By, next.Why = before.Generation+1, s.o.Now().UTC(), s.o.By, why

		claim := strconv.FormatUint(next.Generation, 10) + " " + next.Nonce
		if err := s.setTag(ctx, name, claimTag, claim); err != nil {
			return nil, fmt.Errorf("write state of model %s: %w", name, err)
		}
		if time.Since(began) > s.settle {
			continue // another claim may have been overwritten
		}
		if err := pause(ctx, s.settle); err != nil {
			return nil, err
		}
		m, now, _, err := s.read(ctx, name)
		if err != nil {
			return nil, err
		}
		if tagOf(m.Tags, claimTag) != claim || now.Generation != before.Generation || now.Nonce != before.Nonce || m.alias(model.ChampionAlias) != unchanged.Champion {
			continue
		}
		if err := s.commit(ctx, name, m, &next); err != nil {
			return nil, fmt.Errorf("write state %d of model %s: %w", next.Generation, name, err)
		}
		if _, there, _, err := s.read(ctx, name); err != nil {
			return nil, fmt.Errorf("read state %d of model %s again: %w", next.Generation, name, err)
		} else if there.Nonce != next.Nonce && there.Generation <= next.Generation {
			s.o.Logger.Warn("another process wrote over a state: writing it again", "model", name, "generation", next.Generation, "by", there.By)
			continue
		}
		return &next.State, nil
	}
	return nil, errkind.Errorf(errkind.Conflict, "write state of model %s: others changed it all the time; try again", name)
}

// commit writes alias, digests, state and log. The alias comes first: where this
// stops behind it, the next reader adopts the champion.
func (s *Source) commit(ctx context.Context, name string, m *registeredModel, next *storedState) error {
	versions := []string{next.Champion}
	if next.Rollout.Running() {
		versions = append(versions, next.Rollout.Version)
	}
	for _, v := range versions {
		if err := s.pin(ctx, name, v); err != nil {
			return err
		}
	}
	switch old := m.alias(model.ChampionAlias); {
	case next.Champion == old:
	case next.Champion == "":
		if err := s.c.call(ctx, http.MethodDelete, "registered-models/alias", nil, map[string]string{"name": name, "alias": model.ChampionAlias}, nil); err != nil {
			return err
		}
	default:
		if err := s.c.call(ctx, http.MethodPost, "registered-models/alias", nil, map[string]string{"name": name, "alias": model.ChampionAlias, "version": next.Champion}, nil); err != nil {
			return err
		}
	}
	if err := s.putState(ctx, name, next); err != nil {
		return err
	}
	return s.appendLog(ctx, name, tagOf(m.Tags, logTag), next)
}

// putState writes the state, and where the server's tags are too small for it, what fits.
func (s *Source) putState(ctx context.Context, name string, next *storedState) error {
	text, err := encodeState(next, bigTag)
	if err != nil {
		return err
	}
	err = s.setTag(ctx, name, stateTag, text)
	if errkind.Is(err, errkind.Invalid) && len(text) > smallTag {
		if text, err = encodeState(next, smallTag); err == nil {
			err = s.setTag(ctx, name, stateTag, text)
		}
	}
	return err
}

// encodeState leaves out what is dispensable until the rest fits: findings of past
// decisions, then these, then former champions.
func encodeState(st *storedState, limit int) (string, error) {
	short := *st
	short.State = *st.Clone()
	for {
		b, err := json.Marshal(&short)
		if err != nil || len(b) <= limit {
			return string(b), err
		}
		r := short.Rollout
		findings := -1
		if r != nil {
			r.Past = append([]model.Decision(nil), r.Past...)
			for i := range r.Past {
				if len(r.Past[i].Findings) > 0 {
					findings = i
					break
				}
			}
		}
		switch {
		case findings >= 0:
			r.Past[findings].Findings = nil
		case r != nil && len(r.Past) > 1:
			r.Past = r.Past[1:]
		case len(short.Former) > 1:
			short.Former = short.Former[1:]
		default:
			return "", errkind.Errorf(errkind.Exhausted, "the state has %d bytes, and a tag of MLflow holds %d: archive fewer versions, or delete them in MLflow", len(b), limit)
		}
	}
}

// appendLog adds the state, without what is long, to the log.
func (s *Source) appendLog(ctx context.Context, name, text string, st *storedState) error {
	var entries []*model.State
	if text != "" && json.Unmarshal([]byte(text), &entries) != nil {
		entries = nil // it was damaged, and begins anew
	}
	entry := &model.State{Generation: st.Generation, Champion: st.Champion, Time: st.Time, By: st.By, Why: st.Why}
	if r := st.Rollout; r.Running() {
		entry.Rollout = &model.Rollout{ID: r.ID, Role: r.Role, Version: r.Version, Champion: r.Champion, Share: r.Share, Began: r.Began, Step: r.Step, Stepped: r.Stepped}
	}
	entries = append(entries, entry)
	for {
		b, err := json.Marshal(entries)
		if err != nil {
			return err
		}
		if len(entries) > logEntries || len(b) > smallTag && len(entries) > 1 {
			entries = entries[1:]
			continue
		}
		return s.setTag(ctx, name, logTag, string(b))
	}
}

// Log is in model.Catalog; it holds the latest states alone.
func (s *Source) Log(ctx context.Context, name string) ([]*model.State, error) {
	m, err := s.registered(ctx, name)
	if err != nil {
		return nil, err
	}
	var entries []*model.State
	if text := tagOf(m.Tags, logTag); text != "" {
		if err := json.Unmarshal([]byte(text), &entries); err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "read the log of model %s: the tag %s is damaged: %w", name, logTag, err)
		}
	}
	return entries, nil
}

func (s *Source) setTag(ctx context.Context, name, key, value string) error {
	return s.c.call(ctx, http.MethodPost, "registered-models/set-tag", nil, map[string]string{"name": name, "key": key, "value": value}, nil)
}

// pin writes the digest of a version that this process has fetched into its tag,
// where there is none.
func (s *Source) pin(ctx context.Context, name, version string) error {
	s.mu.Lock()
	v := s.fetched[[2]string{name, version}]
	s.mu.Unlock()
	if v == nil {
		return nil
	}
	var answer struct {
		Version modelVersion `json:"model_version"`
	}
	if err := s.c.call(ctx, http.MethodGet, "model-versions/get", map[string][]string{"name": {name}, "version": {version}}, nil, &answer); err != nil {
		return err
	}
	switch pinned := tagOf(answer.Version.Tags, digestTag); pinned {
	case v.Digest:
		return nil
	case "":
		return s.c.call(ctx, http.MethodPost, "model-versions/set-tag", nil, map[string]string{"name": name, "version": version, "key": digestTag, "value": v.Digest}, nil)
	default:
		return errkind.Errorf(errkind.Corrupt, "version %s has the SHA-256 %s, and its tag %s says %s", version, v.Digest, digestTag, pinned)
	}
}
