package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
)

// problem is an error answer after RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Kind is the errkind's name.
	Kind string `json:"kind,omitempty"`
	// Near are topics whose names resemble one that is missing.
	Near []string `json:"near,omitempty"`
	// Line is the line of an NDJSON body that the problem is about, counted from 1.
	Line int `json:"line,omitempty"`
	// Record is the place in the request of the event that the problem is about, counted from 0.
	Record *int `json:"record,omitempty"`
	// Published says what of the request is durable all the same.
	Published *published `json:"published,omitempty"`

	retryAfter int // seconds
}

// published is the answer to a POST.
type published struct {
	Stored     int `json:"stored"`
	Duplicates int `json:"duplicates"`
}

func (p *published) add(q broker.Published) {
	p.Stored += q.Stored
	p.Duplicates += q.Duplicates
}

func writeProblem(w http.ResponseWriter, p problem) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	writeBody(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, v)
}

func writeBody(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b, status = []byte(`{}`), http.StatusInternalServerError // not reached: the types here marshal
	}
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // a failure means that the client has gone
}

// fail answers with err, by its kind.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.failWith(w, r, err, problem{})
}

// failWith is fail with the members that p has already.
func (s *Server) failWith(w http.ResponseWriter, r *http.Request, err error, p problem) {
	kind := errkind.Of(err)
	p.Detail, p.Kind = err.Error(), kind.String()
	var tooLarge *broker.TooLargeError
	var body *http.MaxBytesError
	var line *lineTooLongError
	switch {
	case errors.As(err, &line):
		p.Status, p.Kind = http.StatusRequestEntityTooLarge, errkind.Invalid.String()
	case errors.As(err, &tooLarge):
		p.Status = http.StatusRequestEntityTooLarge
		if p.Record == nil && p.Line == 0 {
			p.Record = &tooLarge.Records[0].Index
		}
	case errors.As(err, &body):
		p.Status, p.Kind = http.StatusRequestEntityTooLarge, errkind.Invalid.String()
		p.Detail = "the body is above the limit of " + strconv.FormatInt(body.Limit, 10) + " bytes; send several requests, or NDJSON, which has no limit as a whole"
	default:
		p.Status = statusOf(kind)
	}
	switch p.Status {
	case http.StatusNotFound:
		p.Near = s.near(r.Context(), r.PathValue("topic"))
		if len(p.Near) > 0 {
			p.Detail += "; there is " + strings.Join(p.Near, ", ")
		}
	case http.StatusServiceUnavailable:
		p.retryAfter = 1
		if kind == errkind.Throttled {
			p.retryAfter = 5
		}
	case http.StatusInternalServerError:
		s.o.Logger.LogAttrs(r.Context(), slog.LevelError, "http request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	writeProblem(w, p)
}

func statusOf(k errkind.Kind) int {
	switch k {
	case errkind.Invalid, errkind.Config:
		return http.StatusBadRequest
	case errkind.NotFound:
		return http.StatusNotFound
	case errkind.Conflict:
		return http.StatusConflict
	case errkind.Unsupported:
		return http.StatusNotImplemented
	case errkind.Exhausted:
		return http.StatusInsufficientStorage
	case errkind.Transient, errkind.Throttled, errkind.Closed, errkind.Canceled:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// near returns up to five topics whose names resemble name.
func (s *Server) near(ctx context.Context, name string) []string {
	const most = 5
	topics, err := s.o.Broker.Topics(ctx)
	if err != nil || name == "" {
		return nil
	}
	var out []string
	if n := spell.Nearest(name, topics); n != "" {
		out = append(out, n)
	}
	lower := strings.ToLower(name)
	for _, t := range topics {
		l := strings.ToLower(t)
		if len(out) < most && (strings.Contains(l, lower) || strings.Contains(lower, l)) && (len(out) == 0 || out[0] != t) {
			out = append(out, t)
		}
	}
	return out
}
