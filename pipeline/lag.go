package pipeline

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// StageLag is how far one stage of a pipeline is behind on the topic that it
// reads. On the source a record is an event; on a topic between two stages it
// holds a batch of them.
type StageLag struct {
	Topic string
	broker.Lag
	// Stored is how many records the topic has taken since it was made, read together with Lag;
	// negative where the broker's positions do not count them.
	Stored int64
}

// Lags is how far each stage is behind, the one that reads the source first. The
// age is that of a record on its topic: the events in one between two stages
// arrived at the source before it was stored.
func (p *Pipeline) Lags(ctx context.Context) ([]StageLag, error) {
	lags := make([]StageLag, 0, len(p.plan.stages))
	for _, st := range p.plan.stages {
		t, err := p.broker.Describe(ctx, st.topic, p.plan.Spec.Group())
		if err != nil && (st.index == 0 || !errkind.Is(err, errkind.NotFound)) { // the others are made by Run
			return nil, fmt.Errorf("look how far %s is processed: %w", st.topic, err)
		}
		l := StageLag{Topic: st.topic, Stored: -1}
		l.Lag, _ = t.Lag(time.Now())
		if err == nil && p.broker.Capabilities().Gapless {
			l.Stored = 0
			for _, part := range t.Partitions {
				l.Stored += part.End
			}
		}
		lags = append(lags, l)
	}
	return lags, nil
}

// Lag is how far the pipeline as a whole is behind: the records that wait for
// any of its stages, and the age of the oldest of them. Without records every
// event that was on the source is processed, and its result committed.
func (p *Pipeline) Lag(ctx context.Context) (total broker.Lag, err error) {
	lags, err := p.Lags(ctx)
	for _, l := range lags {
		total.Records += l.Records
		total.OldestAge = max(total.OldestAge, l.OldestAge)
	}
	return total, err
}

// InternalTopics picks out of the names of all topics those in which pipelines
// keep their state and carry events between stages. What is in them is no event
// that another program could read. A pipeline is known by its dead letters.
func InternalTopics(names []string) map[string]bool {
	internal := map[string]bool{}
	for _, n := range names {
		name, ok := strings.CutSuffix(n, deadLetterSuffix)
		if !ok || name == "" {
			continue
		}
		for _, t := range names {
			if t == name+stateSuffix || strings.HasPrefix(t, name+shuffleInfix) {
				internal[t] = true
			}
		}
	}
	return internal
}
