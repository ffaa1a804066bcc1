package console

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

// recorded answers for one event, and remembers what it was asked.
type recorded struct {
	p   lineage.Prediction
	q   lineage.Query
	err error
}

func (r *recorded) Event(_ context.Context, id string) ([]lineage.Prediction, error) {
	if id != r.p.ID {
		return nil, errkind.New(errkind.NotFound, "no prediction for the event "+id)
	}
	return []lineage.Prediction{r.p}, nil
}

func (r *recorded) Search(_ context.Context, q lineage.Query, visit func(lineage.Prediction) bool) error {
	r.q = q
	if r.err != nil {
		return r.err
	}
	for range 3 {
		if !visit(r.p) {
			break
		}
	}
	return nil
}

func TestPredictionsAreServed(t *testing.T) {
	r := &recorded{p: lineage.Prediction{Source: &lineage.Source{Pipeline: "fraud", Topic: "payments"}, ID: "a/b c", Time: 1e18}}
	f := newFixture(t, Options{Lineage: func(_ context.Context, name string) (lineage.Records, error) {
		if name != "fraud" {
			return nil, errkind.New(errkind.NotFound, "there are no predictions of a pipeline "+name)
		}
		return r, nil
	}})
	const base = "/pipelines/fraud/lineage"
	if w := f.do("GET", base+"/"+url.PathEscape("a/b c"), ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"predictions":[{"pipeline":"fraud"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := f.do("GET", base+"?where=score+%3E+0.5&key=k&limit=7&from=2026-01-31T12:00:00Z&to=2026-02-01T00:00:00Z", "")
	if w.Code != 200 || strings.Count(w.Body.String(), "\n") != 3 || w.Header().Get("Content-Type") != typeNDJSON {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	want := lineage.Query{Where: "score > 0.5", Key: "k", Limit: 7, From: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), To: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}
	if r.q != want {
		t.Errorf("asked %+v", r.q)
	}
	for target, status := range map[string]int{
		base + "/nobody": 404, "/pipelines/other/lineage": 404, base + "?limit=0": 400, base + "?from=noon": 400, base + "?form=x": 400, base + "?key=a&key=b": 400,
	} {
		if w := f.do("GET", target, ""); w.Code != status || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if w := f.do("POST", base, ""); w.Code != 405 || w.Header().Get("Allow") != "GET" {
		t.Errorf("POST: %d", w.Code)
	}
	r.err = errkind.New(errkind.Transient, "the store is being made")
	if w := f.do("GET", base, ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := newFixture(t, Options{}).do("GET", base, ""); w.Code != 404 {
		t.Errorf("a process without records: %d", w.Code)
	}
}
