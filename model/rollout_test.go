package model

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestRolloutsBeginOnlyWhereTheyCan(t *testing.T) {
	running := &Rollout{ID: "v3-1-x", Role: Canary, Version: "v3", Champion: "v1", Share: 0.1}
	ended := &Rollout{ID: "v2-1-x", Role: Canary, Version: "v2", Champion: "v1", Ended: noon, Outcome: RolledBack}
	for _, tc := range []struct {
		name  string
		state State
		start Start
		want  errkind.Kind // Unknown for none
		says  string
		share float64
	}{
		{"a canary", State{Champion: "v1"}, Start{Version: "v2", Role: Canary}, 0, "", 0},
		{"a canary with a share", State{Champion: "v1"}, Start{Version: "v2", Role: Canary, Share: 0.2}, 0, "", 0.2},
		{"a variant", State{Champion: "v1"}, Start{Version: "v2", Role: Variant}, 0, "", 0.5},
		{"a shadow", State{Champion: "v1"}, Start{Version: "v2", Role: Shadow}, 0, "", 1},
		{"once more after it was rolled back", State{Champion: "v1", Rollout: ended}, Start{Version: "v2", Role: Canary}, 0, "", 0},
		{"a second one", State{Champion: "v1", Rollout: running}, Start{Version: "v2", Role: Canary}, errkind.Conflict, "the canary of v3 still runs (10 % of keys)", 0},
		{"of the champion", State{Champion: "v1"}, Start{Version: "v1", Role: Canary}, errkind.Invalid, "it is the champion already", 0},
		{"without a champion", State{}, Start{Version: "v1", Role: Canary}, errkind.Invalid, "there is no champion", 0},
		{"of an archived version", State{Champion: "v1", Archived: []string{"v2"}}, Start{Version: "v2", Role: Canary}, errkind.Invalid, "archived", 0},
		{"of no version", State{Champion: "v1"}, Start{Role: Canary}, errkind.Invalid, "no version", 0},
		{"as champion", State{Champion: "v1"}, Start{Version: "v2"}, errkind.Invalid, "not champion", 0},
		{"as something else", State{Champion: "v1"}, Start{Version: "v2", Role: 9}, errkind.Invalid, "not ?", 0},
		{"of all keys", State{Champion: "v1"}, Start{Version: "v2", Role: Canary, Share: 1}, errkind.Invalid, "not between 0 and 1", 0},
		{"of a share that is none", State{Champion: "v1"}, Start{Version: "v2", Role: Canary, Share: math.NaN()}, errkind.Invalid, "not between 0 and 1", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.start.Now = noon
			err := Begin(&tc.state, tc.start)
			if tc.want != 0 {
				if !errkind.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("error %v (%s): want %s with %q", err, errkind.Of(err), tc.want, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r := tc.state.Rollout; !r.Running() || r.Share != tc.share || r.Version != "v2" || r.Champion != "v1" || CheckName("rollout", r.ID) != nil {
				t.Errorf("rollout %+v: want a running one of v2 with the share %v", r, tc.share)
			}
		})
	}
}

func TestAPersonEndsARolloutAnyTime(t *testing.T) {
	begin := func() *State {
		s := &State{Champion: "v1", Archived: []string{"v4"}}
		if err := Begin(s, Start{Version: "v2", Role: Canary, Share: 0.1, Now: noon}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := begin()
	if err := Abort(s, noon); err != nil || s.Rollout.Running() || s.Rollout.Outcome != Aborted || s.Champion != "v1" {
		t.Errorf("after an abort: %+v, rollout %+v, error %v", s, s.Rollout, err)
	}
	if err := Abort(s, noon); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("a second abort: %v", err)
	}
	s = begin()
	if err := PromoteNow(s, "v2", noon); err != nil || s.Champion != "v2" || s.Former[0] != "v1" || s.Rollout.Outcome != Promoted {
		t.Errorf("after a promotion: %+v, rollout %+v, error %v", s, s.Rollout, err)
	}
	s = begin()
	if err := PromoteNow(s, "v4", noon); err != nil || s.Champion != "v4" || len(s.Archived) != 0 || s.Rollout.Outcome != Aborted {
		t.Errorf("after the promotion of another version: %+v, rollout %+v, error %v", s, s.Rollout, err)
	}
	if err := PromoteNow(s, "v4", noon); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("a promotion of the champion: %v", err)
	}
	s = begin()
	if err := Grow(s, 0.05, noon); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("a share that falls: %v", err)
	}
	if err := Grow(s, 0.3, noon); err != nil || s.Rollout.Share != 0.3 || s.Rollout.Step != 1 {
		t.Errorf("after growing: %+v, error %v", s.Rollout, err)
	}
}

