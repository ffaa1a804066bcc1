package memory_test

import (
	"testing"

	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/memory"
	"github.com/freshet-io/freshet/state/statetest"
)

func TestMemoryIsAStateDriver(t *testing.T) {
	statetest.Run(t, func(testing.TB) state.Driver { return memory.Open() })
}

func TestMemoryCanBeFrozen(t *testing.T) {
	statetest.RunFreezer(t, func(testing.TB) state.Freezer { return memory.Open() })
}

func BenchmarkMemory(b *testing.B) {
	statetest.Benchmark(b, func(testing.TB) state.Driver { return memory.Open() }, 200_000)
}
