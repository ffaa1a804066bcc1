package ops

import "slices"

// The newest operator sets whose meaning is known here.
const (
	MaxOpset   = 26
	MinOpset   = 7
	MaxMLOpset = 5
)

// Registry finds operators by domain and name.
type Registry struct {
	entries map[string][]Entry
}

// NewRegistry lists all operators of this package.
func NewRegistry() *Registry {
	r := &Registry{entries: map[string][]Entry{}}
	for _, e := range slices.Concat(
		constantOps(), castOps(), treeOps(), arithmeticOps(), unaryOps(), matrixOps(), linearOps(), reduceOps(), shapeOps(), selectOps(), normalizeOps(), scalerOps(), encodeOps(), svmOps(),
	) {
		k := e.Domain + "/" + e.Op
		r.entries[k] = append(r.entries[k], e)
	}
	return r
}

// Find returns the operator for a version of its domain's operator set; known says that
// there is one for another version.
func (r *Registry) Find(domain, op string, version int) (e *Entry, known bool) {
	list := r.entries[domain+"/"+op]
	for i := range list {
		if list[i].Min <= version && version <= list[i].Max {
			return &list[i], true
		}
	}
	return nil, len(list) > 0
}

// All lists the operators, sorted by domain and name.
func (r *Registry) All() []Entry {
	var out []Entry
	for _, l := range r.entries {
		out = append(out, l...)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		ka, kb := a.Domain+"/"+a.Op, b.Domain+"/"+b.Op
		switch {
		case ka < kb:
			return -1
		case ka > kb:
			return 1
		}
		return a.Min - b.Min
	})
	return out
}
