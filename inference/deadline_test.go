package inference

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestABatchIsNoLargerThanItsOldestRowCanBear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: 2 * time.Millisecond, each: time.Millisecond}
		m := New(d, Config{MaxBatch: 64, Prefer: Throughput})
		defer m.Close()
		for n := range 40 { // teaches 2 ms + 1 ms a row
			r := rows(make([]float32, 1+n%8)...)
			submit(t, m, r)
			wait(t, r)
		}
		if h := m.Health(); (h.Fixed-2*time.Millisecond).Abs() > 50*time.Microsecond || (h.PerRow-time.Millisecond).Abs() > 10*time.Microsecond {
			t.Errorf("learnt %v + %v a row", h.Fixed, h.PerRow)
		}
		// The instance is busy while 20 rows gather; the first four have little time left then.
		block := rows(make([]float32, 20)...)
		submit(t, m, block)
		synctest.Wait()
		var rs []*Request
		for i := range 20 {
			r := rows(float32(i))
			if r.Deadline = time.Now().Add(22*time.Millisecond + 8*time.Millisecond); i >= 4 {
				r.Deadline = time.Now().Add(100 * time.Millisecond)
			}
			rs = append(rs, r)
			submit(t, m, r)
		}
		for i, r := range rs {
			wait(t, r)
			if r.Answered.After(r.Deadline) {
				t.Errorf("row %d is %v late, in a batch of %d", i, r.Answered.Sub(r.Deadline), r.BatchRows)
			}
		}
		if rs[0].BatchRows > 6 || rs[10].BatchRows < 10 {
			t.Errorf("batches of %d and %d", rs[0].BatchRows, rs[10].BatchRows)
		}
		// Where nothing can be on time, the largest batch serves most.
		block = rows(make([]float32, 20)...)
		submit(t, m, block)
		synctest.Wait()
		rs = rs[:0]
		for i := range 20 {
			r := rows(float32(i))
			rs = append(rs, r)
			submit(t, m, r)
		}
		for _, r := range rs {
			wait(t, r)
		}
		if rs[0].BatchRows != 20 {
			t.Errorf("rows that are late anyway go in batches of %d", rs[0].BatchRows)
		}
	})
}

func TestNothingIsStakedOnSizesNotSeenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: 10 * time.Millisecond, each: time.Millisecond}
		m := New(d, Config{MaxBatch: 64, Prefer: Throughput})
		defer m.Close()
		learn := rows(1)
		submit(t, m, learn)
		wait(t, learn)
		var rs []*Request
		for range 50 { // 60 ms at once; what has been seen says 11
			r := rows(1)
			r.Deadline = time.Now().Add(100 * time.Millisecond)
			rs = append(rs, r)
			submit(t, m, r)
		}
		for _, r := range rs {
			if wait(t, r); r.Answered.After(r.Deadline) {
				t.Fatalf("%v late in a batch of %d", r.Answered.Sub(r.Deadline), r.BatchRows)
			}
		}
	})
}

func TestOneStallDoesNotSpoilWhatWasLearnt(t *testing.T) {
	var s serviceTime
	ms := func(n int) time.Duration { return time.Duration(5+n) * time.Millisecond }
	for i := range 100 {
		s.observe(1+i%32, ms(1+i%32))
	}
	s.observe(10, 5*time.Second)
	if got := s.predict(16); got > 2*ms(16) {
		t.Errorf("after one stall a call is expected to take %v", got)
	}
	for i := range 60 {
		s.observe(1+i%32, 10*ms(1+i%32))
	}
	if got := s.likely(16); got < 8*ms(16) || got > 15*ms(16) {
		t.Errorf("a server ten times slower is expected to take %v", got)
	}
}

func TestWhatIsLearntIsNeverLessThanNothing(t *testing.T) {
	var s serviceTime
	s.observe(1, time.Millisecond)
	s.observe(100, time.Second)
	if a, b := s.line(); a < 0 || b < 0 || s.predict(1) > 2*time.Second {
		t.Errorf("%v + %v a row", a, b)
	}
	var falling serviceTime
	falling.observe(1, time.Second)
	falling.observe(100, time.Millisecond)
	if a, b := falling.line(); a <= 0 || b != 0 {
		t.Errorf("%v + %v a row", a, b)
	}
}

func TestTheWaitShrinksWhileRowsAreLateAndGrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &plusOne{fixed: 10 * time.Millisecond}
		m := New(d, Config{MaxBatch: 64, Prefer: Throughput})
		defer m.Close()
		send := func(n int) (late int, mean time.Duration) {
			for range n {
				began := time.Now()
				r := rows(1)
				r.Deadline = began.Add(100 * time.Millisecond)
				submit(t, m, r)
				wait(t, r)
				mean += time.Since(began) / time.Duration(n)
				if r.Answered.Sub(r.Deadline) > time.Millisecond {
					late++
				}
			}
			return late, mean
		}
		if late, mean := send(50); late != 0 || mean < 95*time.Millisecond {
			t.Fatalf("%d of 50 late, after %v in the mean", late, mean)
		}
		for i := range 400 { // each third call takes longer than the line says, by chance as far as it can tell
			if d.fixed = 10 * time.Millisecond; i%3 == 0 {
				d.fixed = 30 * time.Millisecond
			}
			send(1)
		}
		late, spiky := 0, time.Duration(0)
		for i := range 30 {
			if d.fixed = 10 * time.Millisecond; i%3 == 0 {
				d.fixed = 30 * time.Millisecond
			}
			l, took := send(1)
			late, spiky = late+l, spiky+took/30
		}
		if late > 1 {
			t.Errorf("%d of 30 late although it could be known", late)
		}
		d.fixed = 10 * time.Millisecond
		send(500)
		if late, mean := send(20); late > 0 || mean <= spiky || mean < 85*time.Millisecond {
			t.Errorf("%d late, after %v in the mean; while calls varied %v", late, mean, spiky)
		}
	})
}
