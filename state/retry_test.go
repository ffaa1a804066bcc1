package state_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/folder"
	"github.com/freshet-io/freshet/state/statetest"
)

func TestObjectsWithRetryKeepTheContract(t *testing.T) {
	statetest.RunObjects(t, func(t testing.TB) (state.Objects, func(t testing.TB) state.Objects) {
		dir := t.TempDir()
		open := func(t testing.TB) state.Objects {
			f, err := folder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return state.WithRetry(f, state.Retry{})
		}
		return open(t), open
	})
}

func TestCallsAreRepeatedWhereTheirFailureMayPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := statetest.NewObjects()
		r := state.WithRetry(o, state.Retry{Rand: func() float64 { return 1 }})
		value := []byte("some value")
		for _, kind := range []errkind.Kind{errkind.Transient, errkind.Throttled} {
			o.FailAt(1, kind, statetest.Undone)
			began := time.Now()
			if err := r.Put(t.Context(), "a", int64(len(value)), bytes.NewReader(value)); err != nil {
				t.Errorf("Put with %v: %v", kind, err)
			}
			want := map[errkind.Kind]time.Duration{errkind.Transient: 50 * time.Millisecond, errkind.Throttled: 200 * time.Millisecond}[kind]
			if got := time.Since(began); got != want {
				t.Errorf("waited %v after %v, want %v", got, kind, want)
			}
		}
		got, err := r.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(got); err != nil || !bytes.Equal(b, value) {
			t.Errorf("%q, %v", b, err)
		}
		o.FailAt(1, errkind.Permanent, statetest.Undone)
		if err := r.Delete(t.Context(), "a"); !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "delete a") {
			t.Errorf("a failure for good: %v", err)
		}
		// A reader that cannot go back is read once.
		o.FailAt(1, errkind.Transient, statetest.Undone)
		if err := r.Put(t.Context(), "a", 3, io.MultiReader(strings.NewReader("abc"))); !errkind.Is(err, errkind.Transient) {
			t.Errorf("Put of a stream: %v", err)
		}
	})
}

// down always fails.
type down struct{ state.Objects }

func (down) List(context.Context, string) ([]state.Object, error) {
	return nil, errkind.New(errkind.Transient, "no route to host")
}

func (down) Close() error { return nil }

func TestRepeatingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := state.WithRetry(down{}, state.Retry{Attempts: 4})
		if _, err := r.List(t.Context(), "x"); !errkind.Is(err, errkind.Transient) || !strings.Contains(err.Error(), "4 attempts") {
			t.Errorf("after the last attempt: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := r.List(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no route") {
			t.Errorf("with a deadline: %v", err)
		}
		done := make(chan error)
		go func() {
			_, err := r.List(t.Context(), "x")
			done <- err
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errkind.Is(err, errkind.Closed) {
			t.Errorf("closed while waiting: %v", err)
		}
	})
}
