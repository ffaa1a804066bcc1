package attribution

import (
	"math"
	"math/bits"
)

// lanes is how many rows go through a tree together.
const lanes = 8

// vector holds a number of each of the rows that go together.
type vector = [lanes]float64

// Scratch is the memory of one evaluation at a time; the zero value is ready.
type Scratch struct {
	keys []([lanes]uint64) // rows in groups, by column
	sum  []vector          // attributions, like keys
	met  []vector          // by split: 1 where the row goes to the one child and met all earlier conditions
	met0 []vector          // by split: 1 where the row met the earlier conditions
	h, c []vector          // by slot and point
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Shapley adds the Shapley values of rows rows of width values in x to out, which has stride values a row;
// feature i's go to place to[i], or nowhere where that is negative.
func (p *Plan) Shapley(s *Scratch, x []float64, rows, width int, out []float64, stride int, to []int32) {
	groups := (rows + lanes - 1) / lanes
	k := len(p.columns)
	s.keys, s.sum = grow(s.keys, groups*k), grow(s.sum, groups*k)
	s.met, s.met0 = grow(s.met, p.nodes), grow(s.met0, p.nodes)
	s.h, s.c = grow(s.h, p.slots), grow(s.c, p.slots)
	clear(s.sum)
	for g := range groups {
		n := min(lanes, rows-g*lanes)
		for i, column := range p.columns {
			to := &s.keys[g*k+i]
			for l := range n {
				to[l] = keyOf(x[(g*lanes+l)*width+int(column)])
			}
		}
	}
	for i := range p.trees {
		t := &p.trees[i]
		for _, f := range t.fixed {
			for q := range t.points {
				h := &s.h[int(f.slot)*t.points+q]
				for l := range h {
					h[l] = f.value
				}
			}
		}
		for g := range groups {
			n := min(lanes, rows-g*lanes)
			p.conditions(s, t, s.keys[g*k:(g+1)*k], n)
			p.up(s, t, n)
			p.down(s, t, s.sum[g*k:(g+1)*k], n)
		}
	}
	for i, column := range p.columns {
		place := to[column]
		if place < 0 {
			continue
		}
		for r := range rows {
			out[r*stride+int(place)] += s.sum[r/lanes*k+i][r%lanes]
		}
	}
}

// one is the bits of 1.0.
const one = 0x3FF0_0000_0000_0000

// conditions evaluates all splits of a tree.
func (p *Plan) conditions(s *Scratch, t *tree, keys [][lanes]uint64, n int) {
	if n > lanes {
		return
	}
	for i := range t.split {
		d := &t.split[i]
		met, key := &s.met[i], &keys[d.column]
		if d.members >= 0 {
			p.member(d, met, key)
		} else {
			lo, span, missing := d.lo, d.span, d.missing
			for l := range n {
				v := key[l]
				_, outside := bits.Sub64(span, v-lo, 0)
				_, nan := bits.Sub64(v, 1, 0)
				met[l] = math.Float64frombits(one & (outside - 1 | -nan&missing))
			}
		}
		if d.prev < 0 {
			continue
		}
		before, earlier := &s.met0[i], &s.met[d.prev]
		*before = *earlier
		if !d.prevOne {
			if t.split[d.prev].prev < 0 {
				for l := range n {
					before[l] = 1 - earlier[l]
				}
			} else {
				all := &s.met0[d.prev]
				for l := range n {
					before[l] = all[l] - earlier[l]
				}
			}
		}
		for l := range n {
			met[l] *= before[l]
		}
	}
}

// member is the condition of a split on a set of values.
func (p *Plan) member(d *split, met *vector, key *[lanes]uint64) {
	for l, v := range key {
		met[l] = 0
		if v == missingKey && d.missing != 0 {
			met[l] = 1
		}
		for _, m := range p.members[d.members] {
			if m == v {
				met[l] = 1
				break
			}
		}
	}
}

// up computes the worth H below every split, from the leaves to the root.
func (p *Plan) up(s *Scratch, t *tree, n int) {
	if n > lanes {
		return
	}
	points := t.points
	r := &p.rules[points]
	for i := len(t.split) - 1; i >= 0; i-- {
		d := &t.split[i]
		h := s.h[i*points : (i+1)*points]
		met := &s.met[i]
		switch d.kind {
		case pair:
			for q := range h {
				to := &h[q]
				low, step := d.low+d.step*d.z*r.u[q], d.step*r.t[q]
				for l := range n {
					to[l] = low + met[l]*step
				}
			}
		case inner:
			x, y := s.h[int(d.one)*points:][:len(h)], s.h[int(d.other)*points:][:len(h)]
			for q := range h {
				to, x, y := &h[q], &x[q], &y[q]
				zu, t := d.z*r.u[q], r.t[q]
				for l := range n {
					to[l] = y[l] + (zu+met[l]*t)*(x[l]-y[l])
				}
			}
		case laterPair:
			before := &s.met0[i]
			for q := range h {
				c := (*[laterSize]float64)(p.table[int(d.table)+q*laterSize:])
				to := &h[q]
				for l := range n {
					to[l] = d.low + (c[0]+before[l]*c[1]+met[l]*c[2])*d.step
				}
			}
		case laterInner:
			before := &s.met0[i]
			x, y := s.h[int(d.one)*points:][:len(h)], s.h[int(d.other)*points:][:len(h)]
			for q := range h {
				c := (*[laterSize]float64)(p.table[int(d.table)+q*laterSize:])
				to, x, y := &h[q], &x[q], &y[q]
				for l := range n {
					to[l] = y[l] + (c[0]+before[l]*c[1]+met[l]*c[2])*(x[l]-y[l])
				}
			}
		}
	}
}

// down computes the products C from the root to the leaves and adds up what each split gives its feature.
func (p *Plan) down(s *Scratch, t *tree, sums []vector, n int) {
	if n > lanes {
		return
	}
	points := t.points
	r := &p.rules[points]
	for q, w := range r.weight {
		c := &s.c[q]
		for l := range n {
			c[l] = w
		}
	}
	for i := range t.split {
		d := &t.split[i]
		c := s.c[i*points : (i+1)*points]
		met, sum := &s.met[i], &sums[d.column]
		var own vector
		switch d.kind {
		case pair:
			for q := range c {
				c := &c[q]
				for l := range n {
					own[l] += c[l]
				}
			}
			for l := range n {
				sum[l] += own[l] * (met[l] - d.z) * d.step
			}
		case inner:
			x, y := s.h[int(d.one)*points:][:len(c)], s.h[int(d.other)*points:][:len(c)]
			cx, cy := s.c[int(d.one)*points:][:len(c)], s.c[int(d.other)*points:][:len(c)]
			for q := range c {
				c, x, y, cx, cy := &c[q], &x[q], &y[q], &cx[q], &cy[q]
				zu, t := d.z*r.u[q], r.t[q]
				for l := range n {
					v := c[l]
					own[l] += v * (x[l] - y[l])
					w := v * (zu + met[l]*t)
					cx[l] = w
					cy[l] = v - w
				}
			}
			for l := range n {
				sum[l] += own[l] * (met[l] - d.z)
			}
		case laterPair:
			before := &s.met0[i]
			for q := range c {
				k := (*[laterSize]float64)(p.table[int(d.table)+q*laterSize:])
				c := &c[q]
				for l := range n {
					own[l] += c[l] * (before[l]*k[3] + met[l]*k[4])
				}
			}
			for l := range n {
				sum[l] += own[l] * d.step
			}
		case laterInner:
			before := &s.met0[i]
			x, y := s.h[int(d.one)*points:][:len(c)], s.h[int(d.other)*points:][:len(c)]
			cx, cy := s.c[int(d.one)*points:][:len(c)], s.c[int(d.other)*points:][:len(c)]
			for q := range c {
				k := (*[laterSize]float64)(p.table[int(d.table)+q*laterSize:])
				c, x, y, cx, cy := &c[q], &x[q], &y[q], &cx[q], &cy[q]
				for l := range n {
					v := c[l]
					own[l] += v * (before[l]*k[3] + met[l]*k[4]) * (x[l] - y[l])
					w := v * (k[0] + before[l]*k[1] + met[l]*k[2])
					cx[l] = w
					cy[l] = v - w
				}
			}
			for l := range n {
				sum[l] += own[l]
			}
		}
	}
}
