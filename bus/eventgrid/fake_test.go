package eventgrid

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const accessKey = "c2VjcmV0"

// fake speaks the data plane's API as it is documented, for one topic "t" with
// one subscription "s": no emulator of Event Grid namespaces exists.
type fake struct {
	*httptest.Server
	lock time.Duration

	mu     sync.Mutex
	next   int
	events []*held
	stored []json.RawMessage
	calls  []string
	fail   func(action string, body []byte) (status int, answer string) // status 0 goes on
}

type held struct {
	event json.RawMessage
	token string
	until time.Time
	count int
}

func newFake(t testing.TB, lock time.Duration) *fake {
	f := &fake{lock: lock}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, action, _ := strings.Cut(r.URL.Path, ":")
	var raw json.RawMessage
	_ = json.NewDecoder(r.Body).Decode(&raw)
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":"as told","timestamp_utc":"2024-06-01T00:00:00Z","tracking_id":"x"}}`, code)
	}
	f.mu.Lock()
	f.calls = append(f.calls, action)
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if status, answer := fail(action, raw); status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, answer)
			return
		}
	}
	switch {
	case r.Header.Get("Authorization") != "SharedAccessKey "+accessKey:
		refuse(http.StatusUnauthorized, "Unauthorized")
	case r.URL.Query().Get("api-version") != "2024-06-01", r.Method != http.MethodPost:
		refuse(http.StatusBadRequest, "BadRequest")
	case path == "/topics/t" && action == "publish":
		var events []json.RawMessage
		if r.Header.Get("Content-Type") != "application/cloudevents-batch+json; charset=utf-8" || json.Unmarshal(raw, &events) != nil || len(events) == 0 {
			refuse(http.StatusBadRequest, "BadRequest")
			return
		}
		f.mu.Lock()
		for _, e := range events {
			f.stored = append(f.stored, e)
			f.events = append(f.events, &held{event: e})
		}
		f.mu.Unlock()
		fmt.Fprint(w, "{}")
	case path != "/topics/t/eventsubscriptions/s":
		refuse(http.StatusNotFound, "NotFound")
	case action == "receive":
		f.receive(w, r)
	default:
		f.settle(w, action, raw)
	}
}

func (f *fake) receive(w http.ResponseWriter, r *http.Request) {
	most, _ := strconv.Atoi(r.URL.Query().Get("maxEvents"))
	type detail struct {
		BrokerProperties struct {
			LockToken     string `json:"lockToken"`
			DeliveryCount int    `json:"deliveryCount"`
		} `json:"brokerProperties"`
		Event json.RawMessage `json:"event"`
	}
	answer := struct {
		Value []detail `json:"value"`
	}{Value: []detail{}}
	for end := time.Now().Add(300 * time.Millisecond); len(answer.Value) == 0 && time.Now().Before(end) && r.Context().Err() == nil; {
		f.mu.Lock()
		for _, e := range f.events {
			if len(answer.Value) < most && time.Now().After(e.until) {
				f.next++
				e.token, e.until, e.count = fmt.Sprintf("token-%d", f.next), time.Now().Add(f.lock), e.count+1
				d := detail{Event: e.event}
				d.BrokerProperties.LockToken, d.BrokerProperties.DeliveryCount = e.token, e.count
				answer.Value = append(answer.Value, d)
			}
		}
		f.mu.Unlock()
		if len(answer.Value) == 0 {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fake) settle(w http.ResponseWriter, action string, raw []byte) {
	var body struct {
		LockTokens []string `json:"lockTokens"`
	}
	_ = json.Unmarshal(raw, &body)
	f.mu.Lock()
	defer f.mu.Unlock()
	done, failed := []string{}, []any{}
	for _, token := range body.LockTokens {
		i := 0
		for i < len(f.events) && (f.events[i].token != token || time.Now().After(f.events[i].until)) {
			i++
		}
		if i == len(f.events) {
			failed = append(failed, map[string]any{"lockToken": token, "error": map[string]string{"code": "TokenLost", "message": "The lock was lost."}})
			continue
		}
		done = append(done, token)
		switch e := f.events[i]; action {
		case "acknowledge":
			f.events = append(f.events[:i:i], f.events[i+1:]...)
		case "release":
			e.until, e.token = time.Time{}, ""
		case "renewLock":
			e.until = time.Now().Add(f.lock)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"succeededLockTokens": done, "failedLockTokens": failed})
}
