package lease

import (
	"cmp"
	"slices"
)

// assign distributes n partitions over the members: their shares differ by at
// most one, and as many partitions as that allows stay with who holds them.
// holders names the holder of each partition; one that is not among members
// counts as none. Everybody who sees the same gets the same.
func assign(n int, members []string, holders []string) []string {
	out := make([]string, n)
	if len(members) == 0 {
		return out
	}
	held := map[string]int{}
	for _, m := range members {
		held[m] = 0
	}
	for _, h := range holders {
		if _, live := held[h]; live {
			held[h]++
		}
	}
	// Those who hold most get the larger shares.
	order := slices.Clone(members)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), cmp.Compare(a, b))
	})
	room := map[string]int{}
	for i, m := range order {
		room[m] = n / len(members)
		if i < n%len(members) {
			room[m]++
		}
	}
	for p, h := range holders {
		if room[h] > 0 {
			out[p] = h
			room[h]--
		}
	}
	next := 0
	for p := range out {
		if out[p] != "" {
			continue
		}
		for room[order[next]] == 0 {
			next++
		}
		out[p] = order[next]
		room[order[next]]--
	}
	return out
}
