package httpjson

import (
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/settings"
)

// config is the settings, read.
type config struct {
	method, path   string
	headers        http.Header
	body           string
	perRow         bool
	answers        []answer
	batch, slots   int
	timeout        time.Duration
	maxAnswer      int
	nan            nanPolicy
	ready, version string
	name           string
}

// answer is where an output stands in what the server sends.
type answer struct {
	name, path string
	sig        inference.Signature
	width      int // values a row; 0 for a value alone
	nullIsNaN  bool
}

// nanPolicy says how numbers go out that JSON does not have.
type nanPolicy uint8

const (
	nanNull nanPolicy = iota
	nanLiteral
	nanText
	nanRefuse
)

var nanPolicies = []string{"null", "literal", "text", "refuse"}

var dataTypes = map[string]inference.DataType{
	"float": inference.Float64, "int": inference.Int64, "bool": inference.Bool, "string": inference.String,
}

const maxWidth = 1 << 16

func readSettings(where string, o Options) (*config, error) {
	s := settings.Read(where, o.Settings)
	r := s.Map("request")
	c := &config{
		method:    strings.ToUpper(r.String("method", http.MethodPost)),
		path:      r.String("path", ""),
		headers:   http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}},
		body:      r.String("body", ""),
		perRow:    r.Bool("per_row", false),
		batch:     s.Int("batch", 256, 1),
		slots:     s.Int("concurrency", 8, 1),
		timeout:   s.Duration("timeout", 10*time.Second),
		maxAnswer: s.Int("max_answer", 64<<20, 1),
		nan:       nanPolicy(slices.Index(nanPolicies, s.Choice("nan", nanPolicies...))),
		ready:     s.String("ready", ""),
		version:   s.String("version", "remote"),
		name:      s.String("name", ""),
	}
	if c.perRow {
		c.batch = 1
	}
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodGet}, c.method) {
		r.Fail("method", "%q is none of POST, PUT, GET", c.method)
	}
	for name, value := range r.Texts("headers") {
		if !header(name, value) {
			r.Fail("headers", "%q is no header of HTTP", name)
		}
		c.headers.Set(name, value)
	}
	for name, variable := range r.Texts("headers_env") {
		var value string
		ok := false
		if o.Env != nil {
			value, ok = o.Env(variable)
		}
		switch {
		case !ok:
			r.Fail("headers_env", "the environment has no variable %s for %s", variable, name)
		case !header(name, value):
			r.Fail("headers_env", "the variable %s is no value of a header %q", variable, name)
		}
		c.headers.Set(name, value)
	}
	readAnswers(s, c)
	return c, s.Done()
}

func header(name, value string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return name != "" && strings.Trim(name, token) == "" && !strings.ContainsFunc(value, unicode.IsControl)
}

func readAnswers(s *settings.Settings, c *config) {
	all := s.Map("response")
	for _, name := range all.Keys() {
		a := answer{name: name}
		kind := "float"
		if _, isText := all.Peek(name).(string); isText {
			a.path = all.String(name, "")
		} else {
			m := all.Map(name)
			a.path = m.String("path", "")
			kind = m.Choice("type", "float", "int", "bool", "string")
			a.width = m.Int("width", 0, 1)
			if a.width > maxWidth {
				m.Fail("width", "a row has %d values at most", maxWidth)
			}
			a.nullIsNaN = m.Choice("null", "error", "nan") == "nan"
			if a.nullIsNaN && kind != "float" {
				m.Fail("null", "only a float can be NaN")
			}
		}
		if a.path == "" {
			all.Fail(name, "name the path of its values in the answer, such as predictions.#.%s", name)
		}
		a.sig = inference.Signature{Name: name, Type: dataTypes[kind]}
		if a.width > 0 {
			a.sig.Shape = []int{a.width}
		}
		c.answers = append(c.answers, a)
	}
	if len(c.answers) == 0 {
		s.Fail("response", "name the outputs and where they stand in the answer, such as response: {score: predictions}")
	}
}
