package workload

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReadPayments reads files of payments as CSV with the header of Columns, in
// any case, packed with gzip where the name ends in ".gz". The payments are in
// order of time and, within a second, of their ids, whatever the order of the lines.
func ReadPayments(paths ...string) ([]Payment, error) {
	var all []Payment
	for _, path := range paths {
		var err error
		if all, err = readFile(all, path); err != nil {
			return nil, fmt.Errorf("read payments of %s: %w", path, err)
		}
	}
	slices.SortFunc(all, func(a, b Payment) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func readFile(all []Payment, path string) (_ []Payment, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	r := csv.NewReader(bufio.NewReaderSize(in, 1<<16))
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if want := Columns(); !slices.EqualFunc(head, want, strings.EqualFold) {
		return nil, fmt.Errorf("the header is %q, expected %q", head, want)
	}
	for {
		row, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		var p Payment
		if err := p.parse(row); err != nil {
			line, _ := r.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		all = append(all, p)
	}
}

// parse reads a row in the order of Columns.
func (p *Payment) parse(row []string) error {
	at, err := time.Parse("2006-01-02T15:04:05", row[1])
	if err != nil {
		return fmt.Errorf("tx_datetime: %w", err)
	}
	p.Time = at.Unix()
	var customer, terminal, fraud, scenario int64
	for i, to := range [...]*int64{0: &p.ID, 2: &customer, 3: &terminal, 5: &fraud, 6: &scenario} {
		if to == nil {
			continue
		}
		bits := 32
		if i == 0 {
			bits = 64
		}
		if *to, err = strconv.ParseInt(row[i], 10, bits); err != nil {
			return fmt.Errorf("%s: %w", Columns()[i], err)
		}
	}
	if fraud < 0 || fraud > 1 || scenario < 0 || scenario > 3 || (fraud == 1) != (scenario > 0) {
		return fmt.Errorf("tx_fraud is %d, tx_fraud_scenario %d: expected 0 and 0, or 1 and 1 to 3", fraud, scenario)
	}
	p.Customer, p.Terminal, p.Scenario = int32(customer), int32(terminal), uint8(scenario)
	amount, err := strconv.ParseFloat(row[4], 64)
	if err != nil || !(math.Abs(amount) <= 1e12) {
		return fmt.Errorf("tx_amount: %q is not an amount", row[4])
	}
	p.Cents = int64(math.Round(100 * amount))
	return nil
}

// WriteLabels writes the payments' labels as CSV with the header of
// LabelColumns, in the order given: labels of payments in order of time are in
// the order in which they become known, when all have the same delay.
func WriteLabels(w io.Writer, payments []Payment, delay time.Duration) error {
	var b bytes.Buffer
	b.WriteString(strings.Join(LabelColumns(), ",") + "\n")
	for i := range payments {
		l := payments[i].Label(delay)
		b.Write(l.AppendCSV(b.AvailableBuffer()))
		if b.Len() < 1<<16 && i < len(payments)-1 {
			continue
		}
		if _, err := b.WriteTo(w); err != nil {
			return fmt.Errorf("write labels: %w", err)
		}
	}
	_, err := b.WriteTo(w)
	return err
}
