package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
)

const (
	// commandPatience is how long a command waits for a broker that cannot be
	// reached, servicePatience how long one does that runs until it is stopped.
	commandPatience = 15 * time.Second
	servicePatience = 10 * time.Minute
)

// openBroker opens the broker of --broker, or the journal of the data folder.
// Where another process holds that and serves HTTP, that process is talked to
// instead: to the command it is the same.
func (a *app) openBroker(ctx context.Context) (*broker.Broker, error) {
	if a.brokerURL != "" {
		return a.dialBroker(ctx, a.brokerURL, commandPatience, "")
	}
	if err := a.checkData(); err != nil {
		return nil, err
	}
	owner, held, err := builtin.FindOwner(a.data)
	if err != nil {
		return nil, err
	}
	if held && owner.Address != "" {
		token, _ := a.lookupEnv("FRESHET_TOKEN")
		d, err := dialHTTP(ctx, owner.Address, token, a.Now)
		if err != nil {
			return nil, fmt.Errorf("reach process %d, which holds %s: %w", owner.PID, a.data, err)
		}
		return broker.New(d, broker.Options{Now: a.Now}), nil
	}
	if held {
		return nil, errkind.Errorf(errkind.Conflict,
			"%s is in use by process %d, which does not listen: stop it, start it with --listen, or choose another folder with --data", a.data, owner.PID)
	}
	return a.ownBroker(ctx, "")
}

// openExisting is openBroker for commands that have nothing to do in an empty
// folder: one that is missing is an error and is not made.
func (a *app) openExisting(ctx context.Context) (*broker.Broker, error) {
	if _, err := os.Stat(a.data); a.brokerURL == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.Errorf(errkind.NotFound,
			"the data folder %s does not exist: name another with --data, or send events with freshet produce", a.data)
	}
	return a.openBroker(ctx)
}

// checkData refuses a data folder that is a file.
func (a *app) checkData() error {
	if st, err := os.Stat(a.data); err == nil && !st.IsDir() {
		return usagef("--data %s: this is a file, expected a folder", a.data)
	}
	return nil
}

// ownBroker opens the broker of --broker, or the journal of the data folder for
// this process alone. address is where this process serves HTTP, for others to find.
func (a *app) ownBroker(ctx context.Context, address string) (*broker.Broker, error) {
	if err := a.checkData(); err != nil {
		return nil, err
	}
	if a.brokerURL != "" {
		return a.dialBroker(ctx, a.brokerURL, servicePatience, address)
	}
	d, err := builtin.OpenBroker(ctx, "journal:"+a.data, a.brokerOptions(address))
	if err != nil {
		return nil, err
	}
	return broker.New(d, broker.Options{Now: a.Now}), nil
}

func (a *app) brokerOptions(address string) builtin.BrokerOptions {
	return builtin.BrokerOptions{Logger: a.log, Env: a.lookupEnv, Address: address, SyncEvery: a.syncEvery}
}

// dialBroker opens a broker and waits, for as long as --broker-wait says, where it
// cannot be reached.
func (a *app) dialBroker(ctx context.Context, url string, patience time.Duration, address string) (*broker.Broker, error) {
	patience = cmp.Or(a.brokerWait, patience)
	began, told := a.Now(), time.Time{}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		d, err := builtin.OpenBroker(ctx, url, a.brokerOptions(address))
		if err == nil {
			return broker.New(d, broker.Options{Now: a.Now, Patience: patience, Logger: a.log}), nil
		}
		waited := a.Now().Sub(began)
		if !errkind.Of(err).Retryable() || waited+pause > patience {
			return nil, err
		}
		if a.Now().Sub(told) > 10*time.Second {
			told = a.Now()
			a.log.Warn("waiting for the broker", "give_up_after", patience, "error", err)
		}
		if !wait(ctx, pause) {
			return nil, err
		}
	}
}

// where is the broker as messages name it.
func (a *app) where() string {
	if a.brokerURL != "" {
		return builtin.RedactURL(a.brokerURL)
	}
	return a.data
}
