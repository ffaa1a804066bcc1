package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// timeAt returns the time of the record at position, or of the first one kept behind it.
func (j *Journal) timeAt(p *partition, position int64) (int64, error) {
	r := &reader{j: j, p: p, next: position}
	defer r.drop()
	for {
		j.view.RLock()
		start, end := p.start, p.end
		j.view.RUnlock()
		r.next = max(r.next, start)
		if r.next >= end {
			return 0, nil
		}
		err := r.fill()
		if errkind.Is(err, errkind.Transient) {
			continue
		}
		if err != nil {
			return 0, err
		}
		ok, err := r.nextBlock(r.next)
		if err != nil || ok {
			return r.head.time, err
		}
		return 0, corruptAt(r.path, r.at, fmt.Errorf("no record %d of topic %q partition %d", r.next, p.topic.conf.Name, p.num))
	}
}

// Seek finds the first position whose record was stored at or after t.
func (j *Journal) Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	if err := j.usable(ctx); err != nil {
		return 0, err
	}
	_, p, err := j.partition(topic, partition)
	if err != nil {
		return 0, err
	}
	return j.seekTime(p, t.UnixNano())
}

func (j *Journal) seekTime(p *partition, t int64) (int64, error) {
	position := int64(0)
	for {
		j.view.RLock()
		position = max(position, p.start)
		i := p.runAt(position)
		for i < len(p.runs) && p.runs[i].last < t { // times do not decrease
			i++
		}
		if i == len(p.runs) {
			end := p.end
			j.view.RUnlock()
			return end, nil
		}
		hit := p.runs[i]
		var es []entry
		if x := hit.seg.active; x != nil {
			es = append(es, x[p.key()]...)
			j.view.RUnlock()
		} else {
			j.view.RUnlock()
			x, err := j.cache.indexOf(hit.seg)
			if j.wasRemoved(hit.seg, err) {
				continue
			}
			if err != nil {
				return 0, err
			}
			es = x[p.key()]
		}
		position = max(position, hit.first)
		for i := findEntry(es, position); i < len(es) && es[i].base < hit.end; i++ {
			if es[i].last < t {
				continue
			}
			found, err := j.seekEntry(p, max(position, es[i].base), es[i].end(), t)
			if err != nil || found >= 0 {
				return found, err
			}
		}
		position = hit.end
	}
}

// seekEntry looks through the blocks that hold positions from from to end; -1
// where all are older than t.
func (j *Journal) seekEntry(p *partition, from, end, t int64) (int64, error) {
	r := &reader{j: j, p: p}
	defer r.drop()
	for from < end {
		r.seek(from)
		if err := r.fill(); err != nil {
			return 0, err
		}
		for from < end {
			ok, err := r.nextBlock(from)
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			if r.head.time >= t {
				return from, nil
			}
			from = r.head.base + int64(r.head.count)
			r.skip(blockHeader + r.head.length)
			r.open = false
		}
	}
	return -1, nil
}
