package builtin

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
)

// BrokerOptions is what the program passes to whichever broker is opened.
type BrokerOptions struct {
	Logger *slog.Logger
	// Address is where this process serves HTTP, for others to find; it may be empty.
	Address string
	// SyncEvery relaxes the journal: what is acknowledged is on disk that much
	// later at most. 0 syncs before each acknowledgement.
	SyncEvery time.Duration
}

// brokers lists the brokers by the scheme of their URL.
var brokers = []struct {
	scheme string
	open   func(ctx context.Context, rest string, o BrokerOptions) (broker.Driver, error)
}{
	{"journal", openJournal},
}

// OpenBroker opens the broker that url names: journal:DIR, the embedded
// journal in a folder. Another scheme is Unsupported.
func OpenBroker(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	var known []string
	for _, b := range brokers {
		if b.scheme == scheme {
			return b.open(ctx, rest, o)
		}
		known = append(known, b.scheme+":")
	}
	return nil, errkind.Errorf(errkind.Unsupported, "open broker %q: this program has no broker %q; it has %s", url, scheme, strings.Join(known, ", "))
}

// maxRecordBytes is the largest record of the journal. It is far above what
// pipelines take as a payload, so that an event that is too large for one can be
// stored and become a dead letter there.
const maxRecordBytes = 24 << 20

func openJournal(_ context.Context, dir string, o BrokerOptions) (broker.Driver, error) {
	j, err := journal.Open(dir, journal.Options{Logger: o.Logger, Address: o.Address, Sync: journal.SyncEvery(o.SyncEvery), MaxRecordBytes: maxRecordBytes})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Owner is the process that holds a journal's folder.
type Owner = journal.Owner

// FindOwner says which process holds the journal in dir, if one does.
func FindOwner(dir string) (Owner, bool, error) { return journal.FindOwner(dir) }

// JournalReport is what CheckJournal found.
type JournalReport = journal.Report

// CheckJournal verifies every frame of the journal in dir and writes nothing.
func CheckJournal(dir string) (JournalReport, error) { return journal.Check(dir) }
