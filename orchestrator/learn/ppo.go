package learn

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Task is what a policy is trained on.
type Task interface {
	// Sizes are how many values are observed, and from how many actions one is chosen.
	Sizes() (observations, actions int)
	// Episode runs once from the beginning to the end, the same for the same seed and actions. At each
	// decision it calls act with what is observed (which act does not keep) and the reward earned since the
	// decision before (of no meaning at the first), and does what act returns. An episode ends because
	// its time is over, not because nothing could follow.
	Episode(seed uint64, act func(obs []float32, reward float64) int) error
}

// Training says how a policy is trained. The zero value of a field means its default.
type Training struct {
	// Iterations of: run Episodes episodes with the policy as it is, then improve it by them. Default 100, 8.
	Iterations, Episodes int
	// Siblings is how many of the episodes have the same seed, and are held against each other: what
	// happens to all of them is nobody's merit (the input-dependent baseline of Mao, Venkatakrishnan, Schwarzkopf
	// and Alizadeh, ICLR 2019). Default 1: none.
	Siblings int
	// Whim is for how many decisions, on the mean, what is tried out goes into one direction: actions
	// whose effect comes late are only learnt from when they last. Default 1.
	Whim float64
	// Epochs is how many times all samples of an iteration are used, Batch at a time. Default 8, 64.
	Epochs, Batch int
	// Hidden are the values in each of the two hidden layers. Default 32.
	Hidden int
	// Rate is Adam's first learning rate, Entropy the first worth of undecidedness; both fall
	// linearly to nearly nothing. Default 1e-3, 0.01.
	Rate, Entropy float64
	// Discount of later rewards, and Lambda of later advantages. Default 0.97, 0.95.
	Discount, Lambda float64
	// Clip bounds how far a probability's ratio is rewarded for moving. Default 0.2.
	Clip float64
	Seed uint64
	// Progress, where given, is told of each iteration: the mean reward of a decision.
	Progress func(iteration int, reward float64)
}

func (t Training) withDefaults() Training {
	setInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set := func(p *float64, v float64) {
		if *p <= 0 {
			*p = v
		}
	}
	setInt(&t.Iterations, 100)
	setInt(&t.Episodes, 8)
	setInt(&t.Siblings, 1)
	setInt(&t.Epochs, 8)
	setInt(&t.Batch, 64)
	setInt(&t.Hidden, 32)
	set(&t.Whim, 1)
	set(&t.Rate, 1e-3)
	set(&t.Entropy, 0.01)
	set(&t.Discount, 0.97)
	set(&t.Lambda, 0.95)
	set(&t.Clip, 0.2)
	return t
}

// sample is one decision.
type sample struct {
	obs       []float64
	action    int
	logProb   float64 // of the action, when it was drawn
	value     float64 // of the observation, as the critic saw it then
	reward    float64 // earned by the action
	advantage float64
	target    float64 // for the critic
}

// trainer is proximal policy optimisation with the clipped objective (Schulman, Wolski, Dhariwal, Radford and
// Klimov, arXiv 1707.06347) and generalised advantage estimation (Schulman et al.,
// ICLR 2016), with separate networks for the policy and for the value of an observation.
type trainer struct {
	o               Training
	task            Task
	policy, critic  *network
	movePi, moveV   *adam
	rng             *rand.Rand
	samples         []sample
	used            int // of samples, in this iteration
	room            []float64
	probs, dLogits  []float64
	whim            []float64 // exponential: Gumbel's noise before its logarithm
	borders         []int     // of the episodes of this iteration, in samples
	order           []int
	dValue          [1]float64
	rewards, chosen float64
}

// Train returns a trained policy. The same task, training and kind of processor give the same weights, bit for bit.
func Train(task Task, o Training) (*Trained, error) {
	t, err := newTrainer(task, o.withDefaults())
	if err != nil {
		return nil, err
	}
	for i := range t.o.Iterations {
		if err := t.experience(i); err != nil {
			return nil, fmt.Errorf("train, iteration %d: %w", i, err)
		}
		if t.used > 0 {
			t.improve(max(0.02, 1-float64(i)/float64(t.o.Iterations)))
		}
		if t.o.Progress != nil {
			t.o.Progress(i, t.rewards/max(1, t.chosen))
		}
	}
	return &Trained{net: t.policy}, nil
}

func newTrainer(task Task, o Training) (*trainer, error) {
	inputs, actions := task.Sizes()
	if inputs < 1 || actions < 2 {
		return nil, fmt.Errorf("train: %d observed values and %d actions, expected at least 1 and 2", inputs, actions)
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x70706f))
	t := &trainer{o: o, task: task, rng: rng,
		policy: newNetwork(rng, 0.01, inputs, o.Hidden, o.Hidden, actions),
		critic: newNetwork(rng, 0.1, inputs, o.Hidden, o.Hidden, 1),
		probs:  make([]float64, actions), whim: make([]float64, actions), dLogits: make([]float64, actions), room: make([]float64, inputs)}
	t.movePi, t.moveV = newAdam(len(t.policy.params)), newAdam(len(t.critic.params))
	return t, nil
}

// experience runs the episodes of iteration i.
func (t *trainer) experience(i int) error {
	o := &t.o
	t.used, t.rewards, t.chosen = 0, 0, 0
	t.borders = append(t.borders[:0], 0)
	for e := range o.Episodes {
		if err := t.collect(o.Seed<<32 + uint64((i*o.Episodes+e)/o.Siblings)); err != nil {
			return err
		}
		t.borders = append(t.borders, t.used)
		if (e+1)%o.Siblings == 0 && o.Siblings > 1 {
			t.compare(t.borders[len(t.borders)-1-o.Siblings:])
		}
	}
	return nil
}

