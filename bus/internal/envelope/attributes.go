package envelope

import (
	"slices"
	"strings"

	"github.com/freshet-io/freshet/event"
)

// Names of attributes.
const (
	// AttributePacked holds a packed record.
	AttributePacked = "freshet-record"
	prefix          = "ce-"
	headerPrefix    = "ce_"
)

// Layout is what the attributes of a message may be.
type Layout struct {
	// Count is the most attributes that headers may take.
	Count int
	// NameBytes and ValueBytes bound a name and a value.
	NameBytes, ValueBytes int
	// Name says whether an attribute may be called so.
	Name func(string) bool
	// Empty says that a value may be empty.
	Empty bool
}

// Attribute is a name with a value.
type Attribute struct{ Name, Value string }

// Encode lays the headers of r into attributes, and its ID, and its key unless
// the message carries that elsewhere. packed is what else has to travel under
// AttributePacked; nil where nothing has to.
func (l *Layout) Encode(r *event.Record, keyElsewhere bool) (attributes []Attribute, packed []byte) {
	id, idFits := l.value(r.ID)
	if len(r.ID) > 0 && idFits {
		attributes = append(attributes, Attribute{prefix + "id", id})
	}
	key, keyFits := l.value(r.Key)
	if len(r.Key) > 0 && keyFits && !keyElsewhere {
		attributes = append(attributes, Attribute{prefix + "partitionkey", key})
	}
	packID := len(r.ID) > 0 && !idFits
	packKey := len(r.Key) > 0 && !keyFits && !keyElsewhere
	whole, last, own := !packID && !packKey, "", len(attributes)
	for name, value := range r.Headers.All() {
		v, ok := l.value(value)
		native := nativeName(name)
		switch {
		case name == event.HeaderID, name == event.HeaderPartitionKey, native == AttributePacked,
			headerName(native) != name, !l.nameFits(native), !ok, len(attributes)-own == l.Count,
			slices.ContainsFunc(attributes[own:], func(a Attribute) bool { return a.Name == native }):
			whole = false
			continue
		case last != "" && before(last, name) >= 0:
			whole = false
		}
		last = name
		attributes = append(attributes, Attribute{native, v})
	}
	if !whole {
		packed = pack(r, packID, packKey)
	}
	return attributes, packed
}

// value is b as an attribute's value, where it can be one.
func (l *Layout) value(b []byte) (string, bool) {
	return string(b), len(b) <= l.ValueBytes && (len(b) > 0 || l.Empty) && Text(b)
}

func (l *Layout) nameFits(name string) bool {
	return name != "" && len(name) <= l.NameBytes && l.Name(name)
}

// Decode reads attributes, in any order, with what travelled under
// AttributePacked, back into r: ID, Key and Headers. Attributes that are not
// CloudEvents' become headers of their own name. A message in structured mode
// takes its ID and, where it has none, its key from r.Value.
func Decode(attributes []Attribute, packed []byte, r *event.Record) {
	for _, a := range attributes {
		switch a.Name {
		case prefix + "id":
			r.ID = []byte(a.Value)
		case prefix + "partitionkey":
			r.Key = []byte(a.Value)
		}
	}
	if packed != nil && unpack(packed, r) {
		return
	}
	kept := make([]Attribute, 0, len(attributes))
	n := 0
	for _, a := range attributes {
		switch a.Name {
		case prefix + "id", prefix + "partitionkey", AttributePacked:
			continue
		}
		a.Name = headerName(a.Name)
		kept = append(kept, a)
		n += len(a.Name) + len(a.Value) + 4
	}
	if len(kept) == 0 {
		return
	}
	slices.SortFunc(kept, func(a, b Attribute) int { return before(a.Name, b.Name) })
	h := make(event.Headers, 0, n)
	for _, a := range kept {
		h = h.AppendString(a.Name, a.Value)
	}
	r.Headers = h
	if event.ModeOf(h) == event.Structured {
		var e event.Envelope
		if e.Parse(r.Value) == nil {
			r.ID = slices.Clone(e.ID)
			if len(r.Key) == 0 && len(e.PartitionKey) > 0 {
				r.Key = slices.Clone(e.PartitionKey)
			}
		}
	}
}

// nativeName is what a header is called as an attribute.
func nativeName(header string) string {
	if rest, ok := strings.CutPrefix(header, headerPrefix); ok {
		return prefix + rest
	}
	return header
}

// headerName is what an attribute is called as a header.
func headerName(native string) string {
	if rest, ok := strings.CutPrefix(native, prefix); ok {
		return headerPrefix + rest
	}
	if strings.EqualFold(native, event.HeaderContentType) {
		return event.HeaderContentType
	}
	return native
}
