package lease

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

// memory is a Table in memory, shared by the members of a test.
type memory struct {
	mu      sync.Mutex
	last    uint64
	entries map[string]Entry
}

func newMemory() *memory { return &memory{entries: map[string]Entry{}} }

func (t *memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Entry
	for k, e := range t.entries {
		if strings.HasPrefix(k, prefix) {
			out = append(out, e)
		}
	}
	return out, ctx.Err()
}

func (t *memory) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if t.entries[key].Version != version {
		return 0, errkind.New(errkind.Conflict, "another version")
	}
	t.last++
	t.entries[key] = Entry{key, slices.Clone(value), t.last}
	return t.last, nil
}

func (t *memory) Delete(ctx context.Context, key string, version uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[key]; ok && e.Version != version {
		return errkind.New(errkind.Conflict, "another version")
	}
	delete(t.entries, key)
	return ctx.Err()
}

func TestNamesBecomeKeysThatDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a", "a.b", "a=2eb", "a b", "übung", "", "=", "*", ">", "a-b", "a_b"} {
		key := escape(name)
		if strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=") != "" || key == "" {
			t.Errorf("%q becomes %q", name, key)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q both become %q", name, other, key)
		}
		seen[key] = name
	}
}

func FuzzHoldingsAreReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"holder":"A","epoch":3,"position":-1}`))
	f.Add([]byte(`{"epoch":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHolding(Entry{"k", b, 1})
		if err != nil {
			if !errkind.Is(err, errkind.Corrupt) {
				t.Fatalf("kind %v", errkind.Of(err))
			}
			return
		}
		if strings.Trim(h.Holder, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			return // no member is called so
		}
		again, err := decodeHolding(Entry{"k", h.encode(), 1})
		if err != nil || again != h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

func TestAssignmentsAreBalancedAndKeepWhatTheyCan(t *testing.T) {
	for _, tc := range []struct {
		name             string
		members, holders []string
		want             []string
	}{
		{"one takes all", []string{"a"}, []string{"", "", ""}, []string{"a", "a", "a"}},
		{"a gone holder's go to who is left", []string{"a"}, []string{"x", "a"}, []string{"a", "a"}},
		{"who holds most keeps the larger share", []string{"a", "b"}, []string{"b", "b", "b"}, []string{"b", "b", "a"}},
		{"nothing moves that need not", []string{"a", "b"}, []string{"a", "b", "a", "b"}, []string{"a", "b", "a", "b"}},
		{"more members than partitions", []string{"a", "b", "c"}, []string{"c", ""}, []string{"c", "a"}},
		{"nobody", nil, []string{"a"}, []string{""}},
	} {
		if diff := cmp.Diff(tc.want, assign(len(tc.holders), tc.members, tc.holders)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tc.name, diff)
		}
	}
}

func FuzzAssignmentsAreBalancedAndStable(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 4}, uint8(3))
	f.Fuzz(func(t *testing.T, raw []byte, n uint8) {
		members := make([]string, 1+n%16)
		for i := range members {
			members[i] = string(rune('a' + i))
		}
		holders := make([]string, len(raw))
		for i, b := range raw {
			holders[i] = string(rune('a' + b%20))
		}
		got := assign(len(raw), members, holders)
		shares := map[string]int{}
		for _, m := range members {
			shares[m] = 0
		}
		for _, m := range got {
			shares[m]++
		}
		all := slices.Sorted(maps.Values(shares))
		if len(shares) != len(members) || all[len(all)-1]-all[0] > 1 {
			t.Fatalf("shares %v", shares)
		}
		if diff := cmp.Diff(got, assign(len(raw), members, got)); diff != "" {
			t.Fatalf("a balanced assignment changes:\n%s", diff)
		}
	})
}
