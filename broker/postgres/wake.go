package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lookEvery is how often a reader looks that nobody wakes.
	lookEvery = time.Second
	// listenFor is how long the listener waits before it asks whether the server is there.
	listenFor = 20 * time.Second
	// maxPayload is what one NOTIFY carries.
	maxPayload = 7000
)

// place is a partition of a topic.
type place struct {
	topic     int64
	partition int
}

// bells wake readers of this process, and gather what is to be told to others.
type bells struct {
	mu      sync.Mutex
	waiting map[place]chan struct{} // closed when something was stored
	news    map[place]struct{}
	some    chan struct{} // has an element when there may be news
}

func newBells() *bells {
	return &bells{waiting: map[place]chan struct{}{}, news: map[place]struct{}{}, some: make(chan struct{}, 1)}
}

// next is closed when something is stored at p from now on.
func (b *bells) next(p place) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.waiting[p]
	if !ok {
		c = make(chan struct{})
		b.waiting[p] = c
	}
	return c
}

// stored rings here, and has the others told.
func (b *bells) stored(places []place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range places {
		b.ring(p)
		b.news[p] = struct{}{}
	}
	select {
	case b.some <- struct{}{}:
	default:
	}
}

// ring wakes those who wait; b is locked.
func (b *bells) ring(p place) {
	if c, ok := b.waiting[p]; ok {
		close(c)
		delete(b.waiting, p)
	}
}

// heard rings for the places that a notification names.
func (b *bells) heard(payload string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for word := range strings.SplitSeq(payload, ",") {
		var p place
		if n, err := fmt.Sscanf(word, "%d.%d", &p.topic, &p.partition); n == 2 && err == nil {
			b.ring(p)
		}
	}
}

func (b *bells) ringAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.waiting {
		b.ring(p)
	}
}

// take returns the payload of one notification.
func (b *bells) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var payload []byte
	for p := range b.news {
		if len(payload) > maxPayload {
			break
		}
		if len(payload) > 0 {
			payload = append(payload, ',')
		}
		payload = fmt.Appendf(payload, "%d.%d", p.topic, p.partition)
		delete(b.news, p)
	}
	return string(payload)
}

func (d *Driver) channel() string { return "freshet " + d.schema }

// announce tells other processes where something was stored, everything since the
// last time at once. What does not get through they find by looking.
func (d *Driver) announce() {
	for {
		select {
		case <-d.life.Done():
			return
		case <-d.bells.some:
		}
		for payload := d.bells.take(); payload != ""; payload = d.bells.take() {
			ctx, cancel := context.WithTimeout(d.life, d.timeout)
			_, err := d.pool.Exec(ctx, "SELECT pg_notify($1, $2)", d.channel(), payload)
			cancel()
			if err != nil {
				break
			}
		}
	}
}

// listen starts the listener where it does not run yet.
func (d *Driver) listen() {
	d.listening.Do(func() {
		if d.begin() {
			go func() {
				defer d.running.Done()
				d.hear()
			}()
		}
	})
}

// hear rings for what others store, over a connection of its own that is made anew
// when it is lost.
func (d *Driver) hear() {
	wait := time.Duration(0)
	for d.life.Err() == nil {
		t := time.NewTimer(wait)
		select {
		case <-d.life.Done():
		case <-t.C:
		}
		t.Stop()
		heard, err := d.hearOnce()
		d.bells.ringAll()
		if wait = min(2*wait+50*time.Millisecond, 2*time.Second); heard {
			wait = 0
		}
		if d.life.Err() == nil {
			d.log.Debug("the connection that listens was lost", "broker", d.where, "error", err)
		}
	}
}

func (d *Driver) hearOnce() (heard bool, err error) {
	connecting, cancel := context.WithTimeout(d.life, d.timeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, d.pool.Config().ConnConfig)
	if err != nil {
		return false, err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		_ = conn.Close(ending)
	}()
	if _, err := conn.Exec(connecting, "LISTEN "+pgx.Identifier{d.channel()}.Sanitize()); err != nil {
		return false, err
	}
	d.bells.ringAll() // for what was stored before
	for {
		ctx, cancel := context.WithTimeout(d.life, listenFor)
		n, err := conn.WaitForNotification(ctx)
		cancel()
		switch {
		case err == nil:
			d.bells.heard(n.Payload)
		case ctx.Err() == nil || d.life.Err() != nil || conn.IsClosed():
			return true, err
		default: // nothing for long: is it there?
			ctx, cancel := context.WithTimeout(d.life, d.timeout)
			_, err := conn.Exec(ctx, "SELECT 1")
			cancel()
			if err != nil {
				return true, err
			}
		}
	}
}
