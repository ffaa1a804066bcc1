package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
)

// openBroker opens the journal of the data folder. Where another process holds
// it and serves HTTP, that process is talked to instead: to the command it is
// the same.
func (a *app) openBroker(ctx context.Context) (*broker.Broker, error) {
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
	if _, err := os.Stat(a.data); errors.Is(err, fs.ErrNotExist) {
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

// ownBroker opens the journal of the data folder for this process alone.
// address is where this process serves HTTP, for others to find.
func (a *app) ownBroker(ctx context.Context, address string) (*broker.Broker, error) {
	if err := a.checkData(); err != nil {
		return nil, err
	}
	d, err := builtin.OpenBroker(ctx, "journal:"+a.data, builtin.BrokerOptions{Logger: a.log, Address: address, SyncEvery: a.syncEvery})
	if err != nil {
		return nil, err
	}
	return broker.New(d, broker.Options{Now: a.Now}), nil
}
