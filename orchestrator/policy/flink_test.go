package policy

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

func TestFlinkCapacity(t *testing.T) {
	c := DefaultFlink()
	for _, x := range []struct {
		name        string
		m           flinkMetrics
		utilization float64
		restart     bool
		want        float64
	}{
		{"700 ÷ 0.7 and a restart of 5 min in 30", flinkMetrics{ingest: 700}, 0.7, true, 1117},
		{"the upper end of the band", flinkMetrics{ingest: 700}, 1, false, 700},
		{"the lower end of the band", flinkMetrics{ingest: 700}, 0.4, true, 1867},
		{"with a backlog", flinkMetrics{ingest: 1100, lag: 84000}, 0.7, true, 1801},
	} {
		if got := c.capacity(&x.m, x.utilization, x.restart); got != x.want {
			t.Errorf("%s: %v, want %v", x.name, got, x.want)
		}
	}
}

func TestFlinkAlignsToPartitions(t *testing.T) {
	for _, c := range []struct{ want, current, high, partitions, aligned int }{
		{19, 10, 200, 240, 20},    // 20 divides 240
		{13, 10, 200, 240, 14},    // 17 a worker instead of 18
		{7, 9, 200, 240, 8},       // down, up to the present
		{7, 7, 200, 240, 7},       // no room
		{19, 10, 19, 240, 19},     // nor here
		{19, 10, 200, 0, 19},      // no partitions
		{130, 100, 200, 240, 130}, // 1 each, and none divides 240 up to 200
	} {
		if got := alignPartitions(c.want, c.current, c.high, c.partitions); got != c.aligned {
			t.Errorf("%d of %d partitions from %d: %d, want %d", c.want, c.partitions, c.current, got, c.aligned)
		}
	}
}

// flinkMinutes drives the autoscaler every minute, workers being ready at once.
func flinkMinutes(t *testing.T, config FlinkConfig, start, minutes int, set func(minute int, s *orchestrator.Signals)) []int {
	t.Helper()
	p, err := NewFlink(config)
	s := newSandbox(t, p, err)
	s.in.Target, s.in.Objective.Max = start, 200
	orders := make([]int, minutes+1)
	for m := range orders {
		sig := s.at(60 * float64(m))
		sig.Ready = s.in.Target
		set(m, sig)
		orders[m] = s.order()
	}
	return orders
}

func TestFlinkStaysInItsBand(t *testing.T) {
	orders := flinkMinutes(t, DefaultFlink(), 10, 120, func(_ int, s *orchestrator.Signals) { s.Served, s.Busy, s.Lag = 700, 0.7, 0 })
	if orders[120] != 10 {
		t.Errorf("at a utilisation of 0.7 %d are ordered, want 10", orders[120])
	}
}

func TestFlinkScalesUpAfterStabilizationAndAWindow(t *testing.T) {
	// 1000/s are served by 10 fully busy workers and 1100/s come.
	orders := flinkMinutes(t, DefaultFlink(), 10, 30, func(m int, s *orchestrator.Signals) {
		s.Served, s.Busy, s.Lag = 1000, 1, 6000*float64(m)
	})
	// From minute 5 on there are samples, in minute 19 of 15 minutes: lag 114000, rising by 100/s.
	// 114000/1800 + 1100·300/1800 + 1100/0.7 = 1818, so 18.18 of 10.
	if orders[18] != 10 || orders[19] != 19 {
		t.Errorf("%d in minute 18 and %d in minute 19, want 10 and 19", orders[18], orders[19])
	}
}

func TestFlinkHoldsScalingDownForAnHour(t *testing.T) {
	orders := flinkMinutes(t, DefaultFlink(), 10, 200, func(m int, s *orchestrator.Signals) {
		s.Served, s.Busy, s.Lag = 100, 0.1, 0 // a true rate of 1000 where 160 are needed: 0.4 at least
		if m >= 40 && m < 60 {
			s.Served, s.Busy = 300, 0.3 // 479 of 1000
		}
	})
	if orders[78] != 10 || orders[79] != 5 {
		t.Errorf("%d in minute 78 and %d in minute 79, want 10 and then 5, the most wished in the hour", orders[78], orders[79])
	}
}

func TestFlinkNeverScalesDownWithABacklog(t *testing.T) {
	config := DefaultFlink()
	config.ScaleDownInterval = 0
	down := flinkMinutes(t, config, 10, 30, func(_ int, s *orchestrator.Signals) { s.Served, s.Busy, s.Lag = 100, 0.1, 0 })
	if down[19] != 4 {
		t.Errorf("without a backlog %d are ordered, want 4", down[19])
	}
	// 301 s of backlog; observed while catching up, 100/s is the true rate.
	kept := flinkMinutes(t, config, 10, 30, func(_ int, s *orchestrator.Signals) { s.Served, s.Busy, s.Lag = 1000, 1, 301*1000 })
	if kept[19] < 10 {
		t.Errorf("with a backlog %d are ordered", kept[19])
	}
}

func TestFlinkPrefersTheObservedRate(t *testing.T) {
	f := &flink{config: DefaultFlink()}
	for m := range 5 {
		f.samples = append(f.samples, flinkSample{at: begin.Add(time.Duration(m) * time.Minute), served: 1000, busy: 0.5, lag: 40000, width: 60})
	}
	if m := f.evaluate(); m.tpr != 1000 || !m.observed {
		t.Errorf("40 s behind and half busy, the true rate is %v (observed: %v); want the 1000 observed", m.tpr, m.observed)
	}
	for i := range f.samples {
		f.samples[i].lag = 20000
	}
	if m := f.evaluate(); m.tpr != 2000 || m.observed {
		t.Errorf("20 s behind the true rate is %v (observed: %v); want 2000 by busy time", m.tpr, m.observed)
	}
}

func TestFlinkTakesNoServedEventsForEndlessCapacity(t *testing.T) {
	config := DefaultFlink()
	config.ScaleDownInterval = 0
	orders := flinkMinutes(t, config, 10, 60, func(_ int, s *orchestrator.Signals) { s.Served, s.Busy, s.Lag = 0, 0, 0 })
	if orders[19] != 4 || orders[60] != 1 {
		t.Errorf("%d and later %d are ordered, want 4 (0.4 of 10), then 2, then 1", orders[19], orders[60])
	}
}
