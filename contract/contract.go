package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Contract is a compiled contract. It is safe for concurrent use.
type Contract struct {
	// Name is what the contract was loaded as: the file's path.
	Name string
	// Version is the author's version of the contract; empty where there is none.
	Version string
	// Digest is the SHA-256 of the file, in hexadecimal.
	Digest string
	// ID and Key are the dotted paths of the fields with the event's id and key;
	// empty where the contract names none.
	ID, Key string
	// Time is where the event time comes from and what it may be.
	Time TimeRule

	root *node
}

// TimeRule says where an event's time comes from and what it may be.
type TimeRule struct {
	// Field is the dotted path of the time field; empty: the envelope's time or the record's.
	Field string
	// Lateness is how far an event may lie behind later ones and still be in
	// its windows. The decoder does not use it.
	Lateness time.Duration
	// Ahead is how far an event's time may lie after its record's arrival.
	Ahead time.Duration
	// Earliest is the first time that an event may have.
	Earliest time.Time
}

// Field is a scalar field of a contract's events.
type Field struct {
	// Path names the field: property names joined by dots.
	Path string
	// Kind is the kind of column that the field makes.
	Kind event.Kind
	// Required says that the field is there and not null in every event.
	Required bool
}

// Load reads and compiles a contract's file. Its errors are Config errors that
// name the file, line and column.
func Load(path string) (*Contract, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "read contract: %w", err)
	}
	return Parse(path, data)
}

// Parse compiles a contract from the text of its file. name appears in errors,
// which are Config errors.
func Parse(name string, data []byte) (*Contract, error) {
	src, err := readSource(name, data)
	if err != nil {
		return nil, err
	}
	root, err := compileSchema(src)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	c := &Contract{Name: name, Digest: hex.EncodeToString(sum[:]), root: root}
	c.Time = TimeRule{Ahead: defaultAhead, Earliest: defaultEarliest()}
	if err := c.annotate(src); err != nil {
		return nil, err
	}
	return c, nil
}

// find walks to the node at a dotted path. required says that it and all around
// it are always there and never null. open says that the path left what
// the schema declares where it declares nothing at all.
func (c *Contract) find(path string) (n *node, required, open, ok bool) {
	n, required = c.root, true
	for seg := range strings.SplitSeq(path, ".") {
		if n == nil || seg == "" {
			return nil, false, n == nil && open, false
		}
		i, declared := n.index[seg]
		if !declared || i >= n.declared {
			return nil, false, n.declared == 0 && (n.additional == nil || n.additional.unrestricted) && n.types&tObject != 0, false
		}
		required = required && n.types == tObject && n.props[i].required
		n = n.props[i].node
	}
	return n, required && n.types&tNull == 0, false, true
}

// Field returns the field with a dotted path. ok is false where the schema has
// no such property, or where its type is not exactly one scalar (and perhaps null).
func (c *Contract) Field(path string) (f Field, ok bool) {
	n, required, _, ok := c.find(path)
	if !ok {
		return Field{}, false
	}
	kind, ok := n.kind(path == c.Time.Field)
	return Field{Path: path, Kind: kind, Required: required}, ok
}

// kind is the kind of column that the node's values make.
func (n *node) kind(isTime bool) (event.Kind, bool) {
	switch t := n.types &^ tNull; {
	case t == 0:
		return 0, false
	case isTime && t&^(tNumber|tInteger|tString) == 0:
		return event.Time, true
	case t&tNumber != 0 && t&^tInteger == tNumber:
		return event.Float, true
	case t == tInteger:
		return event.Int, true
	case t == tBool:
		return event.Bool, true
	case t == tString && n.format == "date-time":
		return event.Time, true
	case t == tString:
		return event.String, true
	}
	return 0, false
}

// Fields lists every field that Field finds, sorted by path.
func (c *Contract) Fields() []Field {
	var fields []Field
	var walk func(n *node, prefix string)
	walk = func(n *node, prefix string) {
		if n == nil {
			return
		}
		for _, p := range n.props[:n.declared] {
			if p.name == "" || strings.Contains(p.name, ".") {
				continue
			}
			if f, ok := c.Field(prefix + p.name); ok {
				fields = append(fields, f)
			}
			walk(p.node, prefix+p.name+".")
		}
	}
	walk(c.root, "")
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	return fields
}

// unknownField says that a path names no field, and which one it may have meant.
func (c *Contract) unknownField(path string) string {
	var names []string
	for _, f := range c.Fields() {
		names = append(names, f.Path)
	}
	if n, _, _, ok := c.find(path); ok {
		return "field " + path + " is " + n.types.String() + ", expected one scalar type"
	}
	return "the schema has no field " + path + didYouMean(path, names)
}
