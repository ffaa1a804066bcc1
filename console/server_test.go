package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/errkind"
)

func TestCheckListenRefusesToOpenToOthersUnprotected(t *testing.T) {
	for _, c := range []struct {
		addr, token string
		tls         bool
		want        string // in the error; empty for none
	}{
		{"127.0.0.1:8080", "", false, ""}, {"127.9.9.9:0", "", false, ""}, {"localhost:8080", "", false, ""}, {"[::1]:8080", "", false, ""},
		{"[::ffff:127.0.0.1]:1", "", false, ""},
		{":8080", "", false, "a token and a TLS certificate"}, {"0.0.0.0:8080", "", true, "set a token"}, {"[::]:80", "t", false, "in the clear"},
		{"example.org:80", "", false, "a token"}, {"10.0.0.1:80", "t", true, ""}, {":8080", "t", true, ""},
		{"8080", "", false, "HOST:PORT"}, {"127.0.0.1.evil.org:80", "", false, "a token"},
	} {
		err := CheckListen(c.addr, c.token, c.tls)
		if c.want == "" && err != nil || c.want != "" && (!errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestWithoutATokenOnlyThisMachineIsAnswered(t *testing.T) {
	f := newFixture(t, Options{})
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{200, nil},
		{200, []string{"Host: 127.0.0.1:8080"}}, {200, []string{"Host: [::1]:8080"}}, {200, []string{"Host: LOCALHOST"}}, {200, []string{"Host: freshet.localhost:1"}},
		{403, []string{"Host: evil.example"}}, {403, []string{"Host: 127.0.0.1.evil.example:8080"}}, {403, []string{"Host: 10.0.0.1"}}, {403, []string{"Host: localhost.evil"}},
		{200, []string{"Origin: http://localhost"}},
		{403, []string{"Origin: https://localhost"}}, {403, []string{"Origin: http://localhost:3000"}}, {403, []string{"Origin: http://evil.example"}}, {403, []string{"Origin: null"}},
		{200, []string{"Sec-Fetch-Site: none"}}, {403, []string{"Sec-Fetch-Site: cross-site"}}, {403, []string{"Sec-Fetch-Site: same-site"}},
	} {
		for _, target := range []string{"/topics", "/metrics", "/topics/transactions"} {
			if w := f.do("GET", target, "", c.headers...); w.Code != c.status {
				t.Errorf("%s %v: %d, want %d", target, c.headers, w.Code, c.status)
			}
		}
		if w := f.do("POST", "/topics/transactions", "{}", append(c.headers, asJSON)...); w.Code != c.status {
			t.Errorf("POST %v: %d, want %d", c.headers, w.Code, c.status)
		}
		if w := f.do("GET", "/livez", "", c.headers...); w.Code != 200 {
			t.Errorf("/livez %v: %d", c.headers, w.Code)
		}
	}
}

func TestATokenIsNeededEverywhereButForHealth(t *testing.T) {
	f := newFixture(t, Options{Token: "s3cret"})
	for _, target := range []string{"/topics", "/topics/transactions", "/topics/transactions/info", "/metrics", "/nothing"} {
		for _, h := range []string{"X: y", "Authorization: Bearer", "Authorization: Bearer wrong", "Authorization: Basic s3cret", "Authorization: s3cret"} {
			w := f.do("GET", target, "", "Host: anywhere.example", h)
			if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d", target, h, w.Code)
			}
		}
		for _, h := range []string{"Authorization: Bearer s3cret", "Authorization: bearer s3cret"} {
			if w := f.do("GET", target, "", "Host: anywhere.example", h); w.Code == 401 || w.Code == 403 {
				t.Errorf("%s with %q: %d", target, h, w.Code)
			}
		}
	}
	for _, target := range []string{"/livez", "/readyz"} {
		if w := f.do("GET", target, "", "Host: 10.1.2.3:8080"); w.Code != 200 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

func TestHealthListsReasons(t *testing.T) {
	f := newFixture(t, Options{Ready: func() error {
		return errors.Join(errors.New("model is loading"), errors.New("topic is missing"))
	}})
	if w := f.do("GET", "/livez", ""); w.Code != 200 || w.Body.String() != "{\"status\":\"ok\"}\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := f.do("GET", "/readyz", ""); w.Code != 503 || w.Body.String() != `{"status":"fail","reasons":["model is loading","topic is missing"]}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMetricsHoldTheProgramsAndTheProcess(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freshet_test", Help: "A test."}, func() float64 { return 7 }))
	f := newFixture(t, Options{Metrics: reg})
	w := f.do("GET", "/metrics", "")
	for _, want := range []string{"freshet_test 7\n", "go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in %.200s", want, w.Body)
		}
	}
}

// serve runs Serve on a free port; stop ends it and returns what Serve did.
func (f *fixture) serve() (addr string, stop func() error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.s.Serve(ctx, ln) }()
	return ln.Addr().String(), func() error {
		cancel()
		return <-done
	}
}

func TestServeDrainsRequestsAndEndsStreams(t *testing.T) {
	f := newFixture(t, Options{})
	f.m.block = make(chan struct{})
	addr, stop := f.serve()
	stream := f.get(t.Context(), "http://"+addr+"/topics/transactions?follow=true")
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Post("http://"+addr+"/topics/transactions", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-f.m.entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if b, err := io.ReadAll(stream.Body); err != nil || len(b) != 0 { // ends at once, the POST is still there
		t.Errorf("stream: %q, %v", b, err)
	}
	close(f.m.block)
	if got := <-answered; got != 200 {
		t.Errorf("the request in progress was answered with %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port is still open")
	}
}

func TestServeCutsOffWhatDoesNotEnd(t *testing.T) {
	f := newFixture(t, Options{Drain: 20 * time.Millisecond})
	f.m.block = make(chan struct{})
	addr, stop := f.serve()
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Post("http://"+addr+"/topics/transactions", "application/json", strings.NewReader("{}"))
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-f.m.entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
}

func TestServeSpeaksTLS(t *testing.T) {
	donor := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer donor.Close()
	f := newFixture(t, Options{Token: "t", TLS: &tls.Config{Certificates: donor.TLS.Certificates}})
	addr, stop := f.serve()
	roots := x509.NewCertPool()
	roots.AddCert(donor.Certificate())
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS10, MaxVersion: version}}}
		resp, err := client.Get("https://" + addr + "/livez")
		if (err == nil) != want {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		client.CloseIdleConnections()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTooManyRequestsAtOnceAreAskedToComeBack(t *testing.T) {
	f := newFixture(t, Options{})
	for range maxPosts {
		f.s.posts <- struct{}{}
	}
	if w := f.do("POST", "/topics/transactions", "{}", asJSON); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	<-f.s.posts
	if w := f.do("POST", "/topics/transactions", "{}", asJSON); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
