package rabbitmq

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/test/servers"
)

var (
	_ broker.Driver     = (*Driver)(nil)
	_ broker.Admin      = (*Driver)(nil)
	_ broker.Appender   = (*Driver)(nil)
	_ broker.Positioner = (*reader)(nil)
	_ broker.Positioner = (*claim)(nil)
)

func open(t testing.TB, url string) *Driver {
	t.Helper()
	d, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func harness(t testing.TB) brokertest.Harness {
	n := server(t, false)
	url := n.url("session=2s")
	restart := func(crash bool) func(t testing.TB, d broker.Driver) broker.Driver {
		return func(t testing.TB, d broker.Driver) broker.Driver {
			t.Helper()
			if !crash {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			n.again(t)
			if crash {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			return open(t, url)
		}
	}
	return brokertest.Harness{
		Open:            func(t testing.TB) broker.Driver { return open(t, url) },
		Restart:         restart(false),
		Crash:           restart(true),
		Patience:        3 * time.Minute,
		TimeGranularity: time.Millisecond,
		LazyTrim:        false,
		Parallel:        true,
		Crashes:         3,
		Against:         "RabbitMQ 3.10.8",
	}
}

func TestSuite(t *testing.T) { brokertest.Run(t, harness(t)) }

func TestCrashSuite(t *testing.T) {
	servers.Heavy(t)
	brokertest.RunCrash(t, harness(t))
}

func BenchmarkDriver(b *testing.B) { brokertest.Benchmark(b, harness(b)) }