// collect runs an episode and estimates its advantages. The last decision has no known outcome: its
// value stands for all that would have followed.
func (t *trainer) collect(seed uint64) error {
	from, dropped := t.used, false
	err := t.task.Episode(seed, func(obs []float32, reward float64) int {
		if t.used > from {
			if math.IsNaN(reward) || math.IsInf(reward, 0) {
				dropped = true
				reward = 0
			}
			// Scaled so that values are of the size of one reward.
			t.samples[t.used-1].reward = reward * (1 - t.o.Discount)
			t.rewards += reward
			t.chosen++
		}
		if t.used == len(t.samples) {
			t.samples = append(t.samples, sample{obs: make([]float64, len(t.room))})
		}
		s := &t.samples[t.used]
		t.used++
		for i, v := range obs {
			s.obs[i] = float64(v)
		}
		s.value = t.critic.forward(s.obs)[0]
		softmax(t.policy.forward(s.obs), t.probs)
		s.action = t.choose(t.used == from+1)
		s.logProb = math.Log(t.probs[s.action])
		return s.action
	})
	if err == nil && dropped {
		err = fmt.Errorf("episode %d gave a reward that is not a number", seed)
	}
	if err != nil || t.used == from {
		return err
	}
	t.used--
	next, advantage := t.samples[t.used].value, 0.0
	for i := t.used - 1; i >= from; i-- {
		s := &t.samples[i]
		delta := s.reward + t.o.Discount*next - s.value
		advantage = delta + t.o.Discount*t.o.Lambda*advantage
		s.advantage, s.target = advantage, advantage+s.value
		next = s.value
	}
	return nil
}

// choose draws an action by probs: the largest of their logarithms with Gumbel's noise, which stays
// for a whim.
func (t *trainer) choose(first bool) int {
	if t.rng.Float64()*t.o.Whim < 1 || first {
		for a := range t.whim {
			t.whim[a] = t.rng.ExpFloat64()
		}
	}
	// ln p − ln e is largest where e ÷ p is least.
	best := 0
	for a, p := range t.probs {
		if t.whim[a]*t.probs[best] < t.whim[best]*p {
			best = a
		}
	}
	return best
}

// compare takes from the advantages of siblings, at each decision, what the others had there on the mean.
func (t *trainer) compare(borders []int) {
	count := len(borders) - 1
	length := t.used
	for i := range count {
		length = min(length, borders[i+1]-borders[i])
	}
	for k := range length {
		sum := 0.0
		for _, from := range borders[:count] {
			sum += t.samples[from+k].advantage
		}
		for _, from := range borders[:count] {
			s := &t.samples[from+k]
			s.advantage -= (sum - s.advantage) / float64(count-1)
		}
	}
}

// improve goes over the samples; left is the share of the learning rate and of the entropy's worth that is left.
func (t *trainer) improve(left float64) {
	all := t.samples[:t.used]
	mean, square := 0.0, 0.0
	for i := range all {
		mean += all[i].advantage
		square += all[i].advantage * all[i].advantage
	}
	mean /= float64(len(all))
	scale := 1 / (math.Sqrt(max(0, square/float64(len(all))-mean*mean)) + 1e-8)
	t.order = t.order[:0]
	for i := range all {
		t.order = append(t.order, i)
	}
	for range t.o.Epochs {
		t.rng.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
		for from := 0; from < len(t.order); from += t.o.Batch {
			batch := t.order[from:min(from+t.o.Batch, len(t.order))]
			for _, i := range batch {
				t.learn(&all[i], (all[i].advantage-mean)*scale, t.o.Entropy*left, 1/float64(len(batch)))
			}
			t.movePi.apply(t.policy.params, t.policy.grads, t.o.Rate*left, 0.5)
			t.moveV.apply(t.critic.params, t.critic.grads, t.o.Rate*left, 0.5)
		}
	}
}

// learn adds a sample's gradients of: −the clipped objective − entropy·the policy's entropy, and the critic's loss.
func (t *trainer) learn(s *sample, advantage, entropy, weight float64) {
	softmax(t.policy.forward(s.obs), t.probs)
	t.policy.backward(objectiveSlope(t.probs, t.dLogits, s, advantage, entropy, t.o.Clip, weight))
	// Huber's loss (Annals of Mathematical Statistics, 1964): one catastrophe does not outweigh all else.
	d := t.critic.forward(s.obs)[0] - s.target
	t.dValue[0] = weight * min(max(d, -1), 1)
	t.critic.backward(t.dValue[:])
}

// objectiveSlope fills d with the slope of the loss by the logits that gave probs.
func objectiveSlope(probs, d []float64, s *sample, advantage, entropy, clip, weight float64) []float64 {
	h := 0.0
	for _, p := range probs {
		if p > 0 {
			h -= p * math.Log(p)
		}
	}
	ratio := math.Exp(math.Log(max(probs[s.action], 1e-300)) - s.logProb)
	// Beyond the clip, in the direction that pays, nothing is gained any more.
	pull := -advantage * ratio
	if advantage > 0 && ratio > 1+clip || advantage < 0 && ratio < 1-clip {
		pull = 0
	}
	for a, p := range probs {
		d[a] = pull * -p
		if a == s.action {
			d[a] += pull
		}
		if p > 0 {
			d[a] += entropy * p * (math.Log(p) + h)
		}
		d[a] *= weight
	}
	return d
}
