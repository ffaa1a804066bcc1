package postgres_test

import (
	"testing"

	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/test/servers"
)

func BenchmarkDriver(b *testing.B) {
	s := servers.Run(b, "postgres")
	brokertest.Benchmark(b, harness(b, s))
}
