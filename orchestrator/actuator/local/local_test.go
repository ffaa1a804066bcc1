package local_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/actuatortest"
	"github.com/freshet-io/freshet/orchestrator/actuator/local"
)

// instances is a unit of nine instances with a fallback.
type instances struct {
	mu  sync.Mutex
	now orchestrator.Orders
}

var all = orchestrator.Orders{Workers: 9, Batch: 256, Route: orchestrator.Route{Share: 1}}

func (u *instances) Order(o orchestrator.Orders) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now = o
	return nil
}

func (u *instances) Orders() (now, most orchestrator.Orders) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now = u.now
	if now.Workers == 0 {
		now.Workers = all.Workers
	}
	if now.Batch == 0 {
		now.Batch = all.Batch
	}
	return now, all
}

func TestHoldersAreActuators(t *testing.T) {
	actuatortest.Run(t, actuatortest.Harness{Forgets: true, Unit: func(testing.TB) actuatortest.Unit {
		u := &instances{}
		return actuatortest.Unit{
			Open: func(testing.TB) actuator.Driver { return local.Hold(u) },
			Rule: func(testing.TB) string {
				now, _ := u.Orders()
				return fmt.Sprint(now.Workers, now.Batch, now.Route.Share)
			},
		}
	}})
}

func TestOrdersThatCannotBeCarriedOutAreRefused(t *testing.T) {
	h := local.Hold(&instances{})
	defer h.Close()
	later := time.Now().Add(time.Minute)
	for _, c := range []struct {
		o       orchestrator.Orders
		expires time.Time
		kind    errkind.Kind
	}{
		{orchestrator.Orders{}, later, errkind.Invalid},
		{orchestrator.Orders{Workers: 10}, later, errkind.Invalid},
		{orchestrator.Orders{Workers: 1, Batch: 257}, later, errkind.Invalid},
		{orchestrator.Orders{Workers: 1, Route: orchestrator.Route{To: "fallback", Share: 1.1}}, later, errkind.Invalid},
		{orchestrator.Orders{Workers: 1, Route: orchestrator.Route{To: "elsewhere", Share: 0.1}}, later, errkind.Unsupported},
		{orchestrator.Orders{Workers: 1}, time.Now().Add(-time.Second), errkind.Invalid},
	} {
		if err := h.Apply(t.Context(), c.o, c.expires); !errkind.Is(err, c.kind) {
			t.Errorf("%+v until %v: %v, want %v", c.o, c.expires, err, c.kind)
		}
	}
	if s, err := h.Status(t.Context()); err != nil || s.Ours || s.Workers != 9 {
		t.Errorf("after refusals the status is %+v, %v", s, err)
	}
}
