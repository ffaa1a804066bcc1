package feature

import (
	"math"
	"math/bits"
)

// A HyperLogLog with 2^14 registers (P. Flajolet et al., "HyperLogLog: the
// analysis of a near-optimal cardinality estimation algorithm", 2007), standard
// error 0.81 %. While few values were seen it is a sorted list of codes of 25
// bits of hash and a rank, counted linearly (S. Heule et al., "HyperLogLog in
// practice", 2013), which is all but exact. Registers are read by O. Ertl's
// estimator ("New cardinality estimation algorithms for HyperLogLog sketches",
// 2017), which needs no table against bias.
//
// Sparse, a block holds two codes a word. Dense, it holds the registers, ten of six
// bits a word, and behind them how many registers have each value.
const (
	hllBits      = 14
	hllRegisters = 1 << hllBits
	hllMaxRank   = 64 - hllBits + 1
	hllWords     = (hllRegisters + 9) / 10
	hllCounts    = hllWords // where the counts begin
	hllClass     = 10       // of an arena of words: 2<<10 words
	hllSparse    = 1024     // codes, at most
	sparseBits   = 25
	sparseRank   = 6 // bits of a code's rank
)

// hashWord spreads a value's word (the finalizer of A. Appleby's MurmurHash3, of a sequence of odd steps).
func hashWord(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>33) * 0xff51afd7ed558ccd
	v = (v ^ v>>33) * 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}

// hashText is FNV-1a, spread. It must not change: sketches outlive the process.
func hashText(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return hashWord(h)
}

// sparseCode is the hash's code in a sparse list.
func sparseCode(h uint64) uint32 {
	rank := bits.LeadingZeros64(h<<sparseBits|1<<(sparseBits-1)) + 1
	return uint32(h>>(64-sparseBits))<<sparseRank | uint32(rank)
}

// denseOf turns a sparse code into a register and its rank.
func denseOf(code uint32) (register int, rank uint64) {
	const more = sparseBits - hllBits
	index := code >> sparseRank
	if low := index & (1<<more - 1); low != 0 {
		rank = uint64(bits.LeadingZeros32(low) - (32 - more) + 1)
	} else {
		rank = more + uint64(code&(1<<sparseRank-1))
	}
	return int(index >> more), rank
}

func codeAt(b []uint64, i int) uint32 { return uint32(b[i>>1] >> (i & 1 * 32)) }

func putCode(b []uint64, i int, code uint32) {
	shift := i & 1 * 32
	b[i>>1] = b[i>>1]&^(0xffffffff<<shift) | uint64(code)<<shift
}

// sparseFind returns the place of the first code whose index is not below the code's.
func sparseFind(b []uint64, n int, code uint32) int {
	lo, hi := 0, n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if codeAt(b, mid)>>sparseRank < code>>sparseRank {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// sparsePut enters a code at place i, where sparseFind says that it belongs, in a list of n with room for
// one more, and returns the new n. Of one index the higher rank stays.
func sparsePut(b []uint64, n, i int, code uint32) int {
	if i < n && codeAt(b, i)>>sparseRank == code>>sparseRank {
		putCode(b, i, max(code, codeAt(b, i)))
		return n
	}
	for j := n; j > i; j-- {
		putCode(b, j, codeAt(b, j-1))
	}
	putCode(b, i, code)
	return n + 1
}

// sparseEstimate counts linearly among 2^25 places.
func sparseEstimate(n int) float64 {
	const m = 1 << sparseBits
	return m * math.Log(m/(m-float64(n)))
}

// denseClear makes a block a dense sketch of nothing.
func denseClear(b []uint64) {
	clear(b)
	b[hllCounts] = hllRegisters
}

// densePut raises a register to the rank.
func densePut(b []uint64, register int, rank uint64) {
	word, shift := register/10, uint(register%10*6)
	old := b[word] >> shift & 63
	if rank <= old {
		return
	}
	b[word] += (rank - old) << shift
	b[hllCounts+old]--
	b[hllCounts+rank]++
}

func densePutHash(b []uint64, h uint64) {
	densePut(b, int(h>>(64-hllBits)), uint64(bits.LeadingZeros64(h<<hllBits|1<<(hllBits-1))+1))
}

// denseMerge raises the registers of dst to those of src.
func denseMerge(dst, src []uint64) {
	for w := range hllWords {
		if d, s := dst[w], src[w]; d != s {
			for shift := uint(0); shift < 60; shift += 6 {
				old, rank := d>>shift&63, s>>shift&63
				if rank > old {
					dst[w] += (rank - old) << shift
					dst[hllCounts+old]--
					dst[hllCounts+rank]++
				}
			}
		}
	}
}

// denseEstimate reads the number of different values from the counts of registers.
func denseEstimate(counts []uint64) float64 {
	const m = float64(hllRegisters)
	z := m * hllTau(1-float64(counts[hllMaxRank])/m)
	for k := hllMaxRank - 1; k >= 1; k-- {
		z = 0.5 * (z + float64(counts[k]))
	}
	z += m * hllSigma(float64(counts[0])/m)
	return m / z * m / (2 * math.Ln2)
}

func hllSigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	for y, z := 1.0, x; ; y += y {
		x *= x
		next := z + float64(x*y)
		if next == z {
			return z
		}
		z = next
	}
}

func hllTau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	for y, z := 1.0, 1-x; ; {
		x = math.Sqrt(x)
		y *= 0.5
		next := z - float64((1-x)*(1-x)*y)
		if next == z {
			return z / 3
		}
		z = next
	}
}
