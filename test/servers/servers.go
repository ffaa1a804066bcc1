// Package servers starts the real servers that tests of adapters talk to, each
// by a script of this folder, and ends, freezes and starts them again; a Proxy
// before one cuts, delays and restores its connections.
//
// A server that is not installed skips the test, loudly; where FRESHET_REQUIRE
// names it, the test fails instead. test/prepare.sh installs them and prints
// which are there.
package servers

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// Password is the password of every server that has one; their user, where they have one, is "freshet".
const Password = "freshet-test"

// Start starts a server for the rest of the test and returns its address, host:port.
func Start(t testing.TB, name string) string {
	t.Helper()
	return Run(t, name).Address
}

// large are servers that take a second pass over the tests too long, which -short is.
var large = []string{"kafka", "pulsar", "rabbitmq", "aws", "feast", "mlflow", "mlserver", "kserve", "ollama", "kubernetes"}

// Heavy skips a test that takes minutes, unless FRESHET_HEAVY is set: make
// test-heavy runs it.
func Heavy(t testing.TB) {
	t.Helper()
	if os.Getenv("FRESHET_HEAVY") == "" {
		t.Skip("NOT RUN: it takes minutes; make test-heavy runs it")
	}
}

// Run starts a server for the rest of the test, by the script NAME.sh with the
// arguments. With -short, large ones skip the test: the full run has them.
func Run(t testing.TB, name string, args ...string) *Server {
	t.Helper()
	if testing.Short() && slices.Contains(large, name) {
		t.Skipf("-short: %s is for the full run", name)
	}
	s, err := Launch(name, args...)
	var absent *AbsentError
	switch {
	case errors.As(err, &absent) && slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), name):
		t.Fatalf("FRESHET_REQUIRE names %s: %s", name, absent.Why)
	case absent != nil:
		t.Skipf("NOT RUN: %s: %s; test/prepare.sh installs it", name, absent.Why)
	case err != nil:
		t.Fatal(err)
	}
	t.Logf("ran against the server %s", strings.Join(append([]string{name}, args...), " "))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("end %s: %v", name, err)
		}
	})
	return s
}
