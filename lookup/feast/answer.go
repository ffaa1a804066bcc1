package feast

import (
	"encoding/json"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// request is the body of POST /get-online-features.
type request struct {
	Features []string            `json:"features"`
	Entities map[string][]string `json:"entities"`
}

// answer is what comes back: a column for each entity and feature, in the order of Metadata.
type answer struct {
	Metadata struct {
		FeatureNames names `json:"feature_names"`
	} `json:"metadata"`
	Results []struct {
		Values     []json.RawMessage `json:"values"`
		Statuses   []string          `json:"statuses"`
		Timestamps []string          `json:"event_timestamps"`
	} `json:"results"`
}

// names are feature names: a list, or, from servers that print the protocol
// buffer as it is, an object with a list.
type names []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *names) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err == nil {
		*n = list
		return nil
	}
	var object struct {
		Val []string `json:"val"`
	}
	err := json.Unmarshal(b, &object)
	*n = object.Val
	return err
}

// check wants every column to have n rows.
func (a *answer) check(n int) error {
	if len(a.Results) != len(a.Metadata.FeatureNames) {
		return errkind.Errorf(errkind.Permanent, "the answer names %d features and has %d columns", len(a.Metadata.FeatureNames), len(a.Results))
	}
	for i := range a.Results {
		r := &a.Results[i]
		if len(r.Values) != n || len(r.Statuses) != n || len(r.Timestamps) != n {
			return errkind.Errorf(errkind.Permanent, "the answer has %d values, %d statuses and %d times of %s for %d keys",
				len(r.Values), len(r.Statuses), len(r.Timestamps), a.Metadata.FeatureNames[i], n)
		}
	}
	return nil
}

// column finds a feature or entity; −1 where it is not in the answer.
func (a *answer) column(name string) int {
	for i, n := range a.Metadata.FeatureNames {
		if n == name {
			return i
		}
	}
	return -1
}

// fill copies the answer for keys, whose places in rows are at.
func (d *Driver) fill(a *answer, at []int, rows *lookup.Rows) error {
	for j, f := range d.fields {
		from := a.column(f.Name)
		if from < 0 {
			return errkind.Errorf(errkind.Permanent, "the answer lacks the feature %q", f.Name)
		}
		r := &a.Results[from]
		for k, i := range at {
			if r.Statuses[k] == "NOT_FOUND" {
				rows.Columns[j].SetNull(i)
				continue
			}
			rows.Found(i, rows.At[i])
			// 1970 stands for a time that is not known.
			if t, ok := lookup.ParseTime(r.Timestamps[k]); ok && t != 0 && (rows.At[i] == lookup.Unknown || t < rows.At[i]) {
				rows.At[i] = t
			}
			if r.Statuses[k] == "PRESENT" {
				d.value(rows, i, j, r.Values[k])
			} else {
				rows.Columns[j].SetNull(i) // NULL_VALUE, OUTSIDE_MAX_AGE
			}
		}
	}
	return nil
}

// value reads one JSON value into row i of field j.
func (d *Driver) value(rows *lookup.Rows, i, j int, raw json.RawMessage) {
	kind := d.fields[j].Kind
	switch {
	case len(raw) == 0, string(raw) == "null":
		rows.Columns[j].SetNull(i)
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			rows.Unfit(i, j, string(raw))
			return
		}
		rows.SetText(i, j, s)
	case raw[0] == '[', raw[0] == '{':
		rows.Unfit(i, j, string(raw))
	case kind != event.String && (kind == event.Bool) != (raw[0] == 't' || raw[0] == 'f'):
		rows.Unfit(i, j, string(raw))
	case kind == event.Time && string(raw) == "-9223372036854775808":
		rows.Columns[j].SetNull(i) // how the Python server sends a null timestamp
	default:
		rows.SetText(i, j, string(raw))
	}
}
