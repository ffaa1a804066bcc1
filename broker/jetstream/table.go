package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// table is a lease.Table: a stream that keeps one message a subject. A key's
// version is the sequence of its message.
type table struct {
	d *Driver

	mu     sync.Mutex
	stream jetstream.Stream
}

var _ lease.Table = (*table)(nil)

// open returns the stream, which it makes when it is needed first.
func (t *table) open(ctx context.Context) (jetstream.Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream != nil {
		return t.stream, nil
	}
	s, err := t.d.js.Stream(ctx, groupStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = t.d.createStream(ctx, jetstream.StreamConfig{
			Name: groupStream, Subjects: []string{groupSubjects + ">"}, Description: "members and positions of consumer groups",
			Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, AllowDirect: true,
			Metadata: map[string]string{metaTopic: ""},
		})
		if err != nil && !errkind.Is(err, errkind.Conflict) { // another was faster
			return nil, err
		}
		s, err = t.d.js.Stream(ctx, groupStream)
	}
	if err != nil {
		return nil, t.d.failed("open the table of consumer groups", err)
	}
	t.stream = s
	return s, nil
}

// forget makes the next call look for the stream again.
func (t *table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream = nil
}

// List implements lease.Table: the last message of every subject below prefix,
// in one request.
func (t *table) List(ctx context.Context, prefix string) ([]lease.Entry, error) {
	if _, err := t.open(ctx); err != nil {
		return nil, err
	}
	const atOnce = 512
	request, err := json.Marshal(map[string]any{"multi_last": []string{groupSubjects + prefix + ">"}, "batch": atOnce})
	if err != nil {
		return nil, err
	}
	var out []lease.Entry
	for {
		upTo, more, err := t.page(ctx, request, &out)
		if err != nil || !more {
			return out, err
		}
		request, err = json.Marshal(map[string]any{
			"multi_last": []string{groupSubjects + prefix + ">"}, "batch": atOnce, "seq": out[len(out)-1].Version + 1, "up_to_seq": upTo,
		})
		if err != nil {
			return nil, err
		}
	}
}

// page reads the answers to one request, up to the message that ends them.
func (t *table) page(ctx context.Context, request []byte, out *[]lease.Entry) (upTo uint64, more bool, err error) {
	d := t.d
	ctx, cancel := d.within(ctx)
	defer cancel()
	inbox := d.nc.NewRespInbox()
	sub, err := d.nc.SubscribeSync(inbox)
	if err != nil {
		return 0, false, d.failed("list consumer groups", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := d.nc.PublishRequest(d.api+"DIRECT.GET."+groupStream, inbox, request); err != nil {
		return 0, false, d.failed("list consumer groups", err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, false, d.failed("list consumer groups", err)
		}
		subject := m.Header.Get("Nats-Subject")
		if subject == "" {
			switch status := m.Header.Get("Status"); status {
			case "204": // the end
				pending := m.Header.Get("Nats-Num-Pending")
				upTo, _ = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
				return upTo, pending != "" && pending != "0" && len(*out) > 0, nil
			case "404":
				return 0, false, nil
			case "503":
				t.forget()
				return 0, false, errkind.Errorf(errkind.Transient, "list consumer groups at %s: nobody answers", d.where)
			default:
				return 0, false, errkind.Errorf(errkind.Transient, "list consumer groups at %s: status %s %s", d.where, status, m.Header.Get("Description"))
			}
		}
		version, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		key, ok := strings.CutPrefix(subject, groupSubjects)
		if err != nil || !ok {
			return 0, false, errkind.Errorf(errkind.Corrupt, "list consumer groups at %s: an answer is not to be read", d.where)
		}
		*out = append(*out, lease.Entry{Key: key, Value: m.Data, Version: version})
	}
}

// Put implements lease.Table.
func (t *table) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	d := t.d
	if _, err := t.open(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	m := &nats.Msg{Subject: groupSubjects + key, Data: value, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(version, 10)},
	}}
	answer, err := d.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		if errors.Is(err, nats.ErrNoResponders) {
			t.forget()
		}
		return 0, d.failed("write "+key, err)
	}
	var a ack
	if err := a.parse(answer.Data); err != nil {
		return 0, d.failed("write "+key, err)
	}
	return a.seq, nil
}

// position is where a group stands in a partition, as the stream's leader says.
func (t *table) position(ctx context.Context, topic, group string, part int) (int64, error) {
	if _, err := t.open(ctx); err != nil {
		return 0, err
	}
	key := lease.Key(topic, group, part)
	m, err := t.d.lastOf(ctx, groupStream, groupSubjects+key)
	if errors.Is(err, errNoMessage) {
		return lease.NoPosition, nil
	}
	if err != nil {
		return 0, t.d.failed("read "+key, err)
	}
	return lease.PositionIn(lease.Entry{Key: key, Value: m.Data, Version: m.Seq})
}

// Delete implements lease.Table: it deletes the message that is the version,
// which is gone when another has replaced it.
func (t *table) Delete(ctx context.Context, key string, version uint64) error {
	d := t.d
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	m, err := d.lastOf(ctx, groupStream, groupSubjects+key)
	switch {
	case errors.Is(err, errNoMessage):
		return nil
	case err != nil:
		return d.failed("delete "+key, err)
	case m.Seq != version:
		return errkind.Errorf(errkind.Conflict, "delete %s: it has changed", key)
	}
	if err = s.DeleteMsg(ctx, version); errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return errkind.Errorf(errkind.Conflict, "delete %s: it has changed", key)
	}
	return d.failed("delete "+key, err)
}

// ack is an acknowledgement of JetStream.
type ack struct {
	seq       uint64
	count     uint64
	duplicate bool
}

// parse reads an acknowledgement: the common ones without decoding JSON.
func (a *ack) parse(b []byte) error {
	*a = ack{}
	if bytes.IndexByte(b, '\\') < 0 && !bytes.Contains(b, []byte(`"error"`)) {
		if seq, ok := number(b, `"seq":`); ok {
			a.seq = seq
			a.count, _ = number(b, `"count":`)
			a.duplicate = bytes.Contains(b, []byte(`"duplicate": true`)) || bytes.Contains(b, []byte(`"duplicate":true`))
			return nil
		}
	}
	var full struct {
		Error     *jetstream.APIError `json:"error"`
		Seq       uint64              `json:"seq"`
		Count     uint64              `json:"count"`
		Duplicate bool                `json:"duplicate"`
	}
	if err := json.Unmarshal(b, &full); err != nil {
		return errkind.Errorf(errkind.Transient, "an acknowledgement cannot be read: %w", err)
	}
	if full.Error != nil {
		return full.Error
	}
	if full.Seq == 0 {
		return errkind.New(errkind.Transient, fmt.Sprintf("an acknowledgement without a sequence: %.100q", b))
	}
	a.seq, a.count, a.duplicate = full.Seq, full.Count, full.Duplicate
	return nil
}

func number(b []byte, name string) (n uint64, ok bool) {
	i := bytes.Index(b, []byte(name))
	if i < 0 {
		return 0, false
	}
	b = bytes.TrimLeft(b[i+len(name):], " ")
	for ok = false; len(b) > 0 && b[0] >= '0' && b[0] <= '9'; b, ok = b[1:], true {
		n = n*10 + uint64(b[0]-'0')
	}
	return n, ok
}
