package kafka_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// TestAFetchThatIsGivenUpLosesNothing lets callers give up while records come in.
func TestAFetchThatIsGivenUpLosesNothing(t *testing.T) {
	const n = 2000
	d := open(t, newFake(t).url)
	defer d.Close()
	if err := d.(broker.Admin).CreateTopic(t.Context(), broker.TopicConfig{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	r, err := d.Read(t.Context(), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range n {
			if _, err := d.Publish(t.Context(), "t", []event.Record{{Value: []byte("x")}}); err != nil {
				t.Errorf("Publish: %v", err)
				return
			}
		}
	})
	next, given := int64(0), 0
	for deadline := time.Now().Add(30 * time.Second); next < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records came", next, n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Microsecond)
		b, err := r.Fetch(ctx, 100)
		cancel()
		if err != nil {
			given++
			continue
		}
		for i := range b.Records {
			if b.Records[i].Position != next {
				t.Fatalf("position %d follows %d, after %d calls that were given up", b.Records[i].Position, next-1, given)
			}
			next++
		}
		b.Release()
	}
	if given == 0 {
		t.Error("no call was given up")
	}
}
