package pulsar_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/log"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func one(value string) []event.Record { return []event.Record{{Value: []byte(value)}} }

func topicName(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

// Two processes append to one partition: the one that is behind gets a
// Conflict, the other goes on, whoever holds the partition's producer.
func TestAppendFencesOtherProcesses(t *testing.T) {
	s := server(t)
	a, b := open(t, urlOf(s)), open(t, urlOf(s))
	defer a.Close()
	defer b.Close()
	ctx, name := t.Context(), topicName("owners")
	if err := a.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	state, err := a.Describe(ctx, name, "")
	if err != nil {
		t.Fatal(err)
	}
	end := state.Partitions[0].End
	first, err := a.Append(ctx, name, 0, end, one("a0"))
	if err != nil {
		t.Fatal(err)
	}
	end = first
	for i := range 5 {
		if end, err = b.Append(ctx, name, 0, end, one(fmt.Sprint("b", i))); err != nil {
			t.Fatalf("b's append %d: %v", i, err)
		}
		if _, err := a.Append(ctx, name, 0, first, one("zombie")); !errkind.Is(err, errkind.Conflict) {
			t.Fatalf("an append of who has lost the partition: %v", err)
		}
	}
	if _, err := a.Publish(ctx, name, one("p")); err != nil {
		t.Fatalf("publish beside an owner: %v", err)
	}
	if _, err := b.Append(ctx, name, 0, end, one("late")); !errkind.Is(err, errkind.Conflict) {
		t.Fatalf("an append behind a publish: %v", err)
	}
	r, err := b.Read(ctx, name, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for len(got) < 7 {
		batch, err := r.Fetch(ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch.Records {
			got = append(got, string(batch.Records[i].Value))
		}
	}
	if want := "[a0 b0 b1 b2 b3 b4 p]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A topic made and written by Pulsar's own tools is a topic of one partition.
func TestTopicsOfOthersAreRead(t *testing.T) {
	s := server(t)
	d := open(t, urlOf(s))
	defer d.Close()
	ctx, name := t.Context(), topicName("foreign")
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+s.Word("admin")+"/admin/v2/persistent/public/default/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	c, err := client.NewClient(client.ClientOptions{URL: "pulsar://" + s.Address, Logger: log.DefaultNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.CreateProducer(client.ProducerOptions{Topic: "persistent://public/default/" + name, DisableBatching: true})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 3 {
		m, err := p.Send(ctx, &client.ProducerMessage{Key: "k", Payload: []byte(fmt.Sprint(i)), Properties: map[string]string{"b": "2", "a": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, fmt.Sprintf("%d:%d:0", m.LedgerID(), m.EntryID()))
	}
	state, err := d.Describe(ctx, name, "g")
	if err != nil || len(state.Partitions) != 1 || state.Partitions[0].Waiting < 1 {
		t.Fatalf("Describe: %+v, %v", state, err)
	}
	consumer, err := d.Subscribe(ctx, broker.Subscription{Topic: name, Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := consumer.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	headers := event.Headers(nil).AppendString("a", "1").AppendString("b", "2")
	next := int64(0)
	for i := range 3 {
		b, err := claim.Fetch(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		r := b.Records[0]
		if string(r.ID) != ids[i] || string(r.Key) != "k" || string(r.Value) != fmt.Sprint(i) || string(r.Headers) != string(headers) || r.Time < time.Now().Add(-time.Hour).UnixNano() {
			t.Errorf("record %d: %+v, want the ID %s", i, r, ids[i])
		}
		next = b.Next()
	}
	if err := claim.Commit(ctx, next); err != nil {
		t.Fatal(err)
	}
	if state, err = d.Describe(ctx, name, "g"); err != nil || state.Partitions[0].Waiting != 0 {
		t.Errorf("after everything: %+v, %v", state, err)
	}
}
