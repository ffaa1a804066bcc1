package pipeline_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

// The series of testdata/series.
const (
	seriesEvery = 10 * time.Second
	seriesLimit = 2 * time.Minute
	seriesParts = 4
)

// gaugeReading is an event of the source.
type gaugeReading struct {
	seq         int
	gauge, zone string
	level       float64
	at          time.Duration
}

var seriesBegin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *gaugeReading) record() event.Record {
	zone := "null"
	if r.zone != "" {
		zone = fmt.Sprintf("%q", r.zone)
	}
	id := fmt.Sprintf("r%d", r.seq)
	return event.Record{ID: []byte(id), Key: []byte(r.gauge), Value: fmt.Appendf(nil,
		`{"id":%q,"seq":%d,"gauge":%q,"zone":%s,"level":%v,"at":%q}`, id, r.seq, r.gauge, zone, r.level,
		seriesBegin.Add(r.at).Format(time.RFC3339))}
}

// point is a row of a series.
type point struct {
	gauge, zone string
	at          time.Duration
	level       float64
	filled      bool
}

func (p *point) id() string { return p.gauge + "@" + seriesBegin.Add(p.at).Format(time.RFC3339) }

// gaugeReadings are in the order of time, with short and long gaps; every gauge is in one zone.
func gaugeReadings(n, gauges int, seed uint64) (rs []gaugeReading) {
	r := rand.New(rand.NewPCG(seed, 5))
	at := time.Duration(0)
	for i := range n {
		at += time.Duration(r.IntN(8)) * time.Second
		g := r.IntN(gauges)
		if r.IntN(3) > 0 {
			g %= 3 // a few speak often, so that the others' gaps are filled late
		}
		rs = append(rs, gaugeReading{i, fmt.Sprintf("g%d", g), fmt.Sprintf("z%d", g%5), float64(r.IntN(1000)) / 4, at})
	}
	return rs
}

func gaugeRecords(rs []gaugeReading) (recs []event.Record) {
	for i := range rs {
		recs = append(recs, rs[i].record())
	}
	return recs
}

func partitionOf(key string) int { return broker.PartitionFor([]byte(key), seriesParts) }

// pointsOf is the series of readings in the order of processing, in the order in
// which each partition gives them out, and how many readings were late.
func pointsOf(rs []gaugeReading) (points [seriesParts][]point, late int) {
	newest := map[string]gaugeReading{}
	for _, r := range rs {
		out := &points[partitionOf(r.gauge)]
		old, known := newest[r.gauge]
		switch {
		case known && r.at < old.at:
			late++
			continue
		case known && r.at-old.at <= seriesLimit:
			for g := old.at.Truncate(seriesEvery) + seriesEvery; g < r.at; g += seriesEvery {
				w := float64(g-old.at) / float64(r.at-old.at)
				*out = append(*out, point{r.gauge, old.zone, g, old.level + w*(r.level-old.level), g-old.at >= seriesEvery})
			}
		}
		if r.at%seriesEvery == 0 && (!known || r.at > old.at) {
			*out = append(*out, point{r.gauge, r.zone, r.at, r.level, false})
		}
		newest[r.gauge] = r
	}
	return points, late
}

// windowOf is the number and the greatest level of the points of a key up to one
// of them, of those that come before it in the order of processing.
func windowOf(before []point, p *point, over time.Duration, same func(*point) bool) (n, top float64) {
	n, top = 1, p.level
	for i := range before {
		if b := &before[i]; same(b) && b.at <= p.at && p.at-b.at < over {
			n, top = n+1, max(top, b.level)
		}
	}
	return n, top
}

// gaugeFeatures are the results of gauges.yaml.
func gaugeFeatures(points [seriesParts][]point) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, ps := range points {
		for i := range ps {
			p := &ps[i]
			same := func(b *point) bool { return b.gauge == p.gauge }
			n, _ := windowOf(ps[:i], p, 30*time.Second, same)
			_, top := windowOf(ps[:i], p, 40*time.Second, same)
			out[p.id()] = map[string]any{"filled": p.filled, "at_point": p.level, "points": n, "top": top}
		}
	}
	return out
}

