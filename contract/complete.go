package contract

import (
	"bytes"
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// explain turns an error of the library about the schema itself into one with a place in the file.
func (c *compiler) explain(err error) error {
	var (
		invalid *jsonschema.SchemaValidationError
		regex   *jsonschema.InvalidRegexError
		pointer *jsonschema.JSONPointerNotFoundError
		anchor  *jsonschema.AnchorNotFoundError
		load    *jsonschema.LoadURLError
		leaf    *jsonschema.ValidationError
	)
	switch {
	case errors.As(err, &invalid) && errors.As(invalid.Err, &leaf):
		leaf = innermost(leaf)
		where := ""
		for _, seg := range leaf.InstanceLocation {
			where = at(where, seg)
		}
		return c.errorf(where, "%s", message(leaf))
	case errors.As(err, &regex):
		_, fragment, _ := strings.Cut(regex.URL, "#")
		return c.errorf(fragment, "%s is not a regular expression in RE2 syntax: %w", regex.Regex, regex.Err)
	case errors.As(err, &pointer):
		_, fragment, _ := strings.Cut(pointer.URL, "#")
		return c.errorf(c.referrer(fragment), "refers to #%s, which is not there%s", fragment, didYouMean("#"+fragment, c.definitions()))
	case errors.As(err, &anchor):
		return c.errorf(c.referrer(anchor.Reference), "refers to %s, which is not there", strings.TrimPrefix(anchor.Reference, sourceURL))
	case errors.As(err, &load):
		var remote *remoteError
		if errors.As(load.Err, &remote) {
			return c.errorf(c.referrer(load.URL), "%w", load.Err)
		}
	}
	text := strings.ReplaceAll(err.Error(), sourceURL, "")
	return c.errorf("", "the schema cannot be compiled: %s", text)
}

// referrer finds the $ref that ends in target.
func (c *compiler) referrer(target string) string {
	found := ""
	for p := range c.places {
		if !strings.HasSuffix(p, "/$ref") {
			continue
		}
		if v, ok := c.lookup(p); ok {
			s, _ := v.(string)
			if s != "" && (strings.HasSuffix(s, target) || strings.HasPrefix(s, target) || strings.HasSuffix(target, s)) && (found == "" || p < found) {
				found = p
			}
		}
	}
	return found
}

func (c *compiler) definitions() []string {
	var names []string
	for _, d := range []string{"$defs", "definitions"} {
		for _, n := range c.order["/"+d] {
			names = append(names, "#"+at("/"+d, n))
		}
	}
	return names
}

// innermost follows the first cause of an error, by its place in the value, to the end. Where branches of
// anyOf and oneOf all fail, the choice itself is the message.
func innermost(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	for len(e.Causes) > 0 {
		if kw := e.ErrorKind.KeywordPath(); len(kw) > 0 {
			switch kw[len(kw)-1] {
			case "anyOf", "oneOf", "contains", "minContains":
				return e
			}
		}
		e = slices.MinFunc(e.Causes, func(a, b *jsonschema.ValidationError) int { // the library goes through maps
			return cmp.Or(slices.Compare(a.InstanceLocation, b.InstanceLocation), strings.Compare(a.SchemaURL, b.SchemaURL))
		})
	}
	return e
}

func message(e *jsonschema.ValidationError) string {
	leaf := *e
	leaf.Causes = nil
	out := leaf.BasicOutput()
	if out.Error == nil && len(out.Errors) > 0 {
		out = &out.Errors[0]
	}
	if out.Error == nil {
		return "does not match"
	}
	text := out.Error.String()
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "…"
	}
	return text
}

var arrayIndex = regexp.MustCompile(`^\d+$`)

// validate has the library judge the value between start and end.
func (d *Decoder) validate(n *node, start, end int) int {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.b[start:end]))
	if err != nil { // not reached: the scanner has read the value
		return d.fail(ReasonInvalidJSON, start, err.Error())
	}
	err = n.complete.Validate(v)
	if err == nil {
		return end
	}
	var ve *jsonschema.ValidationError
	if !errors.As(err, &ve) {
		return d.fail(ReasonSchema, start, shorten(err.Error()))
	}
	ve = innermost(ve)
	d.fail(ReasonSchema, start, message(ve))
	for i := len(ve.InstanceLocation) - 1; i >= 0; i-- {
		if seg := ve.InstanceLocation[i]; arrayIndex.MatchString(seg) {
			d.within("[" + seg + "]")
		} else {
			d.within("." + shorten(seg))
		}
	}
	return -1
}
