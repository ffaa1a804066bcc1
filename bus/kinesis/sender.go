package kinesis

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/freshet-io/freshet/bus"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// The service's limits of a call and a record.
const (
	maxEntries = 500
	maxBytes   = 5 << 20
	maxRecord  = 1 << 20
)

// again is for records of a call that others overtook.
var again = backoff.Retry{Attempts: 6, Min: 50 * time.Millisecond, Max: time.Second}

// Sender is a bus.Sender to one stream.
type Sender struct {
	stream *stream
	strict bool
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
}

// OpenSender finds a stream.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	s := &Sender{}
	var err error
	s.stream, err = open(ctx, url, o, func(t *ours.Target) error {
		switch v := t.Option("strict", "false"); v {
		case "true", "false":
			s.strict = v == "true"
			return nil
		default:
			return errkind.Errorf(errkind.Config, "%s: option strict=%s: expected true or false", t, v)
		}
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.stream.shards(ctx); err != nil && !errkind.Is(err, errkind.Config) {
		return nil, err // who may put records need not be allowed to ask about shards
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if s.ctx.Err() != nil {
		return s.stream.Closed()
	}
	if err := ctx.Err(); err != nil {
		return s.stream.Failed("send to", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var refused []bus.Refused
	var entries []types.PutRecordsRequestEntry
	bytes := 0
	keys := map[string]bool{}
	for i := range b.Records {
		e := entryOf(&b.Records[i], b.Partition)
		n := len(e.Data) + len(*e.PartitionKey)
		if n > maxRecord {
			refused = append(refused, bus.Refused{Index: i, Err: errkind.Errorf(errkind.Invalid, "the record has %d bytes, Kinesis takes %d", n, maxRecord)})
			continue
		}
		if len(entries) == maxEntries || bytes+n > maxBytes || s.strict && keys[*e.PartitionKey] {
			if err := s.put(ctx, entries); err != nil {
				return err
			}
			entries, bytes = nil, 0
			clear(keys)
		}
		entries, bytes = append(entries, e), bytes+n
		keys[*e.PartitionKey] = true
	}
	if len(entries) > 0 {
		if err := s.put(ctx, entries); err != nil {
			return err
		}
	}
	return bus.Refuse(refused)
}

// put puts records, those that a call leaves out again, in order.
func (s *Sender) put(ctx context.Context, entries []types.PutRecordsRequestEntry) error {
	retry := again.Or(backoff.Retry{})
	for n := 0; ; n++ {
		rest, err := s.call(ctx, entries)
		switch {
		case err != nil && s.ctx.Err() != nil:
			return s.stream.Closed()
		case err == nil && len(rest) == 0:
			return nil
		case len(rest) == 0, len(rest) == len(entries), n == retry.Attempts, !errkind.Of(err).Retryable():
			return err // the pauses of a call that did nothing are the caller's
		}
		entries = rest
		pause := time.NewTimer(retry.Wait(n, errkind.Of(err)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return s.stream.Failed("send to", ctx.Err())
		case <-pause.C:
		}
	}
}

// call puts records and returns those that were not taken, with the error of the first.
func (s *Sender) call(ctx context.Context, entries []types.PutRecordsRequestEntry) (rest []types.PutRecordsRequestEntry, first error) {
	ctx, cancel := context.WithTimeout(ctx, s.stream.Timeout)
	defer cancel()
	out, err := s.stream.client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &s.stream.Path, Records: entries})
	if err != nil {
		return nil, s.stream.Failed("send to", err)
	}
	if len(out.Records) != len(entries) {
		return nil, errkind.Errorf(errkind.Transient, "send to %s: the answer is about %d of %d records", s.stream.Target, len(out.Records), len(entries))
	}
	for i := range out.Records {
		code := aws.ToString(out.Records[i].ErrorCode)
		if code == "" {
			continue
		}
		rest = append(rest, entries[i])
		if first == nil {
			kind := ours.KindOfCode(code)
			if kind == errkind.Unknown {
				kind = errkind.Transient
			}
			first = errkind.Errorf(kind, "send to %s: %s: %s", s.stream.Target, code, aws.ToString(out.Records[i].ErrorMessage))
		}
	}
	return rest, first
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.cancel()
	return nil
}
