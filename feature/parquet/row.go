package parquet

import (
	"math"
	"strconv"

	"github.com/freshet-io/freshet/event"
)

// value is one value of a row: bits of a float, an integer, 0 or 1, or text.
type value struct {
	set  bool
	bits uint64
	text []byte
}

// row is a decoded result: a value for each column of its schema. Texts alias the payload.
type row struct {
	values []value
	// misfit says that the schema had to learn, so that the row is not complete.
	misfit bool
}

func (r *row) time() int64 { return int64(r.values[colTime].bits) }

// decode reads a result. It is false for what is not one: no JSON object, or one
// without source_id and time.
func (s *schema) decode(payload []byte, published int64, r *row) bool {
	if cap(r.values) < len(s.columns) {
		r.values = make([]value, len(s.columns)+8)
	}
	r.values = r.values[:len(s.columns)]
	clear(r.values)
	r.misfit = false
	if !validJSON(payload) {
		return false
	}
	r.setInt(colPublished, published)
	r.setBool(colFallback, false)
	r.setBool(colComplete, true)
	ok := members(payload, func(name, v []byte) {
		switch string(name) {
		case "source_id":
			r.setText(colID, text(v))
		case "id":
			r.setText(colResultID, text(v))
		case "key":
			r.setText(colKey, text(v))
		case "time":
			r.setTime(colTime, v)
		case "arrival":
			r.setTime(colArrival, v)
		case "model":
			r.setText(colModel, text(v))
		case "version":
			r.setText(colVersion, text(v))
		case "contract":
			r.setText(colContract, text(v))
		case "route":
			r.setText(colRoute, text(v))
		case "fallback":
			r.setBool(colFallback, v[0] == 't')
		case "features_complete":
			r.setBool(colComplete, v[0] != 'f')
		case "score":
			s.put(r, colScore, v)
		case "outputs":
			s.members(r, output, v)
		case "features":
			s.members(r, featureValue, v)
		case "feature_times":
			s.members(r, featureTime, v)
		}
	})
	if !ok || !r.values[colID].set || !r.values[colTime].set {
		return false
	}
	for _, d := range s.delays {
		if !r.values[d.column].set {
			r.setInt(d.column, r.time()-int64(d.by))
		}
	}
	return true
}

// members puts the members of an object into their columns.
func (s *schema) members(r *row, at role, object []byte) {
	members(object, func(name, v []byte) {
		c, ok := s.of[at][string(name)]
		if !ok {
			kind, known := kindOf(v)
			if !known {
				return // a null of a feature that has no value anywhere yet
			}
			if at == featureTime {
				kind = event.Time
			}
			s.learn(at, Column{string(name), kind})
			r.misfit = true
			return
		}
		switch {
		case c >= len(r.values): // learnt during this very row
		case at == featureTime:
			r.setTime(c, v)
		default:
			s.put(r, c, v)
		}
	})
}

// put reads a JSON value into a column.
func (s *schema) put(r *row, at int, v []byte) {
	if v[0] == 'n' {
		r.values[at] = value{}
		return
	}
	ok := true
	switch s.columns[at].kind {
	case event.Float:
		f, err := strconv.ParseFloat(string(v), 64)
		if ok = err == nil && v[0] != '"' && v[0] != 't' && v[0] != 'f'; ok {
			r.values[at] = value{set: true, bits: math.Float64bits(f)}
		}
	case event.Int:
		i, err := strconv.ParseInt(string(v), 10, 64)
		if ok = err == nil; ok {
			r.setInt(at, i)
		}
	case event.Bool:
		if ok = v[0] == 't' || v[0] == 'f'; ok {
			r.setBool(at, v[0] == 't')
		}
	case event.Time:
		ok = r.setTime(at, v)
	default:
		r.setText(at, text(v))
	}
	if !ok {
		kind, _ := kindOf(v)
		s.widen(at, kind)
		r.misfit = true
	}
}

func (r *row) setText(at int, v []byte) {
	r.values[at] = value{set: v != nil, text: v}
}

func (r *row) setInt(at int, v int64) { r.values[at] = value{set: true, bits: uint64(v)} }

func (r *row) setBool(at int, v bool) {
	r.values[at] = value{set: true}
	if v {
		r.values[at].bits = 1
	}
}

func (r *row) setTime(at int, v []byte) bool {
	ns, ok := instant(v)
	if ok {
		r.setInt(at, ns)
	}
	return ok
}
