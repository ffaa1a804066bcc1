package broker_test

import (
	"fmt"

	"github.com/freshet-io/freshet/broker"
)

// A record's key selects its partition, here and on Kafka alike.
func ExamplePartitionFor() {
	fmt.Println(broker.PartitionFor([]byte("customer-42"), 12))
	// Output: 9
}
