package contract

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	draft = "https://json-schema.org/draft/2020-12/schema"
	// maxNodes bounds what references may unfold to; beyond it the complete validator takes over.
	maxNodes = 4096
)

// compiler makes nodes of a contract's schema.
type compiler struct {
	*source
	keywords map[string]class
	formats  map[string]func(string) bool
	library  *jsonschema.Compiler
	whole    bool // the payload as a whole goes through the complete validator
	nodes    int
	refs     []string // references being unfolded
}

const sourceURL = "freshet://contract/schema.json"

// refusal keeps the library from loading anything.
type refusal struct{}

func (refusal) Load(u string) (any, error) {
	return nil, &remoteError{u}
}

type remoteError struct{ url string }

func (e *remoteError) Error() string {
	return "refers to " + e.url + ": nothing outside the contract is loaded; copy it under $defs and refer to it as #/$defs/NAME"
}

func compileSchema(src *source) (*node, error) {
	c := &compiler{source: src, keywords: keywords(), formats: formats(), library: jsonschema.NewCompiler()}
	switch v := src.root.(type) {
	case bool:
		if !v {
			return nil, c.errorf("", "the schema false allows no event at all")
		}
	case map[string]any:
	default:
		return nil, c.errorf("", "a contract is a JSON object, a JSON Schema 2020-12")
	}
	if err := c.checkKeywords(src.root, ""); err != nil {
		return nil, err
	}
	c.library.DefaultDraft(jsonschema.Draft2020)
	c.library.AssertFormat()
	c.library.UseLoader(refusal{})
	if err := c.library.AddResource(sourceURL, src.root); err != nil {
		return nil, c.errorf("", "%w", err)
	}
	schema, err := c.library.Compile(sourceURL)
	if err != nil {
		return nil, c.explain(err)
	}
	n, err := c.node(src.root, "")
	if err != nil {
		return nil, err
	}
	if n.types&tObject == 0 {
		return nil, c.errorf("/type", "events are JSON objects, and the schema does not allow one")
	}
	root := *n
	root.types, root.unrestricted = tObject, false // whatever else the schema allows, an event is an object
	if c.whole {
		root.complete = schema
	}
	return &root, nil
}

// node compiles the schema v that lies at pointer.
func (c *compiler) node(v any, pointer string) (*node, error) {
	n := newNode()
	if c.nodes++; c.nodes > maxNodes {
		return n, c.setComplete(n, pointer)
	}
	m, ok := v.(map[string]any)
	if !ok {
		if v == false {
			n.types = 0
		}
		n.unrestricted = v == true
		return n, nil
	}
	assertions := 0
	for k := range m {
		if cl, ok := c.keywords[k]; ok && cl != annotates && k != "$id" && k != "$dynamicAnchor" {
			assertions++
		}
	}
	if ref, ok := m["$ref"].(string); ok {
		if assertions == 1 && !c.whole {
			if done, err := c.inline(ref); done != nil || err != nil {
				return done, err
			}
		}
		if err := c.setComplete(n, pointer); err != nil {
			return nil, err
		}
	}
	if assertions == 1 {
		for _, k := range []string{"anyOf", "oneOf"} {
			if list, ok := m[k].([]any); ok {
				if done, err := c.nullable(list, at(pointer, k)); done != nil || err != nil {
					return done, err
				}
			}
		}
	}
	for _, k := range c.order[pointer] {
		if cl, ok := c.keywords[k]; ok && cl == complete && (k != "uniqueItems" || m[k] == true) {
			if err := c.setComplete(n, pointer); err != nil {
				return nil, err
			}
		}
	}
	if t, ok := m["type"]; ok {
		n.types = typesOf(t)
	}
	if err := c.enums(n, m, pointer); err != nil {
		return nil, err
	}
	if err := c.numbers(n, m, pointer); err != nil {
		return nil, err
	}
	if err := c.text(n, m, pointer); err != nil {
		return nil, err
	}
	if err := c.object(n, m, pointer); err != nil {
		return nil, err
	}
	if err := c.array(n, m, pointer); err != nil {
		return nil, err
	}
	n.unrestricted = assertions == 0
	return n, nil
}

