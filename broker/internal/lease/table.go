package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// Table is what a broker offers: a small durable map with compare-and-set. All
// methods may be called concurrently. Keys consist of the characters A–Z, a–z,
// 0–9, "_", "-" and "=", and of dots between parts that are not empty.
//
// The version of a key rises with each Put and never comes back, not even after
// a Delete. Errors are Transient where nobody knows what happened.
type Table interface {
	// List returns the entries whose keys begin with prefix, which ends in a dot,
	// in any order. It may lag behind a little, and never shows what was not.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Put sets a key whose version is the one given, 0 for a key that must not
	// exist, and returns its new version. Otherwise it is a Conflict error.
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	// Delete removes a key whose version is the one given. With another version
	// it is a Conflict error; a key that does not exist is no error.
	Delete(ctx context.Context, key string, version uint64) error
}

// Entry is one key of a Table.
type Entry struct {
	Key     string
	Value   []byte
	Version uint64
}

// NoPosition is the position of a group that has not committed one.
const NoPosition int64 = -1

// holding is the entry of a partition.
type holding struct {
	// Holder is the member that holds the partition; empty where nobody does.
	Holder string `json:"holder"`
	// Epoch counts the changes of holder.
	Epoch uint64 `json:"epoch"`
	// Position is where the group continues; NoPosition where it has none.
	Position int64 `json:"position"`

	version uint64 // of the entry; 0 where there is none
}

func (h *holding) encode() []byte {
	return fmt.Appendf(nil, `{"holder":%q,"epoch":%d,"position":%d}`, h.Holder, h.Epoch, h.Position)
}

func decodeHolding(e Entry) (holding, error) {
	h := holding{Position: NoPosition, version: e.Version}
	if err := json.Unmarshal(e.Value, &h); err != nil {
		return holding{}, errkind.Errorf(errkind.Corrupt, "read lease %s: %w", e.Key, err)
	}
	if h.Position < NoPosition {
		return holding{}, errkind.Errorf(errkind.Corrupt, "read lease %s: position %d", e.Key, h.Position)
	}
	return h, nil
}

// Prefix is that of all keys of a topic, of every group.
func Prefix(topic string) string { return escape(topic) + "." }

func groupPrefix(topic, group string) string { return Prefix(topic) + escape(group) + "." }

const (
	memberPart    = "m."
	partitionPart = "p."
)

func partitionKey(prefix string, p int) string { return prefix + partitionPart + strconv.Itoa(p) }

// escape makes a part of a key out of any name; no two names share one.
func escape(name string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(plain, name[i]) >= 0 {
			b.WriteByte(name[i])
		} else {
			fmt.Fprintf(&b, "=%02x", name[i])
		}
	}
	if b.Len() == 0 {
		return "="
	}
	return b.String()
}

// Positions returns where a group continues in each partition that it has a
// position in.
func Positions(ctx context.Context, t Table, topic, group string) (map[int]int64, error) {
	v, err := look(ctx, t, groupPrefix(topic, group))
	if err != nil {
		return nil, err
	}
	out := map[int]int64{}
	for p, h := range v.partitions {
		if h.Position != NoPosition {
			out[p] = h.Position
		}
	}
	return out, nil
}

// Key is that of a partition of a group's, for who can read one key at a time.
func Key(topic, group string, partition int) string {
	return partitionKey(groupPrefix(topic, group), partition)
}

// PositionIn is the group's position in the entry of a partition, or NoPosition.
func PositionIn(e Entry) (int64, error) {
	h, err := decodeHolding(e)
	return h.Position, err
}

// Forget removes everything that groups have stored of a topic. Members that
// still hold leases of it lose them.
func Forget(ctx context.Context, t Table, topic string) error {
	for {
		entries, err := t.List(ctx, Prefix(topic))
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			// A Conflict is one that changed meanwhile: it is listed again.
			if err := t.Delete(ctx, e.Key, e.Version); err != nil && !errkind.Is(err, errkind.Conflict) {
				return err
			}
		}
	}
}

// view is a group's part of the table at one moment.
type view struct {
	members    map[string]uint64 // id → version
	partitions map[int]holding
}

func look(ctx context.Context, t Table, prefix string) (*view, error) {
	entries, err := t.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	v := &view{members: map[string]uint64{}, partitions: map[int]holding{}}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Key, prefix)
		if !ok {
			continue
		}
		if id, ok := strings.CutPrefix(name, memberPart); ok {
			v.members[id] = e.Version
			continue
		}
		number, ok := strings.CutPrefix(name, partitionPart)
		p, err := strconv.Atoi(number)
		if !ok || err != nil || p < 0 {
			continue
		}
		if v.partitions[p], err = decodeHolding(e); err != nil {
			return nil, err
		}
	}
	return v, nil
}
