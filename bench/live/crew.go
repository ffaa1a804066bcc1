package live

import (
	"math/rand/v2"
	"sync"
	"time"
)

// crew is the workers of a run: ordered, started after a time, lost, and paid for. Times are by the clock.
type crew struct {
	startUp time.Duration
	stop    time.Duration
	jitter  float64
	ready   func(n int) // told of each change of the number of ready workers

	mu       sync.Mutex
	rnd      *rand.Rand
	ordered  int
	working  int
	starting []*time.Timer
	lost     int // to be replaced; neither ready nor starting
	closed   bool

	paid    float64 // worker-seconds
	serving float64 // of ready workers
	since   time.Time
	stops   float64 // worker-seconds that are paid behind the orders
	changed time.Time
	actions int
	started int
	peak    int
}

func newCrew(n int, startUp, stop time.Duration, jitter float64, seed uint64, ready func(int)) *crew {
	c := &crew{startUp: startUp, stop: stop, jitter: jitter, ready: ready, rnd: rand.New(rand.NewPCG(seed, 0x6c697665)), ordered: n, working: n, since: time.Now(), peak: n}
	ready(n)
	return c
}

// order makes n the number of workers. Those that start are let go first, the newest first.
func (c *crew) order(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == c.ordered || c.closed {
		return
	}
	c.settle()
	c.actions++
	c.changed = time.Now()
	for ; c.ordered < n; c.ordered++ {
		c.start(c.delay())
	}
	for ; c.ordered > n; c.ordered-- {
		switch last := len(c.starting) - 1; {
		case last >= 0:
			c.starting[last].Stop()
			c.starting = c.starting[:last]
		case c.lost > 0:
			c.lost--
		default:
			c.working--
			c.stops += c.stop.Seconds()
		}
	}
	c.peak = max(c.peak, c.ordered)
	c.ready(max(0, c.working))
}

func (c *crew) delay() time.Duration {
	return time.Duration(float64(c.startUp) * (1 + c.jitter*(2*c.rnd.Float64()-1)))
}

// start starts a worker. The lock is held.
func (c *crew) start(after time.Duration) {
	c.started++
	var t *time.Timer
	t = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, s := range c.starting {
			if s == t && !c.closed {
				c.settle()
				c.starting = append(c.starting[:i], c.starting[i+1:]...)
				c.working++
				c.ready(c.working)
				return
			}
		}
	})
	c.starting = append(c.starting, t)
}

// lose takes n ready workers away. They are paid no more, until their replacements are started
// after a time.
func (c *crew) lose(n int, missing time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	n = min(n, c.working)
	c.working -= n
	c.lost += n
	c.ready(c.working)
	time.AfterFunc(missing, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.settle()
		for ; n > 0 && c.lost > 0 && !c.closed; n-- {
			c.lost--
			c.start(c.delay())
		}
	})
}

// settle adds up what was paid since the last change. The lock is held.
func (c *crew) settle() {
	now := time.Now()
	d := now.Sub(c.since).Seconds()
	c.paid += d * float64(c.working+len(c.starting))
	c.serving += d * float64(c.working)
	c.since = now
}

// state is what is ordered, ready and starting.
func (c *crew) state() (ordered, ready, starting int, changed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ordered, c.working, len(c.starting), c.changed
}

// close ends all starts and settles the account, in worker-seconds by the clock.
func (c *crew) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.closed = true
	for _, t := range c.starting {
		t.Stop()
	}
	c.paid += c.stops
}
