package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/event"
)

//go:embed scenario
var scenarioFiles embed.FS

const (
	terminals   = 10_000
	customers   = 5_000
	alertScore  = 0.5
	alertRisk   = 0.99
	sourceTopic = "payments"
)

// scenario is the work that every side of a comparison does: payments of about
// 300 bytes, their contract, a table of terminals, and a model.
type scenario struct {
	dir    string // pipeline.yaml and what it names
	model  string
	events [][]byte // JSON, in order of time
	keys   [][]byte
	ids    [][]byte
	risk   map[int64]float64
}

// newScenario writes the pipeline's files into dir and makes n payments.
func newScenario(dir, root string, n int) (*scenario, error) {
	s := &scenario{dir: dir, model: filepath.Join(dir, "fraud-risk.onnx"), risk: map[int64]float64{}}
	files := map[string][]byte{"terminals.csv": s.terminals()}
	for _, name := range []string{"contract.schema.json", "pipeline.yaml", "fraud-risk.onnx"} {
		var err error
		if files[name], err = scenarioFiles.ReadFile("scenario/" + name); err != nil {
			return nil, err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	gen, err := workload.NewCardFraud(workload.CardFraud{Seed: 1, Customers: customers, Terminals: terminals})
	if err != nil {
		return nil, err
	}
	var p workload.Payment
	for range n {
		if !gen.Next(&p) {
			return nil, fmt.Errorf("the generator ended after %d payments", len(s.events))
		}
		s.events = append(s.events, appendPayment(make([]byte, 0, 320), &p))
		s.keys = append(s.keys, strconv.AppendInt(nil, int64(p.Customer), 10))
		s.ids = append(s.ids, strconv.AppendInt(nil, p.ID, 10))
	}
	return s, nil
}

// terminals fills the risk table and returns it as CSV.
func (s *scenario) terminals() []byte {
	b := []byte("terminal_id,risk\n")
	for id := range int64(terminals) {
		risk := float64(uint64(id+1)*0x9e3779b97f4a7c15>>44) / (1 << 20)
		s.risk[id] = risk
		b = strconv.AppendInt(b, id, 10)
		b = append(b, ',')
		b = strconv.AppendFloat(b, risk, 'g', -1, 64)
		b = append(b, '\n')
	}
	return b
}

// records are the events from..to as records for a topic.
func (s *scenario) records(from, to int) []event.Record {
	recs := make([]event.Record, 0, to-from)
	for i := from; i < to; i++ {
		recs = append(recs, event.Record{ID: s.ids[i], Key: s.keys[i], Value: s.events[i]})
	}
	return recs
}

// bytes is the mean size of an event.
func (s *scenario) bytes() float64 {
	total := 0
	for _, e := range s.events {
		total += len(e)
	}
	return float64(total) / float64(len(s.events))
}

var (
	currencies = [...]string{"CHF", "EUR", "GBP", "USD"}
	categories = [...]string{"fuel", "groceries", "online", "restaurant", "travel"}
	countries  = [...]string{"CH", "DE", "FR", "GB", "US"}
	channels   = [...]string{"atm", "pos", "web"}
)

// appendPayment writes a payment with the fields of scenario/contract.schema.json.
func appendPayment(b []byte, p *workload.Payment) []byte {
	h := uint64(p.Terminal+1) * 0x9e3779b97f4a7c15
	r := uint64(p.ID+1) * 0xbf58476d1ce4e5b9
	full := p.AppendJSON(nil)
	// Keep the generator's first five fields as they are; its labels are not sent.
	end := len(full)
	for commas := 0; end > 0 && commas < 2; {
		end--
		if full[end] == ',' {
			commas++
		}
	}
	b = append(b, full[:end]...)
	return fmt.Appendf(b, `,"currency":"%s","category":"%s","country":"%s","channel":"%s","card_present":%t,"device":"terminal-%016x","reference":"payment-%016x-%016x"}`,
		currencies[h>>60%4], categories[h>>50%5], countries[h>>40%5], channels[r>>60%3], r>>59&1 == 1, h, r, h^r)
}
