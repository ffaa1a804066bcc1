package model

import "math"

// deal says which keys a rollout takes: those whose hash lies below a bound. The
// hash is of the rollout's id and the key alone, so that it is the same in every
// process and after every restart, and a greater share takes the same keys and more.
//
// It is FNV-1a (64 bits) over the id, a zero byte and the key, and the finaliser
// of MurmurHash3 over that; the upper 53 bits are the number that is compared.
type deal struct {
	seed  uint64
	below uint64
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func newDeal(id string, share float64) deal {
	seed := fnv(fnvOffset, id) * fnvPrime // the zero byte
	return deal{seed: seed, below: bound(share)}
}

// bound is the number that share of all 53-bit hashes lie below.
func bound(share float64) uint64 {
	return uint64(math.Ceil(min(max(share, 0), 1) * (1 << 53)))
}

func (d deal) hash(key string) uint64 { return mix(fnv(d.seed, key)) >> 11 }

func (d deal) takes(key string) bool { return d.hash(key) < d.below }

func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
