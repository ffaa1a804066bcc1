package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// message is a request in the making.
type message struct {
	id     string // the same at each repeat
	header http.Header
	body   []byte // its own, because a connection may read it for longer than the call lasts
}

// message lays records out as the mode says; several only in batched mode.
// Its error is Invalid: the record will never be taken.
func (s *Sender) message(recs []event.Record, indices []int) (*message, error) {
	m := &message{header: http.Header{}}
	r := &recs[indices[0]]
	m.id = idOf(r)
	if s.mode == batched {
		m.header.Set("Content-Type", event.TypeBatch+"; charset=utf-8")
		m.body = append(m.body, '[')
		h := sha256.New()
		for n, i := range indices {
			r := &recs[i]
			if err := checkText(r); err != nil {
				return nil, err
			}
			if n > 0 {
				m.body = append(m.body, ',')
			}
			m.body = event.AppendStructured(m.body, r)
			h.Write(strconv.AppendInt(nil, int64(len(r.ID)), 10))
			h.Write([]byte(idOf(r)))
		}
		m.body = append(m.body, ']')
		m.id = hex.EncodeToString(h.Sum(nil)[:16])
		return m, nil
	}
	if err := checkText(r); err != nil {
		return nil, err
	}
	if s.mode == structured || event.ModeOf(r.Headers) == event.Structured {
		m.header.Set("Content-Type", event.TypeStructured+"; charset=utf-8")
		m.body = event.AppendStructured(nil, r)
	} else {
		m.body = bytes.Clone(r.Value)
		binaryHeaders(m.header, r)
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if v, ok := r.Headers.Get(name); ok {
			m.header.Set(name, string(v))
		}
	}
	return m, nil
}

func idOf(r *event.Record) string {
	if len(r.ID) > 0 {
		return string(r.ID)
	}
	if v, ok := r.Headers.Get(event.HeaderID); ok && len(v) > 0 {
		return string(v)
	}
	return strconv.FormatInt(r.Position, 10)
}

// checkText holds ID and key to be attributes, which are text.
func checkText(r *event.Record) error {
	for i, v := range [...][]byte{r.ID, r.Key} {
		name := [...]string{"ID", "key"}[i]
		if !utf8.Valid(v) || bytes.ContainsFunc(v, func(c rune) bool { return c < 0x20 || c >= 0x7f && c <= 0x9f }) {
			return errkind.Errorf(errkind.Invalid, "the record's %s is not text in UTF-8 without control characters, as an attribute of a CloudEvent has to be", name)
		}
	}
	if m := event.ModeOf(r.Headers); m == event.Batched || m == event.Foreign {
		return errkind.New(errkind.Invalid, "the record holds CloudEvents of a form that is not taken apart here")
	}
	return nil
}

// binaryHeaders writes the attributes of a record as CloudEvents' HTTP binding says.
func binaryHeaders(h http.Header, r *event.Record) {
	h.Set("Ce-Specversion", "1.0")
	h.Set("Ce-Source", "/")
	h.Set("Ce-Type", "freshet.record")
	if r.Time != 0 {
		h.Set("Ce-Time", time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano))
	}
	for rest := r.Headers; len(rest) > 0; {
		name, value, next, ok := rest.Cut()
		if !ok {
			break
		}
		rest = next
		if string(name) == event.HeaderContentType {
			h.Set("Content-Type", headerText(value))
			continue
		}
		if n, ok := strings.CutPrefix(string(name), "ce_"); ok && isAttribute(n) && len(value) > 0 {
			h.Set("Ce-"+n, percentEncode(value))
		}
	}
	h.Set("Ce-Id", percentEncode([]byte(idOf(r))))
	if len(r.Key) > 0 {
		h.Set("Ce-Partitionkey", percentEncode(r.Key))
	}
}

// isAttribute reports whether CloudEvents allows the name for an attribute.
func isAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// percentEncode encodes what the HTTP binding does not let stand in a header:
// all but printable ASCII, and of that space, double quote and percent.
func percentEncode(v []byte) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range v {
		if c > 0x20 && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// headerText is a value without what a header cannot hold.
func headerText(v []byte) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return -1
		}
		return c
	}, string(v))
}

// readSecret reads a secret of Standard Webhooks, or takes any other as it is.
func readSecret(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(text, "whsec_")
	if !ok {
		return []byte(text), nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) == 0 {
		return nil, errkind.New(errkind.Config, "expected Base64 behind whsec_")
	}
	return b, nil
}

// sign signs a request as Standard Webhooks says.
func (s *Sender) sign(h http.Header, m *message, now time.Time) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	id := percentEncode([]byte(m.id))
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(m.body)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
