package broker_test

import (
	"testing"

	"github.com/freshet-io/freshet/broker"
)

// The hashes are those of Kafka's own UtilsTest.testMurmur2, made positive.
func TestPartitionForAgreesWithKafka(t *testing.T) {
	const n = 1 << 30 // shows 30 bits of the hash
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		want := int(uint32(hash)&0x7fffffff) % n
		if got := broker.PartitionFor([]byte(key), n); got != want {
			t.Errorf("PartitionFor(%q) = %d, want %d", key, got, want)
		}
	}
	if got := broker.PartitionFor(nil, 1); got != 0 {
		t.Errorf("one partition: got %d", got)
	}
}
