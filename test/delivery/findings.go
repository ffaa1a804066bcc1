package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// finding is what one cell found.
type finding struct {
	Broker   string    `json:"broker"`
	Version  string    `json:"version"`
	Fault    string    `json:"fault"`
	Pipeline string    `json:"pipeline"`
	Date     time.Time `json:"date"`
	Host     string    `json:"host"`
	Revision string    `json:"revision"`
	Rate     int       `json:"events_per_second"`
	Counts   counts    `json:"counts"`
	// Failed says why the cell has no counts; "" where it has.
	Failed string `json:"failed,omitempty"`
}

// sound says whether nothing was lost, wrong or out of order.
func (f *finding) sound() bool {
	c := f.Counts
	return f.Failed == "" && c.In > 0 && c.Lost == 0 && c.RepeatsByID == 0 && c.OutOfOrder == 0 && c.WrongFeatures == 0 && c.DeadLetters == 0
}

func loadFindings(file string) ([]finding, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	var all []finding
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read findings in %s: %w", file, err)
	}
	return all, nil
}

// merge puts f in the place of an older finding of the same cell.
func merge(all []finding, f finding) []finding {
	all = slices.DeleteFunc(all, func(o finding) bool {
		return o.Broker == f.Broker && o.Fault == f.Fault && o.Pipeline == f.Pipeline
	})
	all = append(all, f)
	slices.SortFunc(all, func(a, b finding) int {
		return strings.Compare(a.Broker+" "+a.Fault+" "+a.Pipeline, b.Broker+" "+b.Fault+" "+b.Pipeline)
	})
	return all
}

func saveFindings(file string, all []finding) error {
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil { //nolint:gosec // for everybody to read
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
