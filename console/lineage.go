package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

// LineageFunc finds the predictions of a pipeline; one without any is NotFound.
type LineageFunc func(ctx context.Context, pipeline string) (lineage.Records, error)

// pipelineRecords finds what a request is about, or answers that there is none.
func (s *Server) pipelineRecords(w http.ResponseWriter, r *http.Request) (lineage.Records, bool) {
	if s.o.Lineage == nil {
		s.fail(w, r, errkind.New(errkind.NotFound, "this process keeps no records of predictions; freshet run does"))
		return nil, false
	}
	records, err := s.o.Lineage(r.Context(), r.PathValue("pipeline"))
	if err != nil {
		s.fail(w, r, err)
		return nil, false
	}
	return records, true
}

// eventLineage answers with the predictions for one event, the latest first.
func (s *Server) eventLineage(w http.ResponseWriter, r *http.Request) {
	if !enter(w, s.streams) {
		return
	}
	defer func() { <-s.streams }()
	records, ok := s.pipelineRecords(w, r)
	if !ok {
		return
	}
	found, err := records.Event(r.Context(), r.PathValue("event"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := struct {
		Predictions []lineage.Record `json:"predictions"`
	}{make([]lineage.Record, len(found))}
	for i := range found {
		out.Predictions[i] = found[i].Record()
	}
	writeJSON(w, http.StatusOK, out)
}

// searchLineage streams the predictions that the query asks for as NDJSON, the newest first.
func (s *Server) searchLineage(w http.ResponseWriter, r *http.Request) {
	q, err := parseLineageQuery(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !enter(w, s.streams) {
		return
	}
	defer func() { <-s.streams }()
	records, ok := s.pipelineRecords(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { // a search ends with the server
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	// The status is sent with the first prediction: until then there may be an error.
	var out *streamWriter
	begin := func() {
		w.Header().Set("Content-Type", typeNDJSON)
		out = newStreamWriter(w, query{limit: -1}, s.timeout)
	}
	err = records.Search(ctx, q, func(p lineage.Prediction) bool {
		if out == nil {
			begin()
		}
		line, err := json.Marshal(p)
		if err != nil {
			return false // a Record is always JSON
		}
		out.extend()
		_, err = out.w.Write(append(line, '\n'))
		return err == nil
	})
	switch {
	case err != nil && out == nil:
		s.fail(w, r, err)
	case err != nil:
		panic(http.ErrAbortHandler) // what is not all must not look complete
	default:
		if out == nil {
			begin()
		}
		_ = out.flush() // a client that has gone misses nothing
	}
}

func parseLineageQuery(v url.Values) (q lineage.Query, err error) {
	for name, values := range v {
		if len(values) != 1 {
			return q, errkind.Errorf(errkind.Invalid, "query parameter %s is given %d times", name, len(values))
		}
		value := values[0]
		want := ""
		switch name {
		case "from":
			want = "a time as in 2006-01-02T15:04:05Z"
			q.From, err = time.Parse(time.RFC3339Nano, value)
		case "to":
			want = "a time as in 2006-01-02T15:04:05Z"
			q.To, err = time.Parse(time.RFC3339Nano, value)
		case "where":
			q.Where = value
		case "key":
			q.Key = value
		case "limit":
			want = "a number of predictions of at least 1"
			if q.Limit, err = strconv.Atoi(value); err == nil && q.Limit < 1 {
				err = strconv.ErrRange
			}
		default:
			return q, errkind.Errorf(errkind.Invalid, "query parameter %q is not known; there are from, to, where, key and limit", name)
		}
		if err != nil {
			return q, errkind.Errorf(errkind.Invalid, "query parameter %s is %q, expected %s", name, value, want)
		}
	}
	return q, nil
}
