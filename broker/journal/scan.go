package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// scanWindow is how much a scan reads at a time.
const scanWindow = 1 << 20

// scanner walks the frames of a segment file.
type scanner struct {
	f    File
	base uint64
	size int64
	at   int64 // of the next frame
	buf  []byte
	from int64 // file offset of buf
}

func newScanner(f File, base uint64, size int64) *scanner {
	return &scanner{f: f, base: base, size: size, at: segmentHeader}
}

// window returns n bytes at off; fewer at the end of the file.
func (s *scanner) window(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), s.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off >= s.from && off+int64(n) <= s.from+int64(len(s.buf)) {
		return s.buf[off-s.from:][:n], nil
	}
	want := int(min(int64(max(n, scanWindow)), s.size-off))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.from = s.buf[:want], off
	got, err := s.f.ReadAt(s.buf, off)
	s.buf = s.buf[:got]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read segment at offset %d: %w", off, err)
	}
	return s.buf[:min(n, got)], nil
}

// next returns the next frame with its offset; body is valid until the following
// call and not verified. At the end of the frames, where the file ends or only
// zeros follow, body is nil. Where there is something else, err says what is
// wrong at offset at, and next returns the same again.
func (s *scanner) next() (at int64, h frameHead, body []byte, err error) {
	at = s.at
	b, err := s.window(at, frameHeader)
	if err != nil {
		return at, h, nil, err
	}
	if len(b) == 0 {
		return at, h, nil, nil
	}
	h, ok := parseFrameHead(b, s.base+uint64(at))
	if !ok {
		zeros, err := s.zerosFrom(at)
		if err != nil || zeros {
			return at, h, nil, err
		}
		return at, h, nil, errFrameHead
	}
	if int64(h.length) > s.size-at-frameHeader {
		return at, h, nil, errFrameShort
	}
	b, err = s.window(at, frameHeader+h.length)
	if err != nil {
		return at, h, nil, err
	}
	if len(b) != frameHeader+h.length {
		return at, h, nil, errFrameShort
	}
	s.at = at + int64(len(b))
	return at, h, b[frameHeader:], nil
}

// zerosFrom reports whether nothing but zeros follows from off on.
func (s *scanner) zerosFrom(off int64) (bool, error) {
	for off < s.size {
		b, err := s.window(off, scanWindow)
		if err != nil {
			return false, err
		}
		if len(b) == 0 {
			return true, nil
		}
		for len(b) >= 8 {
			if binary.LittleEndian.Uint64(b) != 0 {
				return false, nil
			}
			b, off = b[8:], off+8
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
			off++
		}
	}
	return true, nil
}

// provenDurable looks behind a faulty frame at off for a valid header that says
// that off was durable when it was written: then the fault is damage, and not
// the unfinished end of the log.
func (s *scanner) provenDurable(off int64) (bool, error) {
	for o := off + 1; o+frameHeader <= s.size; {
		b, err := s.window(o, scanWindow)
		if err != nil {
			return false, err
		}
		if len(b) < frameHeader {
			return false, nil
		}
		for ; len(b) >= frameHeader; b, o = b[1:], o+1 {
			if binary.LittleEndian.Uint64(b[16:]) != s.base+uint64(o) {
				continue
			}
			if h, ok := parseFrameHead(b, s.base+uint64(o)); ok && h.synced > s.base+uint64(off) {
				return true, nil
			}
		}
	}
	return false, nil
}
