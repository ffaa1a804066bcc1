package policies

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/orchestrator/simulate"
)

const (
	// drawnLength is how much of a trace is drawn, drawnBefore what is run before it so that queues
	// and orders are those of a running system.
	drawnLength = 4 * time.Hour
	drawnBefore = time.Hour
	drawnPoints = 360
	wholePoints = 400
)

// draw runs a part of every trace again to draw it.
func (c *Config) draw(p *pool, fields []*field, r *Report) error {
	type run struct {
		trace, row, line int
		from             time.Duration // of the run, before the part
	}
	var runs []run
	for i, f := range fields {
		t := &r.Traces[i]
		d := &drawing{Length: min(drawnLength, f.rest.Duration())}
		d.From = f.steepest(d.Length)
		per := max(1, len(f.rest.Counts)/wholePoints)
		for k := 0; k+per <= len(f.rest.Counts); k += per {
			s := f.rest.Slice(time.Duration(k)*f.rest.Step, time.Duration(k+per)*f.rest.Step)
			d.Whole = append(d.Whole, s.Mean())
		}
		t.drawn = d
		for k, row := range f.rows {
			if row.group != Ablation {
				runs = append(runs, run{i, k, len(d.Lines), max(0, d.From-drawnBefore)})
				d.Lines = append(d.Lines, drawnLine{Policy: row.name, Group: row.group})
			}
		}
	}
	return p.each(len(runs), func(i int) (string, error) {
		x := runs[i]
		f, d := fields[x.trace], r.Traces[x.trace].drawn
		row := f.rows[x.row]
		if row.group == Ours {
			f = f.until(x.from)
		}
		part := f.rest.Slice(x.from, d.From+d.Length).Draw(1, f.tick)
		setting := row.setting
		if row.group == Default {
			setting = defaults
		}
		length := part.Duration()
		points := int(drawnPoints * float64(length) / float64(d.Length))
		res, err := c.run(f, part, row.entrant, setting, 1, points)
		if err != nil {
			return "", err
		}
		d.Lines[x.line].Points = d.points(res, d.From-x.from)
		return fmt.Sprintf("%s: draw %s", f.whole.Name, row.name), nil
	})
}

// until is the field with all that comes before a time of the judged part, within a week, as the past.
func (f *field) until(from time.Duration) *field {
	u := *f
	end := f.rest.Start.Add(from).Sub(f.whole.Start)
	u.first = f.whole.Slice(end-week, end)
	u.drawnFirst = u.first.Draw(0, f.tick)
	return &u
}

const week = 7 * 24 * time.Hour

// points are those of the part; skip is what was run before it.
func (d *drawing) points(res *simulate.Result, skip time.Duration) []drawnPoint {
	var out []drawnPoint
	for _, q := range res.Series {
		if q.At < skip {
			continue
		}
		out = append(out, drawnPoint{
			At: (q.At - skip).Hours(), Arrivals: q.Arrivals, Ready: q.Ready, Paid: q.Paid, Oldest: q.Oldest.Seconds(), Late: q.Late,
			Forecast: q.Forecast, Lowest: q.ForecastLow, Greatest: q.ForecastUp,
		})
	}
	return out
}

// steepest is where a part of that length begins that has the steepest rise of a minute, or of
// a step where steps are longer, in its middle.
func (f *field) steepest(length time.Duration) time.Duration {
	per := max(1, int(time.Minute/f.rest.Step))
	best, at := -1.0, time.Duration(0)
	before := 0.0
	for i := 0; i+per <= len(f.rest.Counts); i += per {
		sum := 0.0
		for _, n := range f.rest.Counts[i : i+per] {
			sum += n
		}
		if i > 0 && sum-before > best {
			best, at = sum-before, time.Duration(i)*f.rest.Step
		}
		before = sum
	}
	return min(max(0, at-length/2), f.rest.Duration()-length)
}
