package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// RunObjects holds the store that open returns, empty each time, to the contract
// of state.Objects. again returns another client of the same store; the suite
// closes both.
func RunObjects(t *testing.T, open func(t testing.TB) (o state.Objects, again func(t testing.TB) state.Objects)) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, o, other state.Objects)
	}{
		{"what is put is got", objectsPutGet},
		{"a name is created once", objectsCreate},
		{"a list goes by name and prefix", objectsList},
		{"what is not there is NotFound", objectsMissing},
		{"an object appears whole or not at all", objectsAtomic},
		{"a reader that fails leaves what was there", objectsFailing},
		{"a large object streams through little memory", objectsLarge},
		{"calls end with their context", objectsCancelled},
		{"many calls at once", objectsConcurrent},
		{"bad names are refused", objectsNames},
		{"everything is closed after Close", objectsClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, again := open(t)
			other := again(t)
			defer func() {
				if err := errors.Join(o.Close(), other.Close()); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			c.run(t, o, other)
		})
	}
}

func putObject(t testing.TB, o state.Objects, name, value string) {
	t.Helper()
	if err := o.Put(t.Context(), name, int64(len(value)), strings.NewReader(value)); err != nil {
		t.Fatalf("Put %s: %v", name, err)
	}
}

func getObject(t testing.TB, o state.Objects, name string) string {
	t.Helper()
	r, err := o.Get(t.Context(), name)
	if err != nil {
		t.Fatalf("Get %s: %v", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Get %s: read: %v", name, err)
	}
	return string(b)
}

func objectsPutGet(t *testing.T, o, other state.Objects) {
	for _, v := range []string{"", "x", strings.Repeat("0123456789", 100_000)} {
		putObject(t, o, "a/b/c", v)
		if got := getObject(t, other, "a/b/c"); got != v {
			t.Errorf("%d bytes came back as %d", len(v), len(got))
		}
	}
	// A reader that has more than size is read to size.
	if err := o.Put(t.Context(), "p", 3, strings.NewReader("12345")); err != nil || getObject(t, o, "p") != "123" {
		t.Errorf("Put of 3 of 5 bytes: %v, %q", err, getObject(t, o, "p"))
	}
	if err := o.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Get(t.Context(), "a/b/c"); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("Get of what was deleted: %v", err)
	}
}

func objectsCreate(t *testing.T, o, other state.Objects) {
	if err := o.Create(t.Context(), "d/one", []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := other.Create(t.Context(), "d/one", []byte("second")); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a second Create: %v", err)
	}
	if got := getObject(t, o, "d/one"); got != "first" {
		t.Errorf("it holds %q", got)
	}
	for round := range 5 {
		name := fmt.Sprint("d/race-", round)
		var won atomic.Int32
		var winner atomic.Value
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				client, mine := o, fmt.Sprint("writer ", w)
				if w%2 == 1 {
					client = other
				}
				err := client.Create(context.Background(), name, []byte(mine))
				for errkind.Is(err, errkind.Transient) {
					err = client.Create(context.Background(), name, []byte(mine))
				}
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(mine)
				case !errkind.Is(err, errkind.Conflict):
					t.Errorf("Create: %v", err)
				}
			})
		}
		all.Wait()
		if got := getObject(t, o, name); won.Load() != 1 || got != winner.Load() {
			t.Errorf("%d creators succeeded, the last was %v, it holds %q", won.Load(), winner.Load(), got)
		}
	}
	if err := o.Delete(t.Context(), "d/one"); err != nil {
		t.Fatal(err)
	}
	if err := other.Create(t.Context(), "d/one", []byte("third")); err != nil {
		t.Errorf("Create after Delete: %v", err)
	}
}

