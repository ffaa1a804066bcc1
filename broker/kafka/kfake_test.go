package kafka_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/kafka"
	"github.com/freshet-io/freshet/test/servers"
)

// fake is a cluster in the process that keeps its data in a folder.
type fake struct {
	cluster *kfake.Cluster
	opts    []kfake.Opt
	url     string
}

func newFake(t testing.TB, opts ...kfake.Opt) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	f := &fake{url: "kafka://127.0.0.1:" + strconv.Itoa(port) + "?session_timeout=2s"}
	f.opts = append(f.opts, opts...)
	f.opts = append(f.opts, kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(t.TempDir()), kfake.SyncWrites(), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	f.start(t)
	t.Cleanup(func() { f.cluster.Close() })
	return f
}

func (f *fake) start(t testing.TB) {
	t.Helper()
	var err error
	if f.cluster, err = kfake.NewCluster(f.opts...); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) restart(t testing.TB) {
	t.Helper()
	f.cluster.Close()
	f.start(t)
}

func open(t testing.TB, url string) broker.Driver {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := kafka.Open(ctx, url, kafka.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (f *fake) harness() brokertest.Harness {
	again := func(t testing.TB, d broker.Driver) broker.Driver {
		t.Helper()
		f.restart(t)
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		return open(t, f.url)
	}
	return brokertest.Harness{
		Open:            func(t testing.TB) broker.Driver { return open(t, f.url) },
		Restart:         again,
		Crash:           again,
		Patience:        time.Minute,
		TimeGranularity: 5 * time.Millisecond, // it takes the time before it takes the turn
		Against:         "kfake",
	}
}

func TestKeepsTheContractOnAFake(t *testing.T) {
	brokertest.Run(t, newFake(t).harness())
}

func TestKeepsTheContractOnAnOlderFake(t *testing.T) {
	brokertest.Run(t, newFake(t, kfake.MaxVersions(kversion.V3_5_0())).harness())
}

// The server itself is crashed elsewhere.
func TestSurvivesCrashesOfAFake(t *testing.T) {
	servers.Heavy(t)
	brokertest.RunCrash(t, newFake(t).harness())
}
