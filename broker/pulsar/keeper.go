package pulsar

import (
	"context"
	"net/http"
	"net/url"

	"github.com/freshet-io/freshet/errkind"
)

// keeper is the subscription that holds what a trimmed topic still keeps.
//
// Pulsar deletes a ledger when every subscription is behind it and the
// retention policy lets it go. A topic that was made to keep everything has an
// unlimited retention and no keeper. Its first Trim gives each partition a
// keeper at the first message, and only then takes the retention away; from
// there on the keepers alone hold the records, and each Trim moves one.
const keeper = "freshet-keeper"

const propKeeper = "freshet.keeper" // set once all partitions have one

// free lets the server delete the ledgers before a position, in topics that
// were made to keep everything. Others free theirs by age and size.
func (d *Driver) free(ctx context.Context, p *part, m metadata, before int64) error {
	c := configOf(p.topic.name, m)
	if m.Properties[propRetention] == "" || c.Retention > 0 || c.RetainBytes > 0 {
		return nil
	}
	if m.Properties[propKeeper] == "" {
		for _, each := range p.topic.parts {
			err := d.call(ctx, http.MethodPut, d.keeperPath(each, ""), map[string]int64{"ledgerId": -1, "entryId": -1, "partitionIndex": -1}, nil)
			if err != nil && !errkind.Is(err, errkind.Conflict) {
				return err
			}
		}
		// A time to live or a quota of the namespace must not move the keepers.
		if err := d.call(ctx, http.MethodPost, d.path(p.topic.name, "messageTTL?messageTTL=0"), nil, nil); err != nil {
			return err
		}
		if err := d.setPolicies(ctx, p.topic.name, 0, 0, false); err != nil {
			return err
		}
		if err := d.call(ctx, http.MethodPut, d.path(p.topic.name, "properties"), map[string]string{propKeeper: keeper}, nil); err != nil {
			return err
		}
	}
	at := idAt(before)
	if p.freed.Swap(at.ledger) == at.ledger {
		return nil // whole ledgers are deleted: there is nothing to gain
	}
	return d.call(ctx, http.MethodPost, d.keeperPath(p, "/resetcursor"), map[string]int64{"ledgerId": at.ledger, "entryId": at.entry, "partitionIndex": -1}, nil)
}

func (d *Driver) keeperPath(p *part, rest string) string {
	return d.path(p.topic.physical(p.index), "subscription/"+url.PathEscape(keeper)+rest)
}
