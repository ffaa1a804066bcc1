package export

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

// OpenLineage gathers predictions into runs of OpenLineage 2-0-2: a run is what one
// version answered in one role within one interval of publication. Predictions may come
// in any order; what it holds grows with the number of runs, not of predictions.
type OpenLineage struct {
	// Namespace is that of the job and of the topics.
	Namespace string
	// Every is the length of an interval; 0 is an hour.
	Every time.Duration
	// Tables are further inputs: topics, files or servers that rows are looked up in.
	Tables []string
	// Outputs are the result topics of each route.
	Outputs map[string][]string
	// Version is that of this program.
	Version string

	runs map[runKey]*run
}

type runKey struct {
	pipeline, config, model, version, digest, role, rollout, topic, contract string
	start                                                                    int64
}

// run is what is known of a run.
type run struct {
	rows        int64
	first, last time.Time // publication
	oldest      time.Time // event
	newest      time.Time
	paths       map[string]int64
	routes      map[string]int64
	freshness   float64 // the sum, in seconds
	worst       float64
}

// Add takes a prediction into its runs: one for each step.
func (o *OpenLineage) Add(r *lineage.Record) {
	if o.runs == nil {
		o.runs = map[runKey]*run{}
	}
	every := cmp.Or(o.Every, time.Hour)
	published := r.Times.Event
	if r.Times.Published != nil {
		published = *r.Times.Published
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		k := runKey{r.Pipeline, r.Config, a.Model, a.Version, a.Digest, a.Role, a.Rollout, r.Event.Topic, r.Contract, published.Truncate(every).UnixNano()}
		x := o.runs[k]
		if x == nil {
			x = &run{first: published, last: published, oldest: r.Times.Event, newest: r.Times.Event, paths: map[string]int64{}, routes: map[string]int64{}}
			o.runs[k] = x
		}
		x.rows++
		x.first, x.last = earlier(x.first, published), laterOf(x.last, published)
		x.oldest, x.newest = earlier(x.oldest, r.Times.Event), laterOf(x.newest, r.Times.Event)
		x.paths[a.Path]++
		x.routes[r.Result.Route]++
		if f := r.Times.Freshness; f != nil {
			x.freshness += *f
			x.worst = max(x.worst, *f)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

const (
	producer   = "https://github.com/freshet-io/freshet"
	eventURL   = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
	facetURL   = "https://openlineage.io/spec/facets/"
	runFacet   = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
	dataFacet  = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/DatasetFacet"
	nominalURL = facetURL + "1-0-1/NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet"
	engineURL  = facetURL + "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet"
	jobTypeURL = facetURL + "2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet"
	rowsURL    = facetURL + "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet"
)

type object = map[string]any

// facet is a facet with what every one has.
func facet(schema string, members object) object {
	members["_producer"], members["_schemaURL"] = producer, schema
	return members
}

// Events are the events of all runs, a START and a COMPLETE for each, by time.
// The same predictions give the same events, with the same ids.
func (o *OpenLineage) Events() ([][]byte, error) {
	keys := make([]runKey, 0, len(o.runs))
	for k := range o.runs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b runKey) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.model, b.model), cmp.Compare(a.version, b.version), cmp.Compare(a.role, b.role), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	var out [][]byte
	for _, k := range keys {
		x := o.runs[k]
		for _, e := range []struct {
			kind string
			at   time.Time
		}{{"START", x.first}, {"COMPLETE", x.last}} {
			b, err := json.Marshal(o.event(k, x, e.kind, e.at))
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
	}
	return out, nil
}

func (o *OpenLineage) event(k runKey, x *run, kind string, at time.Time) object {
	start := time.Unix(0, k.start).UTC()
	model := object{"name": k.model, "version": k.version, "digest": k.digest, "role": k.role}
	if k.rollout != "" {
		model["rollout"] = k.rollout
	}
	paths := object{}
	for p, n := range x.paths {
		paths[p] = n
	}
	inputs := []object{{
		"namespace": o.Namespace, "name": k.topic,
		"facets": object{"freshet_contract": facet(dataFacet, object{"contract": k.contract})},
	}}
	for _, t := range o.Tables {
		inputs = append(inputs, object{"namespace": o.Namespace, "name": t})
	}
	return object{
		"eventType": kind, "eventTime": stamp(at), "producer": producer, "schemaURL": eventURL,
		"run": object{"runId": k.id(o.Namespace), "facets": object{
			"nominalTime":       facet(nominalURL, object{"nominalStartTime": stamp(start), "nominalEndTime": stamp(start.Add(cmp.Or(o.Every, time.Hour)))}),
			"processing_engine": facet(engineURL, object{"name": "freshet", "version": cmp.Or(o.Version, "unknown")}),
			"freshet_model":     facet(runFacet, model),
			"freshet_pipeline":  facet(runFacet, object{"configuration": k.config}),
			"freshet_predictions": facet(runFacet, object{
				"rows": x.rows, "paths": paths, "firstEventTime": stamp(x.oldest), "lastEventTime": stamp(x.newest),
				"firstPublished": stamp(x.first), "lastPublished": stamp(x.last),
				"meanFreshnessSeconds": x.freshness / float64(x.rows), "maxFreshnessSeconds": x.worst,
			}),
		}},
		"job": object{"namespace": o.Namespace, "name": k.pipeline, "facets": object{
			"jobType": facet(jobTypeURL, object{"processingType": "STREAMING", "integration": "FRESHET", "jobType": "PIPELINE"}),
		}},
		"inputs": inputs, "outputs": o.outputs(x),
	}
}

// outputs are the result topics with how many rows went to each.
func (o *OpenLineage) outputs(x *run) []object {
	rows := map[string]int64{}
	for route, n := range x.routes {
		for _, t := range o.Outputs[route] {
			rows[t] += n
		}
	}
	names := make([]string, 0, len(rows))
	for t := range rows {
		names = append(names, t)
	}
	slices.Sort(names)
	out := []object{}
	for _, t := range names {
		out = append(out, object{"namespace": o.Namespace, "name": t, "outputFacets": object{"outputStatistics": facet(rowsURL, object{"rowCount": rows[t]})}})
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// id is a UUID of version 8 made of the hash of what the run is.
func (k *runKey) id(namespace string) string {
	h := sha256.Sum256([]byte(strings.Join([]string{
		"freshet/run/1", namespace, k.pipeline, k.config, k.model, k.version, k.digest, k.role, k.rollout, k.topic, k.contract, fmt.Sprint(k.start),
	}, "\x00")))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Post sends events to an OpenLineage receiver, one after the other, each within
// timeout. Answers other than 2xx are errors: Transient for 5xx and where nobody answers,
// Throttled for 429, Config for 401 and 403, Invalid otherwise.
func Post(ctx context.Context, client *http.Client, url, token string, timeout time.Duration, events [][]byte) error {
	for i, e := range events {
		if err := post(ctx, client, url, token, timeout, e); err != nil {
			return fmt.Errorf("send OpenLineage event %d of %d: %w", i+1, len(events), err)
		}
	}
	return nil
}

func post(ctx context.Context, client *http.Client, url, token string, timeout time.Duration, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
	if err != nil {
		return errkind.Errorf(errkind.Config, "%w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return errkind.With(errkind.Transient, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		_, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
		return err
	}
	said, _ := io.ReadAll(io.LimitReader(res.Body, 512)) // best effort
	kind := errkind.Invalid
	switch {
	case res.StatusCode >= 500:
		kind = errkind.Transient
	case res.StatusCode == http.StatusTooManyRequests:
		kind = errkind.Throttled
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		kind = errkind.Config
	}
	return errkind.Errorf(kind, "the receiver answered %s: %s", res.Status, bytes.TrimSpace(said))
}
