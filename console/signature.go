package console

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Headers and bounds of signatures as Standard Webhooks (standardwebhooks.com)
// defines them: HMAC-SHA256 of ID.TIMESTAMP.BODY.
const (
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
	headerWebhookSignature = "Webhook-Signature"

	// signatureTolerance is how far a timestamp may be from this server's clock.
	signatureTolerance = 5 * time.Minute
	maxSignatures      = 16
	maxWebhookID       = 512
	minSecret          = 16
)

// ParseSecrets reads the secrets of webhooks out of a text, white space between
// them. One that begins with whsec_ is Base64 behind it, any other is taken as it
// is. Errors are Config and hold no secret.
func ParseSecrets(text string) ([][]byte, error) {
	var out [][]byte
	for i, word := range strings.Fields(text) {
		secret := []byte(word)
		if encoded, ok := strings.CutPrefix(word, "whsec_"); ok {
			var err error
			if secret, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, errkind.Errorf(errkind.Config, "webhook secret %d: expected Base64 behind whsec_", i+1)
			}
		}
		if len(secret) < minSecret {
			return nil, errkind.Errorf(errkind.Config, "webhook secret %d has %d bytes, expected at least %d; openssl rand -base64 32 makes one", i+1, len(secret), minSecret)
		}
		out = append(out, secret)
	}
	return out, nil
}

// bySignature reports whether a request has to prove by a signature who sent it: one
// that stores events, where there are secrets and it does not come with the
// token instead. A signature that is there has to be right in any case.
func (s *Server) bySignature(r *http.Request) bool {
	return len(s.o.Webhooks.Secrets) > 0 && r.Method == http.MethodPost &&
		(s.o.Token == "" || r.Header.Get(headerWebhookSignature) != "")
}

// checkSignature reads the body and holds it to its signature. Where it does not
// have a right one it answers the request and returns false; nothing behind it
// sees a body that was not verified. Its places bound the memory of such bodies.
func (s *Server) checkSignature(w http.ResponseWriter, r *http.Request) bool {
	signatures, why := s.claimed(r)
	if why == "" {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
		if err != nil {
			s.fail(w, r, readFault(err))
			return false
		}
		if s.signedBy(r.Header, body, signatures) {
			r.Body = io.NopCloser(bytes.NewReader(body))
			return true
		}
		why = "the signature is of another body, id, timestamp or secret"
	}
	w.Header().Set("WWW-Authenticate", `Webhook-Signature realm="freshet"`)
	writeProblem(w, problem{Status: http.StatusUnauthorized, Detail: why + ": this server takes only events that are signed, as standardwebhooks.com says, or come with its token, where it was started with one"})
	return false
}

// claimed returns the signatures of a request whose headers are in order, and
// otherwise says why they are not.
func (s *Server) claimed(r *http.Request) (signatures [][]byte, why string) {
	for _, name := range []string{headerWebhookID, headerWebhookTimestamp, headerWebhookSignature} {
		if v := r.Header.Values(name); len(v) != 1 || v[0] == "" {
			return nil, fmt.Sprintf("header %s is expected once", strings.ToLower(name))
		}
	}
	id := r.Header.Get(headerWebhookID)
	if !plainID(id) {
		return nil, "webhook-id may have up to " + strconv.Itoa(maxWebhookID) + " printable characters of ASCII, without spaces, quotes, brackets and braces"
	}
	stamp, err := strconv.ParseInt(r.Header.Get(headerWebhookTimestamp), 10, 64)
	if err != nil || stamp < 0 {
		return nil, "webhook-timestamp is expected in whole seconds since 1970"
	}
	if off := s.o.Now().Sub(time.Unix(stamp, 0)); off > signatureTolerance || off < -signatureTolerance {
		return nil, fmt.Sprintf("webhook-timestamp is more than %v from this server's clock", signatureTolerance)
	}
	// Attributes in headers are not signed. With another ce-id the same body
	// would be another event, so that one has to be the id that is signed.
	if r.Header.Get("Ce-Specversion") != "" && event.ModeOfType(r.Header.Get("Content-Type")) == event.Plain {
		got, err := url.PathUnescape(id)
		want, err2 := url.PathUnescape(r.Header.Get("Ce-Id"))
		if err != nil || err2 != nil || got != want {
			return nil, "in binary mode webhook-id is expected to be the event's ce-id, because headers ce-* are not signed"
		}
	}
	for _, word := range strings.Fields(r.Header.Get(headerWebhookSignature)) {
		version, encoded, _ := strings.Cut(word, ",")
		if version != "v1" { // other versions may stand beside it
			continue
		}
		if b, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(b) == sha256.Size && len(signatures) < maxSignatures {
			signatures = append(signatures, b)
		}
	}
	if len(signatures) == 0 {
		return nil, "webhook-signature is expected as v1,BASE64"
	}
	return signatures, ""
}

// plainID reports whether an id holds nothing that a JSON body begins with, so that
// the id, the timestamp and the body of what was signed cannot be told apart in two ways.
func plainID(id string) bool {
	if len(id) > maxWebhookID {
		return false
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"[]{}\<>`, c) >= 0 {
			return false
		}
	}
	return true
}

func (s *Server) signedBy(h http.Header, body []byte, signatures [][]byte) bool {
	ok := false
	for _, secret := range s.o.Webhooks.Secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(h.Get(headerWebhookID) + "." + h.Get(headerWebhookTimestamp) + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, got := range signatures {
			ok = hmac.Equal(got, want) || ok
		}
	}
	return ok
}
