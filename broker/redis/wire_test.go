package redis

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// entry is an entry as the server sends it.
func entry(id string, parts ...string) []byte {
	b := appendCommand(nil, id)
	b = append([]byte("*2\r\n"), b[len("*1\r\n"):]...)
	return append(b, appendCommand(nil, parts...)...)
}

func list(entries ...[]byte) []byte {
	return append([]byte("*"+strconv.Itoa(len(entries))+"\r\n"), bytes.Join(entries, nil)...)
}

func FuzzEntries(f *testing.F) {
	headers := event.Headers(nil).AppendString("ce_type", "x")
	f.Add(list(entry(base+"-1", "t", "1700000000000000", "id", "i", "key", "k", "h", string(headers), "data", "{}")))
	f.Add(list(entry(base+"-1", "data", "x", "id", "y"), entry(base+"-2", "amount", "12.5", "odd")))
	f.Add(list(entry("1700000000000-0", "amount", "12.5", "ce_id", "y", "name", "\xff")))
	f.Add([]byte("*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n"))
	f.Add([]byte("*1\r\n*2\r\n$536870912\r\n1-1\r\n"))
	f.Add([]byte("-ERR no\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, native := range []bool{false, true} {
			d := decoder{topic: &topic{config: broker.TopicConfig{Name: "t", Partitions: 1}, native: native, typed: true}}
			got := newFetched()
			err := got.entries(bufio.NewReader(bytes.NewReader(b)), &d)
			last := int64(-1)
			for _, r := range got.recs {
				if r.Position < 0 || r.Time < last || !r.Headers.Valid() {
					t.Fatalf("%+v after %d", r, last)
				}
				last = r.Time
			}
			if err != nil && errkind.Of(err) == errkind.Invalid {
				t.Fatal(err)
			}
			got.free()
		}
	})
}

func FuzzRowsBecomeJSON(f *testing.F) {
	f.Add("amount", "12.5", "name", "a\"b")
	f.Add("a", "1e999", "a", "\xff\x00")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		for _, typed := range []bool{false, true} {
			b := object([][]byte{[]byte(k1), []byte(v1), []byte(k2), []byte(v2)}, typed)
			var v map[string]any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
		}
	})
}

func TestIDsAreReadStrictly(t *testing.T) {
	for _, s := range []string{"", "-", "1", "1-", "-1", "1-1-1", "a-1", "1-18446744073709551616", "99999999999999999999-1", "1 -1"} {
		if i, err := parseID(s); !errkind.Is(err, errkind.Corrupt) {
			t.Errorf("%q: %v, %v", s, i, err)
		}
	}
	for _, s := range []string{"0-1", "1700000000000-0", "18446744073709551615-18446744073709551615"} {
		if i, err := parseID(s); err != nil || i.String() != s {
			t.Errorf("%q: %v, %v", s, i, err)
		}
	}
}

func TestPositionsAndIDsAreTheSame(t *testing.T) {
	for _, native := range []bool{false, true} {
		x := &topic{native: native}
		for _, p := range []int64{0, 1, 2, 1<<20 - 1, 1 << 20, 1<<41 + 7} {
			got, err := x.positionOf(x.at(p))
			if err != nil || got != p {
				t.Errorf("native %v, position %d: %d, %v", native, p, got, err)
			}
		}
	}
}

func TestAnswersOfTheServerHaveTheirKinds(t *testing.T) {
	for text, want := range map[string]errkind.Kind{
		"NOAUTH Authentication required.":                                   errkind.Config,
		"WRONGPASS invalid username-password pair or user is disabled.":     errkind.Config,
		"NOPERM No permissions to access a key":                             errkind.Config,
		"ERR ACL failure in script: No permissions to access a key":         errkind.Config,
		"LOADING Redis is loading the dataset in memory":                    errkind.Transient,
		"BUSY Redis is busy running a script.":                              errkind.Transient,
		"READONLY You can't write against a read only replica.":             errkind.Transient,
		"MASTERDOWN Link with MASTER is down":                               errkind.Transient,
		"OOM command not allowed when used memory > 'maxmemory'.":           errkind.Exhausted,
		"MISCONF Errors writing to the AOF file: No space left on device":   errkind.Exhausted,
		"MOVED 3999 127.0.0.1:6381":                                         errkind.Unsupported,
		"CROSSSLOT Keys in request don't hash to the same slot":             errkind.Unsupported,
		"WRONGTYPE Operation against a key holding the wrong kind of value": errkind.Conflict,
		"ERR max number of clients reached":                                 errkind.Throttled,
		"ERR something else":                                                errkind.Permanent,
	} {
		in := bufio.NewReader(bytes.NewReader([]byte("-" + text + "\r\n")))
		_, err := array(in)
		var answer replyError
		if !errors.As(err, &answer) || string(answer) != text || kindOf(err) != want {
			t.Errorf("%s: %v of kind %v, want %v", text, err, kindOf(err), want)
		}
	}
}
