package workload

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func generator(t testing.TB, c CardFraud) *Generator {
	t.Helper()
	g, err := NewCardFraud(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestStatisticsFollowPublishedMethod compares 183 days of the default population
// with what the method implies and what its authors publish for their run:
// 1,754,155 payments, 0.84 % frauds, of which 978, 9,099 and 4,604 by scenario.
func TestStatisticsFollowPublishedMethod(t *testing.T) {
	const days = 183
	g := generator(t, CardFraud{Seed: 1, Days: days})
	var p Payment
	var n, amountCents, seconds, seconds2 float64
	var byScenario [4]float64
	var last Payment
	start := time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).Unix()
	perDay := make([]float64, days)
	large := 0
	for g.Next(&p) {
		if p.ID != int64(n) || p.Time < last.Time {
			t.Fatalf("payment %d out of order: id %d, time %d after %d", int64(n), p.ID, p.Time, last.Time)
		}
		if p.Cents < 0 || p.Time%86400 == 0 {
			t.Fatalf("impossible payment %+v", p)
		}
		if p.Cents > largeAmountCents && !p.Fraud() {
			large++
		}
		last = p
		n++
		byScenario[p.Scenario]++
		perDay[(p.Time-start)/86400]++
		s := float64((p.Time-start)%86400) - noon
		seconds += s
		seconds2 += s * s
		if p.Scenario != 3 {
			amountCents += float64(p.Cents)
		}
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		t.Logf("%-40s %12.4f (expected %.4f ± %.4f)", what, got, want, tolerance)
		if math.Abs(got-want) > tolerance {
			t.Errorf("%s: got %g, expected %g ± %g", what, got, want, tolerance)
		}
	}
	// 5,000 customers × 2 a day × P(|normal| < 43,200/20,000) × days; the sum of
	// the customers' rates has a relative standard deviation of 0.8 %.
	within := math.Erf(noon / timeSpread / math.Sqrt2)
	expected := 5000 * 2 * within * days
	near("payments", n, expected, 0.03*expected)
	near("payments against the published run", n, 1_754_155, 0.03*1_754_155)
	// A normal with sd = mean/2, negative draws (2.3 %) redrawn from U(0, 2·mean):
	// E/mean = Φ(2) + φ(2)/2 + Φ(−2); customers' means average 52.5.
	phi2 := math.Exp(-2) / math.Sqrt(2*math.Pi)
	near("mean amount of payments not multiplied", amountCents/100/(n-byScenario[3]), 52.5*(1+phi2/2), 1.2)
	frauds := n - byScenario[0]
	near("share of frauds", frauds/n, 0.00837, 0.0012)
	near("large amounts among payments", byScenario[1]/n, 978/1_754_155., 0.0002)
	near("compromised terminals' share", byScenario[2]/frauds, 9099/14681., 0.06)
	near("compromised customers' share", byScenario[3]/frauds, 4604/14681., 0.06)
	near("genuine payments above 220", float64(large), 0, 0)
	near("mean time of day − noon, seconds", seconds/n, 0, 100)
	// The truncated normal's standard deviation.
	a := noon / timeSpread
	sd := timeSpread * math.Sqrt(1-2*a*math.Exp(-a*a/2)/math.Sqrt(2*math.Pi)/within)
	near("standard deviation of the time of day", math.Sqrt(seconds2/n), sd, 60)
	for d, c := range perDay {
		if math.Abs(c-n/days) > 6*math.Sqrt(n/days) {
			t.Errorf("day %d has %v payments, expected about %.0f", d, c, n/days)
		}
	}
}

func TestCompromisedCustomersLoseAThirdOfTheirPayments(t *testing.T) {
	g := generator(t, CardFraud{Seed: 3})
	var p Payment
	for g.day < 1 {
		g.Next(&p)
	}
	left := len(g.stolen)
	for _, q := range g.today {
		if q.Scenario == 3 {
			left++
		}
	}
	g2 := generator(t, CardFraud{Seed: 3})
	g2.seed(streamCustomers, 0)
	want := 0
	for _, c := range g2.sample(customersPerDay, g2.cfg.Customers) {
		all := 0
		for d := range int32(customerDays) {
			g2.seed(uint64(c), d)
			g2.drawDay(&g2.customers[c], func(int64, int64, int32) { all++ })
		}
		want += all / customerShare
	}
	if left != want || want == 0 {
		t.Errorf("day 0 marks %d payments of three customers, expected %d", left, want)
	}
}

func TestSameSeedSamePaymentsOtherSeedOthers(t *testing.T) {
	read := func(seed uint64) (out []Payment) {
		g := generator(t, CardFraud{Seed: seed, Days: 3, Customers: 200, Terminals: 2000})
		var p Payment
		for g.Next(&p) {
			out = append(out, p)
		}
		return out
	}
	a, b, c := read(7), read(7), read(8)
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("same seed differs:\n%s", d)
	}
	if cmp.Equal(a, c) {
		t.Error("another seed gives the same payments")
	}
}

func TestMemoryDoesNotGrowWithDays(t *testing.T) {
	g := generator(t, CardFraud{Seed: 1, Customers: 500, Terminals: 1000})
	var p Payment
	most := 0
	for g.day < 200 {
		g.Next(&p)
		most = max(most, len(g.stolen))
	}
	if most > customersPerDay*customerDays*8 {
		t.Errorf("%d marked payments held at once", most)
	}
}

func TestPaymentAsJSONAndCSV(t *testing.T) {
	p := Payment{ID: 12, Time: 1522540831, Customer: 596, Terminal: 3156, Cents: 5706, Scenario: 2}
	const want = `{"transaction_id":12,"tx_datetime":"2018-04-01T00:00:31","customer_id":596,"terminal_id":3156,"tx_amount":57.06,"tx_fraud":1,"tx_fraud_scenario":2}`
	got := p.AppendJSON(nil)
	if string(got) != want || !json.Valid(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var m map[string]any
	if err := json.Unmarshal(got, &m); err != nil {
		t.Fatal(err)
	}
	row, err := csv.NewReader(strings.NewReader(string(p.AppendCSV(nil)))).Read()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range Columns() {
		s, ok := m[c].(string)
		if !ok {
			f, _ := m[c].(float64)
			v, err := strconv.ParseFloat(row[i], 64)
			if err != nil || v != f {
				t.Errorf("%s: JSON %v, CSV %q", c, m[c], row[i])
			}
			continue
		}
		if s != row[i] {
			t.Errorf("%s: JSON %q, CSV %q", c, s, row[i])
		}
	}
}

func TestImpossiblePopulationIsRefused(t *testing.T) {
	for _, c := range []CardFraud{
		{Customers: 1}, {Customers: -1}, {Terminals: 1}, {Radius: -1}, {Radius: math.NaN()}, {Radius: 101}, {Days: -1}, {Customers: 1 << 40},
	} {
		if _, err := NewCardFraud(c); err == nil {
			t.Errorf("%+v: accepted", c)
		}
	}
}

func BenchmarkCardFraud(b *testing.B) {
	g := generator(b, CardFraud{Seed: 1})
	var p Payment
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		g.Next(&p)
		buf = p.AppendJSON(buf[:0])
	}
}
