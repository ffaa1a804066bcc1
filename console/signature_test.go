package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

var (
	clock  = time.Date(2026, 2, 3, 10, 0, 0, 0, time.UTC)
	secret = []byte("the secret of the sender")
)

// sign gives the headers of a signed request.
func sign(secret []byte, id string, at time.Time, body string) []string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + stamp + "." + body))
	return []string{"webhook-id: " + id, "webhook-timestamp: " + stamp, "webhook-signature: v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

func signedFixture(t *testing.T, token string) *fixture {
	return newFixture(t, Options{MaxBody: 5000, Token: token, Now: func() time.Time { return clock },
		Webhooks: Webhooks{Secrets: [][]byte{[]byte("the next secret of the sender"), secret}}})
}

// The example of the specification, computed by its reference library.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	secrets, err := ParseSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"test": 2432232314}`
	f := newFixture(t, Options{Now: func() time.Time { return time.Unix(1614265330, 0) }, Webhooks: Webhooks{Secrets: secrets}})
	w := f.do("POST", "/topics/transactions", body, asJSON, "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp: 1614265330",
		"webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if diff := cmp.Diff([]string{"msg_p5jXN8AQM9LWM0D4loKWxJek||" + body}, f.stored("transactions")); diff != "" {
		t.Error(diff)
	}
}

func TestSignedEventsAreStoredInEveryMode(t *testing.T) {
	binary := []string{asJSON, "ce-specversion: 1.0", "ce-id: e%201", "ce-source: /s", "ce-type: t"}
	for name, c := range map[string]struct {
		id, body string
		headers  []string
		want     int
	}{
		"plain":      {"m1", `{"n":1}`, []string{asJSON}, 1},
		"structured": {"m1", structured("e1"), []string{asStructured}, 1},
		"batched":    {"m1", "[" + structured("e1") + "," + structured("e2") + "]", []string{asBatch}, 2},
		"lines":      {"m1", "{\"n\":1}\n{\"n\":2}\n", []string{asNDJSON}, 2},
		"binary":     {"e%201", `{"n":1}`, binary, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := signedFixture(t, "")
			// A signature is enough: neither the host nor the token is asked for.
			headers := slices.Concat(c.headers, sign(secret, c.id, clock, c.body), []string{"Host: hooks.example.com"})
			if w := f.do("POST", "/topics/transactions", c.body, headers...); w.Code != 200 || len(f.stored("transactions")) != c.want {
				t.Errorf("%d %s, stored %v", w.Code, w.Body, f.stored("transactions"))
			}
			f = signedFixture(t, "token")
			if w := f.do("POST", "/topics/transactions", c.body, headers...); w.Code != 200 || len(f.stored("transactions")) != c.want {
				t.Errorf("%d %s, stored %v", w.Code, w.Body, f.stored("transactions"))
			}
		})
	}
}

func TestRequestsWithoutARightSignatureStoreNothing(t *testing.T) {
	const body = `{"n":1}`
	right := sign(secret, "m1", clock, body)
	with := func(i int, v string) []string {
		h := append([]string{}, right...)
		h[i] = v
		return h
	}
	signature := strings.TrimPrefix(right[2], "webhook-signature: ")
	for name, c := range map[string]struct {
		body    string
		headers []string
		want    string
	}{
		"none":                {body, nil, "webhook-id is expected once"},
		"no signature":        {body, right[:2], "webhook-signature is expected once"},
		"no timestamp":        {body, []string{right[0], right[2]}, "webhook-timestamp is expected once"},
		"tampered body":       {`{"n":2}`, right, "of another body"},
		"longer body":         {body + "\n", right, "of another body"},
		"another id":          {body, with(0, "webhook-id: m2"), "of another body"},
		"another timestamp":   {body, with(1, "webhook-timestamp: "+strconv.FormatInt(clock.Unix()+1, 10)), "of another body"},
		"another secret":      {body, sign([]byte("the secret of somebody else"), "m1", clock, body), "of another body"},
		"expired":             {body, sign(secret, "m1", clock.Add(-5*time.Minute-time.Second), body), "more than 5m0s"},
		"from the future":     {body, sign(secret, "m1", clock.Add(5*time.Minute+time.Second), body), "more than 5m0s"},
		"odd timestamp":       {body, with(1, "webhook-timestamp: 2026-02-03"), "whole seconds"},
		"negative timestamp":  {body, with(1, "webhook-timestamp: -9223372036854775808"), "whole seconds"},
		"two ids":             {body, append(right, "webhook-id: m1"), "webhook-id is expected once"},
		"id like a body":      {body, sign(secret, `m1.1.{"n"`, clock, body), "printable"},
		"another version":     {body, with(2, "webhook-signature: v1a,"+strings.TrimPrefix(signature, "v1,")), "v1,BASE64"},
		"no Base64":           {body, with(2, "webhook-signature: v1,???"), "v1,BASE64"},
		"short signature":     {body, with(2, "webhook-signature: v1,AAAA"), "v1,BASE64"},
		"another event's id":  {body, append(right, "ce-specversion: 1.0", "ce-id: e1", "ce-source: /s", "ce-type: t"), "expected to be the event's ce-id"},
		"event without an id": {body, append(right, "ce-specversion: 1.0", "ce-source: /s", "ce-type: t"), "expected to be the event's ce-id"},
	} {
		for _, token := range []string{"", "token"} {
			t.Run(name+token, func(t *testing.T) {
				f := signedFixture(t, token)
				headers := append([]string{asJSON}, c.headers...)
				want := c.want
				if token != "" {
					if strings.HasSuffix(want, "signature is expected once") || name == "none" {
						want = "needs its token" // nothing claims to be signed
					} else {
						headers = append(headers, "Authorization: Bearer token") // which makes no wrong signature right
					}
				}
				w := f.do("POST", "/topics/transactions", c.body, headers...)
				if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || !strings.Contains(w.Body.String(), want) {
					t.Errorf("%d %s %s, want %q", w.Code, w.Header(), w.Body, want)
				}
				if got := f.stored("transactions"); len(got) != 0 {
					t.Errorf("stored %v", got)
				}
			})
		}
	}
}

