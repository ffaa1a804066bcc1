package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Run holds the driver that open returns, empty each time, to the contract of
// state.Driver. The suite closes it.
func Run(t *testing.T, open func(t testing.TB) state.Driver) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, d state.Driver)
	}{
		{"what is put is loaded", putLoad},
		{"a batch is applied in order", batchOrder},
		{"a range is deleted", deleteRange},
		{"empty values and large ones are kept", valueSizes},
		{"a scan goes in the order of bytes and keeps to its bounds", scanOrder},
		{"a scan shows the state as of its call", scanSnapshot},
		{"expired entries go when Expire has looked at them", expire},
		{"slices belong to the caller again after a call", ownership},
		{"a batch is seen whole or not at all", atomicBatches},
		{"a random history gives what a plain map gives", func(t *testing.T, d state.Driver) {
			if testing.Short() {
				history(t, d, 1, 600)
			} else {
				history(t, d, 1, 3000)
			}
		}},
		{"the size is told", stats},
		{"everything is closed after Close", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			defer func() {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			c.run(t, d)
		})
	}
}

func apply(t testing.TB, d state.Driver, fill func(b *state.Batch)) {
	t.Helper()
	var b state.Batch
	fill(&b)
	if err := d.Apply(&b); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// load returns the values of keys; nil is a key that is not there.
func load(t testing.TB, d state.Driver, keys ...string) [][]byte {
	t.Helper()
	all := make([][]byte, len(keys))
	wanted := make([][]byte, len(keys))
	for i, k := range keys {
		wanted[i] = []byte(k)
	}
	err := d.Load(wanted, func(i int, v []byte) {
		if all[i] != nil {
			t.Errorf("Load: index %d found twice", i)
		}
		all[i] = append([]byte{}, v...)
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return all
}

func wantValues(t testing.TB, d state.Driver, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		got := load(t, d, pairs[i])[0]
		switch {
		case pairs[i+1] == "-" && got != nil:
			t.Errorf("key %q has value %q, want none", pairs[i], got)
		case pairs[i+1] != "-" && (got == nil || string(got) != pairs[i+1]):
			t.Errorf("key %q has value %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

func keysOf(t testing.TB, d state.Driver, from, to []byte) []string {
	t.Helper()
	var keys []string
	if err := d.Scan(from, to, func(k, _ []byte) bool { keys = append(keys, string(k)); return true }); err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return keys
}

func putLoad(t *testing.T, d state.Driver) {
	wantValues(t, d, "a", "-")
	apply(t, d, func(b *state.Batch) {
		b.Put([]byte("a"), []byte("1"), 0)
		b.Put([]byte("c"), []byte("3"), 5)
	})
	got := load(t, d, "c", "b", "a", "c", "\x00\xff")
	want := [][]byte{[]byte("3"), nil, []byte("1"), []byte("3"), nil}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
			t.Errorf("key %d: %q, want %q", i, got[i], want[i])
		}
	}
	if err := d.Load(nil, func(int, []byte) { t.Error("found a key of none") }); err != nil {
		t.Error(err)
	}
}

func batchOrder(t *testing.T, d state.Driver) {
	apply(t, d, func(b *state.Batch) {
		b.Put([]byte("a"), []byte("1"), 0)
		b.Delete([]byte("a"))
		b.Put([]byte("b"), []byte("1"), 0)
		b.Put([]byte("b"), []byte("2"), 0)
		b.Delete([]byte("none"))
		b.Put([]byte("m1"), []byte("1"), 0)
		b.DeleteRange([]byte("m"), []byte("n"))
		b.Put([]byte("m2"), []byte("2"), 0)
	})
	wantValues(t, d, "a", "-", "b", "2", "m1", "-", "m2", "2")
	apply(t, d, func(*state.Batch) {})
}

func deleteRange(t *testing.T, d state.Driver) {
	apply(t, d, func(b *state.Batch) {
		for i := range 300 {
			b.Put(fmt.Appendf(nil, "k%03d", i), []byte("v"), 0)
		}
	})
	apply(t, d, func(b *state.Batch) {
		b.DeleteRange([]byte("k100"), []byte("k200"))
		b.DeleteRange([]byte("k250"), []byte("k210")) // empty
	})
	wantValues(t, d, "k099", "v", "k100", "-", "k199", "-", "k200", "v", "k220", "v")
	if n := len(keysOf(t, d, nil, nil)); n != 200 {
		t.Errorf("%d keys are left, want 200", n)
	}
}

func valueSizes(t *testing.T, d state.Driver) {
	for _, n := range []int{0, 1, 4095, 4096, 1 << 20, 8 << 20} {
		v := bytes.Repeat([]byte{byte(n)}, n)
		apply(t, d, func(b *state.Batch) { b.Put(fmt.Append(nil, n), v, 0) })
		if got := load(t, d, fmt.Sprint(n))[0]; got == nil || !bytes.Equal(got, v) {
			t.Errorf("a value of %d bytes came back with %d", n, len(got))
		}
	}
}

func scanOrder(t *testing.T, d state.Driver) {
	keys := []string{"\x00", "\x00\x00", "\x01", "a", "a\x00", "aa", "b", "\x7f", "\x80", "\xff", "\xff\xff"}
	apply(t, d, func(b *state.Batch) {
		for _, i := range []int{5, 2, 9, 0, 7, 1, 10, 4, 8, 3, 6} {
			b.Put([]byte(keys[i]), []byte{byte(i)}, 0)
		}
	})
	slices.Sort(keys)
	if got := keysOf(t, d, nil, nil); !slices.Equal(got, keys) {
		t.Errorf("Scan of all: %q, want %q", got, keys)
	}
	if got, want := keysOf(t, d, []byte("a"), []byte("b")), []string{"a", "a\x00", "aa"}; !slices.Equal(got, want) {
		t.Errorf("Scan from a to b: %q, want %q", got, want)
	}
	if got := keysOf(t, d, []byte("a\x01"), []byte("a\x02")); len(got) != 0 {
		t.Errorf("Scan between two keys: %q", got)
	}
	n := 0
	if err := d.Scan([]byte("a"), nil, func(k, _ []byte) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("Scan went on after false: %d keys, %v", n, err)
	}
}

func scanSnapshot(t *testing.T, d state.Driver) {
	const n = 500
	apply(t, d, func(b *state.Batch) {
		for i := range n {
			b.Put(fmt.Appendf(nil, "k%03d", i), []byte("old"), 0)
		}
	})
	seen := 0
	err := d.Scan(nil, nil, func(k, v []byte) bool {
		if string(v) != "old" || string(k) != fmt.Sprintf("k%03d", seen) {
			t.Errorf("entry %d is %q = %q", seen, k, v)
			return false
		}
		if seen%100 == 0 {
			apply(t, d, func(b *state.Batch) {
				for i := range n {
					b.Put(fmt.Appendf(nil, "k%03d", i), []byte("new"), 0)
					b.Put(fmt.Appendf(nil, "k%03d-%d", i, seen), []byte("new"), 0)
				}
				b.DeleteRange([]byte("k2"), []byte("k3"))
			})
			wantValues(t, d, "k000", "new", "k250", "-")
		}
		seen++
		return true
	})
	if err != nil || seen != n {
		t.Errorf("saw %d of %d, %v", seen, n, err)
	}
}

func expire(t *testing.T, d state.Driver) {
	apply(t, d, func(b *state.Batch) {
		for i := range 10 {
			b.Put(fmt.Appendf(nil, "k%d", i), []byte("v"), int64(i*10)) // k0 never expires
		}
		b.Put([]byte("other"), []byte("v"), 1)
	})
	next, err := d.Expire([]byte("k"), []byte("l"), 35, 4)
	if err != nil || string(next) != "k4" {
		t.Fatalf("Expire of 4: next %q, %v", next, err)
	}
	wantValues(t, d, "k0", "v", "k1", "-", "k2", "-", "k3", "-", "k4", "v", "other", "v")
	next, err = d.Expire(next, []byte("l"), 50, 100)
	if err != nil || next != nil {
		t.Fatalf("Expire to the end: next %q, %v", next, err)
	}
	wantValues(t, d, "k4", "-", "k5", "-", "k6", "v", "other", "v")
	apply(t, d, func(b *state.Batch) { b.Put([]byte("k6"), []byte("later"), 100) })
	if _, err := d.Expire(nil, nil, 99, 100); err != nil {
		t.Fatal(err)
	}
	wantValues(t, d, "k0", "v", "k6", "later", "k7", "-", "other", "-")
}

func ownership(t *testing.T, d state.Driver) {
	key, value := []byte("key"), []byte("value")
	var b state.Batch
	b.Put(key, value, 0)
	if err := d.Apply(&b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		clear(b.At(i).Key)
		clear(b.At(i).Value)
	}
	b.Reset()
	clear(key)
	clear(value)
	wantValues(t, d, "key", "value")
}

func atomicBatches(t *testing.T, d state.Driver) {
	const keys, rounds = 20, 200
	wanted := make([][]byte, keys)
	for i := range wanted {
		wanted[i] = fmt.Appendf(nil, "k%d", i)
	}
	write := func(round int) error {
		var b state.Batch
		for _, k := range wanted {
			b.Put(k, fmt.Append(nil, round), 0)
		}
		return d.Apply(&b)
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	done := make(chan error, 1)
	writer.Go(func() {
		for i := range rounds {
			if err := write(i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	})
	defer writer.Wait()
	last := 0
	for {
		var values []string
		if err := d.Load(wanted, func(_ int, v []byte) { values = append(values, string(v)) }); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if len(values) != keys || v != values[0] {
				t.Fatalf("Load saw parts of batches: %v", values)
			}
		}
		var round int
		if _, err := fmt.Sscan(values[0], &round); err != nil || round < last {
			t.Fatalf("Load went back from round %d to %q", last, values[0])
		}
		last = round
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func stats(t *testing.T, d state.Driver) {
	value := make([]byte, 1000)
	for i := range 100 {
		apply(t, d, func(b *state.Batch) {
			for j := range 100 {
				for k := range value {
					value[k] = byte(i*31 + j*17 + k*k)
				}
				b.Put(fmt.Appendf(nil, "p%d/%05d", j%2, i*100+j), value, 0)
			}
		})
	}
	all, err := d.Stats(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if size := all.MemoryBytes + all.DiskBytes; size < 100_000 || size > 200_000_000 {
		t.Errorf("10 MB of entries have a size of %+v", all)
	}
	part, err := d.Stats([]byte("p0/"), []byte("p0/99999"))
	if err != nil {
		t.Fatal(err)
	}
	if part.Keys > 2*all.Keys+20000 || part.DiskBytes > all.DiskBytes {
		t.Errorf("half of the keys are %+v, all are %+v", part, all)
	}
}

func closed(t *testing.T, d state.Driver) {
	apply(t, d, func(b *state.Batch) { b.Put([]byte("a"), []byte("1"), 0) })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var b state.Batch
	b.Put([]byte("a"), nil, 0)
	_, eerr := d.Expire(nil, nil, 1, 1)
	_, serr := d.Stats(nil, nil)
	for i, err := range []error{
		d.Load([][]byte{[]byte("a")}, func(int, []byte) { t.Error("found after Close") }),
		d.Apply(&b),
		d.Scan(nil, nil, func(_, _ []byte) bool { t.Error("visited after Close"); return false }),
		eerr, serr,
	} {
		if !errkind.Is(err, errkind.Closed) || errors.Is(err, nil) {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
