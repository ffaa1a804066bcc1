package cli

import (
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// runConfig is what a run would work with, without its secrets.
type runConfig struct {
	Pipeline    string              `json:"pipeline"`
	File        string              `json:"file"`
	Broker      string              `json:"broker"`
	Group       string              `json:"group"`
	Freshness   freshnessConfig     `json:"freshness"`
	Source      string              `json:"source"`
	From        string              `json:"from,omitempty"`
	Labels      string              `json:"labels,omitempty"`
	Tables      map[string]string   `json:"tables,omitempty"`
	Store       string              `json:"state_store"`
	Checkpoints string              `json:"checkpoints,omitempty"`
	DeadLetters string              `json:"dead_letters"`
	Outputs     map[string][]string `json:"outputs"`
}

type freshnessConfig struct {
	TargetSeconds float64 `json:"target_seconds"`
	Quantile      float64 `json:"quantile"`
}

// printConfig writes what a run would work with. URLs are shown without user,
// password and options.
func (a *app) printConfig(plan *pipeline.Plan) error {
	s := plan.Spec
	c := runConfig{
		Pipeline: s.Name, File: s.File, Broker: a.where(), Group: s.Group(),
		Freshness: freshnessConfig{s.Freshness.Target.Seconds(), s.Freshness.Quantile},
		Source:    s.Source.Topic, From: shown(s.Source.From), Store: s.State.Store, Checkpoints: shown(s.State.Checkpoints),
		DeadLetters: s.DeadLetters(), Tables: map[string]string{}, Outputs: map[string][]string{},
	}
	if s.Labels != nil {
		c.Labels = s.Labels.Topic
	}
	for _, t := range s.Tables {
		switch {
		case t.URL != "":
			c.Tables[t.Name] = shown(t.URL)
		case t.Topic != "":
			c.Tables[t.Name] = "topic " + t.Topic
		default:
			c.Tables[t.Name] = t.File
		}
	}
	for _, st := range s.Steps {
		r, ok := st.(*pipeline.Route)
		if !ok {
			continue
		}
		for _, rc := range r.Cases {
			for _, topic := range rc.To {
				c.Outputs[topic] = []string{}
			}
		}
	}
	for _, o := range s.Outputs {
		for _, url := range o.Also {
			c.Outputs[o.Topic] = append(c.Outputs[o.Topic], shown(url))
		}
	}
	return writeJSON(a.Stdout, c)
}

func shown(url string) string {
	if url == "" {
		return ""
	}
	return builtin.RedactURL(url)
}
