package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/pipeline"
)

// corruptOneIn is how rarely the demo damages a payment, so that dead letters are seen.
const corruptOneIn = 1000

// openSenders makes the topics, the labels' first, and what fills them.
func (d *demo) openSenders(ctx context.Context, spec *pipeline.Spec) error {
	open := func(topic string, partitions int) (*sender, error) {
		t, err := d.b.Ensure(ctx, broker.TopicConfig{Name: topic, Partitions: partitions, DedupWindow: pipeline.DedupWindow})
		if err != nil {
			return nil, err
		}
		return newSender(context.WithoutCancel(ctx), d.b, topic, len(t.Partitions)), nil
	}
	var err error
	if l := spec.Labels; l != nil {
		if d.labels, err = open(l.Topic, l.Partitions); err != nil {
			return err
		}
		d.labelTopic = l.Topic
	}
	if d.payments, err = open(d.topic, spec.Source.Partitions); err != nil && d.labels != nil {
		err = errors.Join(err, d.labels.finish())
	}
	return err
}

// feed sends the history flat out and then the live payments at their rate.
func (d *demo) feed(ctx context.Context) error {
	err := d.history(ctx)
	if err == nil {
		err = d.live(ctx)
	}
	if ferr := d.payments.finish(); ferr != nil {
		err = ferr
	}
	if d.labels != nil {
		if ferr := d.labels.finish(); ferr != nil {
			err = ferr
		}
	}
	d.mu.Lock()
	d.sent = d.payments.stored.Load()
	d.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return nil // Ctrl-C: what was sent is drained and summed up
	}
	return err
}

func (d *demo) history(ctx context.Context) error {
	if d.flags.history == 0 {
		return nil
	}
	d.phase(fmt.Sprintf("history: %d simulated days", d.flags.history))
	end := int64(0)
	for {
		p, err := d.send(ctx)
		if err != nil {
			return err
		}
		if end == 0 {
			end = p.Time - p.Time%86400 + int64(d.flags.history)*86400
		}
		if p.Time >= end {
			break
		}
	}
	// The live part is measured by itself: it begins when the history is done.
	for {
		if p := d.payments.stored.Load() + d.payments.duplicates.Load(); p >= d.generatedCount() && d.p.Ready() {
			if lag, err := d.p.Lag(ctx); err == nil && lag.Records == 0 {
				break
			}
		}
		if !wait(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) generatedCount() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.generated
}

func (d *demo) live(ctx context.Context) error {
	stats := d.p.Stats()
	d.mu.Lock()
	d.liveSince, d.before, d.historic = d.Now(), stats.SinceArrival, int64(stats.Consumed)
	d.mu.Unlock()
	d.phase(fmt.Sprintf("live: %s payments/s", group(int64(d.flags.rate))))
	pace := pacer{rate: d.flags.rate, start: d.Now()}
	for end := pace.start.Add(d.flags.duration); ; {
		now := d.Now()
		if !now.Before(end) {
			return nil
		}
		if pause := pace.due(now); pause > 0 {
			if now.Add(pause).After(end) {
				return nil
			}
			if !wait(ctx, pause) {
				return ctx.Err()
			}
		}
		if _, err := d.send(ctx); err != nil {
			return err
		}
	}
}

// send generates and sends one payment, and the labels that became known
// before it; one payment in corruptOneIn is damaged.
func (d *demo) send(ctx context.Context) (p workload.Payment, err error) {
	if ctx.Err() != nil {
		return p, ctx.Err()
	}
	var e workload.Event
	for {
		if !d.gen.Next(&e) {
			return p, io.EOF
		}
		if !e.IsLabel {
			break
		}
		if err := d.sendLabel(&e.Label); err != nil {
			return p, err
		}
	}
	p = e.Payment
	var buf [256]byte
	value := p.AppendJSON(buf[:0])
	var ids [40]byte
	id := appendPaymentField(ids[:0], &p, "transaction_id")
	key := appendPaymentField(ids[len(id):len(id)], &p, "customer_id")
	damaged := d.dice.IntN(corruptOneIn) == 0
	if damaged {
		value = damage(value, d.dice.IntN(len(damages)))
	}
	d.mu.Lock()
	d.generated++
	d.simulated = p.Time
	if damaged {
		d.damaged++
	} else if p.Fraud() {
		for int(p.ID/64) >= len(d.frauds) {
			d.frauds = append(d.frauds, 0)
		}
		d.frauds[p.ID/64] |= 1 << (p.ID % 64)
		d.fraudCount++
	}
	d.mu.Unlock()
	return p, d.payments.add(id, key, value)
}

func (d *demo) sendLabel(l *workload.Label) error {
	if d.labels == nil {
		return nil
	}
	var buf [160]byte
	var ids [48]byte
	id := l.AppendID(ids[:0])
	key := strconv.AppendInt(ids[len(id):len(id)], int64(l.Terminal), 10)
	return d.labels.add(id, key, l.AppendJSON(buf[:0]))
}

// damages are the ways in which the demo spoils a payment: what to replace by what.
var damages = [...]struct{ old, new string }{
	{`"tx_amount":`, `"tx_amount":-`},
	{`"tx_amount":`, `"tx_amount":"about ten","was":`},
	{`"customer_id":`, `"customer":`},
	{`"tx_datetime":"2`, `"tx_datetime":"yesterday 2`},
	{`"tx_fraud":`, `"currency":"XYZ","tx_fraud":`},
	{`,"terminal_id"`, ``},
}

// damage spoils the JSON of a payment; the last way leaves no JSON at all.
func damage(value []byte, way int) []byte {
	d := damages[way]
	if d.new == "" {
		begin, _, _ := bytes.Cut(value, []byte(d.old))
		return begin
	}
	return bytes.Replace(value, []byte(d.old), []byte(d.new), 1)
}