// merged are the points as one task behind the shuffle takes them: always the
// earliest of the partitions' next ones.
func merged(points [seriesParts][]point, task int) (out []point) {
	for i := range points {
		points[i] = slices.DeleteFunc(slices.Clone(points[i]), func(p point) bool { return partitionOf(p.zone) != task })
	}
	for {
		least := -1
		for i, ps := range points {
			if len(ps) > 0 && (least < 0 || ps[0].at < points[least][0].at) {
				least = i
			}
		}
		if least < 0 {
			return out
		}
		out, points[least] = append(out, points[least][0]), points[least][1:]
	}
}

// zoneFeatures are the results of zones.yaml for the orders of the tasks behind the shuffle.
func zoneFeatures(tasks ...[]point) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, ps := range tasks {
		for i := range ps {
			p := &ps[i]
			same := func(b *point) bool { return b.zone == p.zone }
			n, _ := windowOf(ps[:i], p, 40*time.Second, same)
			_, top := windowOf(ps[:i], p, 3*time.Minute, same)
			out[p.id()] = map[string]any{"filled": p.filled, "at_point": p.level, "zone_points": n, "zone_top": top}
		}
	}
	return out
}

func allMerged(points [seriesParts][]point) (tasks [][]point) {
	for task := range seriesParts {
		tasks = append(tasks, merged(points, task))
	}
	return tasks
}

func (s *setup) createReadings() {
	s.t.Helper()
	s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
	if err := s.b.CreateTopic(s.t.Context(), broker.TopicConfig{Name: "readings", Partitions: seriesParts}); err != nil {
		s.t.Fatal(err)
	}
}

// runSmall processes everything that is there in small frames.
func (s *setup) runSmall(frames int) pipeline.Stats {
	s.t.Helper()
	p, err := s.pipeline()
	if err != nil {
		s.t.Fatal(err)
	}
	p.Shrink(frames, 1<<10)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
		s.t.Fatal(err)
	}
	return p.Stats()
}

func checkFeatures(t *testing.T, want, got map[string]map[string]any) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("the model gives no results")
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

func TestWindowsOverASeriesSeeItsPoints(t *testing.T) {
	rs := gaugeReadings(1500, 12, 1)
	r := rand.New(rand.NewPCG(1, 6))
	for range 300 { // some come too late for their gauge
		i := r.IntN(len(rs) - 3)
		j := i + r.IntN(3)
		rs[i], rs[j] = rs[j], rs[i]
	}
	points, late := pointsOf(rs)
	want := gaugeFeatures(points)
	filled := uint64(0)
	for _, ps := range points {
		for i := range ps {
			if ps[i].filled {
				filled++
			}
		}
	}
	for _, frames := range []int{3, 1024} {
		t.Run(fmt.Sprint("frames of ", frames), func(t *testing.T) {
			s := newSetup(t, "testdata/series/gauges.yaml")
			s.createReadings()
			publish(t, s.b, "readings", gaugeRecords(rs)...)
			st := s.runSmall(frames)
			checkFeatures(t, want, s.computed("levels"))
			if st.Consumed != uint64(len(rs)) || st.Predictions != uint64(len(want)) || st.Letters() != 0 {
				t.Errorf("%d readings, %d points, dead letters %v; want %d and %d", st.Consumed, st.Predictions, st.DeadLetters, len(rs), len(want))
			}
			if st.Filled != filled || st.LateReadings != uint64(late) || late == 0 || filled == 0 {
				t.Errorf("%d filled and %d late readings; want %d and %d", st.Filled, st.LateReadings, filled, late)
			}
		})
	}
}