func objectsList(t *testing.T, o, other state.Objects) {
	all, err := o.List(t.Context(), "")
	if err != nil || len(all) != 0 {
		t.Fatalf("an empty store lists %v, %v", all, err)
	}
	names := []string{"a", "a-b", "a/b", "a/b-c/x", "a/b/c", "a/b0", "aa", "b/0000", "b/0010", "b/000a", "z"}
	for i, n := range slices.Backward(names) {
		putObject(t, o, n+"/x", strings.Repeat("v", i))
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "b/00", "none", "none/none/"} {
		var want []string
		for i, n := range names {
			if strings.HasPrefix(n+"/x", prefix) {
				want = append(want, fmt.Sprintf("%s/x %d", n, i))
			}
		}
		slices.Sort(want)
		all, err := other.List(t.Context(), prefix)
		var got []string
		for _, o := range all {
			got = append(got, fmt.Sprint(o.Name, " ", o.Size))
		}
		sorted := slices.IsSortedFunc(all, func(a, b state.Object) int { return strings.Compare(a.Name, b.Name) })
		slices.Sort(got)
		if err != nil || !sorted || !slices.Equal(got, want) {
			t.Errorf("List(%q) = %q, %v, sorted %v, want %q", prefix, got, err, sorted, want)
		}
	}
}

func objectsMissing(t *testing.T, o, _ state.Objects) {
	putObject(t, o, "a/b", "v")
	for _, name := range []string{"none", "a", "a/none", "none/b"} {
		if _, err := o.Get(t.Context(), name); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("Get %s: %v", name, err)
		}
	}
	if err := o.Delete(t.Context(), "none/b"); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
}

// stepReader gives its bytes in steps and then err; it waits for go before each.
type stepReader struct {
	steps []string
	next  <-chan struct{}
	err   error
}

func (s *stepReader) Read(b []byte) (int, error) {
	if len(s.steps) == 0 {
		return 0, s.err
	}
	if s.next != nil {
		<-s.next
	}
	n := copy(b, s.steps[0])
	if s.steps[0] = s.steps[0][n:]; s.steps[0] == "" {
		s.steps = s.steps[1:]
	}
	return n, nil
}

func objectsAtomic(t *testing.T, o, other state.Objects) {
	putObject(t, o, "n/over", "old")
	half := strings.Repeat("x", 300_000)
	for _, name := range []string{"n/new", "n/over"} {
		next := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- o.Put(context.Background(), name, int64(2*len(half)), &stepReader{steps: []string{half[:10], half[10:] + half}, next: next, err: io.EOF})
		}()
		next <- struct{}{}
		r, err := other.Get(t.Context(), name)
		switch {
		case name == "n/new" && !errkind.Is(err, errkind.NotFound):
			t.Errorf("an object in the making can be read: %v", err)
		case name == "n/over" && (err != nil || getObject(t, other, name) != "old"):
			t.Errorf("what is being overwritten cannot be read: %v", err)
		}
		if err == nil {
			_ = r.Close()
		}
		list, err := other.List(t.Context(), "n/")
		if err != nil || len(list) != 1 && name == "n/new" {
			t.Errorf("while one is in the making, List gives %v, %v", list, err)
		}
		close(next)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := getObject(t, other, name); got != half+half {
			t.Errorf("%s has %d bytes", name, len(got))
		}
	}
}

func objectsFailing(t *testing.T, o, other state.Objects) {
	putObject(t, o, "over", "old")
	broken := errors.New("the disk that it was read from")
	for _, name := range []string{"new", "over"} {
		if err := o.Put(t.Context(), name, 10, strings.NewReader("short")); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("a reader that ends early: %v", err)
		}
		if err := o.Put(t.Context(), name, 10, &stepReader{steps: []string{"123"}, err: broken}); !errors.Is(err, broken) {
			t.Errorf("a reader that fails: %v", err)
		}
	}
	if got := getObject(t, other, "over"); got != "old" {
		t.Errorf("what was there is %q", got)
	}
	if all, err := other.List(t.Context(), ""); err != nil || len(all) != 1 {
		t.Errorf("List gives %v, %v", all, err)
	}
}

// pattern is a reader of endless, uneven bytes.
type pattern struct{ at int64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(p.at>>12) ^ byte(p.at*7)
		p.at++
	}
	return len(b), nil
}

