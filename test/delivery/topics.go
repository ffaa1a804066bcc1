package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
)

// topics is how the sender and the reader of a cell reach the broker, beside the worker.
type topics interface {
	// send stores a batch; it returns when it is acknowledged, however long that takes.
	send(ctx context.Context, topic string, batch []numbered) error
	// progress is how many different events have a result so far.
	progress(ctx context.Context, topic string) (int, error)
	// all returns everything on a topic, each partition in order; nothing where there is no topic.
	all(ctx context.Context, topic string) ([]stored, error)
	close() error
}

// onBroker reaches a broker by a connection of its own.
type onBroker struct {
	b    *broker.Broker
	seen map[string]map[int]int64 // topic → partition → next position
	ids  map[string]bool
}

func openTopics(ctx context.Context, url string) (*onBroker, error) {
	d, err := builtin.OpenBroker(ctx, url, builtin.BrokerOptions{Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		return nil, err
	}
	return &onBroker{b: broker.New(d, broker.Options{}), seen: map[string]map[int]int64{}, ids: map[string]bool{}}, nil
}

func (o *onBroker) close() error { return o.b.Close() }

func (o *onBroker) send(ctx context.Context, topic string, batch []numbered) error {
	recs := make([]event.Record, len(batch))
	for i, n := range batch {
		var err error
		if recs[i], err = n.record(); err != nil {
			return err
		}
	}
	for {
		_, err := o.b.Publish(ctx, topic, recs)
		if err == nil || ctx.Err() != nil || !errkind.Is(err, errkind.Transient) && !errkind.Is(err, errkind.Throttled) {
			return err
		}
	}
}

func (o *onBroker) progress(ctx context.Context, topic string) (int, error) {
	at := o.seen[topic]
	if at == nil {
		at = map[int]int64{}
		o.seen[topic] = at
	}
	err := o.follow(ctx, topic, at, func(s stored) {
		var r result
		if json.Unmarshal(s.Value, &r) == nil {
			o.ids[r.SourceID] = true
		}
	})
	return len(o.ids), err
}

func (o *onBroker) all(ctx context.Context, topic string) (out []stored, err error) {
	err = o.follow(ctx, topic, map[int]int64{}, func(s stored) { out = append(out, s) })
	return out, err
}

// follow reads each partition from where at says to its end.
func (o *onBroker) follow(ctx context.Context, topic string, at map[int]int64, f func(stored)) error {
	t, err := o.b.Describe(ctx, topic, "")
	if errkind.Is(err, errkind.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for p, s := range t.Partitions {
		next := max(at[p], s.Start)
		if next >= s.End {
			continue
		}
		r, err := o.b.Read(ctx, topic, p, next)
		if err != nil {
			return err
		}
		next, err = readTo(ctx, r, p, next, s.End, f)
		at[p] = next
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// readTo reads up to end, which where positions have gaps may come without a record.
func readTo(ctx context.Context, r broker.Reader, partition int, next, end int64, f func(stored)) (int64, error) {
	began := time.Now()
	for next < end {
		wait, cancel := context.WithTimeout(ctx, time.Second)
		b, err := r.Fetch(wait, 1000)
		cancel()
		switch {
		case err == nil:
			for i := range b.Records {
				f(stored{partition, b.Records[i].Time, bytes.Clone(b.Records[i].Value)})
			}
			next = b.Next()
			b.Release()
			began = time.Now()
		case ctx.Err() != nil:
			return next, ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded) && !errkind.Is(err, errkind.Canceled) && !errkind.Is(err, errkind.Transient):
			return next, err
		case time.Since(began) > time.Minute:
			return next, fmt.Errorf("partition %d ends at %d, and behind %d nothing comes: %w", partition, end, next, err)
		}
		if p, ok := r.(broker.Positioner); ok {
			next = max(next, p.Position())
		}
	}
	return next, nil
}

// onJournal reaches the journal through the worker that owns it, and opens it
// when no worker does.
type onJournal struct {
	dir    string
	worker func() string // the address of the worker that runs now
}

func (o *onJournal) close() error { return nil }

// send posts the batch until it is acknowledged: ids that are there are dropped.
func (o *onJournal) send(ctx context.Context, topic string, batch []numbered) error {
	var body bytes.Buffer
	for _, n := range batch {
		if err := json.NewEncoder(&body).Encode(n); err != nil {
			return err
		}
	}
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		status, err := post(ctx, o.worker()+"/topics/"+topic, body.Bytes())
		if err != nil || status/100 == 5 {
			return false, nil // the worker is not there
		}
		if status/100 != 2 {
			return false, fmt.Errorf("posting answers %d", status)
		}
		return true, nil
	})
}

func (o *onJournal) progress(ctx context.Context, topic string) (int, error) {
	var body bytes.Buffer
	if status, err := get(ctx, o.worker()+"/topics/"+topic, &body); err != nil || status != http.StatusOK {
		return 0, nil // no results yet
	}
	ids := map[string]bool{}
	for d := json.NewDecoder(&body); ; {
		var r result
		if err := d.Decode(&r); err != nil {
			return len(ids), nil
		}
		ids[r.SourceID] = true
	}
}

func (o *onJournal) all(ctx context.Context, topic string) (_ []stored, err error) {
	j, err := openTopics(ctx, "journal:"+o.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	return j.all(ctx, topic)
}

// callTimeout bounds one HTTP call.
const callTimeout = 10 * time.Second

func get(ctx context.Context, url string, into io.Writer) (int, error) {
	return call(ctx, http.MethodGet, url, nil, into)
}

func post(ctx context.Context, url string, body []byte) (int, error) {
	return call(ctx, http.MethodPost, url, body, nil)
}

func call(ctx context.Context, method, url string, body []byte, into io.Writer) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if into == nil {
		into = io.Discard
	}
	_, err = io.Copy(into, resp.Body)
	return resp.StatusCode, err
}
