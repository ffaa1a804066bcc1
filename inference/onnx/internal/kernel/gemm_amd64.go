//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// The tiles below compute a block of rows of C for one panel of B; the
// assembly's comments say how. lda and ldc are the distances of rows of A and C
// in elements, floor is 0 for ReLU and −Inf otherwise, bias may be nil.

// tile12x32 computes 12 rows by up to 32 columns; bit j of mask is set when column j of C exists.
//
//go:noescape
func tile12x32(c, a, b, bias *float32, k, lda, ldc int, mask uint32, floor float32)

// tile4x32 computes 1 to 4 rows by up to 32 columns.
//
//go:noescape
func tile4x32(c, a, b, bias *float32, k, lda, ldc int, mask uint32, floor float32, rows int)

// tile1x32 computes one row by up to 32 columns.
//
//go:noescape
func tile1x32(c, a, b, bias *float32, k int, mask uint32, floor float32)

// tile6x16 computes 6 rows by up to 16 columns; mask is nil when all 16 exist.
//
//go:noescape
func tile6x16(c, a, b, bias *float32, k, lda, ldc int, mask *int32, floor float32)

// tile3x16 computes 1 to 3 rows by up to 16 columns.
//
//go:noescape
func tile3x16(c, a, b, bias *float32, k, lda, ldc int, mask *int32, floor float32, rows int)

// columnAVX2 computes m rows by one column.
//
//go:noescape
func columnAVX2(c, a, b *float32, k, m int, mask *int32, bias, floor float32)

// lanes holds 16 set lanes and 16 clear ones: a mask for the first w of 16
// columns begins at 16−w.
var lanes = [32]int32{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}

// detect finds the best instruction set of this machine.
func detect() level {
	switch {
	// cpu.X86.HasAVX512F also says that the operating system saves the registers.
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return avx512
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return avx2
	default:
		return portable
	}
}

// mulVector computes C = A·B with vector instructions, m > 0, k > 0 and n > 0.
// The slices have at least the lengths that the sizes ask for.
func (p *Packed) mulVector(c, a []float32, m int, bias []float32, floor float32) {
	if p.n == 1 {
		var b float32
		if bias != nil {
			b = bias[0]
		}
		columnAVX2(&c[0], &a[0], &p.b[0], p.k, m, &lanes[16-p.k%16], b, floor)
		return
	}
	for j := 0; j < p.n; j += p.panel {
		width := min(p.panel, p.n-j)
		b := p.b[j*p.k:]
		var biasAt *float32
		if bias != nil {
			biasAt = &bias[j]
		}
		if width > narrow {
			p.mul32(c[j:], a, b, m, biasAt, width, floor)
		} else {
			p.mul16(c[j:], a, b, m, biasAt, width, floor)
		}
	}
}

// mul32 computes width columns, 17 to 32, with AVX-512.
func (p *Packed) mul32(c, a, b []float32, m int, bias *float32, width int, floor float32) {
	mask := uint32(1<<width - 1)
	i := 0
	for ; i+12 <= m; i += 12 {
		tile12x32(&c[i*p.n], &a[i*p.k], &b[0], bias, p.k, p.k, p.n, mask, floor)
	}
	for ; i < m; i += 4 {
		if m-i == 1 {
			tile1x32(&c[i*p.n], &a[i*p.k], &b[0], bias, p.k, mask, floor)
			return
		}
		tile4x32(&c[i*p.n], &a[i*p.k], &b[0], bias, p.k, p.k, p.n, mask, floor, min(4, m-i))
	}
}

// mul16 computes width columns, 1 to 16, with AVX2.
func (p *Packed) mul16(c, a, b []float32, m int, bias *float32, width int, floor float32) {
	var mask *int32
	if width < narrow {
		mask = &lanes[narrow-width]
	}
	i := 0
	for ; i+6 <= m; i += 6 {
		tile6x16(&c[i*p.n], &a[i*p.k], &b[0], bias, p.k, p.k, p.n, mask, floor)
	}
	for ; i < m; i += 3 {
		tile3x16(&c[i*p.n], &a[i*p.k], &b[0], bias, p.k, p.k, p.n, mask, floor, min(3, m-i))
	}
}
