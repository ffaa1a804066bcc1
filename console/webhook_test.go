package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheHandshakeIsGrantedToAllowedOriginsOnly(t *testing.T) {
	some := Webhooks{Origins: []string{"Events.Example.com", "eventgrid.azure.net"}, Rate: 120}
	for name, c := range map[string]struct {
		webhooks     Webhooks
		origin       string
		status       int
		allowed, max string
	}{
		"allowed":      {some, "eventgrid.azure.net", 200, "eventgrid.azure.net", "120"},
		"without case": {some, "events.example.COM", 200, "events.example.COM", "120"},
		"any":          {Webhooks{Origins: []string{"*"}}, "x.example.com", 200, "*", "*"},
		"another":      {some, "eventgrid.azure.net.evil.example", 403, "", ""},
		"star":         {some, "*", 403, "", ""},
		"not offered":  {Webhooks{}, "eventgrid.azure.net", 405, "", ""},
		"no handshake": {some, "", 405, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Webhooks: c.webhooks})
			headers := []string{"WebHook-Request-Rate: 1000", "WebHook-Request-Callback: https://x.example.com/?id=1"}
			if c.origin != "" {
				headers = append(headers, "WebHook-Request-Origin: "+c.origin)
			}
			w := f.do("OPTIONS", "/topics/transactions", "", headers...)
			got := fmt.Sprint(w.Code, w.Header().Get("WebHook-Allowed-Origin"), w.Header().Get("WebHook-Allowed-Rate"), w.Header().Get("Allow"))
			if want := fmt.Sprint(c.status, c.allowed, c.max, "GET, POST"); got != want {
				t.Errorf("got %s, want %s; %s", got, want, w.Body)
			}
		})
	}
}

func TestTheHandshakeNeedsNoTokenAndDeliveriesDo(t *testing.T) {
	f := newFixture(t, Options{Token: "token", Webhooks: Webhooks{Origins: []string{"a.example"}}})
	for _, topic := range []string{"transactions", "nothing"} { // which topics there are is not told
		if w := f.do("OPTIONS", "/topics/"+topic, "", "WebHook-Request-Origin: a.example", "Host: hooks.example.com"); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	for _, c := range []struct {
		method, target string
		headers        []string
		want           int
	}{
		{"OPTIONS", "/topics/transactions", nil, 401},
		{"POST", "/topics/transactions", []string{"WebHook-Request-Origin: a.example"}, 401},
		{"POST", "/topics/transactions?access_token=token", nil, 200},
		{"POST", "/topics/transactions?access_token=other", nil, 401},
		{"POST", "/topics/transactions?access_token=token", []string{"Authorization: Bearer other"}, 401},
		{"GET", "/topics/transactions?access_token=token", nil, 401},
	} {
		if w := f.do(c.method, c.target, "{}", append([]string{asJSON}, c.headers...)...); w.Code != c.want {
			t.Errorf("%s %s %v: %d %s", c.method, c.target, c.headers, w.Code, w.Body)
		}
	}
}

const validation = `[{"id":"2d1781af-3a4c-4d7c-bd0c-e34b19da4e66","topic":"/subscriptions/s","subject":"","data":{"validationCode":"512d38b6-c7b8",` +
	`"validationUrl":"https://rp.example/validate"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","eventTime":"2026-01-25T22:12:19.4556811Z",` +
	`"metadataVersion":"1","dataVersion":"1"}]`

func TestEventGridSubscribesInItsOwnSchema(t *testing.T) {
	f := newFixture(t, Options{Webhooks: Webhooks{Origins: []string{"eventgrid.azure.net"}}})
	w := f.do("POST", "/topics/transactions", validation, asJSON, "aeg-event-type: SubscriptionValidation")
	if w.Code != 200 || w.Body.String() != "{\"validationResponse\":\"512d38b6-c7b8\"}\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = f.do("POST", "/topics/transactions", `[{"id":"1","topic":"/t","eventType":"Microsoft.EventGrid.SubscriptionDeletedEvent","data":{}}]`, asJSON, "aeg-event-type: SubscriptionDeletion")
	if w.Code != 200 || len(f.stored("transactions")) != 0 {
		t.Errorf("%d %s, stored %v", w.Code, w.Body, f.stored("transactions"))
	}
	const events = `[{"id":"a","topic":"/subscriptions/s","subject":"till/4","eventType":"payment","eventTime":"2026-02-03T10:00:00Z","data":{"n":1},"dataVersion":"2","metadataVersion":"1"},` +
		`{"id":"b","topic":"/subscriptions/s","eventType":"payment","eventTime":"2026-02-03T10:00:01Z","data":{"n":2}}]`
	w = f.do("POST", "/topics/transactions?key=n", events, asJSON, "aeg-event-type: Notification")
	if w.Code != 200 || w.Body.String() != "{\"stored\":2,\"duplicates\":0}\n" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := []string{
		`a|1|{"n":1}|ce_specversion=1.0|ce_source=/subscriptions/s|ce_type=payment|ce_time=2026-02-03T10:00:00Z|ce_dataversion=2|ce_subject=till/4`,
		`b|2|{"n":2}|ce_specversion=1.0|ce_source=/subscriptions/s|ce_type=payment|ce_time=2026-02-03T10:00:01Z`,
	}
	if diff := cmp.Diff(want, f.stored("transactions")); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNoSubscriptionOfEventGridIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		origin, kind, body string
		status             int
		want               string
	}{
		"not allowed":    {"events.example.com", "SubscriptionValidation", validation, 403, "eventgrid.azure.net"},
		"no code":        {"*", "SubscriptionValidation", `[{"data":{}}]`, 400, "validationCode"},
		"no data":        {"*", "SubscriptionValidation", `[{}]`, 400, "validationCode"},
		"two":            {"*", "SubscriptionValidation", `[{},{}]`, 400, "validationCode"},
		"not an array":   {"*", "SubscriptionValidation", `{}`, 400, "array"},
		"no event's id":  {"*", "Notification", `[{"id":"a","topic":"/t","eventType":"t","data":{"n":1}},{"topic":"/t","eventType":"t"}]`, 400, `"record":1`},
		"no event's key": {"*", "Notification", `[{"id":"a","topic":"/t","eventType":"t","data":{"m":1}}]`, 400, `no field \"n\"`},
		"broken":         {"*", "Notification", `[{`, 400, "array"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Webhooks: Webhooks{Origins: []string{c.origin}}})
			w := f.do("POST", "/topics/transactions?key=n", c.body, asJSON, "aeg-event-type: "+c.kind)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || len(f.stored("transactions")) != 0 {
				t.Errorf("%d %s, stored %v", w.Code, w.Body, f.stored("transactions"))
			}
		})
	}
}

func TestSendersThatTakeRepliesGetNone(t *testing.T) {
	f := newFixture(t, Options{})
	binary := []string{asJSON, "ce-specversion: 1.0", "ce-id: e1", "ce-source: /s", "ce-type: t", "Prefer: respond-async, Reply"}
	if w := f.do("POST", "/topics/transactions", `{"n":1}`, binary...); w.Code != 202 || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := f.do("POST", "/topics/transactions", structured("e2"), asStructured, "Prefer: reply"); w.Code != 202 || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := f.stored("transactions"); len(got) != 2 {
		t.Errorf("stored %v", got)
	}
	if w := f.do("POST", "/topics/transactions", "{", binary...); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