func TestAReplayedRequestIsADuplicate(t *testing.T) {
	f := signedFixture(t, "")
	const body = `{"n":1}`
	headers := append(sign(secret, "m1", clock.Add(-4*time.Minute), body), asJSON)
	for _, want := range []string{"{\"stored\":1,\"duplicates\":0}\n", "{\"stored\":0,\"duplicates\":1}\n"} {
		if w := f.do("POST", "/topics/transactions", body, headers...); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%d %s, want %s", w.Code, w.Body, want)
		}
	}
	if got := f.stored("transactions"); len(got) != 1 {
		t.Errorf("stored %v", got)
	}
}

func TestEachOfSeveralSecretsAndSignaturesWillDo(t *testing.T) {
	f := signedFixture(t, "")
	old := sign([]byte("a secret of long ago"), "m1", clock, "{}")
	for _, s := range f.s.o.Webhooks.Secrets {
		h := sign(s, "m1", clock, "{}")
		both := "webhook-signature: v1a,AAAA " + strings.TrimPrefix(old[2], "webhook-signature: ") + " " + strings.TrimPrefix(h[2], "webhook-signature: ")
		if w := f.do("POST", "/topics/transactions", "{}", h[0], h[1], both, asJSON); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestTheTokenStandsInPlaceOfASignature(t *testing.T) {
	f := signedFixture(t, "token")
	if w := f.do("POST", "/topics/transactions", "{}", asJSON, "Authorization: Bearer token"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// A signature is good for storing events and for nothing else.
	h := sign(secret, "m1", clock, "")
	for _, target := range []string{"/topics", "/topics/transactions", "/metrics"} {
		if w := f.do("GET", target, "", h...); w.Code != 401 {
			t.Errorf("GET %s: %d", target, w.Code)
		}
	}
}

func TestASignedBodyIsNotReadBeyondItsBound(t *testing.T) {
	f := signedFixture(t, "")
	body := strings.Repeat("x", 6000)
	if w := f.do("POST", "/topics/transactions", body, append(sign(secret, "m1", clock, body), asNDJSON)...); w.Code != 413 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Whatever claims to be signed and is not, is refused and stores nothing.
func FuzzForgedSignature(f *testing.F) {
	stamp := strconv.FormatInt(clock.Unix(), 10)
	f.Add("m1", stamp, "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32)), `{"n":1}`, "application/json")
	f.Add("m1", stamp, "v1,AAAA v1a,AAAA v2 ,", "", "application/x-ndjson")
	f.Add("", "-1", "", "[]", "application/cloudevents-batch+json")
	f.Fuzz(func(t *testing.T, id, stamp, signature, body, contentType string) {
		fx := signedFixture(t, "")
		r := httptest.NewRequest("POST", "http://localhost/topics/transactions", strings.NewReader(body))
		r.Header["Webhook-Id"], r.Header["Webhook-Timestamp"], r.Header["Webhook-Signature"] = []string{id}, []string{stamp}, []string{signature}
		r.Header["Content-Type"] = []string{contentType}
		w := httptest.NewRecorder()
		fx.s.Handler().ServeHTTP(w, r)
		if w.Code != 401 && w.Code != 413 || len(fx.stored("transactions")) != 0 {
			t.Fatalf("%d %s, stored %v", w.Code, w.Body, fx.stored("transactions"))
		}
	})
}

func TestSecretsAreReadWithoutBeingShown(t *testing.T) {
	got, err := ParseSecrets("\n  whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\na plain-one-of-21-bytes")
	if err == nil || got != nil {
		t.Errorf("a secret of one byte was taken: %q", got)
	}
	got, err = ParseSecrets(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nplain-one-of-21-bytes\n")
	if err != nil || len(got) != 2 || len(got[0]) != 24 || string(got[1]) != "plain-one-of-21-bytes" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ParseSecrets(" \n"); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"whsec_hunter2!", "hunter2", "whsec_aHVudGVyMg=="} {
		if _, err := ParseSecrets(text); !errkind.Is(err, errkind.Config) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
