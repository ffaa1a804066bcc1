package learn

// Net is a trained network as PPO uses it: obs has one value for each of Observations, out gets one logit for each of
// the Multipliers. An adapter to a runtime fills it in; neither side keeps the other's slices.
type Net interface {
	Infer(obs, out []float32) error
}

// Trained is a policy fresh from training.
type Trained struct{ net *network }

// Infer makes it a Net, in double precision.
func (t *Trained) Infer(obs, out []float32) error { return t.net.Infer(obs, out) }

// largest returns the place of the largest value, the first of several, and false where one is not finite.
func largest(logits []float32) (int, bool) {
	best := 0
	for i, v := range logits {
		if v-v != 0 {
			return 0, false
		}
		if v > logits[best] {
			best = i
		}
	}
	return best, true
}
