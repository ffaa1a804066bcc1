package learn

import (
	"testing"
)

// BenchmarkDecide is one decision by our own runtime.
func BenchmarkDecide(b *testing.B) {
	p, err := NewPPO(newSession(b, Policy()))
	if err != nil {
		b.Fatal(err)
	}
	in := usual()
	b.ReportAllocs()
	for b.Loop() {
		in.Signals.Time = in.Signals.Time.Add(Period)
		if d := p.Decide(in); d.Hold {
			b.Fatal("held")
		}
	}
}
