package oip

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/inference/internal/jsontensor"
	"github.com/freshet-io/freshet/inference/internal/settings"
	"github.com/freshet-io/freshet/internal/spell"
)

// config is the URL and the settings, read.
type config struct {
	where          string
	model, version string
	inputs         []portSetting
	outputs        []portSetting
	features       []string
	params         []parameter
	binary, typed  bool
	batch, slots   int
	timeout        time.Duration
	maxAnswer      int
	nan            jsontensor.NaN
	null           bool
	host           string
}

// portSetting is what the settings say of an input or output.
type portSetting struct {
	name          string
	dt            datatype
	shape         []int
	typed, shaped bool
	labels        []string
	params        []parameter
}

// parameter is one of a request: a bool, int64, float64 or string.
type parameter struct {
	name  string
	value any
}

func readSettings(c *config, values map[string]any, overHTTP bool) error {
	s := settings.Read("options of "+c.where, values)
	c.batch = s.Int("batch", 256, 1)
	c.slots = s.Int("concurrency", 16, 1)
	c.timeout = s.Duration("timeout", c.timeout)
	c.maxAnswer = s.Int("max_answer", 64<<20, 1<<10)
	c.features = s.Strings("features")
	c.host = s.String("host", "")
	c.params = parameters(s.Map("parameters"))
	if overHTTP {
		c.binary = s.Bool("binary", false)
		c.nan = jsontensor.NaN(slices.Index(jsontensor.NaNNames, s.Choice("nan", jsontensor.NaNNames...)))
		c.null = s.Choice("null", "error", "nan") == "nan"
	} else {
		c.typed = s.Choice("contents", "raw", "typed") == "typed"
	}
	c.inputs = ports(s, "inputs", c.where)
	c.outputs = ports(s, "outputs", c.where)
	if strings.ContainsFunc(c.host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '@' }) {
		s.Fail("host", "%q is no name of a host", c.host)
	}
	return s.Done()
}

func parameters(s *settings.Settings) []parameter {
	var out []parameter
	for _, key := range s.Keys() {
		switch v := s.Any(key).(type) {
		case bool, string:
			out = append(out, parameter{key, v})
		case int:
			out = append(out, parameter{key, int64(v)})
		case int64:
			out = append(out, parameter{key, v})
		case uint64:
			if v > math.MaxInt64 {
				s.Fail(key, "%d is beyond 64 bits with a sign", v)
			}
			out = append(out, parameter{key, int64(v)})
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				s.Fail(key, "%v is no parameter", v)
			}
			out = append(out, parameter{key, v})
		case nil:
		default:
			s.Fail(key, "expected a text, a number, true or false")
		}
	}
	return out
}

// ports reads a list of names and of mappings with what is to be known of a tensor.
func ports(s *settings.Settings, key, where string) []portSetting {
	var out []portSetting
	list, isList := s.Any(key).([]any)
	if !isList {
		for _, name := range s.Strings(key) {
			list = append(list, name)
		}
	}
	for i, e := range list {
		var p portSetting
		switch e := e.(type) {
		case string:
			p.name = e
		case map[string]any:
			m := settings.Read("options of "+where+": "+fmt.Sprintf("%s[%d]", key, i), e)
			p.name = m.String("name", "")
			if name := strings.ToUpper(m.String("datatype", "")); name != "" {
				if p.dt, p.typed = lookUp(name); !p.typed {
					hint := ""
					if near := spell.Nearest(name, datatypeNames()); near != "" {
						hint = fmt.Sprintf("; did you mean %s?", near)
					}
					m.Fail("datatype", "%q is none of %s%s", name, strings.Join(datatypeNames(), ", "), hint)
				}
			}
			p.shaped = m.Has("shape") || p.typed
			p.shape = m.Ints("shape", -1)
			if len(p.shape) >= maxRank || slices.Contains(p.shape, 0) {
				m.Fail("shape", "%v is no shape of a row", p.shape)
			}
			if key == "outputs" {
				p.labels = m.Strings("labels")
			} else {
				p.params = parameters(m.Map("parameters"))
			}
			if err := m.Done(); err != nil {
				s.Fail(key, "%w", err)
			}
		default:
			s.Fail(key, "expected a list of names, or of mappings such as {name: x, datatype: FP32, shape: [8]}")
			return nil
		}
		if p.name == "" {
			s.Fail(key, "entry %d has no name", i)
		}
		if slices.ContainsFunc(out, func(o portSetting) bool { return o.name == p.name }) {
			s.Fail(key, "%q stands there twice", p.name)
		}
		out = append(out, p)
	}
	return out
}
