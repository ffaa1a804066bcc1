package anomaly

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Detector scores a row by its Mahalanobis distance from the rows that it was
// fitted to, divided by Limit: a score of 1 is the limit of what is usual.
type Detector struct {
	Mean []float64
	// Whiten is the inverse of the lower Cholesky factor of the rows' covariance.
	Whiten [][]float64
	Limit  float64
}

// Fit fits a detector to usual rows; the given share of them scores at most 1.
func Fit(rows [][]float64, share float64) (*Detector, error) {
	if len(rows) == 0 || len(rows) <= len(rows[0]) {
		return nil, fmt.Errorf("fit detector: %d rows: there must be more than columns", len(rows))
	}
	n := len(rows[0])
	d := &Detector{Mean: make([]float64, n), Limit: 1}
	for _, row := range rows {
		for i, v := range row {
			d.Mean[i] += v / float64(len(rows))
		}
	}
	cov := square(n)
	for _, row := range rows {
		for i := range n {
			for j := range n {
				cov[i][j] += (row[i] - d.Mean[i]) * (row[j] - d.Mean[j]) / float64(len(rows)-1)
			}
		}
	}
	var err error
	if d.Whiten, err = inverseFactor(cov); err != nil {
		return nil, fmt.Errorf("fit detector: %w", err)
	}
	scores := make([]float64, len(rows))
	for i, row := range rows {
		scores[i] = d.Score(row)
	}
	d.Limit = Quantile(scores, share)
	return d, nil
}

// Score is the row's distance in limits.
func (d *Detector) Score(row []float64) float64 {
	total := 0.0
	for _, w := range d.Whiten {
		z := 0.0
		for j, v := range row {
			z += w[j] * (v - d.Mean[j])
		}
		total += z * z
	}
	return math.Sqrt(total) / d.Limit
}

// inverseFactor returns the inverse of L, where a = L Lᵀ and L is lower triangular.
func inverseFactor(a [][]float64) ([][]float64, error) {
	n := len(a)
	l, inv := square(n), square(n)
	for i := range n {
		for j := range i + 1 {
			v := a[i][j]
			for k := range j {
				v -= l[i][k] * l[j][k]
			}
			switch {
			case i != j:
				l[i][j] = v / l[j][j]
			case v <= 1e-12*a[i][i] || math.IsNaN(v):
				return nil, errors.New("a column is constant or follows from the others: leave it out")
			default:
				l[i][i] = math.Sqrt(v)
			}
		}
	}
	for i := range n {
		inv[i][i] = 1 / l[i][i]
		for j := range i {
			v := 0.0
			for k := j; k < i; k++ {
				v -= l[i][k] * inv[k][j]
			}
			inv[i][j] = v / l[i][i]
		}
	}
	return inv, nil
}

func square(n int) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
	}
	return m
}

// Quantile is the q-quantile of the values, of the two nearest by linear interpolation.
func Quantile(values []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(values))
	at := q * float64(len(s)-1)
	i := min(int(at), len(s)-2)
	if i < 0 {
		return s[0]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}
