package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// fault is something that is broken while events are sent.
type fault struct {
	name  string
	about string
	// servers and members say what it needs: a server beside the worker, a second worker.
	server, members bool
	inject          func(ctx context.Context, r *run) error
}

// faults are all of them, in the order of the page.
func faults() []fault {
	return []fault{
		{name: "none", about: "nothing is broken", inject: func(context.Context, *run) error { return nil }},
		{name: "worker-kill", about: "kill -9 of the worker, three times", inject: killWorker},
		{name: "broker-kill", about: "kill -9 of the broker, twice, away for a second", server: true, inject: killBroker},
		{name: "broker-restart", about: "orderly restart of the broker", server: true, inject: restartBroker},
		{name: "rebalance", about: "a second worker joins, the first leaves and comes back", server: true, members: true, inject: rebalance},
		{name: "worker-freeze", about: "of two workers one is frozen (SIGSTOP) for " + frozenFor.String() + " and comes back as a zombie", server: true, members: true, inject: freezeWorker},
		{name: "network-cut", about: "no data between worker and broker for " + cutFor.String() + ", then every connection is reset", server: true, inject: cutNetwork},
		{name: "slow-consumer", about: "the worker gets a fifth of the time (SIGSTOP and SIGCONT in turns)", inject: slowWorker},
	}
}

const (
	frozenFor = 15 * time.Second
	cutFor    = 3 * time.Second
	awayFor   = time.Second
)

func killWorker(ctx context.Context, r *run) error {
	for _, at := range []float64{0.2, 0.45, 0.7} {
		if err := r.until(ctx, at); err != nil {
			return err
		}
		if err := r.replace(ctx, 0, (*worker).kill); err != nil {
			return err
		}
	}
	return nil
}

func killBroker(ctx context.Context, r *run) error {
	for _, at := range []float64{0.25, 0.65} {
		if err := r.until(ctx, at); err != nil {
			return err
		}
		if err := r.place.server.Kill(); err != nil {
			return err
		}
		if err := pause(ctx, awayFor); err != nil {
			return err
		}
		if err := r.place.server.Restart(); err != nil {
			return err
		}
	}
	return nil
}

func restartBroker(ctx context.Context, r *run) error {
	if err := r.until(ctx, 0.35); err != nil {
		return err
	}
	return errors.Join(r.place.server.Stop(), r.place.server.Restart())
}

func rebalance(ctx context.Context, r *run) error {
	if err := r.until(ctx, 0.2); err != nil {
		return err
	}
	if err := r.join(ctx); err != nil {
		return err
	}
	if err := r.until(ctx, 0.5); err != nil {
		return err
	}
	if err := r.workers[0].stop(); err != nil {
		return err
	}
	if err := r.until(ctx, 0.75); err != nil {
		return err
	}
	return r.start(ctx, 0)
}

func freezeWorker(ctx context.Context, r *run) error {
	if err := r.join(ctx); err != nil {
		return err
	}
	if err := r.until(ctx, 0.3); err != nil {
		return err
	}
	frozen := r.workers[0]
	if err := frozen.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := pause(ctx, frozenFor)
	return errors.Join(err, frozen.signal(syscall.SIGCONT))
}

func cutNetwork(ctx context.Context, r *run) error {
	if err := r.until(ctx, 0.3); err != nil {
		return err
	}
	r.place.proxy.Cut()
	err := pause(ctx, cutFor)
	r.place.proxy.Drop()
	r.place.proxy.Restore()
	return err
}

func slowWorker(ctx context.Context, r *run) error {
	if err := r.until(ctx, 0.2); err != nil {
		return err
	}
	w := r.workers[0]
	for !r.past(0.8) {
		err := w.signal(syscall.SIGSTOP)
		if err == nil {
			err = pause(ctx, 400*time.Millisecond)
		}
		if err := errors.Join(err, w.signal(syscall.SIGCONT)); err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// pause waits, for as long as ctx allows.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
