package jetstream

import (
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
	killed := 0
	return s, brokertest.Harness{
		Open: func(t testing.TB) broker.Driver { return open(t, url) },
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			_ = d.Close()
			nodes := len(s.Address) / len("127.0.0.1:20000")
			for n := range nodes {
				check(t, s.Stop(n+1))
				check(t, s.Restart(n+1))
			}
			return open(t, url)
		},
		// A driver outlives its server: it connects anew. In a cluster the nodes are
		// killed one after the other, so that leaders are among them.
		Crash: func(t testing.TB, d broker.Driver) broker.Driver {
			n := 1
			if mode == "cluster" {
				n = killed%3 + 1
				killed++
			}
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
	_, h := process(t, "cluster")
	brokertest.RunCrash(t, h)
}
