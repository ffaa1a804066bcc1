package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// lineReader cuts a stream into physical lines without ever holding more than
// one line of the greatest length.
type lineReader struct {
	r    *bufio.Reader
	max  int
	line int // number of the line returned last, from 1
	buf  []byte
}

// newLineReader reads r, unpacking it where it begins like a gzip file.
func newLineReader(r io.Reader, max int) (*lineReader, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("unpack gzip: %w", err)
		}
		br = bufio.NewReaderSize(z, 64<<10)
	}
	if bom, _ := br.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		if _, err := br.Discard(3); err != nil {
			return nil, err
		}
	}
	return &lineReader{r: br, max: max}, nil
}

// next returns the next line without its line end (LF or CRLF). The line is
// valid until the next call. size is its length: where it is above the limit,
// line is nil. After the last line err is io.EOF; a line feed at the end of
// the file begins no line.
func (l *lineReader) next() (line []byte, size int, err error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		size += len(part)
		switch {
		case err == nil && size == len(part):
			l.line++
			return trimLine(part, size, l.max)
		case err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF):
			return nil, 0, fmt.Errorf("after line %d: %w", l.line, err)
		}
		if size <= l.max+2 {
			l.buf = append(l.buf, part...)
		}
		if errors.Is(err, io.EOF) && size == 0 {
			return nil, 0, io.EOF
		}
		if err == nil || errors.Is(err, io.EOF) {
			l.line++
			if size > l.max+2 {
				return nil, size, nil
			}
			return trimLine(l.buf, size, l.max)
		}
	}
}

func trimLine(line []byte, size, max int) ([]byte, int, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > max {
		return nil, size, nil
	}
	if line == nil {
		line = []byte{}
	}
	return line, len(line), nil
}
