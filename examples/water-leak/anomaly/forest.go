package anomaly

import (
	"math"
	"math/rand/v2"
)

// Forest is an isolation forest (Liu, Ting, Zhou: "Isolation Forest", ICDM 2008).
type Forest struct {
	trees  [][]split
	sample int
}

// split is a node: rows below at in column go to the next node, the others to
// right. A leaf has column −1 and, in at, the depth that its rows would have had below it.
type split struct {
	column int
	at     float64
	right  int
}

// GrowForest grows trees, each on a sample of the rows drawn without replacement.
func GrowForest(rows [][]float64, trees, sample int, seed uint64) *Forest {
	f := &Forest{sample: min(sample, len(rows))}
	rng := rand.New(rand.NewPCG(seed, 0))
	height := int(math.Ceil(math.Log2(float64(max(f.sample, 2)))))
	for range trees {
		drawn := make([][]float64, f.sample)
		for i, j := range rng.Perm(len(rows))[:f.sample] {
			drawn[i] = rows[j]
		}
		f.trees = append(f.trees, grow(nil, drawn, height, rng))
	}
	return f
}

func grow(tree []split, rows [][]float64, height int, rng *rand.Rand) []split {
	me := len(tree)
	tree = append(tree, split{column: -1, at: unsuccessful(len(rows))})
	if height == 0 || len(rows) < 2 {
		return tree
	}
	// Columns that are constant here cannot divide the rows.
	for _, c := range rng.Perm(len(rows[0])) {
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, row := range rows {
			lo, hi = min(lo, row[c]), max(hi, row[c])
		}
		if lo == hi {
			continue
		}
		at := lo + rng.Float64()*(hi-lo)
		var left, right [][]float64
		for _, row := range rows {
			if row[c] < at {
				left = append(left, row)
			} else {
				right = append(right, row)
			}
		}
		tree = grow(tree, left, height-1, rng)
		tree[me] = split{column: c, at: at, right: len(tree)}
		return grow(tree, right, height-1, rng)
	}
	return tree
}

// Score is between 0 and 1; 0.5 and less is usual.
func (f *Forest) Score(row []float64) float64 {
	total := 0.0
	for _, tree := range f.trees {
		at, depth := 0, 0.0
		for tree[at].column >= 0 {
			depth++
			if row[tree[at].column] < tree[at].at {
				at++
			} else {
				at = tree[at].right
			}
		}
		total += depth + tree[at].at
	}
	return math.Exp2(-total / float64(len(f.trees)) / unsuccessful(f.sample))
}

// unsuccessful is the mean path of an unsuccessful search in a binary search tree of n rows.
func unsuccessful(n int) float64 {
	switch {
	case n < 2:
		return 0
	case n == 2:
		return 1
	}
	const euler = 0.5772156649015329
	return 2*(math.Log(float64(n-1))+euler) - 2*float64(n-1)/float64(n)
}
