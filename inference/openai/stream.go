package openai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference/internal/web"
)

// maxTail is how much white space may follow a complete answer before it counts as
// endless.
const maxTail = 64

var (
	errLongStream  = errors.New("the stream is too long")
	errStreamEnded = errkind.New(errkind.Transient, "the stream ended before the answer did")
)

// events reads a stream of server-sent events: what each one's data lines hold.
type events struct {
	r    *bufio.Reader
	left int // bytes that may still come
	data []byte
}

// next returns the data of the next event, valid until the call after; io.EOF at the end.
func (e *events) next() ([]byte, error) {
	e.data = e.data[:0]
	some := false
	for {
		line, err := e.line()
		switch {
		case err != nil:
			// An event that no empty line ends was cut off.
			return nil, err
		case len(line) == 0:
			if some {
				return e.data, nil
			}
		case bytes.HasPrefix(line, []byte("data:")):
			if some {
				e.data = append(e.data, '\n')
			}
			some = true
			e.data = append(e.data, bytes.TrimPrefix(line[len("data:"):], []byte(" "))...)
		}
		// Comments, names of events, ids and retry say nothing here.
	}
}

func (e *events) line() ([]byte, error) {
	var long []byte
	for {
		piece, err := e.r.ReadSlice('\n')
		if e.left -= len(piece); e.left < 0 {
			return nil, errLongStream
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, piece...)
			continue
		case err != nil:
			return nil, err
		}
		if long != nil {
			piece = append(long, piece...)
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(piece, []byte("\n")), []byte("\r")), nil
	}
}

// stream reads an answer as it is written. With json it ends as soon as the answer
// is a complete JSON object and something else than the end follows. first is called when
// the first piece is there.
func (s *said) stream(r io.Reader, limit int, whole bool, first func()) error {
	e := &events{r: bufio.NewReader(r), left: limit}
	var text, refusal strings.Builder
	var end object
	tail := 0
	defer func() { s.text, s.refusal = text.String(), refusal.String() }()
	for {
		data, err := e.next()
		switch {
		case end.done && err != nil:
			return nil // the answer is complete, whatever became of the rest
		case errors.Is(err, io.EOF) && s.finish != "":
			return nil
		case errors.Is(err, io.EOF):
			return errStreamEnded
		case errors.Is(err, errLongStream):
			return errkind.Errorf(errkind.Permanent, "the stream is longer than %d bytes", limit)
		case err != nil:
			return err
		case string(data) == "[DONE]":
			return nil
		}
		var a completion
		if err := json.Unmarshal(data, &a); err != nil {
			return errkind.Errorf(errkind.Permanent, "the stream holds what is none of this API: %s", web.Shown(data))
		}
		if failed(a.Error) {
			return errkind.Errorf(errkind.Transient, "the server failed in the middle of the answer: %s", web.Shown(a.Error))
		}
		if a.Model != "" {
			s.model = strings.Clone(a.Model)
		}
		if a.Usage != nil {
			s.usage = a.Usage
		}
		if len(a.Choices) == 0 {
			continue
		}
		if len(a.Choices) > 1 {
			return errkind.Errorf(errkind.Permanent, "the stream has %d choices, expected 1", len(a.Choices))
		}
		c := &a.Choices[0]
		piece := c.Delta.Content + c.Text
		if piece != "" && first != nil {
			first()
			first = nil
		}
		if c.FinishReason != "" {
			s.finish = c.FinishReason
		}
		s.tools = s.tools || failed(c.Delta.ToolCalls) && string(c.Delta.ToolCalls) != "[]"
		refusal.WriteString(c.Delta.Refusal)
		if !whole {
			text.WriteString(piece)
			continue
		}
		if !end.done {
			n := end.feed(piece)
			text.WriteString(piece[:n])
			piece = piece[n:]
		}
		if end.done {
			if tail += len(piece); strings.TrimSpace(piece) != "" || tail > maxTail {
				s.finish = "stop"
				return nil
			}
		}
	}
}

// object finds the end of a JSON object that comes in pieces.
type object struct {
	depth           int
	inText, escaped bool
	done, none      bool
}

// feed takes a piece and returns how much of it belongs to the object.
func (o *object) feed(piece string) int {
	if o.none {
		return len(piece)
	}
	for i := range len(piece) {
		c := piece[i]
		switch {
		case o.inText:
			switch {
			case o.escaped:
				o.escaped = false
			case c == '\\':
				o.escaped = true
			case c == '"':
				o.inText = false
			}
		case o.depth == 0 && (c == ' ' || c == '\n' || c == '\r' || c == '\t'):
		case o.depth == 0 && c != '{':
			o.none = true
			return len(piece)
		case c == '"':
			o.inText = true
		case c == '{' || c == '[':
			o.depth++
		case c == '}' || c == ']':
			if o.depth--; o.depth == 0 {
				o.done = true
				return i + 1
			}
		}
	}
	return len(piece)
}
