package oip

import (
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
	"github.com/freshet-io/freshet/test/servers"
)

func TestKServe(t *testing.T) {
	s := servers.Run(t, "kserve")
	byGRPC, byHTTP := "oip://"+s.Address+"/", "oip+http://"+s.Word("http")+"/"
	for name, tc := range map[string]struct {
		url       string
		settings  map[string]any
		noSpecial bool
	}{
		"gRPC":        {byGRPC, map[string]any{"concurrency": 2}, false},
		"gRPC typed":  {byGRPC, map[string]any{"concurrency": 2, "contents": "typed"}, false},
		"HTTP binary": {byHTTP, map[string]any{"concurrency": 2, "binary": true}, false},
		"HTTP":        {byHTTP, map[string]any{"concurrency": 2}, true}, // JSON has no infinities
	} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Remote: true, NoSpecial: tc.noSpecial, Open: func(t testing.TB) inference.Driver {
				return mustOpen(t, tc.url+"echo", tc.settings)
			}})
		})
	}
	for _, base := range []string{byGRPC, byHTTP} {
		if _, err := open(t, base+"nope", nil); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("an unknown model: %v %v", errkind.Of(err), err)
		}
	}
}
