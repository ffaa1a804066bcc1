package kafka_test

import (
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/test/servers"
)

const serverVersion = "Apache Kafka 4.1.0"

func urlOf(s *servers.Server, options ...string) string {
	return "kafka://" + s.Address + "?" + strings.Join(append(options, "session_timeout=2s"), "&")
}

// harness is that of a server: its drivers outlive it.
func harness(s *servers.Server, against string, node ...int) brokertest.Harness {
	restart := func(end func(...int) error) func(t testing.TB, d broker.Driver) broker.Driver {
		return func(t testing.TB, d broker.Driver) broker.Driver {
			t.Helper()
			if err := end(node...); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(node...); err != nil {
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
		Patience:        time.Minute,
		TimeGranularity: time.Millisecond,
		Parallel:        true,
		Crashes:         4,
		Against:         against,
	}
}

func TestKeepsTheContract(t *testing.T) {
	brokertest.Run(t, harness(servers.Run(t, "kafka"), serverVersion))
}

func TestSurvivesCrashes(t *testing.T) {
	brokertest.RunCrash(t, harness(servers.Run(t, "kafka"), serverVersion))
}

// A node of three that dies takes nothing with it, and its work goes on elsewhere.
func TestSurvivesCrashesOfANodeOfThree(t *testing.T) {
	servers.Heavy(t)
	s := servers.Run(t, "kafka", "cluster")
	h := harness(s, serverVersion+", three nodes")
	node := 0
	h.Crash = func(t testing.TB, d broker.Driver) broker.Driver {
		t.Helper()
		if node > 0 {
			if err := s.Restart(node); err != nil {
				t.Fatal(err)
			}
		}
		node = node%3 + 1
		if err := s.Kill(node); err != nil {
			t.Fatal(err)
		}
		return d // it finds the other nodes
	}
	h.Crashes = 3
	brokertest.RunCrash(t, h)
}
