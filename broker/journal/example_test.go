package journal_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
)

// A result and the position of what it was made from commit together.
func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		log.Fatal(err)
	}
	err = score(dir)
	_ = os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// payments 1
	// scores 1
	// damage: <nil>
}

func score(dir string) error {
	ctx := context.Background()
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		return err
	}
	for _, name := range []string{"payments", "scores"} {
		if err := j.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: 1}); err != nil {
			return err
		}
	}
	if _, err := j.Publish(ctx, "payments", []event.Record{{Key: []byte("c1"), Value: []byte("12.50")}}); err != nil {
		return err
	}

	c, err := j.Subscribe(ctx, broker.Subscription{Topic: "payments", Group: "scorer"})
	if err != nil {
		return err
	}
	claim, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	batch, err := claim.Fetch(ctx, 100)
	if err != nil {
		return err
	}
	err = j.Commit(ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: "scores", Partition: broker.AnyPartition, Records: []event.Record{{Key: []byte("c1"), Value: []byte("0.1")}}}},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: batch.Next()}},
	})
	batch.Release()
	if err != nil {
		return err
	}
	if err := j.Close(); err != nil {
		return err
	}

	report, err := journal.Check(dir)
	if err != nil {
		return err
	}
	for _, t := range report.Topics {
		fmt.Println(t.Name, t.Records)
	}
	fmt.Println("damage:", report.Damage)
	return nil
}
