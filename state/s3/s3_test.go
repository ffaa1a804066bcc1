package s3_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/s3"
	"github.com/freshet-io/freshet/state/statetest"
	"github.com/freshet-io/freshet/test/servers"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

var credentials = map[string]string{"AWS_ACCESS_KEY_ID": "freshet", "AWS_SECRET_ACCESS_KEY": servers.Password}

func TestABucketHoldsObjects(t *testing.T) {
	address := servers.Start(t, "s3")
	var n atomic.Int32
	statetest.RunObjects(t, func(t testing.TB) (state.Objects, func(t testing.TB) state.Objects) {
		url := fmt.Sprintf("s3://freshet/suite/%d?endpoint=http://%s", n.Add(1), address)
		open := func(t testing.TB) state.Objects {
			b, err := s3.Open(t.Context(), url, s3.Options{Getenv: environment(credentials)})
			if err != nil {
				t.Fatal(err)
			}
			// As callers hold it: a server may close a connection at any time.
			return state.WithRetry(b, state.Retry{})
		}
		return open(t), open
	})
}
