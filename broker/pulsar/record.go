package pulsar

import (
	"encoding/base64"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/apache/pulsar-client-go/pulsar"

	"github.com/freshet-io/freshet/event"
)

// Names of properties that carry what a map of strings cannot.
const (
	// propertyOrder has the headers' order: of each, one byte '0' + its index among the sorted names.
	propertyOrder = "freshet_order"
	// propertyHeaders has all headers, packed as event.Headers, in base64.
	propertyHeaders = "freshet_headers"
	// propertyKey says "base64" where the key is binary.
	propertyKey = "freshet_key"
)

// maxOrdered is how many headers propertyOrder can tell the order of.
const maxOrdered = 64

// encode makes a message of r. Nothing in the message aliases r but Payload,
// which the client has copied when the send is acknowledged.
func encode(r *event.Record, payload []byte) *pulsar.ProducerMessage {
	m := &pulsar.ProducerMessage{Payload: payload, Properties: make(map[string]string, 3+len(r.Headers)/32)}
	if m.Payload == nil {
		m.Payload = []byte{}
	}
	properties(r, m.Properties)
	if len(r.Key) > 0 {
		if utf8.Valid(r.Key) {
			m.Key = string(r.Key)
		} else {
			m.Key = base64.StdEncoding.EncodeToString(r.Key)
			m.Properties[propertyKey] = "base64"
		}
	}
	return m
}

func properties(r *event.Record, p map[string]string) {
	var names [maxOrdered]string
	n, plain := 0, true
	for h := r.Headers; len(h) > 0; {
		k, v, rest, ok := h.Cut()
		if !ok {
			plain = false
			break
		}
		h = rest
		name := string(k)
		_, repeated := p[name]
		if reserved(name) || repeated || !utf8.Valid(k) || !utf8.Valid(v) || n == maxOrdered {
			plain = false
			if reserved(name) || repeated || !utf8.Valid(k) || !utf8.Valid(v) {
				continue
			}
		} else {
			names[n] = name
			n++
		}
		p[name] = string(v)
	}
	switch {
	case !plain:
		p[propertyHeaders] = base64.StdEncoding.EncodeToString(r.Headers)
	case !slices.IsSorted(names[:n]):
		sorted := names
		slices.Sort(sorted[:n])
		var order [maxOrdered]byte
		for i, name := range names[:n] {
			at, _ := slices.BinarySearch(sorted[:n], name)
			order[i] = byte('0' + at)
		}
		p[propertyOrder] = string(order[:n])
	}
	if utf8.Valid(r.ID) {
		p[event.HeaderID] = string(r.ID)
	} else { // among the packed headers, under its own name, ahead of all others
		p[event.HeaderID] = ""
		withID := event.Headers(nil).Append(event.HeaderID, r.ID)
		p[propertyHeaders] = base64.StdEncoding.EncodeToString(append(withID, r.Headers...))
		delete(p, propertyOrder)
		p[propertyKey+"_id"] = "base64"
	}
}

func reserved(name string) bool {
	return name == event.HeaderID || len(name) >= 8 && name[:8] == "freshet_"
}

// decoder makes records of messages. Their bytes lie in an arena that grows
// with the batch; payloads are the client's own.
type decoder struct {
	arena []byte
	names []string
}

func (d *decoder) keep(s string) []byte {
	if s == "" {
		return nil
	}
	at := len(d.arena)
	d.arena = append(d.arena, s...)
	return d.arena[at:len(d.arena):len(d.arena)]
}

// decode reads a message of anybody: one without Freshet's properties gets its
// message id as the ID, and its properties, sorted by name, as headers.
func (d *decoder) decode(m pulsar.Message, at id, r *event.Record) {
	p := m.Properties()
	*r = event.Record{Value: m.Payload()}
	id, ours := p[event.HeaderID]
	if ours {
		r.ID = d.keep(id)
	} else {
		from := len(d.arena)
		d.arena = strconv.AppendInt(d.arena, at.ledger, 10)
		d.arena = strconv.AppendInt(append(d.arena, ':'), at.entry, 10)
		d.arena = strconv.AppendInt(append(d.arena, ':'), at.batch, 10)
		r.ID = d.arena[from:len(d.arena):len(d.arena)]
	}
	d.decodeKey(m.Key(), p, r)
	if packed, ok := p[propertyHeaders]; ok {
		if h, err := base64.StdEncoding.DecodeString(packed); err == nil && event.Headers(h).Valid() {
			r.Headers = h
			if p[propertyKey+"_id"] != "" {
				if k, v, rest, ok := r.Headers.Cut(); ok && string(k) == event.HeaderID {
					r.ID, r.Headers = v, rest
				}
			}
			return
		}
	}
	d.decodeHeaders(p, r)
}

func (d *decoder) decodeKey(key string, p map[string]string, r *event.Record) {
	if p[propertyKey] == "base64" {
		if b, err := base64.StdEncoding.DecodeString(key); err == nil {
			r.Key = b
			return
		}
	}
	r.Key = d.keep(key)
}

func (d *decoder) decodeHeaders(p map[string]string, r *event.Record) {
	d.names = d.names[:0]
	for name := range p {
		if !reserved(name) {
			d.names = append(d.names, name)
		}
	}
	if len(d.names) == 0 {
		return
	}
	slices.Sort(d.names)
	order := p[propertyOrder]
	if !permutes(order, len(d.names)) {
		order = ""
	}
	from := len(d.arena)
	for i, name := range d.names {
		if order != "" {
			name = d.names[order[i]-'0']
		}
		d.arena = event.Headers(d.arena).AppendString(name, p[name])
	}
	r.Headers = event.Headers(d.arena[from:len(d.arena):len(d.arena)])
}

// permutes says whether order names each of n headers once.
func permutes(order string, n int) bool {
	if len(order) != n || n > maxOrdered {
		return false
	}
	var seen uint64
	for i := range n {
		at := order[i] - '0'
		if int(at) >= n || seen&(1<<at) != 0 {
			return false
		}
		seen |= 1 << at
	}
	return true
}
