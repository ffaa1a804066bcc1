package kernel

import "math"

// level is an instruction set that products can run on.
type level uint8

const (
	portable level = iota
	avx2
	avx512
)

var levelNames = [...]string{"portable", "avx2", "avx512"}

func (l level) String() string { return levelNames[l] }

// best is the instruction set of this machine; it never changes.
var best = detect()

// Vectors reports whether this machine has AVX2 and FMA.
func Vectors() bool { return best >= avx2 }

// How many columns of B lie together in memory.
const (
	narrow = 16 // two registers of AVX2
	wide   = 32 // two registers of AVX-512
)

// Packed is the constant right side B of products A·B, laid out for the kernels.
// It does not change and may be used from many goroutines.
//
// B is cut into panels of 16 or, for AVX-512, 32 columns; each holds the columns'
// elements of k = 0, then those of k = 1 and so on, missing columns zero. A last
// panel of at most 16 columns is 16 wide. A B of one column is that column, with
// zeros up to a multiple of 16.
type Packed struct {
	b     []float32
	k, n  int
	panel int
	level level
}

// Pack copies B with k rows and n columns into the form that products use. b holds
// B row by row or, when transposed, column by column: n rows of k elements. It
// panics when b is shorter than k·n.
func Pack(b []float32, k, n int, transposed bool) *Packed {
	return pack(b, k, n, transposed, best)
}

func pack(b []float32, k, n int, transposed bool, l level) *Packed {
	p := &Packed{level: l}
	p.fill(b, k, n, transposed)
	return p
}

// Repack makes p what Pack returns, in its own memory where that is large enough: for a right side
// that is not constant. The zero Packed may be repacked; nobody else may use p meanwhile.
func (p *Packed) Repack(b []float32, k, n int) {
	p.level = best
	p.fill(b, k, n, false)
}

func (p *Packed) fill(b []float32, k, n int, transposed bool) {
	p.k, p.n, p.panel = max(0, k), max(0, n), narrow
	if p.level == avx512 {
		p.panel = wide
	}
	k, n = p.k, p.n
	if k == 0 || n == 0 {
		p.b = nil
		return
	}
	b = b[:k*n]
	room := func(size int) {
		if cap(p.b) < size {
			p.b = make([]float32, size)
			return
		}
		p.b = p.b[:size]
		clear(p.b)
	}
	if n == 1 {
		room(roundUp(k, 16))
		copy(p.b, b) // one column lies the same way in both forms
		return
	}
	whole := n - n%p.panel
	room(k * (whole + roundUp(n-whole, narrow)))
	if !transposed {
		for first := 0; first < n; first += p.panel {
			_, w := p.panelOf(first)
			to := p.b[first*k:]
			columns := min(w, n-first)
			for i := range k {
				copy(to[i*w:i*w+columns], b[i*n+first:])
			}
		}
		return
	}
	for j := range n {
		first, w := p.panelOf(j)
		to := p.b[first*k+j-first:]
		for i := range k {
			to[i*w] = b[i+j*k]
		}
	}
}

// panelOf returns the first column of the panel that holds column j, and the panel's width in memory.
func (p *Packed) panelOf(j int) (first, width int) {
	first = j - j%p.panel
	return first, roundUp(min(p.panel, p.n-first), narrow)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// K returns the number of rows of B: the columns of A.
func (p *Packed) K() int { return p.k }

// N returns the number of columns of B and of results.
func (p *Packed) N() int { return p.n }

// Mul computes dst = A·B + bias for m rows: a holds A, m rows of K elements, dst
// receives m rows of N. A bias of N elements is added to each row unless it is
// nil. With relu, what is below 0 becomes 0. dst must not overlap a or bias.
// It panics when a slice is too short, before it writes anything.
func (p *Packed) Mul(dst, a []float32, m int, bias []float32, relu bool) {
	if m <= 0 || p.n == 0 {
		return
	}
	dst, a = dst[:m*p.n], a[:m*p.k]
	if bias != nil {
		bias = bias[:p.n]
	}
	floor := float32(math.Inf(-1))
	if relu {
		floor = 0
	}
	if p.level == portable || p.k == 0 {
		p.mulPortable(dst, a, m, bias, floor)
		return
	}
	p.mulVector(dst, a, m, bias, floor)
}
