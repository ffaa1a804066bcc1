package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/inference"
)

// This file is the pipeline's work as people write it by hand, for the peers:
// validate, look up, windows, score, route, encode.

// payment is an event as the standard library decodes it; pointers tell what is missing.
type payment struct {
	ID          *int64   `json:"transaction_id"`
	Time        *string  `json:"tx_datetime"`
	Customer    *int64   `json:"customer_id"`
	Terminal    *int64   `json:"terminal_id"`
	Amount      *float64 `json:"tx_amount"`
	Currency    *string  `json:"currency"`
	Category    *string  `json:"category"`
	Country     *string  `json:"country"`
	Channel     *string  `json:"channel"`
	CardPresent *bool    `json:"card_present"`
	Device      *string  `json:"device"`
	Reference   *string  `json:"reference"`

	at time.Time
}

// decodePayment decodes an event and checks what the contract says.
func decodePayment(data []byte) (*payment, error) {
	p := &payment{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("decode payment: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode payment: more than one value")
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("check payment: %w", err)
	}
	return p, nil
}

func (p *payment) check() error {
	if p.ID == nil || p.Time == nil || p.Customer == nil || p.Terminal == nil || p.Amount == nil || p.Currency == nil ||
		p.Category == nil || p.Country == nil || p.Channel == nil || p.CardPresent == nil || p.Device == nil || p.Reference == nil {
		return errors.New("a required field is missing")
	}
	inRange := *p.ID >= 0 && *p.Customer >= 0 && *p.Terminal >= 0 && *p.Amount >= 0 && *p.Amount <= 1e8
	lengths := len(*p.Country) == 2 && len(*p.Device) >= 8 && len(*p.Device) <= 64 && *p.Reference != "" && len(*p.Reference) <= 64
	if !inRange || !lengths {
		return errors.New("a field is out of range")
	}
	if !slices.Contains(currencies[:], *p.Currency) || !slices.Contains(categories[:], *p.Category) || !slices.Contains(channels[:], *p.Channel) {
		return errors.New("a field has an unknown value")
	}
	var err error
	p.at, err = time.Parse("2006-01-02T15:04:05", *p.Time)
	return err
}

// history is one customer's payments of the last 30 days, with the running
// count and sum of each window.
type history struct {
	at     []int64 // Unix seconds
	amount []float64
	tails  [3]int
	sums   [3]float64
}

var spans = [3]int64{86400, 7 * 86400, 30 * 86400}

// windows holds the customers' histories, in memory.
type windows map[int64]*history

// add takes a payment in and returns count and mean over 1, 7 and 30 days.
func (w windows) add(customer, at int64, amount float64) (out [6]float64) {
	h := w[customer]
	if h == nil {
		h = &history{}
		w[customer] = h
	}
	h.at, h.amount = append(h.at, at), append(h.amount, amount)
	for i, span := range spans {
		h.sums[i] += amount
		for h.at[h.tails[i]] <= at-span {
			h.sums[i] -= h.amount[h.tails[i]]
			h.tails[i]++
		}
		n := float64(len(h.at) - h.tails[i])
		out[2*i], out[2*i+1] = n, h.sums[i]/n
	}
	if dead := h.tails[2]; dead > 64 && dead > len(h.at)/2 {
		h.at, h.amount = append(h.at[:0], h.at[dead:]...), append(h.amount[:0], h.amount[dead:]...)
		for i := range h.tails {
			h.tails[i] -= dead
		}
	}
	return out
}

// result is what is published for a payment.
type result struct {
	ID       string             `json:"id"`
	SourceID string             `json:"source_id"`
	Time     string             `json:"time"`
	Model    string             `json:"model"`
	Version  string             `json:"version"`
	Score    float64            `json:"score"`
	Route    string             `json:"route"`
	Features map[string]float64 `json:"features"`
}

const inputs = 9

// features computes the model's inputs, in its order, and the terminal's risk.
func (s *scenario) features(w windows, p *payment) (x [inputs]float32, risk float64) {
	win := w.add(*p.Customer, p.at.Unix(), *p.Amount)
	x[0] = float32(*p.Amount)
	if d := p.at.Weekday(); d == time.Saturday || d == time.Sunday {
		x[1] = 1
	}
	if p.at.Hour() <= 6 {
		x[2] = 1
	}
	for i, v := range win {
		x[3+i] = float32(v)
	}
	return x, s.risk[*p.Terminal]
}

var featureNames = [inputs]string{"tx_amount", "weekend", "night", "customer_tx_1d", "customer_amount_1d",
	"customer_tx_7d", "customer_amount_7d", "customer_tx_30d", "customer_amount_30d"}

// answer routes and encodes one result.
func answer(p *payment, x [inputs]float32, risk, score float64) (topic string, data []byte, err error) {
	r := result{ID: "bench-" + strconv.FormatInt(*p.ID, 10), SourceID: strconv.FormatInt(*p.ID, 10), Time: *p.Time,
		Model: "fraud-risk", Version: "1", Score: score, Route: "normal", Features: make(map[string]float64, inputs+1)}
	for i, n := range featureNames {
		r.Features[n] = float64(x[i])
	}
	r.Features["terminal.risk"] = risk
	topic = "scored"
	if score >= alertScore || risk > alertRisk {
		r.Route, topic = "alert", "alerts"
	}
	data, err = json.Marshal(r)
	return topic, data, err
}

// scorer calls a model with rows; it is for one goroutine.
type scorer struct {
	driver  inference.Driver
	in, out []inference.Tensor
}

func newScorer(d inference.Driver) *scorer {
	m := d.Metadata()
	s := &scorer{driver: d, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, len(m.Outputs))}
	s.in[0] = inference.Tensor{Name: m.Inputs[0].Name, Type: inference.Float32}
	return s
}

// score returns the probability of the positive class for each row.
func (s *scorer) score(ctx context.Context, rows [][inputs]float32, scores []float64) ([]float64, error) {
	in := &s.in[0]
	in.Shape = append(in.Shape[:0], len(rows), inputs)
	in.F32 = in.F32[:0]
	for i := range rows {
		in.F32 = append(in.F32, rows[i][:]...)
	}
	if err := s.driver.Infer(ctx, s.in, s.out); err != nil {
		return nil, err
	}
	p := s.out[len(s.out)-1].F32 // [n, 2]
	if len(p) != 2*len(rows) {
		return nil, fmt.Errorf("the model answered %d probabilities for %d rows, expected two a row", len(p), len(rows))
	}
	scores = scores[:0]
	for i := range rows {
		if math.IsNaN(float64(p[2*i+1])) {
			return nil, errors.New("the model answered NaN")
		}
		scores = append(scores, float64(p[2*i+1]))
	}
	return scores, nil
}
