package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func TestStatusesHaveKinds(t *testing.T) {
	for status, want := range map[int]errkind.Kind{
		301: errkind.Permanent, 400: errkind.Invalid, 401: errkind.Config, 403: errkind.Config, 404: errkind.NotFound, 405: errkind.Permanent,
		408: errkind.Transient, 413: errkind.Invalid, 422: errkind.Invalid, 425: errkind.Transient, 429: errkind.Throttled,
		500: errkind.Transient, 501: errkind.Permanent, 502: errkind.Transient, 503: errkind.Transient, 505: errkind.Permanent,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Location", "http://user:secret@elsewhere/?token=secret")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("why\x1b[31m\nnot" + strings.Repeat("x", 10000)))
		}))
		c := New(Config{Where: "here", MaxAnswer: 10})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/?key=secret", strings.NewReader("{}"))
		err := c.Call(req, new(bytes.Buffer))
		var ra *inference.RetryAfter
		paused := errors.As(err, &ra) && ra.After == 7*time.Second
		if !errkind.Is(err, want) || paused != want.Retryable() || strings.Contains(err.Error(), "secret") || len(err.Error()) > 400 || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%d: %v %v", status, errkind.Of(err), err)
		}
		c.Close()
		s.Close()
	}
}

func TestAnswersAreBounded(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"by what it declares": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "10737418240") },
		"by what comes": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
	} {
		s := httptest.NewServer(handler)
		c := New(Config{Where: "here", MaxAnswer: 1000})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		var buf bytes.Buffer
		if err := c.Call(req, &buf); !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "longer than 1000 bytes") || buf.Cap() > 1<<16 {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		s.CloseClientConnections()
		s.Close()
	}
}

func TestPausesAreReadAndBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "2", 2 * time.Second}, {"Retry-After", "0.5", 500 * time.Millisecond}, {"Retry-After", "-1", 0}, {"Retry-After", "soon", 0},
		{"Retry-After", "1e300", time.Hour}, {"Retry-After", "NaN", 0}, {"Retry-After", "Inf", time.Hour},
		{"Retry-After", "Sun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second}, {"Retry-After", "Sun, 01 Mar 2020 12:00:30 GMT", 0},
		{"Retry-After-Ms", "1500", 1500 * time.Millisecond}, {"Retry-After-Ms", "x", 0},
	} {
		h := http.Header{}
		h.Set(tc.name, tc.value)
		if got := RetryAfter(h, now); got != tc.want {
			t.Errorf("%s: %s is %v, want %v", tc.name, tc.value, got, tc.want)
		}
	}
}

func TestWhatNetworksDoHasAKind(t *testing.T) {
	c := New(Config{Where: "here", MaxAnswer: 10})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://user:secret@127.0.0.1:1/?secret", nil)
	err := c.Call(req, new(bytes.Buffer))
	if !errkind.Is(err, errkind.Canceled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, "http://user:secret@127.0.0.1:1/?secret", nil)
	if err := c.Call(req, new(bytes.Buffer)); !errkind.Is(err, errkind.Transient) || strings.Contains(fmt.Sprint(err), "secret") {
		t.Error(err)
	}
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = nil
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err := c.Call(req, new(bytes.Buffer)); !errkind.Is(err, errkind.Config) {
		t.Errorf("an untrusted certificate: %v %v", errkind.Of(err), err)
	}
	raw := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_, _ = conn.Write([]byte("no HTTP at all\r\n\r\n"))
		_ = conn.Close()
	}))
	defer raw.Close()
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, raw.URL, nil)
	if err := c.Call(req, new(bytes.Buffer)); !errkind.Is(err, errkind.Permanent) {
		t.Errorf("no HTTP: %v %v", errkind.Of(err), err)
	}
}

func TestALostConnectionIsTransient(t *testing.T) {
	c := New(Config{Where: "here"})
	for text, want := range map[string]errkind.Kind{
		"http: server closed idle connection":                                           errkind.Transient,
		"http2: client connection lost":                                                 errkind.Transient,
		"http2: server sent GOAWAY and closed the connection; LastStreamID=1":           errkind.Transient,
		"stream error: stream ID 3; INTERNAL_ERROR; received from peer":                 errkind.Transient,
		"net/http: HTTP/1.x transport connection broken: malformed HTTP response \"x\"": errkind.Permanent,
	} {
		if err := c.Fault(errors.New(text)); !errkind.Is(err, want) {
			t.Errorf("%s: %v, expected %v", text, errkind.Of(err), want)
		}
	}
}
