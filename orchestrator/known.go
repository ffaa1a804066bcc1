package orchestrator

// knownNames are the values of Known in the order of their bits.
var knownNames = [...]string{
	"arrivals", "served", "lag", "in_flight", "oldest", "partitions", "workers", "busy", "batch", "late", "calls",
}

// Names are the values that were measured.
func (k Known) Names() []string {
	var names []string
	for i, name := range knownNames {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func knownByName(name string) Known {
	for i, n := range knownNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}
