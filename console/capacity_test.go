package console

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/actuatortest"
	"github.com/freshet-io/freshet/orchestrator/actuator/local"
)

// nine is a unit of nine instances.
type nine struct {
	mu  sync.Mutex
	now orchestrator.Orders
}

func (u *nine) Order(o orchestrator.Orders) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now = o
	return nil
}

func (u *nine) Orders() (now, most orchestrator.Orders) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, most = u.now, orchestrator.Orders{Workers: 9, Batch: 64, Route: orchestrator.Route{Share: 1}}
	if now.Workers == 0 {
		now.Workers, now.Batch = 9, 64
	}
	return now, most
}

func capacityOptions(d actuator.Driver) Options {
	return Options{Capacity: func(name string) (actuator.Driver, error) {
		if name != "fraud" {
			return nil, errkind.New(errkind.NotFound, "this process runs the pipeline fraud, not "+name)
		}
		return d, nil
	}}
}

func TestCapacityIsOrderedOverHTTP(t *testing.T) {
	h := local.Hold(&nine{})
	defer h.Close()
	f := newFixture(t, capacityOptions(h))
	const path = "/pipelines/fraud/capacity"
	want := func(method, body string, status int, text string) {
		t.Helper()
		w := f.do(method, path, body, asJSON)
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s %s: %d %s", method, body, w.Code, w.Body)
		}
	}
	want("GET", "", 200, `{"workers":9,"most":9,"batch":64,"most_batch":64,"route":{"share":0},"has_fallback":true,"ordered":false}`)
	want("PUT", `{"workers":2,"batch":16,"route":{"to":"fallback","share":0.25}}`, 200, `{"workers":2,"most":9,"batch":16,"most_batch":64,"route":{"to":"fallback","share":0.25},"has_fallback":true,"ordered":true,"expires":"`)
	want("GET", "", 200, `"workers":2`)
	want("DELETE", "", 200, `{"workers":9,"most":9,"batch":64,"most_batch":64,"route":{"share":0},"has_fallback":true,"ordered":false}`)
	want("PUT", `{"workers":10}`, 400, "1 to 9")
	want("PUT", `{"workrs":1}`, 400, "workrs")
	want("PUT", `{"workers":1} {}`, 400, "more behind")
	want("PUT", `{"workers":1,"expires":"2001-01-01T00:00:00Z"}`, 400, "expired already")
	want("POST", `{}`, 405, "GET, PUT, DELETE")
	if w := f.do("PUT", path, `{"workers":1}`, "Content-Type: text/plain"); w.Code != 400 {
		t.Errorf("text/plain: %d %s", w.Code, w.Body)
	}
	if w := f.do("GET", "/pipelines/other/capacity", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "not other") {
		t.Errorf("another pipeline: %d %s", w.Code, w.Body)
	}
	if w := newFixture(t, Options{}).do("GET", path, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "freshet run does") {
		t.Errorf("without a pipeline: %d %s", w.Code, w.Body)
	}
}

func TestTheDriverOverHTTPIsAnActuator(t *testing.T) {
	actuatortest.Run(t, actuatortest.Harness{Unit: func(t testing.TB) actuatortest.Unit {
		h := local.Hold(&nine{})
		s := New(Options{Broker: broker.New(newMemory(nil), broker.Options{}), Capacity: capacityOptions(h).Capacity})
		srv := httptest.NewServer(s.Handler())
		t.Cleanup(func() { srv.Close(); h.Close() })
		return actuatortest.Unit{
			Together: true,
			Open: func(t testing.TB) actuator.Driver {
				d, err := local.Open(t.Context(), srv.URL, "fraud", nil)
				if err != nil {
					t.Fatal(err)
				}
				return d
			},
			Rule: func(t testing.TB) string {
				s, err := h.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				s.Expires, s.Ours = time.Time{}, false
				b, _ := json.Marshal(s)
				return string(b)
			},
		}
	}})
}
