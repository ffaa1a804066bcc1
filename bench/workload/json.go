package workload

import (
	"strconv"
	"time"
)

// Columns are the names of a payment's fields, as in the public data set, in order.
func Columns() []string {
	return []string{"transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount", "tx_fraud", "tx_fraud_scenario"}
}

// AppendJSON appends the payment as one JSON object with the fields of Columns:
// numbers, and tx_datetime as "2018-04-01T00:00:31" without a zone (it is UTC).
func (p *Payment) AppendJSON(b []byte) []byte {
	b = append(b, `{"transaction_id":`...)
	b = strconv.AppendInt(b, p.ID, 10)
	b = append(b, `,"tx_datetime":"`...)
	b = appendTime(b, p.Time)
	b = append(b, `","customer_id":`...)
	b = strconv.AppendInt(b, int64(p.Customer), 10)
	b = append(b, `,"terminal_id":`...)
	b = strconv.AppendInt(b, int64(p.Terminal), 10)
	b = append(b, `,"tx_amount":`...)
	b = strconv.AppendInt(b, p.Cents/100, 10)
	b = append(b, '.', byte('0'+p.Cents/10%10), byte('0'+p.Cents%10))
	b = append(b, `,"tx_fraud":`...)
	fraud := byte('0')
	if p.Fraud() {
		fraud = '1'
	}
	b = append(b, fraud)
	b = append(b, `,"tx_fraud_scenario":`...)
	return append(b, '0'+p.Scenario, '}')
}

// AppendCSV appends the payment as one CSV line in the order of Columns, with its line feed.
func (p *Payment) AppendCSV(b []byte) []byte {
	b = strconv.AppendInt(b, p.ID, 10)
	b = append(b, ',')
	b = appendTime(b, p.Time)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(p.Customer), 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(p.Terminal), 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, p.Cents/100, 10)
	b = append(b, '.', byte('0'+p.Cents/10%10), byte('0'+p.Cents%10), ',')
	fraud := byte('0')
	if p.Fraud() {
		fraud = '1'
	}
	return append(b, fraud, ',', '0'+p.Scenario, '\n')
}

func appendTime(b []byte, unix int64) []byte {
	return time.Unix(unix, 0).UTC().AppendFormat(b, "2006-01-02T15:04:05")
}