func typesOf(v any) typeSet {
	var t typeSet
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, x := range list {
		if name, ok := x.(string); ok {
			if i := slices.Index(typeNames[:], name); i >= 0 {
				t |= 1 << i
			}
		}
	}
	if t&tNumber != 0 {
		t |= tInteger
	}
	return t
}

// setComplete has the values of n validated by the library as well.
func (c *compiler) setComplete(n *node, pointer string) error {
	if n.complete != nil || c.whole {
		return nil // where all goes through it, once is enough
	}
	var sb strings.Builder
	sb.WriteString(sourceURL)
	sb.WriteByte('#')
	for i, seg := range strings.Split(pointer, "/") {
		if i > 0 {
			sb.WriteByte('/')
			sb.WriteString(url.PathEscape(seg))
		}
	}
	schema, err := c.library.Compile(sb.String())
	if err != nil {
		return c.explain(err)
	}
	n.complete = schema
	return nil
}

// inline compiles what a reference into this document points at. It returns nil
// for references that are not simple: by anchor or by URL, or into themselves.
func (c *compiler) inline(ref string) (*node, error) {
	fragment, ok := strings.CutPrefix(ref, "#/")
	if !ok || slices.Contains(c.refs, ref) || len(c.refs) > maxDepth {
		return nil, nil
	}
	pointer, err := url.PathUnescape("/" + fragment)
	if err != nil {
		return nil, nil
	}
	target, ok := c.lookup(pointer)
	if !ok {
		return nil, nil
	}
	c.refs = append(c.refs, ref)
	n, err := c.node(target, pointer)
	c.refs = c.refs[:len(c.refs)-1]
	return n, err
}

// nullable compiles the usual "this or null". It returns nil for other lists.
func (c *compiler) nullable(list []any, pointer string) (*node, error) {
	if len(list) != 2 {
		return nil, nil
	}
	for i, x := range list {
		m, ok := x.(map[string]any)
		if !ok || m["type"] != "null" || len(m) != 1 {
			continue
		}
		other, err := c.node(list[1-i], atIndex(pointer, 1-i))
		if err != nil {
			return nil, err
		}
		if other.complete != nil || other.types&tNull != 0 {
			return nil, nil
		}
		n := *other
		n.types |= tNull
		n.enums = nil
		for _, e := range other.enums {
			with := *e
			with.null = true
			with.shown = append(slices.Clone(e.shown), "null")
			n.enums = append(n.enums, &with)
		}
		return &n, nil
	}
	return nil, nil
}

func (c *compiler) enums(n *node, m map[string]any, pointer string) error {
	var lists [][]any
	if list, ok := m["enum"].([]any); ok {
		lists = append(lists, list)
	}
	if v, ok := m["const"]; ok {
		lists = append(lists, []any{v})
	}
next:
	for _, list := range lists {
		e := &enumeration{}
		for _, v := range list {
			switch v := v.(type) {
			case nil:
				e.null = true
			case bool:
				e.yes, e.no = e.yes || v, e.no || !v
			case string:
				e.strings = append(e.strings, v)
			case json.Number:
				l, ok := newLimit(v.String())
				if !ok {
					return c.errorf(pointer, "the number %s is beyond what is read", shorten(v.String()))
				}
				e.numbers = append(e.numbers, l)
			default: // an object or an array
				if err := c.setComplete(n, pointer); err != nil {
					return err
				}
				continue next
			}
			if text, err := json.Marshal(v); err == nil {
				e.shown = append(e.shown, shorten(string(text)))
			}
		}
		if len(e.strings) > 8 {
			e.set = map[string]struct{}{}
			for _, s := range e.strings {
				e.set[s] = struct{}{}
			}
		}
		n.enums = append(n.enums, e)
		n.types &= e.types()
		n.textual = n.textual || e.types()&tString != 0
		n.numeric = n.numeric || len(e.numbers) > 0
	}
	return nil
}

