package console

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// CapacityFunc finds what holds the capacity of a pipeline; one that does not run here is NotFound.
type CapacityFunc func(pipeline string) (actuator.Driver, error)

// capacity is the body of requests and answers. Only workers, batch, route and expires are taken.
type capacity struct {
	Workers   int           `json:"workers"`
	Most      int           `json:"most"`
	Batch     int           `json:"batch"`
	MostBatch int           `json:"most_batch"`
	Route     capacityRoute `json:"route"`
	Fallback  bool          `json:"has_fallback"`
	Ordered   bool          `json:"ordered"`
	Expires   *time.Time    `json:"expires,omitempty"`
}

type capacityRoute struct {
	To    string  `json:"to,omitempty"`
	Share float64 `json:"share"`
}

// defaultExpiry is how long orders hold that do not say it.
const defaultExpiry = 5 * time.Minute

func (s *Server) capacityOf(w http.ResponseWriter, r *http.Request) (actuator.Driver, bool) {
	if s.o.Capacity == nil {
		s.fail(w, r, errkind.New(errkind.NotFound, "this process runs no pipeline; freshet run does"))
		return nil, false
	}
	d, err := s.o.Capacity(r.PathValue("pipeline"))
	if err != nil {
		s.fail(w, r, err)
		return nil, false
	}
	return d, true
}

func (s *Server) getCapacity(w http.ResponseWriter, r *http.Request) {
	if d, ok := s.capacityOf(w, r); ok {
		s.tellCapacity(w, r, d)
	}
}

func (s *Server) tellCapacity(w http.ResponseWriter, r *http.Request, d actuator.Driver) {
	st, err := d.Status(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c := capacity{
		Workers: st.Workers, Most: st.Most, Batch: st.Batch, MostBatch: st.MostBatch, Route: capacityRoute(st.Route),
		Fallback: d.Capabilities().Route, Ordered: st.Ours,
	}
	if !st.Expires.IsZero() {
		c.Expires = &st.Expires
	}
	writeJSON(w, http.StatusOK, c)
}

func (s *Server) putCapacity(w http.ResponseWriter, r *http.Request) {
	d, ok := s.capacityOf(w, r)
	if !ok {
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.fail(w, r, errkind.New(errkind.Invalid, `the Content-Type must be application/json, such as -H 'Content-Type: application/json' -d '{"workers":2}'`))
		return
	}
	const most = 64 << 10
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	dec.DisallowUnknownFields()
	var c capacity
	err := dec.Decode(&c)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind the JSON object")
		}
	}
	if err != nil {
		s.fail(w, r, errkind.Errorf(errkind.Invalid, `read the order, such as {"workers":2,"batch":64,"expires":"2026-01-02T15:04:05Z"}: %w`, err))
		return
	}
	expires := s.o.Now().Add(defaultExpiry)
	if c.Expires != nil {
		expires = *c.Expires
	}
	if err := d.Apply(r.Context(), orchestrator.Orders{Workers: c.Workers, Batch: c.Batch, Route: orchestrator.Route(c.Route)}, expires); err != nil {
		s.fail(w, r, err)
		return
	}
	s.tellCapacity(w, r, d)
}

func (s *Server) deleteCapacity(w http.ResponseWriter, r *http.Request) {
	d, ok := s.capacityOf(w, r)
	if !ok {
		return
	}
	if err := d.Revert(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.tellCapacity(w, r, d)
}
