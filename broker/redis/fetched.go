package redis

import (
	"bufio"
	"errors"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

const (
	// mostBytes ends a batch whose records turned out far larger than those before.
	mostBytes = 64 << 20
	// keptBytes is the largest buffer that is used again.
	keptBytes = 16 << 20
)

// fetched is a batch with its memory, which is used again.
type fetched struct {
	batch   broker.Batch
	release func(*broker.Batch)
	recs    []event.Record
	buf     []byte
	ends    []int // of an entry's parts in buf
	parts   [][]byte
	full    bool
	end     int64
}

var batches sync.Pool

func newFetched() *fetched {
	if f, ok := batches.Get().(*fetched); ok {
		return f
	}
	f := new(fetched)
	f.release = func(*broker.Batch) { f.free() }
	return f
}

func (f *fetched) free() {
	if cap(f.buf) > keptBytes {
		f.buf = nil
	}
	clear(f.recs)
	clear(f.parts)
	f.recs, f.buf = f.recs[:0], f.buf[:0]
	f.batch = broker.Batch{}
	batches.Put(f)
}

// entries reads a list of entries, as XRANGE gives them.
func (f *fetched) entries(in *bufio.Reader, d *decoder) error {
	n, err := array(in)
	if err != nil {
		return err
	}
	for range n {
		if parts, err := array(in); err != nil || parts != 2 {
			return errors.Join(errReply, err)
		}
		begin := len(f.buf)
		if f.buf, err = bulk(in, f.buf); err != nil {
			return err
		}
		f.ends = append(f.ends[:0], len(f.buf))
		parts, err := array(in)
		if err != nil {
			return err
		}
		for range parts {
			if f.buf, err = bulk(in, f.buf); err != nil {
				return err
			}
			f.ends = append(f.ends, len(f.buf))
		}
		f.parts = f.parts[:0]
		for _, end := range f.ends {
			f.parts = append(f.parts, f.buf[begin:end:end])
			begin = end
		}
		rec, err := d.decode(f.parts[0], f.parts[1:])
		if err != nil {
			return err
		}
		f.recs = append(f.recs, rec)
		if len(f.buf) > mostBytes {
			return errLarge
		}
	}
	return nil
}

var errLarge = errors.New("the records are far larger than those before")
