package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/postgres"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/test/servers"
)

// patience is how long a test waits on a busy machine.
const patience = 60 * time.Second

func url(s *servers.Server, options string) string {
	return "postgres://freshet:" + servers.Password + "@" + s.Address + "/freshet" + options
}

func open(t testing.TB, url string) *postgres.Driver {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		d, err := postgres.Open(context.Background(), url, postgres.Options{})
		if err == nil {
			t.Cleanup(func() { _ = d.Close() })
			return d
		}
		if !errkind.Is(err, errkind.Transient) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// sql is a connection for what the driver does not do.
func sql(t testing.TB, s *servers.Server) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url(s, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func harness(t testing.TB, s *servers.Server) brokertest.Harness {
	must := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	version := ""
	must(t, sql(t, s).QueryRow(t.Context(), "SELECT 'PostgreSQL ' || current_setting('server_version')").Scan(&version))
	return brokertest.Harness{
		Open: func(t testing.TB) broker.Driver { return open(t, url(s, "")) },
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			t.Helper()
			must(t, d.Close())
			must(t, s.Stop())
			must(t, s.Restart())
			return open(t, url(s, ""))
		},
		Crash: func(t testing.TB, d broker.Driver) broker.Driver {
			t.Helper()
			must(t, s.Kill())
			must(t, s.Restart())
			return d
		},
		Patience:        patience,
		TimeGranularity: time.Microsecond, // of timestamptz
		Against:         version,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	brokertest.Run(t, harness(t, s))
}

func TestCrash(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	brokertest.RunCrash(t, harness(t, s))
}
