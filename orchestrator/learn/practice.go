package learn

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Practice is the Task that a policy is trained on: the simulator, with arrivals, workers, faults and
// forecasts made up anew for each episode.
//
// The reward of a decision is −cost − Penalty·late: cost is the workers paid since the last
// one ÷ those that the mean load of the episode keeps busy; late are the late events published
// since then ÷ the mean of those that arrive in the time.
type Practice struct {
	// Length is that of an episode; 0 means 90 minutes.
	Length time.Duration
	// Penalty is what late events cost, as a multiple of the usual cost of an event; 0 means 50.
	Penalty float64
}

// Sizes are Observations and Actions.
func (Practice) Sizes() (observations, actions int) { return Observations, Actions }

// worst bounds the penalty of one decision, so that a lost episode does not outweigh all others.
const worst = 60

// Episode simulates once.
func (p Practice) Episode(seed uint64, act func(obs []float32, reward float64) int) error {
	world, student := p.scene(seed)
	student.act = act
	_, err := simulate.Run(*world, student)
	return err
}

// scene makes up a world and who is to learn in it.
func (p Practice) scene(seed uint64) (*simulate.World, *student) {
	if p.Length <= 0 {
		p.Length = 90 * time.Minute
	}
	if p.Penalty <= 0 {
		p.Penalty = 50
	}
	rng := rand.New(rand.NewPCG(seed, 0x7363_656e65))
	speed := math.Exp(0.5 * rng.NormFloat64())
	c := orchestrator.Capacity{
		Overhead: 0.02 * speed, PerEvent: 0.002 * speed, Batch: 64, MaxBatch: 256,
		StartUp: time.Duration((30 + 60*rng.Float64()) * float64(time.Second)),
		Stop:    10 * time.Second, Rebalance: 2 * time.Second, Cost: 1,
	}
	if rng.IntN(4) == 0 {
		c.MaxBatch = 64
	}
	if rng.IntN(5) > 0 {
		c.Partitions = []int{64, 240, 240, 480}[rng.IntN(4)]
		skew := 0.15 * rng.Float64()
		sum := 0.0
		for i := range c.Partitions {
			c.Shares = append(c.Shares, math.Pow(float64(i+1), -skew))
			sum += c.Shares[i]
		}
		for i := range c.Shares {
			c.Shares[i] /= sum
		}
		rng.Shuffle(len(c.Shares), func(i, j int) { c.Shares[i], c.Shares[j] = c.Shares[j], c.Shares[i] })
	}
	need := 3 * math.Exp(2*rng.Float64())
	a := makeArrivals(rng, int(p.Length/time.Second), need*c.Rate(c.Batch))
	w := &simulate.World{
		Arrivals: &trace.Trace{Start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), Step: time.Second, Counts: a.counts},
		Capacity: c,
		Objective: orchestrator.Objective{Target: time.Duration(20+25*rng.Float64()) * time.Second, Quantile: 0.99,
			Min: 1, Max: 200},
		Delay: 5 * time.Second, Jitter: 0.2, Seed: seed,
		Linger: time.Duration(rng.IntN(2)) * 500 * time.Millisecond,
	}
	w.Start = max(1, int(a.calm[0]/c.Rate(c.Batch)*(0.9+0.6*rng.Float64())))
	if rng.IntN(8) == 0 {
		w.Faults = []simulate.Fault{p.fault(rng)}
	}
	s := &student{world: w, begin: w.Arrivals.Start, needed: need, penalty: p.Penalty, obs: make([]float32, Observations)}
	if rng.IntN(2) == 0 {
		s.demand.Levels = orchestrator.DefaultLevels()
		s.demand.Step = foreStep * time.Second
		s.teacher = newTeacher(rng, a, s.demand.Levels)
	}
	return w, s
}

func (p Practice) fault(rng *rand.Rand) simulate.Fault {
	kinds := []simulate.FaultKind{simulate.WorkerLoss, simulate.SlowWorker, simulate.BrokerPause, simulate.Spike, simulate.BlindSpot}
	f := simulate.Fault{
		Kind: kinds[rng.IntN(len(kinds))], At: time.Duration(rng.Float64() * 0.8 * float64(p.Length)),
		Duration: time.Duration(20+100*rng.Float64()) * time.Second, Size: 1 + 2*rng.Float64(), Factor: 2,
	}
	if f.Kind == simulate.Spike {
		f.Size = 1 + 9*rng.Float64()
	}
	return f
}

// student is the pilot that learns: act chooses for it.
type student struct {
	world   *simulate.World
	begin   time.Time
	teacher *teacher // nil: there is no forecast
	needed  float64
	penalty float64
	act     func(obs []float32, reward float64) int

	watch  watch
	demand orchestrator.Demand
	input  orchestrator.Input
	obs    []float32
	reward float64
	seen   time.Time
}

func (s *student) Name() string          { return "student" }
func (s *student) Period() time.Duration { return Period }

func (s *student) Step(now time.Time, x *orchestrator.Signals, ordered orchestrator.Orders) orchestrator.Decision {
	s.earn(x)
	if !usable(x) {
		return orchestrator.Decision{Workers: ordered.Workers, Batch: ordered.Batch, Hold: true}
	}
	s.input = orchestrator.Input{Now: now, Signals: x, Capacity: &s.world.Capacity, Objective: &s.world.Objective,
		Target: ordered.Workers, Changed: ordered.Changed}
	if s.teacher != nil {
		s.demand.Time, s.demand.Rates = now, s.teacher.at(now.Sub(s.begin).Seconds())
		s.input.Demand = &s.demand
	}
	s.watch.see(x)
	batch := batchFor(&s.input)
	n := s.watch.need(&s.input, batch)
	s.watch.observe(&s.input, n, batch, s.obs)
	action := s.act(s.obs, s.reward)
	s.reward = 0
	return orchestrator.Decision{Workers: workersFor(action, n, &s.input), Batch: batch}
}

// earn adds what the time since the last signals has cost.
func (s *student) earn(x *orchestrator.Signals) {
	if x == nil || !x.Time.After(s.seen) || x.Window <= 0 {
		return
	}
	s.seen = x.Time
	share := float64(x.Window) / float64(Period)
	s.reward -= share * float64(x.Ready+x.Starting+x.Stopping) / s.needed
	mean := s.needed * s.world.Capacity.Rate(s.world.Capacity.Batch)
	s.reward -= min(worst, share*s.penalty*x.Late*x.Served/mean)
}
