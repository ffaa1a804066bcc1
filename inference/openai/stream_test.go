package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func chunk(text string) string {
	return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%s}}]}\n\n", quote(text))
}

const finished = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"

func TestStreamsAreReadToTheEndOfTheAnswer(t *testing.T) {
	const object = `{"a": "}{\"", "b": [1, {}]}`
	for name, tc := range map[string]struct {
		stream string
		whole  bool
		text   string
		kind   errkind.Kind // Unknown: no error
	}{
		"to the end":            {chunk("a") + chunk("b") + finished + "data: [DONE]\n\n", false, "ab", 0},
		"no DONE":               {chunk("a") + finished, false, "a", 0},
		"several lines":         {"event: x\nid: 1\ndata: {\"choices\":\ndata: [{\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\n", false, "a", 0},
		"cut off":               {chunk("a"), false, "a", errkind.Transient},
		"cut off in an event":   {chunk("a") + finished[:20], false, "a", errkind.Transient},
		"nothing":               {"", false, "", errkind.Transient},
		"garbage":               {"data: <html>\n\n", false, "", errkind.Permanent},
		"an error":              {chunk("a") + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", false, "a", errkind.Transient},
		"two choices":           {"data: {\"choices\":[{},{}]}\n\n", false, "", errkind.Permanent},
		"endless":               {strings.Repeat(chunk("aaaaaaaaaa"), 1000), false, strings.Repeat("aaaaaaaaaa", 99), errkind.Permanent},
		"an endless line":       {"data: " + strings.Repeat("x", 1<<20), false, "", errkind.Permanent},
		"an object and its end": {chunk(object[:7]) + chunk(object[7:]) + finished + "data: [DONE]\n\n", true, object, 0},
		"an object and more":    {chunk(object+"\n\nThat is") + strings.Repeat(chunk("x"), 1000), true, object, 0},
		"an object and spaces":  {chunk(object) + strings.Repeat(chunk("\n\n"), 1000), true, object, 0},
		"an object and no end":  {chunk(object), true, object, 0},
		"half an object":        {chunk(object[:9]) + finished, true, object[:9], 0},
		"no object":             {chunk("It is") + chunk(" {}") + finished, true, "It is {}", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.stream), iotest.OneByteReader(strings.NewReader(tc.stream))} {
				var s said
				firsts := 0
				err := s.stream(r, 6500, tc.whole, func() { firsts++ })
				if tc.kind == 0 && err != nil || tc.kind != 0 && !errkind.Is(err, tc.kind) || (name != "endless" && s.text != tc.text) {
					t.Errorf("%q, %v %v", s.text, errkind.Of(err), err)
				}
				if (s.text != "") != (firsts == 1) {
					t.Errorf("%d first pieces", firsts)
				}
			}
		})
	}
}

func TestAModelThatGoesOnBehindItsAnswerIsCutOff(t *testing.T) {
	s := start(t)
	gone := make(chan struct{})
	s.before = func(w http.ResponseWriter, r *http.Request, body map[string]any) bool {
		if body == nil {
			return false
		}
		fmt.Fprint(w, chunk(answerOf("x")))
		for r.Context().Err() == nil {
			fmt.Fprint(w, chunk(" and so on"))
			w.(http.Flusher).Flush()
		}
		close(gone)
		return true
	}
	d := open(t, s, map[string]any{"schema": schemaSetting(), "stream": true, "max_answer": 1 << 30})
	if err := d.Infer(t.Context(), rows("a"), make([]inference.Tensor, 4)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Error("the server still writes")
	}
	if u := d.Stats().Models[0]; u.Estimated != 1 || u.OutputTokens == 0 || u.InputTokens == 0 {
		t.Errorf("%+v: the tokens are not even estimated", u)
	}
}

func TestASlowStreamEndsWithTheTime(t *testing.T) {
	s := start(t)
	s.before = func(w http.ResponseWriter, r *http.Request, body map[string]any) bool {
		if body == nil {
			return false
		}
		fmt.Fprint(w, chunk("{"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	d := open(t, s, map[string]any{"schema": schemaSetting(), "stream": true, "timeout": "100ms"})
	if err := d.Infer(t.Context(), rows("a"), make([]inference.Tensor, 4)); !errkind.Is(err, errkind.Transient) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v %v", errkind.Of(err), err)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(chunk(`{"a": 1}`)+finished+"data: [DONE]\n\n", true)
	f.Add(": x\r\n\r\ndata:{\"usage\":{\"prompt_tokens\":-1}}\n\n", false)
	f.Fuzz(func(t *testing.T, text string, whole bool) {
		var s said
		_ = s.stream(strings.NewReader(text), 1<<16, whole, func() {})
		if len(s.text) > len(text)*4 {
			t.Fatalf("%d bytes of answer in a stream of %d", len(s.text), len(text))
		}
	})
}

func FuzzAnswer(f *testing.F) {
	schema, err := newSchema(schemaSetting())
	if err != nil {
		f.Fatal(err)
	}
	d := &Driver{c: &config{schema: schema}}
	f.Add(answerOf("x"))
	f.Add(`{"category":"other","score":1e999,"urgent":true,"level":1e5}`)
	f.Fuzz(func(t *testing.T, text string) {
		values, err := d.values(&said{text: text})
		if (err == nil) != (values != nil) || err != nil && !errkind.Is(err, errkind.Permanent) {
			t.Fatalf("%v %v", values, err)
		}
	})
}