// TestASeriesGoesOnAfterARestart runs a pipeline in pieces, each on a journal opened anew.
func TestASeriesGoesOnAfterARestart(t *testing.T) {
	rs := gaugeReadings(800, 12, 2)
	points, _ := pointsOf(rs)
	plain := map[string]map[string]any{}
	for _, ps := range points {
		for i := range ps {
			plain[ps[i].id()] = map[string]any{"filled": ps[i].filled, "at_point": ps[i].level}
		}
	}
	for _, c := range []struct {
		file string
		want map[string]map[string]any
	}{
		{"gauges", gaugeFeatures(points)},
		{"plain", plain},
	} {
		t.Run(c.file, func(t *testing.T) {
			s := newSetup(t, "testdata/series/"+c.file+".yaml")
			s.createReadings()
			for piece := range slices.Chunk(rs, 130) {
				publish(t, s.b, "readings", gaugeRecords(piece)...)
				s.runSmall(16)
				s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			}
			checkFeatures(t, c.want, s.computed("levels"))
		})
	}
}

func TestWindowsBehindAShuffleSeeASeriesInOneOrder(t *testing.T) {
	rs := gaugeReadings(1200, 20, 3)
	points, _ := pointsOf(rs)
	for _, frames := range []int{5, 256} {
		t.Run(fmt.Sprint("frames of ", frames), func(t *testing.T) {
			s := newSetup(t, "testdata/series/zones.yaml")
			s.createReadings()
			publish(t, s.b, "readings", gaugeRecords(rs)...)
			s.runSmall(frames)
			checkFeatures(t, zoneFeatures(allMerged(points)...), s.computed("levels"))
		})
	}
	t.Run("in pieces", func(t *testing.T) {
		s := newSetup(t, "testdata/series/zones.yaml")
		s.createReadings()
		var done [seriesParts]int
		tasks := make([][]point, seriesParts)
		for sent := 0; sent < len(rs); {
			piece := rs[sent:min(sent+350, len(rs))]
			sent += len(piece)
			publish(t, s.b, "readings", gaugeRecords(piece)...)
			s.runSmall(16)
			s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			now, _ := pointsOf(rs[:sent])
			for i, ps := range now {
				now[i], done[i] = ps[done[i]:], len(ps)
			}
			for task, ps := range allMerged(now) {
				tasks[task] = append(tasks[task], ps...)
			}
		}
		checkFeatures(t, zoneFeatures(tasks...), s.computed("levels"))
	})
	t.Run("readings put in order", func(t *testing.T) {
		s := newSetup(t, "testdata/series/ordered.yaml")
		s.createReadings()
		mixed := slices.Clone(rs)
		r := rand.New(rand.NewPCG(3, 6))
		slices.SortStableFunc(mixed, func(a, b gaugeReading) int { return cmp.Compare(a.at/(25*time.Second), b.at/(25*time.Second)) })
		for block := 0; block < len(mixed); {
			end := block
			for end < len(mixed) && mixed[end].at/(25*time.Second) == mixed[block].at/(25*time.Second) {
				end++
			}
			r.Shuffle(end-block, func(i, j int) { mixed[block+i], mixed[block+j] = mixed[block+j], mixed[block+i] })
			block = end
		}
		publish(t, s.b, "readings", gaugeRecords(mixed)...)
		if st := s.runSmall(5); st.LateReadings != 0 || st.Late != 0 {
			t.Errorf("%d late readings, %d late", st.LateReadings, st.Late)
		}
		checkFeatures(t, zoneFeatures(allMerged(points)...), s.computed("levels"))
	})
}

