package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/freshet-io/freshet/errkind"
)

// restoreAttempts is how often a segment is read on whose stream breaks.
const restoreAttempts = 5

// block is a verified block on its way to the visitor.
type block struct {
	records []byte
	err     error
}

// Restore calls visit for each durable record from the beginning of the last
// complete cycle on, or from the first where no cycle is complete, in order. It
// returns the position behind the last: the changelog's topic has the rest. A
// record's value is valid during the call; what visit returns ends Restore and
// is returned. Every byte is verified before it is given: damage is Corrupt with
// object and offset. It holds at most 3 blocks of ReadAhead segments in memory.
func (a *Archive) Restore(ctx context.Context, visit func(Record) error) (next int64, err error) {
	a.mu.Lock()
	err = a.alive()
	segments, view := a.segments, a.durable
	a.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := a.restore(ctx, segments, view, visit); err != nil {
		return 0, fmt.Errorf("restore archive %s: %w", a.name, err)
	}
	return view.next, nil
}

func (a *Archive) restore(ctx context.Context, segments []segment, view archiveView, visit func(Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetchers sync.WaitGroup
	defer fetchers.Wait()
	defer cancel()
	// The window of segments that are being read moves on with the one consumed.
	streams := make([]chan block, len(segments))
	free := make(chan []byte, 3*a.config.ReadAhead)
	started := 0
	for i := range segments {
		for ; started < len(segments) && started < i+a.config.ReadAhead; started++ {
			out := make(chan block, 1)
			streams[started] = out
			s := &segments[started]
			fetchers.Go(func() { a.fetch(ctx, s, out, free) })
		}
		err := a.consume(&segments[i], streams[i], free, view.from, visit)
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if err != nil {
			return err
		}
		streams[i] = nil
	}
	return nil
}

// consume gives one segment's records to visit.
func (a *Archive) consume(s *segment, in <-chan block, free chan<- []byte, from int64, visit func(Record) error) error {
	records, last := int64(0), s.first-1
	var stop error // what visit returned
	for b := range in {
		if b.err != nil {
			return b.err
		}
		err := eachRecord(b.records, func(r *Record) error {
			if records == 0 && r.Position != s.first || r.Position <= last {
				return errkind.Errorf(errkind.Corrupt, "a record at position %d stands behind position %d", r.Position, last)
			}
			records++
			last = r.Position
			if r.Position < from {
				return nil
			}
			stop = visit(*r)
			return stop
		})
		if stop != nil {
			return stop
		}
		if err != nil {
			return damaged(a.ledger.objectName(s.id), a.name, err)
		}
		select {
		case free <- b.records:
		default:
		}
	}
	if records != s.records || last != s.last {
		return damaged(a.ledger.objectName(s.id), a.name, errkind.Errorf(errkind.Corrupt,
			"offset %d: it ends at position %d with %d records, its manifest says position %d with %d", s.size, last, records, s.last, s.records))
	}
	return nil
}

// fetch reads one segment and sends its blocks, verified, until the end, an
// error, or ctx's. It reads on behind the last block sent where the stream breaks.
func (a *Archive) fetch(ctx context.Context, s *segment, out chan<- block, free <-chan []byte) {
	defer close(out)
	name := a.ledger.objectName(s.id)
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	if err == nil {
		defer dec.Close()
		sr := &segmentReader{size: s.size, id: s.id, dec: dec}
		for attempt := 1; ; attempt++ {
			if err = a.stream(ctx, name, sr, out, free); err == nil {
				return
			}
			if attempt == restoreAttempts || !errkind.Of(err).Retryable() || ctx.Err() != nil || !pause(ctx, attempt) {
				break
			}
		}
	}
	if errkind.Is(err, errkind.NotFound) {
		err = a.explainMissing(ctx, err)
	}
	select {
	case out <- block{err: damaged(name, a.name, err)}:
	case <-ctx.Done():
	}
}

func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(time.Duration(attempt) * 100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stream reads a segment from sr.at on; nil is its end.
func (a *Archive) stream(ctx context.Context, name string, sr *segmentReader, out chan<- block, free <-chan []byte) error {
	r, err := a.o.Get(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	in := bufio.NewReaderSize(r, 64<<10)
	if sr.at > 0 {
		if _, err := io.CopyN(io.Discard, in, sr.at); err != nil {
			return err
		}
	}
	sr.r = in
	for {
		var buf []byte
		select {
		case buf = <-free:
		default:
		}
		records, err := sr.next(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case out <- block{records: records}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// explainMissing says why an object that the manifest names is not there.
func (a *Archive) explainMissing(ctx context.Context, err error) error {
	if _, newer, lerr := a.ledger.newerThan(ctx, a.ledger.number); lerr == nil && newer {
		return a.ledger.lost()
	}
	return errkind.Errorf(errkind.Corrupt, "the manifest names an object that is not there: %w", err)
}
