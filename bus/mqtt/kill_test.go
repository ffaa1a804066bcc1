package mqtt

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// savers counts those that were made, for their names.
var savers atomic.Int64

// saver makes a Mosquitto with autosave_on_changes write its sessions to disk.
// What it sends to a connected receiver at once is no change to it, and stays in
// memory alone, acknowledged as it is: a test about what our receiver loses
// has to save that first.
type saver struct {
	s      *settings
	link   *link
	answer chan struct{}
}

func newSaver(t testing.TB, s *server) *saver {
	t.Helper()
	cfg, err := parse(s.url("saver", fmt.Sprintf("client_id=saver-%d", savers.Add(1))), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	v := &saver{s: cfg}
	t.Cleanup(func() {
		if v.link != nil {
			v.link.close(errkind.New(errkind.Closed, "the test ends"), 0)
		}
	})
	return v
}

// save returns once all that the server had accepted before is on disk. The
// server does one thing at a time: a subscription is a change, which it answers and then writes
// before it reads anything else, so that its second answer comes when the first is written.
func (v *saver) save(ctx context.Context) error {
	if v.link != nil && v.link.failed() != nil {
		v.link.close(nil, 0)
		v.link = nil
	}
	if v.link == nil {
		answer := make(chan struct{}, 2)
		l, err := connect(ctx, v.s, v.s.connectPacket(false, 1), func(_ *link, p *packets.ControlPacket) error {
			if _, ok := p.Content.(*packets.Suback); ok {
				answer <- struct{}{}
			}
			return nil
		})
		if err != nil {
			return err
		}
		v.link, v.answer = l, answer
	}
	for range 2 {
		err := v.link.write(&packets.Subscribe{
			PacketID: 1, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: v.s.filter, QoS: 1}},
		})
		if err != nil {
			v.link.end(errkind.Errorf(errkind.Transient, "the connection is lost: %w", err))
		}
		select {
		case <-v.answer:
		case <-v.link.ended:
			return v.link.err
		case <-ctx.Done():
			// An answer may be under way, and would be taken for one to the next question.
			v.link.end(errkind.New(errkind.Transient, "a call was given up in the middle"))
			return ctx.Err()
		}
	}
	return nil
}

// The weakness that the doc tells of: it is Mosquitto's, and may be less in other versions.
func TestKilledMosquittoKeepsWhatItSavedAndMayForgetWhatIsUnderWay(t *testing.T) {
	s := start(t)
	url := s.url("kill/%23", "key=none&client_id=kill")
	r, err := OpenReceiver(t.Context(), url, bus.Limits{Unacknowledged: 100}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	to, err := OpenSender(t.Context(), s.url("kill/x", ""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	const saved, all = 20, 30
	send := func(begin, end int) {
		t.Helper()
		var recs []event.Record
		for i := begin; i < end; i++ {
			recs = append(recs, event.Record{ID: fmt.Appendf(nil, "%02d", i)})
		}
		if err := to.Send(t.Context(), bus.Batch{Records: recs}); err != nil {
			t.Fatal(err)
		}
	}
	send(0, saved)
	if err := newSaver(t, s).save(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(saved, all) // to disk when anything else changes
	s.again(t, s.Kill)
	send(all, all+1) // the last that comes: order holds within a topic
	seen := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !seen[fmt.Sprint(all)] {
		m, err := r.Receive(ctx, 100)
		switch {
		case err != nil && ctx.Err() == nil && errkind.Is(err, errkind.Transient):
			continue
		case err != nil:
			t.Fatalf("of %d messages %v came: %v", all+1, seen, err)
		}
		for i := range m {
			seen[string(m[i].Record.ID)] = true
		}
		_ = r.Ack(ctx, m) // a Conflict where the connection was lost since
	}
	lost := 0
	for i := range all {
		switch id := fmt.Sprintf("%02d", i); {
		case seen[id]:
		case i < saved:
			t.Errorf("message %s was on disk and did not come", id)
		default:
			lost++
		}
	}
	t.Logf("killed with %d messages under way to a receiver, of which %d were not saved: %d lost", all, all-saved, lost)
}
