package contract

import (
	"time"
)

const (
	annotationKey = "x-freshet"
	defaultAhead  = 24 * time.Hour
)

func defaultEarliest() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// annotation reads the contract's annotation object, strictly.
type annotation struct {
	*source
	contract *Contract
}

func (c *Contract) annotate(src *source) error {
	m, ok := src.root.(map[string]any)
	if !ok {
		return nil
	}
	v, ok := m[annotationKey]
	if !ok {
		return nil
	}
	a := annotation{src, c}
	const pointer = "/" + annotationKey
	if m, ok = v.(map[string]any); !ok {
		return a.errorf(pointer, "expected an object with version, id, key and time")
	}
	for _, k := range a.order[pointer] {
		var err error
		switch p := at(pointer, k); k {
		case "version":
			c.Version, err = a.text(m[k], p)
		case "id":
			c.ID, err = a.field(m[k], p, false)
		case "key":
			c.Key, err = a.field(m[k], p, false)
		case "time":
			err = a.time(m[k], p)
		default:
			err = a.errorf(p, "unknown key%s; known are version, id, key and time", didYouMean(k, []string{"version", "id", "key", "time"}))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *annotation) time(v any, pointer string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return a.errorf(pointer, `expected an object such as {"field": "created_at", "lateness": "0s"}`)
	}
	t := &a.contract.Time
	for _, k := range a.order[pointer] {
		var err error
		switch p := at(pointer, k); k {
		case "field":
			t.Field, err = a.field(m[k], p, true)
		case "lateness":
			t.Lateness, err = a.duration(m[k], p)
		case "ahead":
			t.Ahead, err = a.duration(m[k], p)
		case "earliest":
			t.Earliest, err = a.instant(m[k], p)
		default:
			err = a.errorf(p, "unknown key%s; known are field, lateness, ahead and earliest", didYouMean(k, []string{"field", "lateness", "ahead", "earliest"}))
		}
		if err != nil {
			return err
		}
	}
	if t.Field == "" {
		return a.errorf(pointer, "names no field: add the dotted path of the event time as field")
	}
	return nil
}

func (a *annotation) text(v any, pointer string) (string, error) {
	s, ok := v.(string)
	if !ok || s == "" {
		return "", a.errorf(pointer, "expected a string that is not empty")
	}
	return s, nil
}

func (a *annotation) field(v any, pointer string, isTime bool) (string, error) {
	path, err := a.text(v, pointer)
	if err != nil {
		return "", err
	}
	if why := a.contract.unfit(path, isTime); why != "" {
		return "", a.errorf(pointer, "%s", why)
	}
	return path, nil
}

// unfit says why a path cannot be an event's id, key or time.
func (c *Contract) unfit(path string, isTime bool) string {
	n, _, open, ok := c.find(path)
	switch {
	case open:
		return ""
	case !ok:
		return c.unknownField(path)
	case isTime && n.types&(tString|tNumber|tInteger) == 0:
		return "field " + path + " is " + n.types.String() + ", and a time is a string or a number"
	case n.types&(tString|tNumber|tInteger|tBool) == 0:
		return "field " + path + " is " + n.types.String() + ", expected a scalar"
	}
	return ""
}

func (a *annotation) duration(v any, pointer string) (time.Duration, error) {
	s, ok := v.(string)
	if ok {
		if d, err := time.ParseDuration(s); err == nil && d >= 0 {
			return d, nil
		}
	}
	return 0, a.errorf(pointer, `expected a duration such as "90s", "15m" or "24h"`)
}

func (a *annotation) instant(v any, pointer string) (time.Time, error) {
	if s, ok := v.(string); ok {
		if t, ok := parseTime(s, true); ok {
			if ns, ok := t.unixNano(); ok {
				return time.Unix(0, ns).UTC(), nil
			}
		}
	}
	return time.Time{}, a.errorf(pointer, `expected a time such as "2000-01-01T00:00:00Z", between 1678 and 2262`)
}
