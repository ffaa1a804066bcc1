package orchestrator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode"

	"github.com/freshet-io/freshet/errkind"
)

// A line of the journal is a JSON object. Its keys are the names of the fields in snake case; a field that is
// zero is left out; a duration is in seconds and its key ends in _s; a number that JSON does not
// have (NaN, an infinity) is a string. First comes "v", the version of the form, and last "crc", the Castagnoli checksum of all that
// stands before it. Keys that a reader does not know are passed over.

const (
	lineVersion = 1
	crcField    = `,"crc":"`
	crcTail     = len(crcField) + 8 + len(`"}`)
	// maxLine bounds what a reader takes as a line.
	maxLine = 4 << 20
	// maxDepth bounds how deep a reader follows a line.
	maxDepth = 8
)

// sumText is a checksum as eight hexadecimal digits.
func sumText(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// appendLine appends an entry as a line.
func appendLine(b []byte, e *Entry) []byte {
	from := len(b)
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, lineVersion, 10)
	b = appendFields(b, reflect.ValueOf(e).Elem(), false)
	sum := sumText(b[from:])
	b = append(b, crcField...)
	b = append(b, sum...)
	return append(b, "\"}\n"...)
}

// EncodeEntry returns an entry as the journal writes it, without checksum and end of line.
func EncodeEntry(e *Entry) []byte {
	b := []byte(`{"v":1`)
	return append(appendFields(b, reflect.ValueOf(compact(e)).Elem(), false), '}')
}

// DecodeEntry reads a line of the journal without its end of line. Damage is Corrupt, a
// version of the form that this program does not know is Unsupported.
func DecodeEntry(line []byte) (*Entry, error) {
	if err := checkLine(line); err != nil {
		return nil, err
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read journal line: %w", err)
	}
	if v, _ := m["v"].(json.Number); v.String() != strconv.Itoa(lineVersion) {
		return nil, errkind.Errorf(errkind.Unsupported, "read journal line: it has form %v, this program reads form %d", m["v"], lineVersion)
	}
	e := &Entry{}
	if err := setFields(reflect.ValueOf(e).Elem(), m, 0); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read journal line: %w", err)
	}
	if e.Kind == "" {
		return nil, errkind.New(errkind.Corrupt, "read journal line: it has no kind")
	}
	return e, nil
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	knownType    = reflect.TypeFor[Known]()
)

// appendFields appends the fields of a struct, each with a comma in front unless first.
func appendFields(b []byte, v reflect.Value, first bool) []byte {
	t := v.Type()
	for i := range t.NumField() {
		f := v.Field(i)
		if !t.Field(i).IsExported() || empty(f) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, fieldKey(t.Field(i))...)
		b = append(b, `":`...)
		b = appendValue(b, f)
	}
	return b
}

func empty(v reflect.Value) bool {
	switch {
	case v.Type() == timeType:
		return v.Interface().(time.Time).IsZero()
	case v.Kind() == reflect.Slice:
		return v.Len() == 0
	}
	return v.IsZero()
}

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Type() {
	case timeType:
		return strconv.AppendQuote(b, v.Interface().(time.Time).UTC().Format(time.RFC3339Nano))
	case durationType:
		return appendNumber(b, time.Duration(v.Int()).Seconds())
	case knownType:
		b = append(b, '[')
		for i, name := range Known(v.Uint()).Names() {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, name)
		}
		return append(b, ']')
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Float64:
		return appendNumber(b, v.Float())
	case reflect.String:
		// Marshal replaces what is no UTF-8; a string has no other way to fail.
		text, _ := json.Marshal(v.String())
		return append(b, text...)
	case reflect.Pointer:
		return appendValue(b, v.Elem())
	case reflect.Struct:
		return append(appendFields(append(b, '{'), v, true), '}')
	case reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, v.Index(i))
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

func appendNumber(b []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return strconv.AppendQuote(b, strconv.FormatFloat(x, 'g', -1, 64))
	}
	return strconv.AppendFloat(b, x, 'g', -1, 64)
}

// fieldKey is a field's name in snake case, with _s where it is a duration.
func fieldKey(f reflect.StructField) string {
	var b []rune
	runes := []rune(f.Name)
	for i, r := range runes {
		if unicode.IsUpper(r) {
			if i > 0 && !unicode.IsUpper(runes[i-1]) {
				b = append(b, '_')
			}
			r = unicode.ToLower(r)
		}
		b = append(b, r)
	}
	if f.Type == durationType {
		b = append(b, '_', 's')
	}
	return string(b)
}

var errDeep = errors.New("it is nested too deep")

func setFields(v reflect.Value, m map[string]any, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		x, ok := m[fieldKey(f)]
		if !ok || !f.IsExported() || x == nil {
			continue
		}
		if err := setValue(v.Field(i), x, depth+1); err != nil {
			return fmt.Errorf("%s: %w", fieldKey(f), err)
		}
	}
	return nil
}

func setValue(v reflect.Value, x any, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	switch v.Type() {
	case timeType:
		s, _ := x.(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return fmt.Errorf("%v is no time", x)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	case durationType:
		s, err := toNumber(x)
		if err != nil || math.IsNaN(s) || math.Abs(s) > math.MaxInt64/1e9 {
			return fmt.Errorf("%v is no number of seconds", x)
		}
		v.SetInt(int64(math.Round(s * 1e9)))
		return nil
	case knownType:
		names, _ := x.([]any)
		for _, n := range names {
			s, _ := n.(string)
			v.SetUint(v.Uint() | uint64(knownByName(s)))
		}
		return nil
	}
	wrong := fmt.Errorf("%v is no %s", x, v.Type())
	switch v.Kind() {
	case reflect.Bool:
		y, ok := x.(bool)
		if !ok {
			return wrong
		}
		v.SetBool(y)
	case reflect.Int, reflect.Int64:
		n, _ := x.(json.Number)
		y, err := strconv.ParseInt(n.String(), 10, 64)
		if err != nil {
			return wrong
		}
		v.SetInt(y)
	case reflect.Uint64:
		n, _ := x.(json.Number)
		y, err := strconv.ParseUint(n.String(), 10, 64)
		if err != nil {
			return wrong
		}
		v.SetUint(y)
	case reflect.Float64:
		y, err := toNumber(x)
		if err != nil {
			return wrong
		}
		v.SetFloat(y)
	case reflect.String:
		y, ok := x.(string)
		if !ok {
			return wrong
		}
		v.SetString(y)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return setValue(v.Elem(), x, depth)
	case reflect.Struct:
		m, ok := x.(map[string]any)
		if !ok {
			return wrong
		}
		return setFields(v, m, depth)
	case reflect.Slice:
		list, ok := x.([]any)
		if !ok {
			return wrong
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i := range list {
			if err := setValue(v.Index(i), list[i], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func toNumber(x any) (float64, error) {
	switch y := x.(type) {
	case json.Number:
		return strconv.ParseFloat(y.String(), 64)
	case string:
		switch y {
		case "NaN", "+Inf", "-Inf":
			return strconv.ParseFloat(y, 64)
		}
	}
	return 0, strconv.ErrSyntax
}
