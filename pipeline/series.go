package pipeline

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/feature"
)

// seriesStep turns a frame's readings into rows of series. It belongs to one task.
type seriesStep struct {
	plan      *seriesPlan
	resampler *feature.Resampler
	config    feature.ResampleConfig
	batch     feature.Batch
	delta     []byte
	filled    int // rows of the frame that no reading stands behind
}

// seriesRows is about how many rows the readings of one frame may give at most,
// each of them a whole gap.
const seriesRows = 1 << 20

// fetch is the greatest number of readings of a frame.
func (s *seriesPlan) fetch() int {
	gap := int(s.spec.Limit/s.spec.Every) + 1
	return min(max(1, seriesRows/gap), 256)
}

func newSeriesStep(p *Plan) (*seriesStep, error) {
	spec := p.series.spec
	c := feature.ResampleConfig{Every: spec.Every, Limit: spec.Limit, Retain: p.Spec.Source.timeRule(p.Contract).Lateness}
	for i, f := range spec.Fields {
		c.Fields = append(c.Fields, feature.ResampleField{Name: f.Name, Kind: p.columns[p.series.out[i]].kind, Fill: f.Fill})
	}
	r, err := feature.NewResampler(c)
	if err != nil {
		return nil, err
	}
	return &seriesStep{plan: p.series, resampler: r, config: c}, nil
}

func (s *seriesStep) keyed() feature.State { return s.resampler }
func (s *seriesStep) change() []byte       { return s.delta }
func (s *seriesStep) pages() *pager        { return nil }
func (s *seriesStep) name() string         { return "resample" }

func (s *seriesStep) definition() []byte {
	return fmt.Appendf(nil, "series %016x", s.resampler.Fingerprint())
}

func (s *seriesStep) reset() (err error) {
	s.resampler, err = feature.NewResampler(s.config)
	return err
}

func (s *seriesStep) fresh() (feature.State, error) { return feature.NewResampler(s.config) }

// run replaces the frame's rows.
func (s *seriesStep) run(f *frame) {
	s.delta, s.filled = s.delta[:0], 0
	b := &s.batch
	b.N, b.Keys, b.Times = f.rows.N, f.keys, f.rows.Time
	b.Fields = b.Fields[:0]
	for _, i := range s.plan.fields {
		b.Fields = append(b.Fields, &f.rows.Columns[i])
	}
	_, s.delta = s.resampler.Resample(b, 0, math.MaxInt, &f.series, s.delta)
	n := len(f.series.Row)
	old, rows := &f.rows, &f.spare
	rows.N = n
	rows.Index, rows.ID, rows.Key = sized(rows.Index, n), sized(rows.ID, n), sized(rows.Key, n)
	rows.Time, rows.Arrival = sized(rows.Time, n), sized(rows.Arrival, n)
	origins := make([]origin, 0, len(f.origins))
	for i, r := range f.series.Row {
		rows.Index[i] = int32(i)
		if f.recs != nil {
			rows.Index[i] = old.Index[r]
		} else {
			origins = append(origins, f.origins[r])
		}
		rows.Key[i], rows.Time[i], rows.Arrival[i] = f.series.Keys[i], f.series.Times[i], old.Arrival[r]
		from := len(f.text)
		f.text = appendPoint(f.text, rows.Key[i], rows.Time[i])
		rows.ID[i] = textOf(f.text[from:])
		if f.series.Filled[i] {
			s.filled++
		}
	}
	// The decoded columns stay where they are: only the rows around them change places.
	old.N, rows.N = n, old.N
	old.Index, rows.Index = rows.Index, old.Index
	old.ID, rows.ID = rows.ID, old.ID
	old.Key, rows.Key = rows.Key, old.Key
	old.Time, rows.Time = rows.Time, old.Time
	old.Arrival, rows.Arrival = rows.Arrival, old.Arrival
	f.origins = origins
	f.keys = old.Key
}

// appendPoint writes the id of a point of a series: KEY@TIME.
func appendPoint(b []byte, key string, t int64) []byte {
	return time.Unix(0, t).UTC().AppendFormat(append(append(b, key...), '@'), time.RFC3339Nano)
}

// floorTime is the last multiple of every, from the Unix epoch, that is not after t.
func floorTime(t int64, every time.Duration) int64 {
	r := t % int64(every)
	if r < 0 {
		r += int64(every)
	}
	return t - r
}
