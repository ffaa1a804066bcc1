package console

import (
	"net/http"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/pipeline"
)

type topicSummary struct {
	Name       string `json:"name"`
	Partitions int    `json:"partitions"`
	Records    int64  `json:"records"`
	Bytes      int64  `json:"bytes"`
	// Internal: a pipeline keeps its state there, or carries events between two keys.
	Internal bool `json:"internal,omitempty"`
}

func summarize(name string, t *broker.Topic) topicSummary {
	s := topicSummary{Name: name, Partitions: len(t.Partitions)}
	for _, p := range t.Partitions {
		s.Records += p.End - p.Start
		s.Bytes += p.Bytes
	}
	return s
}

func (s *Server) listTopics(w http.ResponseWriter, r *http.Request) {
	names, err := s.o.Broker.Topics(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := struct {
		Topics []topicSummary `json:"topics"`
	}{[]topicSummary{}}
	internal := pipeline.InternalTopics(names)
	for _, name := range names {
		t, err := s.o.Broker.Describe(r.Context(), name, "")
		if errkind.Is(err, errkind.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		sum := summarize(name, &t)
		sum.Internal = internal[name]
		out.Topics = append(out.Topics, sum)
	}
	writeJSON(w, http.StatusOK, out)
}

type topicState struct {
	topicSummary
	// RetentionSeconds, RetainBytes and DedupSeconds are 0 where there is no limit or no window.
	RetentionSeconds float64          `json:"retention_seconds"`
	RetainBytes      int64            `json:"retain_bytes"`
	DedupSeconds     float64          `json:"dedup_seconds"`
	Group            string           `json:"group,omitempty"`
	Lag              *lag             `json:"lag,omitempty"`
	State            []partitionState `json:"state"`
}

type partitionState struct {
	Partition int   `json:"partition"`
	Start     int64 `json:"start"`
	End       int64 `json:"end"`
	Bytes     int64 `json:"bytes"`
	// Committed and Lag are there where a group was asked for; Committed is −1
	// where it has no position.
	Committed *int64 `json:"committed,omitempty"`
	Lag       *lag   `json:"lag,omitempty"`
}

type lag struct {
	Records          int64   `json:"records"`
	OldestAgeSeconds float64 `json:"oldest_age_seconds"`
}

func lagOf(l broker.Lag) *lag { return &lag{l.Records, l.OldestAge.Seconds()} }

func (s *Server) topicInfo(w http.ResponseWriter, r *http.Request) {
	name, group := r.PathValue("topic"), r.URL.Query().Get("group")
	t, err := s.o.Broker.Describe(r.Context(), name, group)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := topicState{
		topicSummary:     summarize(name, &t),
		RetentionSeconds: t.Config.Retention.Seconds(),
		RetainBytes:      t.Config.RetainBytes,
		DedupSeconds:     t.Config.DedupWindow.Seconds(),
		Group:            group,
	}
	total, lags := t.Lag(time.Now())
	if group != "" {
		out.Lag = lagOf(total)
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		st := partitionState{Partition: i, Start: p.Start, End: p.End, Bytes: p.Bytes}
		if group != "" {
			st.Committed, st.Lag = &p.Committed, lagOf(lags[i])
		}
		out.State = append(out.State, st)
	}
	writeJSON(w, http.StatusOK, out)
}
