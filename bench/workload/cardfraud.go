package workload

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Constants of the published method.
const (
	gridSize         = 100.0
	largeAmountCents = 220_00 // scenario 1: every payment above is a fraud
	terminalsPerDay  = 2      // scenario 2: terminals compromised each day,
	terminalDays     = 28     // for so many days
	customersPerDay  = 3      // scenario 3: customers compromised each day,
	customerDays     = 14     // for so many days,
	customerShare    = 3      // a third of whose payments
	customerFactor   = 5      // are multiplied by five
	noon             = 86400 / 2
	timeSpread       = 20000.0 // standard deviation of the time of day, in seconds
)

// CardFraud configures the card payments. The zero value of a field means its default.
type CardFraud struct {
	// Seed selects the population and all payments.
	Seed uint64
	// Customers is the number of customers; 5,000 by default.
	Customers int
	// Terminals is the number of terminals; 10,000 by default.
	Terminals int
	// Radius is how far from home a customer pays, in units of the 100 × 100 grid; 5 by default.
	Radius float64
	// Start is the day on which payments begin, taken at midnight UTC; 2018-04-01 by default.
	Start time.Time
	// Days is the number of days generated; 0 never ends.
	Days int
}

// Payment is one card payment.
type Payment struct {
	// ID counts payments from 0 in order of time.
	ID int64
	// Time is the time of the payment in Unix seconds (UTC).
	Time int64
	// Customer and Terminal are numbers from 0.
	Customer, Terminal int32
	// Cents is the amount in hundredths.
	Cents int64
	// Scenario is the fraud scenario 1 to 3 that the payment belongs to; 0 is a genuine payment.
	Scenario uint8
}

// Fraud reports whether the payment is fraudulent.
func (p *Payment) Fraud() bool { return p.Scenario != 0 }

type customer struct {
	mean      float64 // amount, in currency units; the standard deviation is half of it
	perDay    float64
	terminals []int32
}

// slot is the place of a payment in the base stream: the n-th payment of a customer on a day.
type slot struct {
	customer int32
	day      int32
	n        int32
}

// Generator yields payments in order of time. It is not safe for concurrent use.
type Generator struct {
	cfg       CardFraud
	start     int64 // midnight of day 0, Unix seconds
	pcg       rand.PCG
	rnd       *rand.Rand
	customers []customer
	// compromised holds, for each terminal, the last day on which it is compromised.
	compromised []int32
	// stolen counts how often a payment of a compromised customer is multiplied.
	stolen map[slot]int
	day    int32
	nextID int64
	today  []Payment
	at     int
}

// NewCardFraud builds the population: 5,000 customers and 10,000 terminals take
// a few milliseconds. It fails on numbers that make no population.
func NewCardFraud(c CardFraud) (*Generator, error) {
	if c.Customers == 0 {
		c.Customers = 5000
	}
	if c.Terminals == 0 {
		c.Terminals = 10000
	}
	if c.Radius == 0 {
		c.Radius = 5
	}
	if c.Start.IsZero() {
		c.Start = time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC)
	}
	const most = 10_000_000
	switch {
	case c.Customers < customersPerDay || c.Customers > most:
		return nil, fmt.Errorf("card-fraud: %d customers, expected %d to %d", c.Customers, customersPerDay, most)
	case c.Terminals < terminalsPerDay || c.Terminals > most:
		return nil, fmt.Errorf("card-fraud: %d terminals, expected %d to %d", c.Terminals, terminalsPerDay, most)
	case !(c.Radius > 0) || c.Radius > gridSize:
		return nil, fmt.Errorf("card-fraud: radius %v, expected more than 0 and at most %v", c.Radius, gridSize)
	case c.Days < 0:
		return nil, fmt.Errorf("card-fraud: %d days, expected 0 (no end) or more", c.Days)
	}
	start := c.Start.UTC().Truncate(24 * time.Hour)
	g := &Generator{cfg: c, start: start.Unix(), stolen: map[slot]int{}}
	g.rnd = rand.New(&g.pcg)
	g.populate()
	return g, nil
}

// seed starts the stream of random numbers that belongs to one thing on one day,
// so that a customer's payments of a later day are known without making all in between.
func (g *Generator) seed(what uint64, day int32) {
	g.pcg.Seed(mix(g.cfg.Seed)^mix(what<<32|uint64(uint32(day))), what)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): neighbouring numbers become unrelated seeds.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Streams that belong to no customer; customers' streams are their numbers.
const (
	streamPopulation = math.MaxUint32 - iota
	streamTerminals
	streamCustomers
)

