package jetstream

import (
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/test/servers"
)

// process is a server, or a cluster, in processes of its own.
func process(t *testing.T, mode string) (*servers.Server, brokertest.Harness) {
	s := servers.Run(t, "nats", mode)
	url := "nats://" + s.Address + session
	probe := open(t, url)
	against := version(probe)
	_ = probe.Close()
	check := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	turn := 0
	next := func() int { // the only node, or each of a cluster in turn
		turn++
		return turn%(strings.Count(s.Address, ",")+1) + 1
	}
	return s, brokertest.Harness{
		Open: func(t testing.TB) broker.Driver { return open(t, url) },
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			_ = d.Close()
			n := next()
			check(t, s.Stop(n))
			check(t, s.Restart(n))
			return open(t, url)
		},
		// A driver outlives its server: it connects anew. Among a cluster's nodes are
		// the leaders of streams.
		Crash: func(t testing.TB, d broker.Driver) broker.Driver {
			n := next()
			check(t, s.Kill(n))
			check(t, s.Restart(n))
			for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C { // until it has
				if _, err := d.(*Driver).Topics(t.Context()); err == nil {
					tick.Stop()
					return d
				}
			}
		},
		Patience: 60 * time.Second, Parallel: true, Against: against + " (" + mode + ")",
	}
}

func TestConformanceOnACluster(t *testing.T) {
	_, h := process(t, "cluster")
	brokertest.Run(t, h)
}

func TestCrashesOfAServer(t *testing.T) {
	_, h := process(t, "one")
	brokertest.RunCrash(t, h)
}

func TestCrashesOfNodesOfACluster(t *testing.T) {
	servers.Heavy(t)
	_, h := process(t, "cluster")
	h.Crashes = 3 // each node once
	brokertest.RunCrash(t, h)
}
