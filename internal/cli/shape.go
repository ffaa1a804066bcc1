package cli

import (
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

// shape says how events of a topic are read: which fields are id and key, and
// the types of CSV columns. Empty names mean none.
type shape struct {
	id, key string
	types   map[string]fieldType
	// contract is set where it alone says what id and key are.
	contract *contract.Contract
}

// contractShape reads the shape off a contract. id and key, where not empty,
// take the place of the contract's own.
func contractShape(file, id, key string) (shape, error) {
	c, err := contract.Load(file)
	if err != nil {
		return shape{}, err
	}
	s := shape{id: c.ID, key: c.Key, types: map[string]fieldType{}, contract: c}
	if id != "" && id != c.ID || key != "" && key != c.Key {
		s.id, s.key, s.contract = firstText(id, c.ID), firstText(key, c.Key), nil
	}
	for _, f := range c.Fields() {
		s.types[f.Path] = typeOf(f.Kind)
	}
	return s, nil
}

func typeOf(k event.Kind) fieldType {
	switch k {
	case event.Float:
		return typeNumber
	case event.Int:
		return typeInteger
	case event.Bool:
		return typeBoolean
	case event.Time: // a text, or seconds as a number
		return typeString | typeNumber
	}
	return typeString
}

// envelope finds id and key of a payload; ok is false where it is not a JSON
// object. The results may alias the payload.
func (s *shape) envelope(value []byte) (id, key []byte, ok bool) {
	if s.contract != nil {
		id, key, _, ok = s.contract.Envelope(value)
		return id, key, ok
	}
	var values [2][]byte
	if !objectFields(value, []string{s.id, s.key}, values[:]) {
		return nil, nil, false
	}
	return scalarText(values[0]), scalarText(values[1]), true
}