func (g *Generator) populate() {
	g.seed(streamPopulation, 0)
	type point struct{ x, y float64 }
	g.customers = make([]customer, g.cfg.Customers)
	homes := make([]point, g.cfg.Customers)
	for i := range g.customers {
		homes[i] = point{g.rnd.Float64() * gridSize, g.rnd.Float64() * gridSize}
		g.customers[i].mean = 5 + 95*g.rnd.Float64()
		g.customers[i].perDay = 4 * g.rnd.Float64()
	}
	// Terminals are looked up by cells as wide as the radius, so that a customer
	// meets only the terminals of the nine cells around home.
	r := g.cfg.Radius
	cells := max(1, min(1000, int(gridSize/r)))
	cellOf := func(v float64) int { return min(cells-1, int(v/gridSize*float64(cells))) }
	grid := make([][]int32, cells*cells)
	shops := make([]point, g.cfg.Terminals)
	for i := range shops {
		shops[i] = point{g.rnd.Float64() * gridSize, g.rnd.Float64() * gridSize}
		c := cellOf(shops[i].y)*cells + cellOf(shops[i].x)
		grid[c] = append(grid[c], int32(i))
	}
	for i, h := range homes {
		cx, cy := cellOf(h.x), cellOf(h.y)
		var near []int32
		for y := max(0, cy-1); y <= min(cells-1, cy+1); y++ {
			for x := max(0, cx-1); x <= min(cells-1, cx+1); x++ {
				for _, t := range grid[y*cells+x] {
					if math.Hypot(shops[t].x-h.x, shops[t].y-h.y) < r {
						near = append(near, t)
					}
				}
			}
		}
		g.customers[i].terminals = near
	}
	g.compromised = make([]int32, g.cfg.Terminals)
	for i := range g.compromised {
		g.compromised[i] = -1
	}
}

// Next fills p with the next payment. It returns false after the last day.
func (g *Generator) Next(p *Payment) bool {
	for g.at == len(g.today) {
		if g.cfg.Days > 0 && int(g.day) >= g.cfg.Days {
			return false
		}
		if g.day == math.MaxInt32 {
			return false
		}
		g.makeDay()
	}
	*p = g.today[g.at]
	g.at++
	return true
}

// makeDay generates, marks and orders the payments of the next day.
func (g *Generator) makeDay() {
	day := g.day
	g.today, g.at = g.today[:0], 0
	g.compromise(day)
	midnight := g.start + int64(day)*86400
	for i := range g.customers {
		c := &g.customers[i]
		if len(c.terminals) == 0 {
			continue
		}
		g.seed(uint64(i), day)
		n := int32(0)
		g.drawDay(c, func(second int64, cents int64, terminal int32) {
			p := Payment{Time: midnight + second, Customer: int32(i), Terminal: terminal, Cents: cents}
			if p.Cents > largeAmountCents {
				p.Scenario = 1
			}
			if g.compromised[terminal] >= day {
				p.Scenario = 2
			}
			if len(g.stolen) > 0 {
				s := slot{int32(i), day, n}
				if times := g.stolen[s]; times > 0 {
					delete(g.stolen, s)
					for range times {
						p.Cents *= customerFactor
					}
					p.Scenario = 3
				}
			}
			n++
			g.today = append(g.today, p)
		})
	}
	// Stable: within a second, payments stay in order of customers.
	slices.SortStableFunc(g.today, func(a, b Payment) int { return cmp.Compare(a.Time, b.Time) })
	for i := range g.today {
		g.today[i].ID = g.nextID
		g.nextID++
	}
	g.day++
}

// drawDay draws one customer's payments of the day that the stream was seeded for.
func (g *Generator) drawDay(c *customer, emit func(second, cents int64, terminal int32)) {
	for range g.poisson(c.perDay) {
		second := int64(noon + timeSpread*g.rnd.NormFloat64())
		if second <= 0 || second >= 86400 {
			continue // as published: payments outside of the day are dropped
		}
		amount := c.mean + c.mean/2*g.rnd.NormFloat64()
		if amount < 0 {
			amount = 2 * c.mean * g.rnd.Float64()
		}
		emit(second, int64(math.RoundToEven(amount*100)), c.terminals[g.rnd.IntN(len(c.terminals))])
	}
}

// compromise picks the terminals and customers that are compromised from this day on.
func (g *Generator) compromise(day int32) {
	g.seed(streamTerminals, day)
	for _, t := range g.sample(terminalsPerDay, g.cfg.Terminals) {
		g.compromised[t] = day + terminalDays - 1
	}
	g.seed(streamCustomers, day)
	for i, c := range g.sample(customersPerDay, g.cfg.Customers) {
		// The customer's payments of all the days are counted ahead, so that
		// exactly a third of them can be chosen, as published.
		var all []slot
		cust := &g.customers[c]
		if len(cust.terminals) == 0 {
			continue
		}
		for d := day; d < day+customerDays; d++ {
			g.seed(uint64(c), d)
			n := int32(0)
			g.drawDay(cust, func(int64, int64, int32) {
				all = append(all, slot{int32(c), d, n})
				n++
			})
		}
		g.seed(streamCustomers, day)
		g.pcg.Seed(g.pcg.Uint64(), uint64(i)) // the choice has its own stream for each of the customers
		k := len(all) / customerShare
		for j := range k { // the first k of a Fisher–Yates shuffle
			o := j + g.rnd.IntN(len(all)-j)
			all[j], all[o] = all[o], all[j]
			g.stolen[all[j]]++
		}
	}
}

// sample draws k different numbers below n.
func (g *Generator) sample(k, n int) []int {
	var got []int
	for len(got) < k {
		if v := g.rnd.IntN(n); !slices.Contains(got, v) {
			got = append(got, v)
		}
	}
	return got
}

// poisson draws from the Poisson distribution by multiplying uniforms (Knuth); the mean is at most 4.
func (g *Generator) poisson(mean float64) int {
	limit := math.Exp(-mean)
	n, p := 0, g.rnd.Float64()
	for p > limit {
		n++
		p *= g.rnd.Float64()
	}
	return n
}
