package cli

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestWebhooksAreHeldToTheirSecretsAndOrigins(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "", "topics", "create", "clicks", "--data", data)
	addr := freeAddress(t)
	secrets := write(t, "secrets", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nsecret-before-that-one\n")
	r := begin(t, "", nil, "broker", "--listen", addr, "--data", data, "--webhook-secret-file", secrets, "--webhook-origin", "a.example,b.example", "--webhook-rate", "60")
	r.until(t, r.err, "address=http://"+addr)
	for _, c := range []struct {
		method string
		status int
		rate   string
	}{{http.MethodPost, http.StatusUnauthorized, ""}, {http.MethodOptions, http.StatusOK, "60"}} {
		req, err := http.NewRequest(c.method, "http://"+addr+"/topics/clicks", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("WebHook-Request-Origin", "b.example")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("WebHook-Allowed-Rate") != c.rate {
			t.Errorf("%s: %s %v", c.method, res.Status, res.Header)
		}
	}
	r.interrupt()
	if o := r.wait(t); o.code != exitDone {
		t.Errorf("%+v", o)
	}
}

func TestFaultySecretsOfWebhooksAreNotStartedWith(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, []string{"--webhook-secret-file", filepath.Join(t.TempDir(), "none")}, "--webhook-secret-file"},
		{nil, []string{"--webhook-secret-file", write(t, "empty", " \n")}, "there is no secret in it"},
		{map[string]string{"FRESHET_WEBHOOK_SECRETS": "hunter2"}, nil, "FRESHET_WEBHOOK_SECRETS: webhook secret 1 has 7 bytes"},
		{nil, []string{"--webhook-rate=-1"}, "expected 0 or more"},
	} {
		args := append([]string{"broker", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data")}, c.args...)
		if o := begin(t, "", c.env, args...).wait(t); o.code != exitUsage || !strings.Contains(o.err, c.want) || strings.Contains(o.err, "hunter2") {
			t.Errorf("%v: %+v", args, o)
		}
	}
}
