package statetest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/state"
)

// Benchmark measures batches of 1,000 keys with values of 300 bytes, on a store
// of keys keys: Load of keys that are there, Load of keys that are not, and Apply
// over keys that are there. A time is that of one batch.
func Benchmark(b *testing.B, open func(t testing.TB) state.Driver, keys int) {
	const batch, size = 1000, 300
	d := open(b)
	defer d.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, size)
	name := func(i int) []byte { // spread, as hashes of customers are
		return binary.BigEndian.AppendUint64([]byte("prefix/"), uint64(i)*0x9e3779b97f4a7c15)
	}
	change := func(of func(i int) int) {
		var c state.Batch
		for i := range batch {
			for j := 0; j+8 <= size; j += 16 { // half of it compresses
				binary.LittleEndian.PutUint64(value[j:], rng.Uint64())
			}
			c.Put(name(of(i)), value, 0)
		}
		if err := d.Apply(&c); err != nil {
			b.Fatal(err)
		}
	}
	for at := 0; at < keys; at += batch {
		change(func(i int) int { return at + i })
	}
	load := func(b *testing.B, from, want int) {
		b.SetBytes(batch * size)
		wanted := make([][]byte, batch)
		for b.Loop() {
			for i := range wanted {
				wanted[i] = name(from + rng.IntN(keys))
			}
			found := 0
			if err := d.Load(wanted, func(int, []byte) { found++ }); err != nil || found != want {
				b.Fatal(found, err)
			}
		}
	}
	b.Run("load", func(b *testing.B) { load(b, 0, batch) })
	b.Run("load-none", func(b *testing.B) { load(b, keys, 0) })
	b.Run("apply", func(b *testing.B) {
		b.SetBytes(batch * size)
		for b.Loop() {
			change(func(int) int { return rng.IntN(keys) })
		}
	})
}
