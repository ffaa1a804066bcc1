package journal_test

import (
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/journal"
)

func open(t testing.TB, dir string, o journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return j
}

func TestKeepsTheContractOfADriver(t *testing.T) {
	dirs := map[broker.Driver]string{}
	brokertest.Run(t, brokertest.Harness{
		Open: func(t testing.TB) broker.Driver {
			dir := t.TempDir()
			j := open(t, dir, journal.Options{})
			dirs[j] = dir
			return j
		},
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			if err := d.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			j := open(t, dirs[d], journal.Options{})
			dirs[j] = dirs[d]
			return j
		},
	})
}
