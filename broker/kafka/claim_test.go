package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/test/servers"
)

// What a former owner left open on one partition keeps nobody from another one.
func TestAPositionIsReadBesideAnOpenTransactionOfAnotherPartition(t *testing.T) {
	s := servers.Run(t, "kafka") // kfake has all partitions of a group wait
	url := "kafka://" + s.Address + "?timeout=2s"
	d, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.CreateTopic(t.Context(), broker.TopicConfig{Name: "in", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	consumer, err := d.Subscribe(t.Context(), broker.Subscription{Topic: "in", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	claims := map[int]*claim{}
	for range 2 {
		x, err := consumer.Claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		claims[x.Partition()] = x.(*claim)
	}
	open := claims[1].producers[0]
	if !d.tx2 {
		if err := open.announce(t.Context(), nil, []position{{c: claims[1].c}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := open.move(t.Context(), position{c: claims[1].c, claims: []*claim{claims[1]}, next: []int64{7}}); err != nil {
		t.Fatal(err)
	}
	for p, free := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		at, err := d.settled(ctx, d.client, claims[p].topic, "g", int32(p))
		cancel()
		if (err == nil) != free {
			t.Errorf("partition %d: the position is %d, %v", p, at, err)
		}
	}
}
