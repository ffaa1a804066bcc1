package inference

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitIsFollowedFromTheNextBatchOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{instances: 8, fixed: time.Second}
		m := New(d, Config{MaxBatch: 4})
		defer m.Close()
		round := func(n int) (most int32, calls int32) {
			d.most.Store(0)
			before := d.calls.Load()
			rs := make([]*Request, n)
			for i := range rs {
				rs[i] = rows(1)
				submit(t, m, rs[i])
			}
			for _, r := range rs {
				wait(t, r)
			}
			return d.most.Load(), d.calls.Load() - before
		}
		if got := m.Limit(); got != (Limit{8, 4}) || m.Batch() != 4 {
			t.Errorf("without orders the limit is %+v", got)
		}
		m.SetLimit(Limit{Calls: 2, Batch: 3})
		if most, calls := round(60); most != 2 || calls < 20 {
			t.Errorf("limited to 2 calls of 3 rows: %d calls at once, %d calls for 60 rows", most, calls)
		}
		m.SetLimit(Limit{Calls: 100, Batch: -1})
		if got := m.Limit(); got != (Limit{8, 4}) {
			t.Errorf("beyond what there is the limit is %+v", got)
		}
		if most, _ := round(60); most != 8 {
			t.Errorf("unlimited again: %d calls at once", most)
		}
	})
}

func TestALimitRaisedUnderABacklogIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{instances: 4, fixed: time.Second}
		m := New(d, Config{MaxBatch: 1})
		defer m.Close()
		m.SetLimit(Limit{Calls: 1})
		rs := make([]*Request, 9)
		for i := range rs {
			rs[i] = rows(1)
			submit(t, m, rs[i])
		}
		start := time.Now()
		wait(t, rs[0])
		m.SetLimit(Limit{Calls: 4})
		for _, r := range rs {
			wait(t, r)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("one row by one call, then eight by four: %v, not 3 s", took)
		}
	})
}
