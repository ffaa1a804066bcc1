package console

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Webhooks says which senders of webhooks are let in.
type Webhooks struct {
	// Origins are the names of senders that the handshake of CloudEvents'
	// "HTTP 1.1 Web Hooks for Event Delivery" is granted to; "*" is every one.
	// Without any there is no handshake.
	Origins []string
	// Rate is how many requests a minute the handshake allows; 0 sets no bound.
	Rate int
	// Secrets, where there are any, are what POST requests have to be signed with, one of
	// them being enough. A request with the Token and no signature is let in as well.
	Secrets [][]byte
}

// allows returns what WebHook-Allowed-Origin says to an origin; "" where it is not let in.
func (h *Webhooks) allows(origin string) string {
	for _, o := range h.Origins {
		if o == "*" {
			return "*"
		}
		if strings.EqualFold(o, origin) {
			return origin
		}
	}
	return ""
}

// handshake answers a sender that asks whether its events are wanted here. What is
// granted is no access, so the token is not needed, and nothing is said about the topic.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "GET, POST")
	origin := r.Header.Get("Webhook-Request-Origin")
	if origin == "" || len(s.o.Webhooks.Origins) == 0 {
		writeProblem(w, problem{Status: http.StatusMethodNotAllowed, Detail: "OPTIONS is offered only for the handshake of webhooks, with WebHook-Request-Origin, and where origins are allowed"})
		return
	}
	allowed := s.o.Webhooks.allows(origin)
	if allowed == "" {
		s.o.Logger.LogAttrs(r.Context(), slog.LevelWarn, "webhook handshake refused", slog.String("origin", origin), slog.String("path", r.URL.Path))
		writeProblem(w, problem{Status: http.StatusForbidden, Detail: fmt.Sprintf("events of the origin %q are not wanted here", origin)})
		return
	}
	rate := "*"
	if s.o.Webhooks.Rate > 0 {
		rate = strconv.Itoa(s.o.Webhooks.Rate)
	}
	w.Header().Set("WebHook-Allowed-Origin", allowed)
	w.Header().Set("WebHook-Allowed-Rate", rate)
	w.WriteHeader(http.StatusOK)
}

// isHandshake reports whether a request is for handshake to answer.
func isHandshake(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Webhook-Request-Origin") != ""
}

// gridOrigin is how Azure Event Grid names itself in the handshake of CloudEvents.
const gridOrigin = "eventgrid.azure.net"

// gridEvent is an event in the schema of Azure Event Grid's own.
type gridEvent struct {
	ID          string          `json:"id"`
	Topic       string          `json:"topic"`
	Subject     string          `json:"subject"`
	EventType   string          `json:"eventType"`
	EventTime   string          `json:"eventTime"`
	DataVersion string          `json:"dataVersion"`
	Data        json.RawMessage `json:"data"`
}

// fromGrid reports whether a request comes in the schema of Event Grid's own: its
// events in CloudEvents' schema are like those of all others.
func fromGrid(r *http.Request, mediaType string) bool {
	return mediaType == typeJSON && r.Header.Get("Aeg-Event-Type") != ""
}

// produceGrid answers the validation of a subscription, and stores notifications
// as CloudEvents: topic is the source, eventType the type.
func (s *Server) produceGrid(w http.ResponseWriter, r *http.Request, topic string, named envelope) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
	if err != nil {
		s.fail(w, r, readFault(err))
		return
	}
	var events []gridEvent
	if err := json.Unmarshal(body, &events); err != nil {
		s.fail(w, r, errkind.Errorf(errkind.Invalid, "read events: expected an array of events in the schema of Event Grid, as the header aeg-event-type says: %w", err))
		return
	}
	switch r.Header.Get("Aeg-Event-Type") {
	case "SubscriptionValidation":
		s.validateGrid(w, r, events)
		return
	case "SubscriptionDeletion":
		s.o.Logger.LogAttrs(r.Context(), slog.LevelInfo, "the subscription at Event Grid was deleted", slog.String("path", r.URL.Path))
		writeJSON(w, http.StatusOK, published{})
		return
	}
	recs := make([]event.Record, len(events))
	for i, e := range events {
		if recs[i], err = e.record(); err == nil {
			err = named.fill(&recs[i])
		}
		if err != nil {
			s.failWith(w, r, err, problem{Record: &i})
			return
		}
	}
	s.storeAndAnswer(w, r, topic, recs)
}

func (s *Server) validateGrid(w http.ResponseWriter, r *http.Request, events []gridEvent) {
	if s.o.Webhooks.allows(gridOrigin) == "" {
		writeProblem(w, problem{Status: http.StatusForbidden, Detail: "events of the origin " + gridOrigin + " are not wanted here"})
		return
	}
	var data struct {
		ValidationCode string `json:"validationCode"`
	}
	if len(events) != 1 || json.Unmarshal(events[0].Data, &data) != nil || data.ValidationCode == "" {
		s.fail(w, r, errkind.New(errkind.Invalid, "read validation: expected one event with data.validationCode"))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"validationResponse": data.ValidationCode})
}

func (e *gridEvent) record() (event.Record, error) {
	attributes := map[string]any{"specversion": "1.0", "id": e.ID, "source": e.Topic, "type": e.EventType}
	for name, value := range map[string]string{"subject": e.Subject, "time": e.EventTime, "dataversion": e.DataVersion} {
		if value != "" {
			attributes[name] = value
		}
	}
	if len(e.Data) > 0 {
		attributes["data"] = e.Data
	}
	b, err := json.Marshal(attributes)
	if err != nil {
		return event.Record{}, errkind.Errorf(errkind.Invalid, "read event: %w", err)
	}
	return event.FromStructured(b)
}
