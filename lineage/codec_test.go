package lineage

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// sameBits compares numbers by their bits: NaN is NaN and −0 is not 0.
var sameBits = cmp.Options{
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmpopts.IgnoreUnexported(event.Column{}), cmpopts.EquateEmpty(),
}

// maker makes batches of all sorts from a seed.
type maker struct{ *rand.Rand }

func (m maker) floats(n int) []float64 {
	sort := m.IntN(7)
	vs := make([]float64, n)
	for i := range vs {
		switch sort {
		case 0:
			vs[i] = float64(m.IntN(50) - 5)
		case 1:
			vs[i] = float64(m.IntN(20000)) / 100
		case 2:
			vs[i] = float64(m.Float32())
		case 3:
			vs[i] = m.NormFloat64()
		case 4:
			vs[i] = []float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 1 / 3.0, 0}[m.IntN(5)]
		case 5:
			vs[i] = 0.25
		default:
			vs[i] = math.Float64frombits(m.Uint64())
		}
	}
	return vs
}

func (m maker) ints(n int) []int64 {
	sort := m.IntN(5)
	vs := make([]int64, n)
	last := int64(m.Uint64())
	for i := range vs {
		switch sort {
		case 0:
			vs[i] = int64(m.IntN(100))
		case 1:
			last += int64(m.IntN(3))
			vs[i] = last
		case 2:
			vs[i] = int64(m.Uint64())
		case 3:
			vs[i] = 1e9 * int64(m.IntN(1e9))
		default:
			vs[i] = last
		}
	}
	return vs
}

func (m maker) texts(n int) []string {
	sort := m.IntN(9)
	vs := make([]string, n)
	for i := range vs {
		switch sort {
		case 0:
			vs[i] = fmt.Sprint(1000 + m.IntN(10000))
		case 1:
			vs[i] = fmt.Sprintf("tx-%06d", m.IntN(100000))
		case 2:
			vs[i] = fmt.Sprintf("%016x%016x", m.Uint64(), m.Uint64())
		case 3:
			vs[i] = fmt.Sprintf("00-%016x%016x-%016x-01", m.Uint64(), m.Uint64(), m.Uint64())
			if m.IntN(2) == 0 {
				vs[i] = ""
			}
		case 4:
			vs[i] = []string{"de", "fr", "a longer text", "世界"}[m.IntN(4)]
		case 5:
			b := make([]byte, m.IntN(20))
			for j := range b {
				b[j] = byte(m.Uint32())
			}
			vs[i] = string(b)
		case 6:
			vs[i] = "same"
		case 7:
			vs[i] = fmt.Sprintf("%08x-%04x-%05x", m.Uint32(), m.IntN(65536), m.IntN(1<<20))
		}
	}
	return vs
}

func (m maker) column(name string, kind event.Kind, n int) *event.Column {
	c := &event.Column{Name: name, Kind: kind}
	c.Reset(n)
	switch kind {
	case event.Float:
		copy(c.Floats, m.floats(n))
	case event.Bool:
		for i := range c.Bools {
			c.Bools[i] = m.IntN(2) == 0
		}
	case event.String:
		copy(c.Strings, m.texts(n))
	default:
		copy(c.Ints, m.ints(n))
	}
	if m.IntN(3) == 0 {
		for i := range n {
			if m.IntN(4) == 0 {
				c.SetNull(i)
			}
		}
	}
	return c
}

