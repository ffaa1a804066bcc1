package attribution

import (
	"math"
	"math/bits"
	"unsafe"
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
		rule := &p.rules[t.points]
		w := pass{
			splits: &t.split[0], n: len(t.split), points: t.points, members: p.members,
			met: &s.met[0], met0: &s.met0[0], h: &s.h[0], c: &s.c[0],
			u: &rule.u[0], t: &rule.t[0], weight: &rule.weight[0], table: unsafe.SliceData(p.table),
		}
		for g := range groups {
			w.keys, w.sum = &s.keys[g*k], &s.sum[g*k]
			if p.vectors {
				w.walkVectors(t.members)
			} else {
				w.walk()
			}
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

// pass is a group of rows on its way through a tree: one vector for each split (met, met0), for each slot
// and point (h, c), and for each column (keys, sum). The tree has at least one split.
type pass struct {
	splits       *split
	n            int // splits
	points       int
	keys         *[lanes]uint64
	met, met0    *vector
	h, c         *vector
	sum          *vector
	weight, u, t *float64
	table        *float64
	members      [][]uint64
}

// walk takes a group of rows through a tree.
func (p *pass) walk() {
	p.conditions()
	p.up()
	p.down()
}

// at is the i-th of what lies side by side.
func at[T any](first *T, i int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(first), uintptr(i)*unsafe.Sizeof(*first)))
}

// one is the bits of 1.0.
const one = 0x3FF0_0000_0000_0000

// conditions evaluates all splits: met0 becomes 1 where the row met the earlier splits on the feature, met where it
// also meets this one.
func (p *pass) conditions() {
	for i := range p.n {
		d := at(p.splits, i)
		met, before, key := at(p.met, i), at(p.met0, i), at(p.keys, int(d.column))
		if d.members >= 0 {
			p.member(d, met, key)
		} else {
			lo, span, missing := d.lo, d.span, d.missing
			for l, v := range key {
				_, outside := bits.Sub64(span, v-lo, 0)
				_, nan := bits.Sub64(v, 1, 0)
				met[l] = math.Float64frombits(one & (outside - 1 | -nan&missing))
			}
		}
		if d.prev < 0 {
			for l := range before {
				before[l] = 1
			}
			continue
		}
		earlier, all := at(p.met, int(d.prev)), at(p.met0, int(d.prev))
		for l := range before {
			b := earlier[l]
			if !d.prevOne {
				b = all[l] - b
			}
			before[l] = b
			met[l] *= b
		}
	}
}

// member is the condition of a split on a set of values.
func (p *pass) member(d *split, met *vector, key *[lanes]uint64) {
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

// share is a of split d at point q, for the rows that met it or not.
func (p *pass) share(d *split, q int, met, before *vector) (a vector) {
	if d.prev < 0 {
		zu, t := d.z**at(p.u, q), *at(p.t, q)
		for l := range a {
			a[l] = zu + met[l]*t
		}
		return a
	}
	c := at((*[laterSize]float64)(unsafe.Pointer(at(p.table, int(d.table)))), q)
	for l := range a {
		a[l] = c[0] + before[l]*c[1] + met[l]*c[2]
	}
	return a
}

// up computes the worth H below every split, from the leaves to the root.
func (p *pass) up() {
	for i := p.n - 1; i >= 0; i-- {
		d := at(p.splits, i)
		met, before := at(p.met, i), at(p.met0, i)
		for q := range p.points {
			h := at(p.h, i*p.points+q)
			a := p.share(d, q, met, before)
			if d.kind == pair || d.kind == laterPair {
				for l := range h {
					h[l] = d.low + a[l]*d.step
				}
				continue
			}
			x, y := at(p.h, int(d.one)*p.points+q), at(p.h, int(d.other)*p.points+q)
			for l := range h {
				h[l] = y[l] + a[l]*(x[l]-y[l])
			}
		}
	}
}

// down computes the products C from the root to the leaves and adds up what each split gives its feature.
func (p *pass) down() {
	for q := range p.points {
		c := at(p.c, q)
		for l := range c {
			c[l] = *at(p.weight, q)
		}
	}
	for i := range p.n {
		d := at(p.splits, i)
		met, before := at(p.met, i), at(p.met0, i)
		var own vector
		for q := range p.points {
			c := at(p.c, i*p.points+q)
			b := vector{1, 1, 1, 1, 1, 1, 1, 1}
			if d.prev >= 0 {
				k := at((*[laterSize]float64)(unsafe.Pointer(at(p.table, int(d.table)))), q)
				for l := range b {
					b[l] = before[l]*k[3] + met[l]*k[4]
				}
			}
			if d.kind == pair || d.kind == laterPair {
				for l := range own {
					own[l] += c[l] * b[l]
				}
				continue
			}
			a := p.share(d, q, met, before)
			x, y := at(p.h, int(d.one)*p.points+q), at(p.h, int(d.other)*p.points+q)
			cx, cy := at(p.c, int(d.one)*p.points+q), at(p.c, int(d.other)*p.points+q)
			for l := range own {
				v := c[l]
				own[l] += v * b[l] * (x[l] - y[l])
				w := v * a[l]
				cx[l] = w
				cy[l] = v - w
			}
		}
		sum := at(p.sum, int(d.column))
		for l, v := range own {
			if d.prev < 0 {
				v *= met[l] - d.z
			}
			if d.kind == pair || d.kind == laterPair {
				v *= d.step
			}
			sum[l] += v
		}
	}
}
