package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet-io/freshet/event"
)

const cardSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "x-freshet": {"version": "1.0.0", "id": "transaction_id", "key": "customer_id", "time": {"field": "tx_datetime", "lateness": "0s"}},
  "type": "object",
  "required": ["transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount"],
  "additionalProperties": false,
  "properties": {
    "transaction_id": {"type": "integer", "minimum": 0},
    "tx_datetime": {"type": "string", "minLength": 19, "maxLength": 35},
    "customer_id": {"type": "integer", "minimum": 0},
    "terminal_id": {"type": "integer", "minimum": 0},
    "tx_amount": {"type": "number", "minimum": 0, "maximum": 100000000},
    "currency": {"type": "string", "enum": ["CHF", "EUR", "GBP", "JPY", "USD"]},
    "tx_fraud": {"type": "integer", "enum": [0, 1]},
    "tx_fraud_scenario": {"type": "integer", "minimum": 0, "maximum": 3}
  }
}`

var cardFields = []string{"transaction_id", "customer_id", "terminal_id", "tx_amount", "tx_datetime", "tx_fraud", "tx_fraud_scenario"}

// cards makes n payments of about 150 bytes.
func cards(n int) []event.Record {
	recs := make([]event.Record, n)
	at := time.Date(2018, 4, 1, 0, 0, 31, 0, time.UTC)
	for i := range recs {
		recs[i].Value = fmt.Appendf(nil, `{"transaction_id":%d,"tx_datetime":%q,"customer_id":%d,"terminal_id":%d,"tx_amount":%d.%02d,"tx_fraud":%d,"tx_fraud_scenario":0}`,
			i, at.Format("2006-01-02T15:04:05"), i*7919%5000, i*104729%10000, i%300, i%100, i%2)
		recs[i].Time = at.UnixNano()
		at = at.Add(17 * time.Second)
	}
	return recs
}

func BenchmarkDecodeCards(b *testing.B) {
	c, err := Parse("card", []byte(cardSchema))
	if err != nil {
		b.Fatal(err)
	}
	recs := cards(256)
	bytesPer := 0
	for i := range recs {
		bytesPer += len(recs[i].Value)
	}
	for _, fields := range [][]string{cardFields, {"tx_amount"}} {
		b.Run(fmt.Sprintf("fields=%d", len(fields)), func(b *testing.B) {
			d, err := c.NewDecoder(Options{Fields: fields})
			if err != nil {
				b.Fatal(err)
			}
			var rows Rows
			b.SetBytes(int64(bytesPer / len(recs)))
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(recs) {
				d.Decode(recs, &rows)
				if rows.N != len(recs) {
					b.Fatal(rows.Faults)
				}
			}
		})
	}
}

// BenchmarkStandardLibraryAndValidator does the same work with encoding/json and
// the validator library.
func BenchmarkStandardLibraryAndValidator(b *testing.B) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(cardSchema))
	if err != nil {
		b.Fatal(err)
	}
	lib := jsonschema.NewCompiler()
	if err := lib.AddResource("mem://card", doc); err != nil {
		b.Fatal(err)
	}
	schema, err := lib.Compile("mem://card")
	if err != nil {
		b.Fatal(err)
	}
	type payment struct {
		ID       int64   `json:"transaction_id"`
		At       string  `json:"tx_datetime"`
		Customer int64   `json:"customer_id"`
		Terminal int64   `json:"terminal_id"`
		Amount   float64 `json:"tx_amount"`
	}
	recs := cards(256)
	b.ReportAllocs()
	for n := 0; n < b.N; n++ {
		r := &recs[n%len(recs)]
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
		if err != nil {
			b.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			b.Fatal(err)
		}
		var p payment
		if err := json.Unmarshal(r.Value, &p); err != nil {
			b.Fatal(err)
		}
		if _, err := time.Parse("2006-01-02T15:04:05", p.At); err != nil {
			b.Fatal(err)
		}
	}
}