func TestDecisionsAboutAStepThatIsOverChangeNothing(t *testing.T) {
	s := &State{Champion: "v1"}
	if err := Begin(s, Start{Version: "v2", Role: Canary, Share: 0.1, Now: noon}); err != nil {
		t.Fatal(err)
	}
	id := s.Rollout.ID
	if err := Apply(s, id, 0, Decision{Action: Advance, Share: 0.2}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Decision{{Action: RollBack}, {Action: Promote}, {Action: Advance, Share: 0.5}} {
		if err := Apply(s, id, 0, d); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("%s of a step that is over: %v", d.Action, err)
		}
	}
	if err := Apply(s, "other", 1, Decision{Action: Promote}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("of another rollout: %v", err)
	}
	if err := Apply(s, id, 1, Decision{Action: Hold}); err == nil {
		t.Error("a decision to hold was applied")
	}
	if s.Rollout.Share != 0.2 || s.Champion != "v1" || len(s.Rollout.Past) != 1 {
		t.Errorf("rollout %+v", s.Rollout)
	}
}

func TestKeysAreDealtEvenly(t *testing.T) {
	// 16 arms of keys that look alike, by chi square with 15 degrees of freedom.
	for _, keys := range []func(i int) string{
		strconv.Itoa,
		func(i int) string { return "customer-" + strconv.Itoa(i) },
		func(i int) string { return strconv.Itoa(i) + "-000000000000000000" },
		func(i int) string { return string([]byte{byte(i >> 16), byte(i >> 8), byte(i)}) },
	} {
		for _, id := range []string{"v2-3-m1", "v2-4-m1", ""} {
			const n = 64000
			d := newDeal(id, 0)
			var bins [16]int
			for i := range n {
				bins[d.hash(keys(i))>>49]++
			}
			chi := 0.0
			for _, c := range bins {
				chi += (float64(c) - n/16) * (float64(c) - n/16) / (n / 16)
			}
			if chi > 44 { // one in 10,000
				t.Errorf("rollout %q, keys like %q: %v: chi square %.1f", id, keys(12345), bins, chi)
			}
		}
	}
}

func TestRolloutsDealKeysAnewEachTime(t *testing.T) {
	a, b := newDeal("v2-3-m1", 0.3), newDeal("v2-4-m1", 0.3)
	both, n := 0, 50000
	for i := range n {
		if k := strconv.Itoa(i); a.takes(k) && b.takes(k) {
			both++
		}
	}
	if share := float64(both) / float64(n); math.Abs(share-0.09) > 0.005 {
		t.Errorf("two rollouts of 30 %% have %.4f of the keys in common: want 0.09", share)
	}
}

func TestAShareTakesItsShareAndAGreaterOneTakesTheSameKeysAndMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		id := strconv.FormatUint(rng.Uint64(), 36)
		share := rng.Float64()
		small, large := newDeal(id, share), newDeal(id, share+(1-share)*rng.Float64())
		took := 0
		for i := range 4000 {
			k := strconv.Itoa(i)
			if small.takes(k) {
				took++
				if !large.takes(k) {
					t.Fatalf("rollout %s: key %s leaves the arm as the share grows from %v", id, k, share)
				}
			}
		}
		if got := float64(took) / 4000; math.Abs(got-share) > 5*math.Sqrt(share*(1-share)/4000)+1e-9 {
			t.Errorf("rollout %s: a share of %v took %v of the keys", id, share, got)
		}
	}
	for _, share := range []float64{0, 1} {
		d := newDeal("x", share)
		for i := range 1000 {
			if d.takes(strconv.Itoa(i)) != (share == 1) {
				t.Fatalf("a share of %v and key %d", share, i)
			}
		}
	}
}

func TestKeysAreDealtTheSameInEveryRelease(t *testing.T) {
	// These are what running rollouts were dealt by: they never change.
	for _, tc := range []struct {
		id, key string
		want    uint64
	}{
		{"v2-3-m1", "c1", 0x1256cabc1a9fed},
		{"v2-3-m1", "", 0x110bc01c8110c6},
		{"", "customer-17", 0xab9cd158fc18d},
	} {
		if got := newDeal(tc.id, 0).hash(tc.key); got != tc.want {
			t.Errorf("hash of %q in %q: %#x, want %#x", tc.key, tc.id, got, tc.want)
		}
	}
}
