package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// remote is a broker.Driver on the HTTP API (docs/http-api.md) of the process
// that holds the data folder.
type remote struct {
	base   string
	token  string
	client *http.Client
	now    func() time.Time
}

// remoteTimeout bounds every request but streams.
const remoteTimeout = time.Minute

// dialHTTP returns a driver on the API at an address, once that answers.
func dialHTTP(ctx context.Context, address, token string, now func() time.Time) (*remote, error) {
	r := &remote{base: address, token: token, client: &http.Client{}, now: now}
	if _, err := r.Topics(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Capabilities implements broker.Driver. The process at the other end has a journal.
func (r *remote) Capabilities() broker.Capabilities {
	return broker.Capabilities{Gapless: true, Admin: true, Dedup: true, Durable: true, MaxBatch: sendRecords, MaxRecordBytes: remoteRecordBytes}
}

// remoteRecordBytes keeps an event, with its envelope and as Base64, below the
// largest body that the API takes.
const remoteRecordBytes = 1 << 20

// Close implements broker.Driver.
func (r *remote) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// do sends a request; the caller closes the body. An answer that is not 2xx is an error.
func (r *remote) do(ctx context.Context, method, path string, query url.Values, contentType string, body []byte) (*http.Response, error) {
	u := r.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	res, err := r.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errkind.Errorf(errkind.Transient, "ask %s: %w", r.base, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, problemError(res)
}

// problemError turns an RFC 9457 answer into an error of its kind.
func problemError(res *http.Response) error {
	var p struct{ Detail, Kind string }
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Detail == "" {
		p.Detail = res.Status
	}
	kind := errkind.Permanent
	for k := errkind.Unknown; k <= errkind.Closed; k++ {
		if k.String() == p.Kind {
			kind = k
		}
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		return errkind.Errorf(errkind.Config, "%s; put it into the environment variable FRESHET_TOKEN", p.Detail)
	case res.StatusCode == http.StatusServiceUnavailable:
		kind = errkind.Transient
	case kind == errkind.Unknown:
		kind = errkind.Permanent
	}
	return errkind.New(kind, p.Detail)
}

// get reads a JSON answer.
func (r *remote) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	res, err := r.do(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return errkind.Errorf(errkind.Permanent, "read the answer of %s: %w", r.base, err)
	}
	return nil
}

func topicPath(topic string) string { return "/topics/" + url.PathEscape(topic) }

// Publish implements broker.Driver. Events go as CloudEvents, which carry any
// payload; an event without an id gets one of its own, which no other has.
func (r *remote) Publish(ctx context.Context, topic string, recs []event.Record) (broker.Published, error) {
	var body []byte
	body = append(body, '[')
	for i := range recs {
		if i > 0 {
			body = append(body, ',')
		}
		rec := recs[i]
		if len(rec.ID) == 0 {
			var id [16]byte
			if _, err := rand.Read(id[:]); err != nil {
				return broker.Published{}, err
			}
			rec.ID = hex.AppendEncode(nil, id[:])
		}
		body = event.AppendStructured(body, &rec)
	}
	body = append(body, ']')
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	res, err := r.do(ctx, http.MethodPost, topicPath(topic), nil, event.TypeBatch, body)
	if err != nil {
		return broker.Published{}, err
	}
	defer res.Body.Close()
	var p struct{ Stored, Duplicates int }
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		return broker.Published{}, errkind.Errorf(errkind.Permanent, "read the answer of %s: %w", r.base, err)
	}
	return broker.Published{Stored: p.Stored, Duplicates: p.Duplicates}, nil
}

// Subscribe implements broker.Driver.
func (r *remote) Subscribe(context.Context, broker.Subscription) (broker.Consumer, error) {
	return nil, errkind.Errorf(errkind.Unsupported, "the data folder is in use by the process at %s, and groups are not offered over HTTP: read without --group, or stop that process", r.base)
}

// remoteTopic is the answer of /topics/{topic}/info.
type remoteTopic struct {
	RetentionSeconds float64 `json:"retention_seconds"`
	RetainBytes      int64   `json:"retain_bytes"`
	DedupSeconds     float64 `json:"dedup_seconds"`
	State            []struct {
		Start, End, Bytes int64
		Committed         *int64
		Lag               *struct {
			Records          int64
			OldestAgeSeconds float64 `json:"oldest_age_seconds"`
		}
	}
}

// Describe implements broker.Driver.
func (r *remote) Describe(ctx context.Context, topic, group string) (broker.Topic, error) {
	q := url.Values{}
	if group != "" {
		q.Set("group", group)
	}
	var in remoteTopic
	if err := r.get(ctx, topicPath(topic)+"/info", q, &in); err != nil {
		return broker.Topic{}, err
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	t := broker.Topic{Config: broker.TopicConfig{
		Name: topic, Partitions: len(in.State), Retention: seconds(in.RetentionSeconds),
		RetainBytes: in.RetainBytes, DedupWindow: seconds(in.DedupSeconds),
	}}
	for _, s := range in.State {
		p := broker.PartitionState{Start: s.Start, End: s.End, Bytes: s.Bytes, Committed: -1}
		if s.Committed != nil {
			p.Committed = *s.Committed
		}
		if p.Waiting = s.End - s.Start; s.Lag != nil {
			p.Waiting = s.Lag.Records
		}
		if s.Lag != nil && s.Lag.Records > 0 {
			p.OldestTime = r.now().Add(-seconds(s.Lag.OldestAgeSeconds)).UnixNano()
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}

// Topics implements broker.Admin.
func (r *remote) Topics(ctx context.Context) ([]string, error) {
	var in struct{ Topics []struct{ Name string } }
	if err := r.get(ctx, "/topics", nil, &in); err != nil {
		return nil, err
	}
	var names []string
	for _, t := range in.Topics {
		names = append(names, t.Name)
	}
	return names, nil
}

func (r *remote) unsupported(what string) error {
	return errkind.Errorf(errkind.Unsupported, "%s: the data folder is in use by the process at %s, which does not offer this over HTTP: stop that process first", what, r.base)
}

// CreateTopic implements broker.Admin.
func (r *remote) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	return r.unsupported("make topic " + c.Name)
}

// DeleteTopic implements broker.Admin.
func (r *remote) DeleteTopic(ctx context.Context, name string) error {
	return r.unsupported("delete topic " + name)
}

// Trim implements broker.Admin.
func (r *remote) Trim(ctx context.Context, topic string, partition int, before int64) error {
	return r.unsupported("trim topic " + topic)
}

// Seek implements broker.Admin.
func (r *remote) Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	q := url.Values{"from": {t.UTC().Format(time.RFC3339Nano)}, "limit": {"1"}, "format": {"event"}, "partition": {strconv.Itoa(partition)}}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	res, err := r.do(ctx, http.MethodGet, topicPath(topic), q, "", nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(line) == 0 {
		d, err := r.Describe(ctx, topic, "")
		if err != nil {
			return 0, err
		}
		return d.Partitions[partition].End, nil
	}
	if err != nil {
		return 0, errkind.Errorf(errkind.Transient, "read the answer of %s: %w", r.base, err)
	}
	rec, err := readEvent(line)
	return rec.Position, err
}

// Read implements broker.Driver.
func (r *remote) Read(ctx context.Context, topic string, partition int, from int64) (broker.Reader, error) {
	q := url.Values{"from": {strconv.FormatInt(from, 10)}, "follow": {"true"}, "format": {"event"}, "partition": {strconv.Itoa(partition)}}
	// The stream lives as long as its reader, not as long as this call.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	res, err := r.do(ctx, http.MethodGet, topicPath(topic), q, "", nil) //nolint:bodyclose // the reader's Close closes it
	if err != nil {
		cancel()
		return nil, err
	}
	return &remoteReader{topic: topic, partition: partition, body: res.Body, in: bufio.NewReaderSize(res.Body, 64<<10), cancel: cancel}, nil
}

// remoteReader reads one partition from a stream of events.
type remoteReader struct {
	topic     string
	partition int
	body      io.ReadCloser
	in        *bufio.Reader
	cancel    context.CancelFunc
}

// Fetch implements broker.Reader. When ctx ends during the call the reader is of no more use.
func (r *remoteReader) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	stop := context.AfterFunc(ctx, r.cancel)
	defer stop()
	b := &broker.Batch{Topic: r.topic, Partition: r.partition}
	for len(b.Records) == 0 || len(b.Records) < max && r.in.Buffered() > 0 {
		line, err := r.in.ReadBytes('\n')
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, errkind.Errorf(errkind.Closed, "the stream of topic %q ended: %w", r.topic, err)
		}
		rec, err := readEvent(line)
		if err != nil {
			return nil, err
		}
		b.Records = append(b.Records, rec)
	}
	b.End = b.Next()
	return b, nil
}

// Close implements broker.Reader.
func (r *remoteReader) Close() error {
	r.cancel()
	return r.body.Close()
}

// readEvent makes a record of one line of a stream.
func readEvent(line []byte) (event.Record, error) {
	rec, err := event.FromStructured(line)
	if err != nil {
		return rec, fmt.Errorf("read the stream: %w", err)
	}
	var place struct {
		Time     time.Time
		Position string
	}
	if err := json.Unmarshal(line, &place); err != nil {
		return rec, errkind.Errorf(errkind.Invalid, "read the stream: %w", err)
	}
	if rec.Position, err = strconv.ParseInt(place.Position, 10, 64); err != nil {
		return rec, errkind.Errorf(errkind.Invalid, "read the stream: position %q: %w", place.Position, err)
	}
	rec.Time = place.Time.UnixNano()
	// Where it lies is said by the record itself; as an attribute it would be said twice.
	rec.Headers = withoutPlace(rec.Headers)
	return rec, nil
}
