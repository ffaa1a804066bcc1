package policies

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// plot draws one SVG picture: axes, lines, bands and points. All that it writes is numbers, class names
// and escaped text.
type plot struct {
	b             strings.Builder
	width, height float64
	x, y          scale
}

// Margins around the area of a plot, in its units.
const (
	left, right, top, bottom = 52.0, 12.0, 10.0, 30.0
)

// scale maps low to high onto a stretch of the picture.
type scale struct {
	low, high float64
	log       bool
	marks     []float64 // ticks; nil for round numbers
}

func (s scale) share(v float64) float64 {
	if math.IsNaN(v) {
		return v
	}
	v = min(max(v, s.low), s.high)
	if s.log {
		return math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return (v - s.low) / (s.high - s.low)
}

// ticks are up to about n round values.
func (s scale) ticks(n int) []float64 {
	var out []float64
	if s.marks != nil {
		for _, v := range s.marks {
			if v >= s.low*0.999 && v <= s.high*1.001 {
				out = append(out, v)
			}
		}
		return out
	}
	if s.log {
		for e := math.Floor(math.Log10(s.low)); e <= math.Ceil(math.Log10(s.high)); e++ {
			if v := math.Pow(10, e); v >= s.low*0.999 && v <= s.high*1.001 {
				out = append(out, v)
			}
		}
		if len(out) >= 3 {
			return out
		}
		out = out[:0]
		for e := math.Floor(math.Log10(s.low)); e <= math.Ceil(math.Log10(s.high)); e++ {
			for _, m := range []float64{1, 1.5, 2, 3, 5, 7} {
				if v := m * math.Pow(10, e); v >= s.low*0.999 && v <= s.high*1.001 {
					out = append(out, v)
				}
			}
		}
		return out
	}
	raw := (s.high - s.low) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*step >= raw*0.999 {
			step *= m
			break
		}
	}
	for v := math.Ceil(s.low/step) * step; v <= s.high+step*1e-6; v += step {
		out = append(out, math.Round(v/step)*step)
	}
	return out
}

// newPlot begins a picture with its axes. label is what it says to those who cannot see it, unit what
// stands above the vertical axis.
func newPlot(width, height float64, x, y scale, label, unit, below string, tickText func(float64) string) *plot {
	if !(x.high > x.low) {
		x.high = x.low + 1
	}
	if !(y.high > y.low) {
		y.high = y.low + 1
	}
	p := &plot{width: width, height: height, x: x, y: y}
	fmt.Fprintf(&p.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, html.EscapeString(label))
	for _, v := range y.ticks(4) {
		py := p.py(v)
		fmt.Fprintf(&p.b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="t" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			left, width-right, py, py, left-6, py+4, html.EscapeString(tickText(v)))
	}
	return p.finishAxes(unit, below)
}

func (p *plot) finishAxes(unit, below string) *plot {
	fmt.Fprintf(&p.b, `<line class="axis" x1="%g" x2="%g" y1="%g" y2="%g"/>`, left, p.width-right, p.height-bottom, p.height-bottom)
	if unit != "" {
		fmt.Fprintf(&p.b, `<text class="t unit" x="%g" y="%g">%s</text>`, left+4, top+10, html.EscapeString(unit))
	}
	if below != "" {
		fmt.Fprintf(&p.b, `<text class="t" x="%g" y="%g" text-anchor="end">%s</text>`, p.width-right, p.height-4, html.EscapeString(below))
	}
	return p
}

func (p *plot) xTicks(n int, text func(float64) string) {
	for _, v := range p.x.ticks(n) {
		px := p.px(v)
		at, anchor := px, "middle"
		if px > p.width-right-16 {
			at, anchor = p.width-2, "end"
		}
		fmt.Fprintf(&p.b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text class="t" x="%.1f" y="%g" text-anchor="%s">%s</text>`,
			px, px, p.height-bottom, p.height-bottom+4, at, p.height-bottom+16, anchor, html.EscapeString(text(v)))
	}
}

func (p *plot) px(v float64) float64 { return left + p.x.share(v)*(p.width-left-right) }
func (p *plot) py(v float64) float64 {
	return p.height - bottom - p.y.share(v)*(p.height-bottom-top)
}

// path draws a line through points; it breaks where a value is NaN. Stepped lines hold a
// value until the next point.
func (p *plot) path(class string, xs, ys []float64, stepped bool) {
	p.b.WriteString(`<path class="` + html.EscapeString(class) + `" d="`)
	down := false
	last := 0.0
	for i, y := range ys {
		if math.IsNaN(y) {
			down = false
			continue
		}
		px, py := p.px(xs[i]), p.py(y)
		switch {
		case !down:
			p.move('M', px, py)
		case stepped && py == last:
			// The line goes on to the next change.
			if i+1 < len(ys) && !math.IsNaN(ys[i+1]) && p.py(ys[i+1]) == py {
				continue
			}
			p.move('L', px, py)
		case stepped:
			p.move('L', px, last)
			p.move('L', px, py)
		default:
			p.move('L', px, py)
		}
		down, last = true, py
	}
	p.b.WriteString(`"/>`)
}

func (p *plot) move(c byte, x, y float64) {
	p.b.WriteByte(c)
	p.b.WriteString(short(x))
	p.b.WriteByte(' ')
	p.b.WriteString(short(y))
}

func short(x float64) string {
	s := strconv.FormatFloat(x, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0")
}

// band fills what lies between two lines.
func (p *plot) band(class string, xs, low, high []float64) {
	for i := 0; i < len(xs); {
		if math.IsNaN(low[i]) || math.IsNaN(high[i]) {
			i++
			continue
		}
		j := i
		for j < len(xs) && !math.IsNaN(low[j]) && !math.IsNaN(high[j]) {
			j++
		}
		p.b.WriteString(`<path class="` + html.EscapeString(class) + `" d="`)
		c := byte('M')
		for k := i; k < j; k++ {
			p.move(c, p.px(xs[k]), p.py(high[k]))
			c = 'L'
		}
		for k := j - 1; k >= i; k-- {
			p.move('L', p.px(xs[k]), p.py(low[k]))
		}
		p.b.WriteString(`Z"/>`)
		i = j
	}
}

// level draws a line across at y with its name.
func (p *plot) level(class string, y float64, text string) {
	py := p.py(y)
	fmt.Fprintf(&p.b, `<line class="%s" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="t" x="%g" y="%.1f" text-anchor="end">%s</text>`,
		html.EscapeString(class), left, p.width-right, py, py, p.width-right-4, py-4, html.EscapeString(text))
}

func (p *plot) svg() string { return p.b.String() + "</svg>" }

func compact(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return short(v/1e6) + "M"
	case a >= 1e4:
		return short(v/1e3) + "k"
	case a >= 10 || v == math.Trunc(v):
		return short(v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
