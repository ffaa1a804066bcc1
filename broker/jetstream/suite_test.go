package jetstream

import (
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
)

// session is short, so that what a dead member held is free soon.
const session = "?session=2s"

func TestConformanceOnAServerInTheProcess(t *testing.T) {
	s := startInProcess(t, nil)
	brokertest.Run(t, brokertest.Harness{
		Open: func(t testing.TB) broker.Driver { return open(t, s.url(session)) },
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			_ = d.Close()
			s.stop()
			s.start(t)
			return open(t, s.url(session))
		},
		Patience: 30 * time.Second, Parallel: true, Against: "nats-server " + natsserver.VERSION + " (in the process)",
	})
}
