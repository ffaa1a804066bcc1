package pulsar_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/pulsar"
	"github.com/freshet-io/freshet/test/servers"
)

const serverVersion = "Apache Pulsar 4.0.7"

// shared is the server of all tests of the package: starting one takes long.
var shared struct {
	once   sync.Once
	server *servers.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if s := shared.server; s != nil {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "end pulsar:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func server(t testing.TB) *servers.Server {
	t.Helper()
	if testing.Short() {
		// Under the race detector the client library's reader races with its own
		// reconnecting; the cursor does not trust what comes of that.
		t.Skip("-short: pulsar is for the full run")
	}
	shared.once.Do(func() { shared.server, shared.err = servers.Launch("pulsar") })
	if shared.err != nil {
		servers.Run(t, "pulsar") // which says so, and skips or fails
		t.Fatal(shared.err)
	}
	return shared.server
}

func urlOf(s *servers.Server) string {
	return "pulsar://" + s.Address + "/public/default?admin=http://" + s.Word("admin")
}

func open(t testing.TB, url string) *pulsar.Driver {
	t.Helper()
	d, err := pulsar.Open(t.Context(), url, pulsar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// harness is that of the shared server.
func harness(t testing.TB) brokertest.Harness {
	s := server(t)
	restart := func(end func(...int) error) func(testing.TB, broker.Driver) broker.Driver {
		return func(t testing.TB, d broker.Driver) broker.Driver {
			t.Helper()
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			return open(t, urlOf(s))
		}
	}
	return brokertest.Harness{
		Open:            func(t testing.TB) broker.Driver { return open(t, urlOf(s)) },
		Restart:         restart(s.Stop),
		Crash:           restart(s.Kill),
		Patience:        3 * time.Minute,
		TimeGranularity: time.Millisecond,
		Parallel:        true,
		Crashes:         4,
		Against:         serverVersion,
	}
}

func TestKeepsTheContract(t *testing.T) {
	brokertest.Run(t, harness(t))
}

func TestSurvivesCrashes(t *testing.T) {
	servers.Heavy(t)
	brokertest.RunCrash(t, harness(t))
}
