package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/internal/spell"
)

// class says what the compiler does with a keyword.
type class uint8

const (
	annotates class = iota // says nothing about which payloads are valid
	fast                   // compiled into the decoder
	complete               // left to the complete validator, for the values that it applies to
	whole                  // left to the complete validator, for the whole payload
)

// keywords lists every keyword that a contract may use, by what is done with it.
// docs/contracts.md shows the same table.
func keywords() map[string]class {
	m := map[string]class{}
	for c, names := range map[class]string{
		annotates: "$schema $comment $defs definitions $anchor title description default examples deprecated readOnly writeOnly contentEncoding contentMediaType contentSchema",
		fast: "type enum const properties required additionalProperties minProperties maxProperties prefixItems items minItems maxItems " +
			"minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format $ref",
		complete: "allOf anyOf oneOf not if then else patternProperties propertyNames dependentRequired dependentSchemas " +
			"unevaluatedProperties unevaluatedItems contains minContains maxContains uniqueItems",
		whole: "$id $dynamicRef $dynamicAnchor",
	} {
		for name := range strings.FieldsSeq(names) {
			m[name] = c
		}
	}
	return m
}

// formats lists the formats that are checked; those with a function by the
// decoder, the others by the complete validator.
func formats() map[string]func(string) bool {
	return map[string]func(string) bool{
		"date-time": isDateTime, "date": isDate, "uuid": isUUID, "ipv4": isIPv4,
		"time": nil, "duration": nil, "email": nil, "hostname": nil, "ipv6": nil, "uri": nil, "uri-reference": nil, "iri": nil,
		"iri-reference": nil, "uri-template": nil, "json-pointer": nil, "relative-json-pointer": nil, "regex": nil,
	}
}

func isDateTime(s string) bool { _, ok := parseTime(s, false); return ok }

func isDate(s string) bool { _, ok := parseDate(s); return ok && len(s) == 10 }

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c-'0' > 9 && (c|0x20)-'a' > 5:
			return false
		}
	}
	return true
}

func isIPv4(s string) bool {
	parts, n, digits := 1, 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if digits == 0 {
				return false
			}
			parts, n, digits = parts+1, 0, 0
		case c-'0' > 9 || (digits > 0 && n == 0):
			return false // not a digit, or one after a leading zero
		default:
			n, digits = n*10+int(c-'0'), digits+1
			if n > 255 {
				return false
			}
		}
	}
	return parts == 4 && digits > 0
}

// elsewhere explains words of other drafts and dialects.
func elsewhere(keyword string) string {
	switch keyword {
	case "nullable":
		return `it belongs to OpenAPI; write "type": ["string", "null"]`
	case "dependencies":
		return "it belongs to draft 7; use dependentRequired or dependentSchemas"
	case "additionalItems":
		return "it belongs to draft 2019-09; use prefixItems and items"
	case "id":
		return "it belongs to draft 4; use $id"
	case "$recursiveRef", "$recursiveAnchor":
		return "it belongs to draft 2019-09; use $dynamicRef and $dynamicAnchor"
	case "$vocabulary":
		return "only the standard vocabularies of 2020-12 are known"
	case "x-freshet":
		return "it belongs at the top of the contract"
	}
	return ""
}

// checkKeywords walks a schema and refuses keywords and formats that nothing
// would check. It is lenient about the types of keywords' values, which the
// meta-schema is asked about next.
func (c *compiler) checkKeywords(v any, pointer string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	for _, k := range c.order[pointer] {
		if strings.HasPrefix(k, "x-") && (k != annotationKey || pointer == "") {
			continue
		}
		cl, ok := c.keywords[k]
		if !ok {
			if why := elsewhere(k); why != "" {
				return c.errorf(at(pointer, k), "%q is not a keyword here: %s", k, why)
			}
			return c.errorf(at(pointer, k), "%q is not a keyword of JSON Schema 2020-12%s; an annotation of your own begins with x-", k, didYouMean(k, keysOf(c.keywords)))
		}
		if cl == whole && pointer != "" {
			c.whole = true
		}
		if cl == whole && k == "$dynamicRef" {
			c.whole = true
		}
		child := at(pointer, k)
		switch k {
		case "type":
			list, ok := m[k].([]any)
			if !ok {
				list = []any{m[k]}
			}
			for _, x := range list {
				if name, ok := x.(string); ok && !slices.Contains(typeNames[:], name) {
					return c.errorf(child, "%q is not a type%s; the types are %s", name, didYouMean(name, typeNames[:]), strings.Join(typeNames[:], ", "))
				}
			}
		case "$ref":
			if s, ok := m[k].(string); ok && !strings.HasPrefix(s, "#") && !c.identified() {
				return c.errorf(child, "%w", &remoteError{s})
			}
		case "$schema":
			if s, ok := m[k].(string); ok && strings.TrimSuffix(s, "#") != draft {
				return c.errorf(child, "is %q, expected %q", s, draft)
			}
		case "format":
			if s, ok := m[k].(string); ok {
				if _, ok := c.formats[s]; !ok {
					return c.errorf(child, "%q is not a format that is checked%s; known are %s", s, didYouMean(s, keysOf(c.formats)), strings.Join(keysOf(c.formats), ", "))
				}
			}
		case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
			if sub, ok := m[k].(map[string]any); ok {
				for _, name := range c.order[child] {
					if err := c.checkKeywords(sub[name], at(child, name)); err != nil {
						return err
					}
				}
			}
		case "prefixItems", "allOf", "anyOf", "oneOf":
			if sub, ok := m[k].([]any); ok {
				for i, x := range sub {
					if err := c.checkKeywords(x, atIndex(child, i)); err != nil {
						return err
					}
				}
			}
		case "additionalProperties", "items", "not", "if", "then", "else", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "contains":
			if err := c.checkKeywords(m[k], child); err != nil {
				return err
			}
		}
	}
	return nil
}

// identified reports whether some schema here has a URL, which a reference may then name.
func (c *compiler) identified() bool {
	for p := range c.places {
		if strings.HasSuffix(p, "/$id") {
			return true
		}
	}
	return false
}

func keysOf[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// didYouMean names the nearest of the known words, as the end of a message.
func didYouMean(word string, known []string) string {
	best := spell.Nearest(word, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}
