package mqtt

import (
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// flat is a record in words.
func flat(r event.Record) []string {
	out := []string{"id=" + string(r.ID), "key=" + string(r.Key), "value=" + string(r.Value)}
	for k, v := range r.Headers.All() {
		out = append(out, k+"="+string(v))
	}
	return out
}

func properties(contentType string, pairs ...string) *packets.Properties {
	p := &packets.Properties{ContentType: contentType}
	for i := 0; i < len(pairs); i += 2 {
		p.User = append(p.User, packets.User{Key: pairs[i], Value: pairs[i+1]})
	}
	return p
}

func TestForeignMessagesBecomeRecords(t *testing.T) {
	const structured = `{"specversion":"1.0","id":"7","source":"/s","type":"t","partitionkey":"p","data":{"a":1}}`
	for name, c := range map[string]struct {
		publish packets.Publish
		rule    keyRule
		want    []string
	}{
		"plain":            {packets.Publish{Topic: "a/b", Payload: []byte("21.5")}, keyProperty, []string{"id=", "key=a/b", "value=21.5", "mqtt-topic=a/b"}},
		"properties":       {packets.Publish{Topic: "a", Properties: properties("text/plain", "unit", "C", "unit", "F", "partitionkey", "k")}, keyProperty, []string{"id=", "key=k", "value=", "unit=C", "unit=F", "content-type=text/plain", "mqtt-topic=a"}},
		"binary":           {packets.Publish{Topic: "a", Properties: properties("application/json", "specversion", "1.0", "id", "7", "source", "/s", "type", "t", "x", "1", "My-Own", "2")}, keyNone, []string{"id=7", "key=", "value=", "ce_specversion=1.0", "ce_source=/s", "ce_type=t", "ce_x=1", "My-Own=2", "content-type=application/json", "mqtt-topic=a"}},
		"structured":       {packets.Publish{Topic: "a", Payload: []byte(structured), Properties: properties("application/cloudevents+json; charset=utf-8")}, keyProperty, []string{"id=7", "key=p", `value={"a":1}`, "ce_specversion=1.0", "ce_source=/s", "ce_type=t", "mqtt-topic=a"}},
		"broken event":     {packets.Publish{Topic: "a", Payload: []byte("{"), Properties: properties("application/cloudevents+json")}, keyNone, []string{"id=", "key=", "value={", "content-type=application/cloudevents+json", "mqtt-topic=a"}},
		"key is the topic": {packets.Publish{Topic: "a/b", Properties: properties("", "partitionkey", "k")}, keyTopic, []string{"id=", "key=a/b", "value=", "mqtt-topic=a/b"}},
		"key is a level":   {packets.Publish{Topic: "a/b/c"}, 2, []string{"id=", "key=b", "value=", "mqtt-topic=a/b/c"}},
		"no such level":    {packets.Publish{Topic: "a/b/c"}, 4, []string{"id=", "key=", "value=", "mqtt-topic=a/b/c"}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, flat(recordOf(&c.publish, c.rule))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestEventsAreSentAsTheBindingSays(t *testing.T) {
	r := event.Record{ID: []byte("7"), Key: []byte("a/b+c"), Value: []byte(`{"a":1}`), Headers: event.Headers(nil).
		AppendString("ce_specversion", "1.0").AppendString("ce_source", "/s").AppendString("ce_type", "t").
		AppendString("content-type", "application/json").AppendString("own", "1").AppendString("My-Own", "2")}
	s, err := parse("mqtt://h/alerts/{topic}/{key}", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.publication("scores", &r)
	if err != nil {
		t.Fatal(err)
	}
	want := properties("application/json", "id", "7", "partitionkey", "a/b+c", "specversion", "1.0", "source", "/s", "type", "t", "header-own", "1", "My-Own", "2")
	if d := cmp.Diff(want, p.Properties); d != "" || p.Topic != "alerts/scores/a%2Fb%2Bc" || string(p.Payload) != `{"a":1}` || p.QoS != 1 {
		t.Errorf("topic %s payload %s\n%s", p.Topic, p.Payload, d)
	}
	if s, err = parse("mqtt://h/x?mode=structured", nil, false); err != nil {
		t.Fatal(err)
	}
	if p, err = s.publication("scores", &r); err != nil {
		t.Fatal(err)
	}
	if p.Properties.ContentType != event.TypeStructured || !strings.Contains(string(p.Payload), `"id":"7"`) {
		t.Errorf("got %s of type %s", p.Payload, p.Properties.ContentType)
	}
}

func TestRecordsThatMQTTCannotCarryAreInvalid(t *testing.T) {
	s, err := parse("mqtt://h/{topic}", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		topic string
		r     event.Record
	}{
		"binary header":       {"t", event.Record{Headers: event.Headers(nil).AppendString("x", "\xff")}},
		"zero in key":         {"t", event.Record{Key: []byte("a\x00")}},
		"long id":             {"t", event.Record{ID: []byte(strings.Repeat("x", 70_000))}},
		"binary content type": {"t", event.Record{Headers: event.Headers(nil).AppendString("content-type", "\xff")}},
		"wildcard in topic":   {"a+b", event.Record{}},
		"empty topic":         {"", event.Record{}},
	} {
		if _, err := s.publication(c.topic, &c.r); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s: got %v, want kind Invalid", name, err)
		}
	}
}

func TestURLsAreChecked(t *testing.T) {
	for url, want := range map[string]string{
		"http://h/a":                      "mqtt://",
		"mqtt:///a":                       "no host",
		"mqtt://h":                        "topic filter",
		"mqtt://h/a%23":                   "whole level",
		"mqtt://h/%23/a":                  "whole level",
		"mqtt://h/a?qos=0":                "only 1",
		"mqtt://h/a?share=a/b":            "no /",
		"mqtt://h/a?expiry=never":         "duration",
		"mqtt://h/a?key=0":                "level",
		"mqtt://h/a?keepalive=1ms":        "keepalive",
		"mqtt://h/a?shrae=g":              `did you mean "share"`,
		"mqtt://u:hunter2@h/a?timeout=-1": "timeout",
	} {
		if _, err := parse(url, nil, true); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want a Config error with %q", url, err, want)
		}
	}
	for url, want := range map[string]string{
		"mqtt://h/a/+":       "without + and #",
		"mqtt://h/{topics}":  "{key} and {topic}",
		"mqtt://h/a?mode=x":  "binary or structured",
		"mqtt://h/a?share=g": "unknown option",
	} {
		if _, err := parse(url, nil, false); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a Config error with %q", url, err, want)
		}
	}
	s, err := parse("mqtts://a,[::1]:99/x/%23?share=g&expiry=1h", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a:8883", "[::1]:99"}, s.hosts); d != "" || s.filter != "$share/g/x/#" || s.expiry != uint32(time.Hour/time.Second) || len(s.clientID) != maxClientID {
		t.Errorf("%+v %s", s, d)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("a/b", "application/json", "specversion", "1.0", []byte("{}"))
	f.Add("a", "application/cloudevents+json", "partitionkey", "k", []byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t"}`))
	f.Fuzz(func(t *testing.T, topic, contentType, name, value string, payload []byte) {
		s := &settings{topic: "x"}
		p := packets.Publish{Topic: topic, Payload: payload, Properties: properties(contentType, name, value, "id", "7")}
		r := recordOf(&p, keyNone)
		if !r.Headers.Valid() {
			t.Fatal("broken headers")
		}
		again, err := s.publication("t", &r)
		if err != nil {
			return
		}
		again.Topic = topic
		got := recordOf(again, keyNone)
		if d := cmp.Diff(flat(r), flat(got)); d != "" && event.ModeOf(r.Headers) != event.Structured && strings.Count(strings.Join(flat(r), "\n"), "content-type=") <= 1 {
			t.Fatal(d)
		}
	})
}
