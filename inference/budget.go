package inference

// budget bounds repeated and second calls to a share of first calls, as a
// bucket of tokens (Google SRE book, 2016, chapter 21; gRPC's retry throttling).
// The model's lock guards it.
type budget struct {
	share, tokens, most float64
}

// newBudget begins with enough for a hiccup of all instances.
func newBudget(share float64, instances int) budget {
	most := float64(10 + instances)
	return budget{share: share, tokens: most, most: most}
}

// earn counts a first call.
func (b *budget) earn() { b.tokens = min(b.most, b.tokens+b.share) }

// spend takes a call's token; false means that there is none.
func (b *budget) spend() bool {
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
