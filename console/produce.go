package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// produce stores the events of a request and answers when they are durable.
func (s *Server) produce(w http.ResponseWriter, r *http.Request) {
	if !enter(w, s.posts) {
		return
	}
	defer func() { <-s.posts }()
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		mediaType = ""
	}
	ce := r.Header.Get("Ce-Specversion") != ""
	name := r.PathValue("topic")
	named, err := s.envelope(name, r.URL.Query())
	switch {
	case err != nil:
		s.fail(w, r, err)
	case fromGrid(r, mediaType):
		s.produceGrid(w, r, name, named)
	case ce && mediaType != event.TypeStructured && mediaType != event.TypeBatch,
		mediaType == event.TypeStructured, mediaType == event.TypeBatch, mediaType == typeJSON:
		s.produceWhole(w, r, name, mediaType, ce, named)
	case mediaType == typeNDJSON || mediaType == "application/ndjson" || mediaType == "application/jsonl":
		s.produceLines(w, r, name, named)
	default:
		w.Header().Set("Accept-Post", strings.Join([]string{typeJSON, typeNDJSON, event.TypeStructured, event.TypeBatch}, ", "))
		writeProblem(w, problem{Status: http.StatusUnsupportedMediaType, Kind: errkind.Unsupported.String(), Detail: fmt.Sprintf(
			"content type %q is not taken: send %s (one event), %s (one event a line), %s, %s, or any type with ce-* headers",
			r.Header.Get("Content-Type"), typeJSON, typeNDJSON, event.TypeStructured, event.TypeBatch)})
	}
}

// produceWhole stores the events of a body that is read as a whole: all of
// them are read before the first one is stored.
func (s *Server) produceWhole(w http.ResponseWriter, r *http.Request, topic, mediaType string, ce bool, named envelope) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
	if err != nil {
		s.fail(w, r, readFault(err))
		return
	}
	plain := mediaType == typeJSON
	if plain {
		if err := checkJSON(body, ce); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	recs, err := event.FromHTTP(r.Header, body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for i := range recs {
		if plain && !ce {
			recs[i].Headers = nil // plain JSON is what a record is without headers
		}
		if err := named.fill(&recs[i]); err != nil {
			s.failWith(w, r, err, problem{Record: &i})
			return
		}
		if id := r.Header.Get(headerWebhookID); plain && !ce && len(recs[i].ID) == 0 && id != "" {
			recs[i].ID = []byte(id) // the same when a webhook is sent again
		}
	}
	s.storeAndAnswer(w, r, topic, recs)
}

// storeAndAnswer stores what a request holds as a whole.
func (s *Server) storeAndAnswer(w http.ResponseWriter, r *http.Request, topic string, recs []event.Record) {
	p := &published{}
	if err := s.store(r, topic, recs, p); err != nil {
		s.failStored(w, r, err, problem{}, p)
		return
	}
	if wantsReply(r) {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	writeJSON(w, http.StatusOK, p)
}

// wantsReply reports whether the sender takes the body of an answer for an event, as
// those of Knative do, and one that is no event for a fault. There are no
// such replies here, so they get no body.
func wantsReply(r *http.Request) bool {
	for _, v := range r.Header.Values("Prefer") {
		for p := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(p), "reply") {
				return true
			}
		}
	}
	return false
}

// store publishes recs, and looks whether the topic exists where there are none.
func (s *Server) store(r *http.Request, topic string, recs []event.Record, p *published) error {
	if len(recs) == 0 && *p == (published{}) {
		_, err := s.o.Broker.Describe(r.Context(), topic, "")
		return err
	}
	done, err := s.o.Broker.Publish(r.Context(), topic, recs)
	p.add(done)
	return err
}

// failStored is failWith for a request of which some may be stored already.
func (s *Server) failStored(w http.ResponseWriter, r *http.Request, err error, q problem, p *published) {
	if *p != (published{}) {
		q.Published = p
	}
	s.failWith(w, r, err, q)
}

// readFault gives the error of reading a body its kind.
func readFault(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return errkind.Errorf(errkind.Invalid, "read body: it ended early: %w", err)
}

// checkJSON holds a payload to be one JSON value; any is for values that are not plain events.
func checkJSON(b []byte, anyValue bool) error {
	trimmed := bytes.TrimLeft(b, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return errkind.New(errkind.Invalid, "read event: the body is empty, expected one JSON value")
	case !utf8.Valid(b):
		return errkind.New(errkind.Invalid, "read event: the payload is not valid UTF-8")
	case !json.Valid(b):
		var v json.RawMessage
		return errkind.Errorf(errkind.Invalid, "read event: the payload is not valid JSON: %w", json.Unmarshal(b, &v))
	case trimmed[0] == '[' && !anyValue:
		return errkind.Errorf(errkind.Invalid, "read event: the payload is a JSON array, expected one event; send many as %s, one a line, or as %s", typeNDJSON, event.TypeBatch)
	}
	return nil
}

// Bounds of one batch of an NDJSON body.
const (
	linesPerBatch = 1000
	bytesPerBatch = 1 << 20
	// maxLine is the largest line where the broker sets no limit.
	maxLine = 16 << 20
)

// produceLines stores an NDJSON body of any length in batches as it arrives.
// At a fault it stops: what came before is stored, and the answer says how much.
func (s *Server) produceLines(w http.ResponseWriter, r *http.Request, topic string, named envelope) {
	limit := s.o.Broker.Capabilities().MaxRecordBytes
	if limit <= 0 {
		limit = maxLine
	}
	rc := http.NewResponseController(w)
	lines := newLineReader(r.Body, limit)
	p := &published{}
	var recs []event.Record
	for {
		// The whole may take as long as it likes, each batch may not. Writers
		// without deadlines, in tests, return an error that changes nothing.
		_ = rc.SetReadDeadline(time.Now().Add(s.timeout))
		_ = rc.SetWriteDeadline(time.Now().Add(2 * s.timeout))
		var readErr error
		recs, readErr = lines.batch(recs[:0], named)
		if err := s.store(r, topic, recs, p); err != nil {
			s.failStored(w, r, err, problem{}, p)
			return
		}
		if errors.Is(readErr, io.EOF) {
			writeJSON(w, http.StatusOK, p)
			return
		}
		if readErr != nil {
			s.failStored(w, r, readErr, problem{Line: lines.number}, p)
			return
		}
	}
}
