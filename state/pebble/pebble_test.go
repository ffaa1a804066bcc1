package pebble_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/memory"
	"github.com/freshet-io/freshet/state/pebble"
	"github.com/freshet-io/freshet/state/statetest"
)

// open returns a store whose buffers are so small that histories reach the disk.
func open(t testing.TB) state.Freezer {
	s, err := pebble.Open(t.TempDir(), pebble.Options{BufferBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPebbleIsAStateDriver(t *testing.T) {
	statetest.Run(t, func(t testing.TB) state.Driver { return open(t) })
}

func TestPebbleCanBeFrozen(t *testing.T) { statetest.RunFreezer(t, open) }

func TestPebbleAndMemoryAnswerAlike(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		m, p := memory.Open(), open(t)
		statetest.Compare(t, m, p, seed, 1500)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFolderOfOthersIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(mine, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(dir, pebble.Options{}); !errkind.Is(err, errkind.Config) {
		t.Errorf("Open: %v", err)
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "years of work" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestAFolderInUseIsAConflictAndAnOldOneIsEmptied(t *testing.T) {
	dir := t.TempDir()
	s, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b state.Batch
	b.Put([]byte("a"), []byte("1"), 0)
	if err := s.Apply(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(dir, pebble.Options{}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = pebble.Open(dir, pebble.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Scan(nil, nil, func(k, _ []byte) bool { t.Errorf("key %q is still there", k); return true }); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPebble(b *testing.B) {
	statetest.Benchmark(b, func(t testing.TB) state.Driver {
		s, err := pebble.Open(t.TempDir(), pebble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, 1_000_000)
}
