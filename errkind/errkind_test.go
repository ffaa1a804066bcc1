package errkind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestTheOutermostKindWins(t *testing.T) {
	inner := Errorf(Transient, "read: %w", io.ErrUnexpectedEOF)
	for _, tc := range []struct {
		err  error
		want Kind
	}{
		{nil, Unknown},
		{io.EOF, Unknown},
		{inner, Transient},
		{fmt.Errorf("fetch: %w", inner), Transient},
		{With(Permanent, fmt.Errorf("fetch: %w", inner)), Permanent},
		{errors.Join(io.EOF, New(Conflict, "held")), Conflict},
		{fmt.Errorf("stop: %w", context.Canceled), Canceled},
		{context.DeadlineExceeded, Transient},
	} {
		if got := Of(tc.err); got != tc.want {
			t.Errorf("Of(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
	if With(Invalid, nil) != nil || Is(nil, Unknown) {
		t.Error("no error has a kind")
	}
	if !errors.Is(inner, io.ErrUnexpectedEOF) || inner.Error() != "read: unexpected EOF" {
		t.Errorf("a kind hides what it marks: %v", inner)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	for k := Unknown; k <= Closed; k++ {
		if k.String() == "" || k.String()[0] == 'k' {
			t.Errorf("kind %d is called %q", k, k)
		}
		if k.Retryable() != (k == Transient || k == Throttled) {
			t.Errorf("%v: retryable %v", k, k.Retryable())
		}
	}
}
