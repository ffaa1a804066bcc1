package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/event"
)

const (
	customers = 61
	terminals = 37 // more than a batch has events: those of one batch lie on different terminals
)

// numbered is one event that was sent. Its fields follow from its number.
type numbered struct {
	ID       string  `json:"id"`
	Time     string  `json:"time"`
	Customer string  `json:"customer"`
	Terminal string  `json:"terminal"`
	Amount   float64 `json:"amount"`

	at time.Time
}

// eventOf makes event number seq of a run that began at start and sends one every step.
func eventOf(seq int, start time.Time, step time.Duration) numbered {
	at := start.Add(time.Duration(seq) * step).UTC()
	return numbered{
		ID: fmt.Sprintf("e-%06d", seq), Time: at.Format(time.RFC3339Nano), at: at,
		Customer: fmt.Sprintf("c-%d", seq*7919%customers), Terminal: fmt.Sprintf("t-%d", seq%terminals),
		Amount: float64(seq*104729%4000) / 4, // sums of quarters are exact
	}
}

func (n numbered) record() (event.Record, error) {
	value, err := json.Marshal(n)
	return event.Record{
		ID: []byte(n.ID), Key: []byte(n.Customer), Value: value,
		Headers: event.Headers(nil).AppendString("ce_type", "numbered").AppendString("ce_source", "/test/delivery"),
	}, err
}

// result is what a pipeline made of an event.
type result struct {
	ID       string             `json:"id"`
	SourceID string             `json:"source_id"`
	Features map[string]float64 `json:"features"`
}