// TestGapsFilledLateTakeTheirPlaceInTime has a zone for each task behind the
// shuffle, and one of its gauges in each partition: then the zone's points come
// in the order of time, however late a gap is filled. In each partition there is
// also a gauge that speaks all the time and says how far time is.
func TestGapsFilledLateTakeTheirPlaceInTime(t *testing.T) {
	named := func(prefix string, partition int) string {
		for i := 0; ; i++ {
			if name := fmt.Sprint(prefix, i); partitionOf(name) == partition {
				return name
			}
		}
	}
	quiet, busy := named("q", 0), named("b", 1)
	r := rand.New(rand.NewPCG(4, 5))
	var rs []gaugeReading
	add := func(gauge, zone string, at time.Duration) {
		rs = append(rs, gaugeReading{len(rs), gauge, zone, float64(r.IntN(100)), at})
	}
	next := map[int]time.Duration{}
	for at := time.Duration(0); at < 40*time.Minute; at += 5 * time.Second {
		for p := range seriesParts {
			add(named("busy", p), busy, at)
			if at >= next[p] {
				add(named("quiet", p), quiet, at)
				next[p] = at + time.Duration(r.IntN(int(seriesLimit/time.Second)))*time.Second
			}
		}
	}
	points, _ := pointsOf(rs)
	var inTime [2][]point // of the quiet zone, and of the busy one
	for _, ps := range points {
		for _, p := range ps {
			i := 0
			if p.zone == busy {
				i = 1
			}
			inTime[i] = append(inTime[i], p)
		}
	}
	for i := range inTime { // within an instant, by partition
		slices.SortStableFunc(inTime[i], func(a, b point) int { return cmp.Compare(a.at, b.at) })
	}
	s := newSetup(t, "testdata/series/zones.yaml")
	s.createReadings()
	publish(t, s.b, "readings", gaugeRecords(rs)...)
	s.runSmall(4)
	checkFeatures(t, zoneFeatures(inTime[:]...), s.computed("levels"))
}

func TestReadingsThatCannotBeProcessedBecomeDeadLetters(t *testing.T) {
	bad := []string{
		`{"id":"broken"`,
		`{"id":"b1","seq":1,"gauge":"g1","level":"high","at":"2026-01-01T00:00:05Z"}`,
		`{"id":"b2","seq":1,"gauge":"g1","level":3}`,
	}
	good := []gaugeReading{{1, "g1", "z1", 1, 0}, {2, "g1", "z1", 4, 30 * time.Second}}
	points, _ := pointsOf(good)
	for _, file := range []string{"gauges", "ordered"} {
		t.Run(file, func(t *testing.T) {
			s := newSetup(t, "testdata/series/"+file+".yaml")
			s.createReadings()
			var letters []event.Record
			for _, b := range bad {
				letters = append(letters, event.Record{Key: []byte("g1"), Value: []byte(b)})
			}
			publish(t, s.b, "readings", letters...) // a frame of nothing else
			if st := s.mustRun(); st.Predictions != 0 || st.Letters() != 3 {
				t.Errorf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
			}
			s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			publish(t, s.b, "readings", good[0].record(), letters[0], good[1].record())
			if st := s.mustRun(); st.Predictions != 4 || st.Letters() != 1 {
				t.Errorf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
			}
			want := gaugeFeatures(points)
			if file == "ordered" {
				want = zoneFeatures(allMerged(points)...)
			}
			checkFeatures(t, want, s.computed("levels"))
			got := map[string]string{}
			for _, l := range s.read(file + "-dead-letters") {
				o := l["origin"].(map[string]any)
				got[fmt.Sprint(o["topic"], " ", o["partition"], " ", o["position"])] = l["payload"].(string)
			}
			at := fmt.Sprint("readings ", partitionOf("g1"), " ")
			if diff := gocmp.Diff(map[string]string{at + "0": bad[0], at + "1": bad[1], at + "2": bad[2], at + "4": bad[0]}, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestPointsWithoutTheNextKeyBecomeOneDeadLetterOfTheirReading(t *testing.T) {
	s := newSetup(t, "testdata/series/zones.yaml")
	s.createReadings()
	rs := []gaugeReading{{1, "g1", "", 1, 0}, {2, "g1", "", 4, 50 * time.Second}, {3, "g1", "z1", 4, time.Minute}}
	publish(t, s.b, "readings", gaugeRecords(rs)...)
	if st := s.mustRun(); st.Predictions != 1 || st.DeadLetters["no_key"] != 2 {
		t.Errorf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
	}
	var got []string
	for _, l := range s.read("zones-dead-letters") {
		got = append(got, l["payload"].(string))
	}
	if diff := gocmp.Diff([]string{string(rs[0].record().Value), string(rs[1].record().Value)}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", strings.TrimSpace(diff))
	}
}
