package s3_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state/s3"
)

// wire is an S3 server that answers as told: it creates once and forgets.
func wire(t *testing.T, next http.HandlerFunc) http.HandlerFunc {
	probes := map[string]bool{}
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/probe-") {
			next(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case probes[r.URL.Path] && r.Header.Get("If-None-Match") == "*":
			fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		default:
			probes[r.URL.Path] = true
			w.Header().Set("ETag", `"x"`)
		}
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>told so</Message></Error>", code)
}

func open(t *testing.T, h http.HandlerFunc) *s3.Bucket {
	t.Helper()
	server := httptest.NewServer(wire(t, h))
	t.Cleanup(server.Close)
	b, err := s3.Open(t.Context(), "s3://bucket/p?endpoint="+server.URL, s3.Options{Getenv: environment(credentials), Idle: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestErrorsOfTheStoreHaveTheirKind(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		want   errkind.Kind
	}{
		{404, "NoSuchKey", errkind.NotFound},
		{404, "NoSuchBucket", errkind.Config},
		{403, "AccessDenied", errkind.Config},
		{403, "SignatureDoesNotMatch", errkind.Config},
		{412, "PreconditionFailed", errkind.Conflict},
		{409, "ConditionalRequestConflict", errkind.Transient},
		{429, "TooManyRequests", errkind.Throttled},
		{503, "SlowDown", errkind.Throttled},
		{500, "InternalError", errkind.Transient},
		{502, "BadGateway", errkind.Transient},
		{507, "XMinioStorageFull", errkind.Exhausted},
		{400, "InvalidRequest", errkind.Permanent},
	} {
		calls := 0
		b := open(t, func(w http.ResponseWriter, r *http.Request) {
			calls++
			_, _ = io.Copy(io.Discard, r.Body)
			fail(w, tc.status, tc.code)
		})
		if _, err := b.Get(t.Context(), "a"); !errkind.Is(err, tc.want) {
			t.Errorf("%d %s: Get: %v %v", tc.status, tc.code, errkind.Of(err), err)
		}
		if err := b.Put(t.Context(), "a", 1, strings.NewReader("v")); !errkind.Is(err, tc.want) {
			t.Errorf("%d %s: Put: %v %v", tc.status, tc.code, errkind.Of(err), err)
		}
		if calls != 2 {
			t.Errorf("%d %s: %d requests for 2 calls: repeating is not the adapter's", tc.status, tc.code, calls)
		}
	}
}

func TestABodyThatEndsEarlyOrStallsIsTransient(t *testing.T) {
	stalled := make(chan struct{})
	b := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("ETag", `"x"`)
		_, _ = w.Write(make([]byte, 50))
		w.(http.Flusher).Flush()
		if strings.HasSuffix(r.URL.Path, "/stall") {
			<-stalled
		}
	})
	defer close(stalled)
	for _, name := range []string{"early", "stall"} {
		r, err := b.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		_ = r.Close()
		if len(got) != 50 || !errkind.Is(err, errkind.Transient) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestAStoreThatIgnoresConditionsIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"x"`)
	}))
	defer server.Close()
	_, err := s3.Open(t.Context(), "s3://bucket?endpoint="+server.URL, s3.Options{Getenv: environment(credentials)})
	if !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("Open: %v", err)
	}
}

func TestAnEncryptedStoreIsTrustedByItsCertificateOnly(t *testing.T) {
	server := httptest.NewTLSServer(wire(t, func(w http.ResponseWriter, _ *http.Request) { fail(w, 404, "NoSuchKey") }))
	defer server.Close()
	server.Config.ErrorLog = nil
	url := "s3://bucket?endpoint=" + server.URL
	if _, err := s3.Open(t.Context(), url, s3.Options{Getenv: environment(credentials)}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody known: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"AWS_CA_BUNDLE": bundle}
	for k, v := range credentials {
		vars[k] = v
	}
	b, err := s3.Open(t.Context(), url, s3.Options{Getenv: environment(vars)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Get(t.Context(), "a"); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("Get: %v", err)
	}
}

func TestURLsThatAreWrongAreConfigErrorsWithoutSecrets(t *testing.T) {
	for _, url := range []string{
		"s3://AKIASECRET:hunter2@bucket/p",
		"s3:///p",
		"s3://bucket/p?endpoint=http://example.com:9000",
		"s3://bucket/p?endpoint=https://user:hunter2@example.com",
		"s3://bucket/p?endpoint=ftp://localhost",
		"s3://bucket/p?endpoint=localhost:9000",
		"s3://bucket/p?secret=hunter2",
		"s3://bucket/../p",
		"s3://bucket/p?endpoint=http://localhost&endpoint=http://localhost",
		"s3://bucket/%zzhunter2",
	} {
		_, err := s3.Open(t.Context(), url, s3.Options{Getenv: environment(credentials)})
		if !errkind.Is(err, errkind.Config) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "AKIASECRET") {
			t.Errorf("%s: %v", url, err)
		}
	}
	half := map[string]string{"AWS_ACCESS_KEY_ID": "x"}
	none := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "none")}
	for _, vars := range []map[string]string{half, none} {
		if _, err := s3.Open(t.Context(), "s3://bucket", s3.Options{Getenv: environment(vars)}); !errkind.Is(err, errkind.Config) {
			t.Errorf("credentials %v: %v", vars, err)
		}
	}
}

func TestCredentialsAreReadFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[other]\naws_access_key_id = filekey\naws_secret_access_key = filesecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen string
	h := wire(t, func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		h(w, r)
	}))
	defer server.Close()
	b, err := s3.Open(t.Context(), "s3://bucket?endpoint="+server.URL, s3.Options{Getenv: environment(map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "other"})})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !strings.Contains(seen, "Credential=filekey/") {
		t.Errorf("signed by %q", seen)
	}
}
