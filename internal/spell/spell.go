// Package spell finds the word that somebody probably meant.
package spell

import "strings"

// Nearest returns the option closest to word by edit distance (insertions,
// deletions, substitutions and swaps of neighbours each count one), or "" when
// none is close: at most a third of the word's letters may differ.
func Nearest(word string, options []string) string {
	best, bestDist := "", len(word)/3+1
	for _, o := range options {
		if strings.EqualFold(o, word) {
			return o
		}
		if d := distance(strings.ToLower(word), strings.ToLower(o)); d < bestDist || d == bestDist && best == "" {
			best, bestDist = o, d
		}
	}
	return best
}

// distance is the optimal string alignment distance.
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