func (m maker) batch(n int) (*Source, *Batch) {
	s := &Source{Pipeline: "p", Config: "00ff", Topic: "t", Contract: "c@1.0.0", Routes: []string{"alert", "rest"}}
	b := &Batch{
		N: n, IDs: m.texts(n), Keys: m.texts(n), Position: m.ints(n), Time: m.ints(n), Arrival: m.ints(n), Trace: m.texts(n),
		Partition: make([]int32, n), Route: make([]int, n), Results: make([][]byte, n),
	}
	for i, r := range m.texts(n) {
		b.Results[i], b.Partition[i], b.Route[i] = []byte(r), int32(m.IntN(4)), m.IntN(3)-1
	}
	b.Lookups = append(b.Lookups, m.column("", event.Time, n))
	for i := range m.IntN(12) {
		f := Feature{Name: fmt.Sprintf("f%d", i), Delay: int64(m.IntN(2)) * 1e9, Window: 3600e9, Lookup: m.IntN(2) - 1}
		s.Features = append(s.Features, f)
		b.Features = append(b.Features, m.column(f.Name, event.Kind(m.IntN(5)), n))
	}
	for range m.IntN(3) {
		st := Step{Outputs: []string{"score", "label"}, Inputs: []string{"a", "b", "c"}}
		a := Answers{
			Arms: []Arm{{"risk", "1", "abc", "champion", ""}, {"risk", "2", "def", "canary", "r1"}},
			Arm:  make([]uint8, n), Path: make([]Path, n), Called: make([]uint16, n),
			Outputs: []*event.Column{m.column("score", event.Float, n), m.column("label", event.String, n)},
			Calls:   []Call{{1e18, 256, inference.FlushIdle, 1}, {2e18 + 5, 3, inference.FlushDeadline, 2}},
		}
		for i := range n {
			a.Arm[i], a.Path[i], a.Called[i] = uint8(m.IntN(3)), Path(m.IntN(len(PathNames))), uint16(m.IntN(3))
			if m.IntN(3) == 0 {
				a.Shadow = append(a.Shadow, Shadowed{i, m.Float64(), uint8(m.IntN(2))})
			}
			if m.IntN(3) == 0 {
				a.Explained = append(a.Explained, Explained{Row: i, Method: inference.TreeSHAP, Link: inference.Logistic, Base: 0.1, Raw: m.Float64(), Values: m.floats(3)})
			}
		}
		s.Steps = append(s.Steps, st)
		b.Steps = append(b.Steps, a)
	}
	return s, b
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	for seed := range uint64(60) {
		m := maker{rand.New(rand.NewPCG(seed, 1))}
		n := []int{1, 2, 3, 7, 20, 70}[m.IntN(6)]
		s, b := m.batch(n)
		e := NewEncoder(s)
		message := e.Append(nil, b)
		got, err := Decode(message)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d := cmp.Diff(s, got.Source, sameBits); d != "" {
			t.Fatalf("seed %d: source (-want +got):\n%s", seed, d)
		}
		want := Message{Header: Header{Rows: n}, Source: s, Batch: *b}
		for i := range n {
			if d := cmp.Diff(want.At(i), got.At(i), sameBits); d != "" {
				t.Fatalf("seed %d: row %d (-want +got):\n%s", seed, i, d)
			}
		}
		ids, err := EventIDs(message)
		if err != nil || !cmp.Equal(ids, b.IDs) {
			t.Fatalf("seed %d: ids %q, %v", seed, ids, err)
		}
		// Messages of parts hold the same rows, behind whatever was there.
		for from := 0; from < n; {
			to := min(n, from+1+m.IntN(n))
			part, err := Decode(e.AppendRows([]byte("before"), b, from, to)[6:])
			if err != nil || part.Rows != to-from {
				t.Fatalf("seed %d: rows %d to %d: %v", seed, from, to, err)
			}
			for i := from; i < to; i++ {
				if d := cmp.Diff(got.At(i), part.At(i-from), sameBits); d != "" {
					t.Fatalf("seed %d: row %d of a part (-whole +part):\n%s", seed, i, d)
				}
			}
			from = to
		}
	}
}

func TestADamagedMessageIsCorrupt(t *testing.T) {
	s, b := maker{rand.New(rand.NewPCG(1, 2))}.batch(20)
	message := NewEncoder(s).Append(nil, b)
	for i := range message {
		bad := append([]byte(nil), message...)
		bad[i] ^= 0x41
		if _, err := Decode(bad); !errkind.Is(err, errkind.Corrupt) && !errkind.Is(err, errkind.Unsupported) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := Decode(message[:i]); !errkind.Is(err, errkind.Corrupt) {
			t.Fatalf("cut off at %d: %v", i, err)
		}
	}
}

