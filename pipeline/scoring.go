package pipeline

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// scoring is what one infer step does with the rows of a frame: which version
// got which rows, and how each answer came about.
type scoring struct {
	serving *model.Serving // its models are in use until release
	began   time.Time
	runs    []*run // the first busy are in use
	busy    int
	beside  []*run // scored for comparison only

	arms    []*model.Arm
	arm     []uint8 // of each row, in arms; noArm for none
	path    []lineage.Path
	call    []uint16 // of each row, in calls; noCall for none
	calls   []lineage.Call
	failed  []failure
	vectors []vector // of the step's vector outputs

	// trial: a rollout runs. keys are the hashes of the rows' keys, compared the
	// champion's scores of rows that the challenger scored; NaN without.
	trial    bool
	keys     []uint64
	compared []float64

	shadowed  []lineage.Shadowed
	explained []lineage.Explained
	values    []float64 // storage of explained
}

const (
	noArm  = math.MaxUint8
	noCall = math.MaxUint16
)

// run is a request for rows of a frame.
type run struct {
	req  inference.Request
	arm  uint8
	rows []int32 // nil: from, from+1, …
	from int
	n    int
	// failed are the rows without an answer, by the kind of the error.
	failed model.Failures
	// Of runs that are only compared: when they were sent, and the hashes of the rows' keys.
	sent time.Time
	keys []uint64
}

// row is the frame's row of the run's i-th.
func (r *run) row(i int) int {
	if r.rows != nil {
		return int(r.rows[i])
	}
	return r.from + i
}

// try makes the scoring ready for a rollout's evidence.
func (sc *scoring) try(n int) {
	sc.keys, sc.compared = sized(sc.keys, n), sized(sc.compared, n)
	for i := range sc.compared {
		sc.compared[i] = nan
	}
}

// failure is a row without an answer of its model.
type failure struct {
	row      int32
	attempts int
	err      error
}

// vector is a vector output of the rows of a frame.
type vector struct {
	width  int
	values []float64
	null   []bool
}

// begin makes the scoring ready for n rows.
func (sc *scoring) begin(n int, vectors int) {
	sc.busy, sc.began = 0, time.Now()
	sc.arms, sc.failed, sc.beside = sc.arms[:0], sc.failed[:0], sc.beside[:0]
	sc.shadowed = sc.shadowed[:0]
	sc.explained, sc.values = sc.explained[:0], sc.values[:0]
	sc.calls = sc.calls[:0]
	sc.arm, sc.path, sc.call = sized(sc.arm, n), sized(sc.path, n), sized(sc.call, n)
	for i := range n {
		sc.arm[i], sc.path[i], sc.call[i] = noArm, lineage.Scored, noCall
	}
	sc.vectors = sized(sc.vectors, vectors)
}

// release lets go of the versions.
func (sc *scoring) release() {
	if sc.serving != nil {
		sc.serving.Release()
		sc.serving = nil
	}
}

// armOf is the index of an arm among those of the frame.
func (sc *scoring) armOf(a *model.Arm) uint8 {
	for i, x := range sc.arms {
		if x == a {
			return uint8(i)
		}
	}
	sc.arms = append(sc.arms, a)
	return uint8(len(sc.arms) - 1)
}

// next is a run of the frame, its storage reused.
func (sc *scoring) next() *run {
	if sc.busy == len(sc.runs) {
		sc.runs = append(sc.runs, &run{})
	}
	sc.busy++
	return sc.runs[sc.busy-1]
}