func objectsLarge(t *testing.T, o, other state.Objects) {
	size := int64(64 << 20)
	if testing.Short() {
		size = 8 << 20
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, &pattern{}, size); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := o.Put(t.Context(), "large", size, &pattern{}); err != nil {
		t.Fatal(err)
	}
	r, err := other.Get(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	got := crc32.NewIEEE()
	n, err := io.Copy(got, r)
	_ = r.Close()
	runtime.ReadMemStats(&after)
	if err != nil || n != size || got.Sum32() != sum.Sum32() {
		t.Errorf("%d of %d bytes came back, sum %08x of %08x, %v", n, size, got.Sum32(), sum.Sum32(), err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(size)/4+(1<<20) {
		t.Errorf("moving %d bytes allocated %d", size, used)
	}
}

func objectsCancelled(t *testing.T, o, _ state.Objects) {
	putObject(t, o, "a", strings.Repeat("v", 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	reader, err := o.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan struct{}, 1)
	next <- struct{}{}
	done := make(chan error, 1)
	go func() {
		done <- o.Put(ctx, "b", 1<<30, io.MultiReader(&stepReader{steps: []string{"1"}, next: next, err: io.EOF}, &pattern{}))
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if _, err := io.ReadAll(reader); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on: %v", err)
	}
	_ = reader.Close()
	_, gerr := o.Get(ctx, "a")
	_, lerr := o.List(ctx, "")
	for i, err := range []error{o.Put(ctx, "b", 1, strings.NewReader("v")), o.Create(ctx, "c", nil), o.Delete(ctx, "a"), gerr, lerr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	all, err := o.List(t.Context(), "")
	if err != nil || len(all) != 1 || all[0].Name != "a" {
		t.Errorf("left are %v, %v", all, err)
	}
}

func objectsConcurrent(t *testing.T, o, other state.Objects) {
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			client := []state.Objects{o, other}[w%2]
			for i := range 10 {
				name := fmt.Sprintf("w%d/%d", w, i%3)
				want := bytes.Repeat([]byte{byte(w), byte(i)}, 1+i*1000)
				if err := client.Put(context.Background(), name, int64(len(want)), bytes.NewReader(want)); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				// Everyone overwrites one object; readers see one of the versions.
				if err := client.Put(context.Background(), "shared", int64(len(want)), bytes.NewReader(want)); err != nil {
					t.Errorf("Put: %v", err)
				}
				for _, n := range []string{name, "shared"} {
					r, err := client.Get(context.Background(), n)
					if err != nil {
						t.Errorf("Get: %v", err)
						return
					}
					b, err := io.ReadAll(r)
					_ = r.Close()
					if err != nil || len(b) < 2 || len(b) != 2*(1+int(b[1])*1000) || n == name && !bytes.Equal(b, want) {
						t.Errorf("%s: %d bytes, %v", n, len(b), err)
					}
				}
				if _, err := client.List(context.Background(), fmt.Sprintf("w%d/", w)); err != nil {
					t.Errorf("List: %v", err)
				}
			}
		})
	}
	all.Wait()
	if list, err := o.List(t.Context(), "w"); err != nil || len(list) != 24 {
		t.Errorf("%d objects, %v", len(list), err)
	}
}

func objectsNames(t *testing.T, o, _ state.Objects) {
	for _, name := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", ".hidden", "a/.making-1", "-a", "a b", "a\x00", "ä", "a\\b", strings.Repeat("a", 513)} {
		_, err := o.Get(t.Context(), name)
		for i, err := range []error{err, o.Put(t.Context(), name, 0, strings.NewReader("")), o.Create(t.Context(), name, nil), o.Delete(t.Context(), name)} {
			if !errkind.Is(err, errkind.Invalid) {
				t.Errorf("call %d with %q: %v", i, name, err)
			}
		}
	}
}

func objectsClosed(t *testing.T, o, _ state.Objects) {
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	_, gerr := o.Get(t.Context(), "a")
	_, lerr := o.List(t.Context(), "")
	for i, err := range []error{o.Put(t.Context(), "a", 0, strings.NewReader("")), o.Create(t.Context(), "a", nil), o.Delete(t.Context(), "a"), gerr, lerr} {
		if !errkind.Is(err, errkind.Closed) {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	if err := o.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