// FuzzDecode gives bodies with a right checksum, which a stranger can make too.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		s, b := maker{rand.New(rand.NewPCG(seed, 3))}.batch(1 + int(seed)*3)
		f.Add(NewEncoder(s).Append(nil, b))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		sealMessage(message)
		if _, err := EventIDs(message); err != nil && !errkind.Is(err, errkind.Corrupt) && !errkind.Is(err, errkind.Unsupported) {
			t.Fatal(err)
		}
		m, err := Decode(message)
		if err != nil {
			return
		}
		for i := range m.Len() {
			_ = m.At(i)
		}
		again, err := Decode(NewEncoder(m.Source).Append(nil, &m.Batch))
		if err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		for i := range m.Len() {
			if d := cmp.Diff(m.At(i), again.At(i), sameBits); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// cardBatch is what a frame of the card-fraud pipeline looks like: n payments of
// thousands of customers, with eight features.
func cardBatch(n int) (*Source, *Batch) {
	r := rand.New(rand.NewPCG(4, 4))
	s := &Source{
		Pipeline: "card-fraud", Config: hex.EncodeToString(make([]byte, 32)), Topic: "transactions",
		Contract: "card-transaction@1.0.0", Routes: []string{"alert", "scored"},
		Steps: []Step{{Outputs: []string{"score"}, Inputs: []string{"tx_amount", "weekend", "night", "customer_tx_1d", "customer_amount_1d", "customer_amount_7d", "terminal_tx_7d", "terminal_risk_7d"}}},
	}
	b := &Batch{N: n}
	kinds := []event.Kind{event.Float, event.Int, event.Int, event.Int, event.Float, event.Float, event.Int, event.Float}
	for i, name := range s.Steps[0].Inputs {
		s.Features = append(s.Features, Feature{Name: name, Lookup: -1})
		c := &event.Column{Name: name, Kind: kinds[i]}
		c.Reset(n)
		b.Features = append(b.Features, c)
	}
	score := &event.Column{Name: "score"}
	score.Reset(n)
	a := Answers{Arms: []Arm{{"fraud-risk", "1", hex.EncodeToString(make([]byte, 32)), "champion", ""}}, Arm: make([]uint8, n), Path: make([]Path, n), Called: make([]uint16, n), Outputs: []*event.Column{score}}
	at := int64(1522540800e9)
	arrival := int64(1763760000123456789)
	for i := range n {
		at += int64(r.IntN(2)) * 1e9
		if i%64 == 0 {
			arrival += int64(r.IntN(300000))
			a.Calls = append(a.Calls, Call{arrival + 900000 + int64(r.IntN(100000)), 64, inference.FlushIdle, 1})
		}
		b.IDs = append(b.IDs, fmt.Sprint(1754000+i*2+r.IntN(2)))
		b.Keys = append(b.Keys, fmt.Sprint(r.IntN(5000)))
		b.Results = append(b.Results, fmt.Appendf(nil, "%016x%016x", r.Uint64(), r.Uint64()))
		b.Partition = append(b.Partition, 1)
		b.Position = append(b.Position, int64(500000+i))
		b.Time = append(b.Time, at)
		b.Arrival = append(b.Arrival, arrival)
		b.Route = append(b.Route, min(1, r.IntN(100)))
		b.Trace = append(b.Trace, "")
		risk := 0.0
		if r.IntN(10) == 0 {
			risk = float64(r.IntN(10)) / 37
		}
		b.Features[0].Floats[i] = float64(r.IntN(22000)) / 100
		b.Features[3].Ints[i] = int64(r.IntN(8))
		b.Features[4].Floats[i] = float64(r.IntN(80000)) / 100 / float64(1+r.IntN(7))
		b.Features[5].Floats[i] = float64(r.IntN(80000)) / 100 / float64(1+r.IntN(20))
		b.Features[6].Ints[i] = int64(r.IntN(40))
		b.Features[7].Floats[i] = risk
		score.Floats[i] = float64(r.Float32())
		a.Called[i] = uint16(i / 64)
	}
	b.Steps = []Answers{a}
	return s, b
}

func TestWritingAllocatesNothing(t *testing.T) {
	s, b := cardBatch(1024)
	e := NewEncoder(s)
	dst := e.Append(nil, b)
	if n := testing.AllocsPerRun(20, func() { dst = e.Append(dst[:0], b) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if per := float64(len(dst)) / 1024; per > 100 {
		t.Errorf("%.1f bytes a prediction of 8 features, expected at most 100", per)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{16, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, batch := cardBatch(n)
			e := NewEncoder(s)
			dst := e.Append(nil, batch)
			b.ReportAllocs()
			for b.Loop() {
				dst = e.Append(dst[:0], batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
			b.ReportMetric(float64(len(dst))/float64(n), "B/event")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	s, batch := cardBatch(1024)
	message := NewEncoder(s).Append(nil, batch)
	for b.Loop() {
		if _, err := Decode(message); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
}

func BenchmarkEventIDs(b *testing.B) {
	s, batch := cardBatch(1024)
	message := NewEncoder(s).Append(nil, batch)
	for b.Loop() {
		if _, err := EventIDs(message); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/event")
}

// sealMessage gives a message the checksum of what is in it.
func sealMessage(message []byte) {
	if len(message) >= headBytes {
		seal(message)
	}
}
