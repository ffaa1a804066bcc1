package anomaly

import "math"

// Rule is the plain threshold rule: a row's score is the greatest distance of any
// of its values from the mean of the rows fitted, in standard deviations.
type Rule struct{ mean, deviation []float64 }

// FitRule fits a rule to usual rows.
func FitRule(rows [][]float64) *Rule {
	n := len(rows[0])
	r := &Rule{make([]float64, n), make([]float64, n)}
	for c := range n {
		for _, row := range rows {
			r.mean[c] += row[c] / float64(len(rows))
		}
		for _, row := range rows {
			d := row[c] - r.mean[c]
			r.deviation[c] += d * d / float64(len(rows)-1)
		}
		r.deviation[c] = math.Sqrt(r.deviation[c])
	}
	return r
}

// Score is the greatest distance in standard deviations.
func (r *Rule) Score(row []float64) float64 {
	worst := 0.0
	for c, v := range row {
		worst = max(worst, math.Abs(v-r.mean[c])/r.deviation[c])
	}
	return worst
}
