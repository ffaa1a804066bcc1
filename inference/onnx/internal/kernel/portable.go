package kernel

// mulPortable computes C = A·B in Go: two rows by four columns at a time, the
// eight sums in registers.
func (p *Packed) mulPortable(c, a []float32, m int, bias []float32, floor float32) {
	if p.n == 1 {
		p.columnPortable(c, a, m, bias, floor)
		return
	}
	k, n := p.k, p.n
	var sum [2][4]float32
	for j := 0; j < n; j += 4 {
		first, w := p.panelOf(j)
		var b []float32
		if k > 0 {
			b = p.b[first*k+j-first:]
		}
		for i := 0; i < m; i += 2 {
			rows := min(2, m-i)
			low := a[i*k:][:k]
			high := low // a missing row is computed as the last one and not stored
			if rows == 2 {
				high = a[(i+1)*k:][:k]
			}
			sum[0], sum[1] = dot2x4(low, high, b, w)
			for r := range rows {
				to := c[(i+r)*n+j:]
				for s := range min(4, n-j) {
					v := sum[r][s]
					if bias != nil {
						v += bias[j+s]
					}
					if v < floor {
						v = floor
					}
					to[s] = v
				}
			}
		}
	}
}

// dot2x4 returns the products of two rows of A with four columns, which lie w elements a step apart in b.
func dot2x4(low, high, b []float32, w int) (x, y [4]float32) {
	var x0, x1, x2, x3, y0, y1, y2, y3 float32
	high = high[:len(low)]
	at := 0
	for i, u := range low {
		v := high[i]
		q := b[at : at+4 : at+4]
		x0 += u * q[0]
		x1 += u * q[1]
		x2 += u * q[2]
		x3 += u * q[3]
		y0 += v * q[0]
		y1 += v * q[1]
		y2 += v * q[2]
		y3 += v * q[3]
		at += w
	}
	return [4]float32{x0, x1, x2, x3}, [4]float32{y0, y1, y2, y3}
}

// columnPortable computes the product with a single column.
func (p *Packed) columnPortable(c, a []float32, m int, bias []float32, floor float32) {
	for i := range m {
		var s [4]float32
		row := a[i*p.k:][:p.k]
		b := p.b
		for len(row) >= 4 && len(b) >= 4 {
			s[0] += row[0] * b[0]
			s[1] += row[1] * b[1]
			s[2] += row[2] * b[2]
			s[3] += row[3] * b[3]
			row, b = row[4:], b[4:]
		}
		for j, u := range row {
			s[j] += u * b[j]
		}
		v := (s[0] + s[2]) + (s[1] + s[3])
		if bias != nil {
			v += bias[0]
		}
		if v < floor {
			v = floor
		}
		c[i] = v
	}
}
