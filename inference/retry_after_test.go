package inference

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

func TestAPauseKeepsTheKindOfWhatFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		kind errkind.Kind
	}{
		"throttled": {errkind.New(errkind.Throttled, "429"), errkind.Throttled},
		"transient": {errkind.New(errkind.Transient, "503"), errkind.Transient},
		"unmarked":  {errors.New("slow down"), errkind.Throttled},
	} {
		err := fmt.Errorf("infer: %w", RetryAfterError(tc.err, 3*time.Second))
		var ra *RetryAfter
		if !errors.As(err, &ra) || ra.After != 3*time.Second || errkind.Of(err) != tc.kind || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v (%v)", name, err, errkind.Of(err))
		}
	}
	if RetryAfterError(nil, time.Second) != nil {
		t.Error("no error has a pause")
	}
	if e := errors.New("x"); RetryAfterError(e, 0) != e { //nolint:errorlint // the very error is meant
		t.Error("no pause changes the error")
	}
}
