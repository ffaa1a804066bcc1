package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// typeSet is a set of JSON types. An integer is also a number: a set with
// numbers holds them all, one with only integers those without a fraction.
type typeSet uint8

const (
	tNull typeSet = 1 << iota
	tBool
	tInteger
	tNumber
	tString
	tArray
	tObject
	tAll typeSet = 1<<iota - 1
)

var typeNames = [...]string{"null", "boolean", "integer", "number", "string", "array", "object"}

func (t typeSet) String() string {
	var names []string
	for i, name := range typeNames {
		if t&(1<<i) != 0 && !(name == "integer" && t&tNumber != 0) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, " or ")
}

// node is a compiled schema. Nodes are shared by all decoders and never change
// after Parse.
type node struct {
	types typeSet
	enums []*enumeration // enum and const

	minimum, maximum, above, below, multipleOf *limit
	numeric                                    bool // one of them is set

	minLength, maxLength int // code points; −1 where not set
	pattern              *matcher
	format               string
	isFormat             func(string) bool
	textual              bool // a string needs more than its type checked

	props        []property
	index        map[string]int
	declared     int   // props[:declared] are in properties; the rest are only required
	additional   *node // nil: anything
	minProps     int
	maxProps     int // −1: no limit
	prefix       []*node
	items        *node // nil: anything
	minItems     int
	maxItems     int // −1: no limit
	complete     *jsonschema.Schema
	unrestricted bool // every value is allowed
}

type property struct {
	name     string
	node     *node
	required bool
}

// enumeration is a closed list of scalars.
type enumeration struct {
	strings []string
	set     map[string]struct{} // the strings, where they are many
	numbers []*limit
	null    bool
	yes, no bool
	shown   []string // for messages
}

func (e *enumeration) expected() string {
	const most = 8
	switch n := len(e.shown); {
	case n == 1:
		return e.shown[0]
	case n > most:
		return "one of " + strings.Join(e.shown[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	return "one of " + strings.Join(e.shown, ", ")
}

func (e *enumeration) hasString(s string) bool {
	if e.set != nil {
		_, ok := e.set[s]
		return ok
	}
	return slices.Contains(e.strings, s)
}

func (e *enumeration) types() typeSet {
	var t typeSet
	if len(e.strings) > 0 {
		t |= tString
	}
	if len(e.numbers) > 0 {
		t |= tNumber | tInteger
	}
	if e.null {
		t |= tNull
	}
	if e.yes || e.no {
		t |= tBool
	}
	return t
}

func newNode() *node {
	return &node{types: tAll, minLength: -1, maxLength: -1, maxProps: -1, maxItems: -1}
}
