package cli

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/console"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// forgetful is an actuator whose orders stay when nobody renews them, as those on a cluster do.
type forgetful struct {
	orders  orchestrator.Orders
	expires time.Time
}

func (f *forgetful) Status(context.Context) (actuator.Status, error) {
	s := actuator.Status{Workers: 3, Ready: 3, Most: 9, MostBatch: 64}
	if f.orders.Workers > 0 {
		s.Workers, s.Ours, s.Expires = f.orders.Workers, true, f.expires
	}
	return s, nil
}

func (f *forgetful) Apply(_ context.Context, o orchestrator.Orders, expires time.Time) error {
	f.orders, f.expires = o, expires
	return nil
}

func (f *forgetful) Revert(context.Context) error        { f.orders = orchestrator.Orders{}; return nil }
func (f *forgetful) Capabilities() actuator.Capabilities { return actuator.Capabilities{Workers: true} }
func (f *forgetful) Close() error                        { return nil }

func TestExpiredOrdersAreTakenBackAndOthersLeft(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(j, broker.Options{})
	defer b.Close()
	f := &forgetful{}
	srv := httptest.NewServer(console.New(console.Options{Broker: b, Capacity: func(string) (actuator.Driver, error) { return f, nil }}).Handler())
	defer srv.Close()
	for _, c := range []struct {
		expires time.Duration // from now; 0: no orders
		want    string
		left    int
	}{
		{0, "no order of ours is there; 3 workers are ordered", 0},
		{time.Hour, "are in force until", 5},
		{-time.Minute, "expired orders of ours were taken back; 3 workers are ordered", 0},
	} {
		f.orders = orchestrator.Orders{}
		if c.expires != 0 {
			f.orders, f.expires = orchestrator.Orders{Workers: 5}, time.Now().Add(c.expires)
		}
		if out := must(t, "", "orchestrate", "expire", "--act", srv.URL, "--pipeline", "p"); !strings.Contains(out, c.want) || f.orders.Workers != c.left {
			t.Errorf("orders that expire in %v: %q, and %d workers are left ordered", c.expires, out, f.orders.Workers)
		}
	}
	if o := exec(t, "", "orchestrate", "expire"); o.code != 2 || !strings.Contains(o.err, "--act") {
		t.Errorf("without --act: %d %s", o.code, o.err)
	}
}
