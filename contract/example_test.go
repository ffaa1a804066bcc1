package contract_test

import (
	"fmt"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

func Example() {
	c, err := contract.Parse("payment.schema.json", []byte(`{
		"x-freshet": {"version": "1.0.0", "id": "id", "key": "customer", "time": {"field": "at"}},
		"type": "object",
		"required": ["id", "customer", "at", "amount"],
		"properties": {
			"id": {"type": "string"},
			"customer": {"type": "integer"},
			"at": {"type": "string"},
			"amount": {"type": "number", "minimum": 0}
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := c.NewDecoder(contract.Options{Fields: []string{"amount"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var rows contract.Rows
	d.Decode([]event.Record{
		{Value: []byte(`{"id":"a","customer":596,"at":"2018-04-01T00:00:31","amount":57.16}`)},
		{Value: []byte(`{"id":"b","customer":596,"at":"2018-04-01T00:02:10","amount":-1}`)},
	}, &rows)
	for i := range rows.N {
		fmt.Println(rows.ID[i], rows.Key[i], rows.Columns[0].Floats[i])
	}
	for _, f := range rows.Faults {
		fmt.Println(f.Record, f.Reason, f.Err)
	}
	// Output:
	// a 596 57.16
	// 1 schema decode event: amount: -1, expected at least 0 (byte 61)
}