func (c *compiler) numbers(n *node, m map[string]any, pointer string) error {
	for k, dst := range map[string]**limit{"minimum": &n.minimum, "maximum": &n.maximum, "exclusiveMinimum": &n.above,
		"exclusiveMaximum": &n.below, "multipleOf": &n.multipleOf} {
		v, ok := m[k].(json.Number)
		if !ok {
			continue
		}
		l, ok := newLimit(v.String())
		if !ok {
			return c.errorf(at(pointer, k), "the number %s is beyond what is read", shorten(v.String()))
		}
		*dst, n.numeric = l, true
	}
	return nil
}

func (c *compiler) text(n *node, m map[string]any, pointer string) error {
	if v, ok := count(m["minLength"]); ok {
		n.minLength, n.textual = v, true
	}
	if v, ok := count(m["maxLength"]); ok {
		n.maxLength, n.textual = v, true
	}
	if p, ok := m["pattern"].(string); ok {
		matcher, err := newMatcher(p)
		if err != nil {
			return c.errorf(at(pointer, "pattern"), "is not a regular expression in RE2 syntax: %w", err)
		}
		n.pattern, n.textual = matcher, true
	}
	if f, ok := m["format"].(string); ok {
		n.format = f
		if n.isFormat = c.formats[f]; n.isFormat != nil {
			n.textual = true
		} else if err := c.setComplete(n, pointer); err != nil {
			return err
		}
	}
	return nil
}

// count reads a keyword's non-negative integer, which may be written as 3.0.
func count(v any) (int, bool) {
	x, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	l, ok := newLimit(x.String())
	if !ok {
		return 0, false
	}
	if !l.fits {
		return math.MaxInt32, true
	}
	return int(min(l.i, math.MaxInt32)), true
}

func (c *compiler) object(n *node, m map[string]any, pointer string) error {
	if v, ok := count(m["minProperties"]); ok {
		n.minProps = v
	}
	if v, ok := count(m["maxProperties"]); ok {
		n.maxProps = v
	}
	if v, ok := m["additionalProperties"]; ok {
		// Where patternProperties stand, only the complete validator knows what is additional.
		if _, ok := m["patternProperties"]; !ok {
			sub, err := c.node(v, at(pointer, "additionalProperties"))
			if err != nil {
				return err
			}
			n.additional = sub
		}
	}
	n.index = map[string]int{}
	if props, ok := m["properties"].(map[string]any); ok {
		child := at(pointer, "properties")
		for _, name := range c.order[child] {
			sub, err := c.node(props[name], at(child, name))
			if err != nil {
				return err
			}
			n.index[name] = len(n.props)
			n.props = append(n.props, property{name: name, node: sub})
		}
	}
	n.declared = len(n.props)
	if list, ok := m["required"].([]any); ok {
		for _, x := range list {
			name, ok := x.(string)
			if !ok {
				continue
			}
			i, ok := n.index[name]
			if !ok {
				i = len(n.props)
				n.index[name] = i
				n.props = append(n.props, property{name: name, node: n.additional})
			}
			n.props[i].required = true
		}
	}
	return nil
}

func (c *compiler) array(n *node, m map[string]any, pointer string) error {
	if v, ok := count(m["minItems"]); ok {
		n.minItems = v
	}
	if v, ok := count(m["maxItems"]); ok {
		n.maxItems = v
	}
	if v, ok := m["items"]; ok {
		sub, err := c.node(v, at(pointer, "items"))
		if err != nil {
			return err
		}
		n.items = sub
	}
	if list, ok := m["prefixItems"].([]any); ok {
		for i, x := range list {
			sub, err := c.node(x, atIndex(at(pointer, "prefixItems"), i))
			if err != nil {
				return err
			}
			n.prefix = append(n.prefix, sub)
		}
	}
	return nil
}
