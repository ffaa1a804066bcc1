package cli

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func readLines(t *testing.T, r io.Reader, max int) (lines []string, err error) {
	t.Helper()
	l, err := newLineReader(r, max)
	if err != nil {
		t.Fatal(err)
	}
	for {
		line, size, err := l.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return lines, err
			}
			return lines, nil
		}
		if line == nil {
			if size <= max {
				t.Errorf("line %d of %d bytes refused, at most %d are allowed", l.line, size, max)
			}
			lines = append(lines, "(too long)")
			continue
		}
		lines = append(lines, string(line))
	}
}

func TestLinesArePhysicalLines(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		in   string
		max  int
		want []string
	}{
		"empty file":                  {"", 100, nil},
		"line feed at the end":        {"a\nb\n", 100, []string{"a", "b"}},
		"no line feed at the end":     {"a\nb", 100, []string{"a", "b"}},
		"empty line in the middle":    {"a\n\nb\n", 100, []string{"a", "", "b"}},
		"windows line ends":           {"a\r\nb\r\n", 100, []string{"a", "b"}},
		"byte order mark":             {"\xef\xbb\xbfa\n", 100, []string{"a"}},
		"exactly the limit":           {"abcd\nabcd\r\nabcd", 4, []string{"abcd", "abcd", "abcd"}},
		"one above the limit":         {"abcde\nab\n", 4, []string{"(too long)", "ab"}},
		"far above the buffer":        {long + "\nab\n" + long, 4, []string{"(too long)", "ab", "(too long)"}},
		"longer than buffer, allowed": {long + "\nab", len(long), []string{long, "ab"}},
		"only a line feed":            {"\n", 4, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := readLines(t, r, c.max)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestPackedFileIsRecognisedByItsContent(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte("a\nb\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readLines(t, bytes.NewReader(b.Bytes()), 10)
	if err != nil || !cmp.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := readLines(t, bytes.NewReader(b.Bytes()[:b.Len()-9]), 10); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("cut file: got error %v", err)
	}
}
