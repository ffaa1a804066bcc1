package builtin

import (
	"strings"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

func TestUnknownBrokerNamesTheKnownAndNoSecret(t *testing.T) {
	_, err := OpenBroker(t.Context(), "zookeeper://user:hunter2@localhost?password=hunter2", BrokerOptions{})
	if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "journal") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownModelNamesTheKnown(t *testing.T) {
	_, err := OpenModel("model.pkl")
	if !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "*.onnx") {
		t.Errorf("got %v", err)
	}
}

func TestMissingModelIsAnError(t *testing.T) {
	if m, err := OpenModel("none.onnx"); err == nil || m != nil {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestJournalOfAFolderIsOpened(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenBroker(t.Context(), "journal:"+dir, BrokerOptions{Address: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(d, broker.Options{})
	owner, held, err := FindOwner(dir)
	if err != nil || !held || owner.Address != "http://127.0.0.1:1" {
		t.Errorf("owner %+v, held %v, %v", owner, held, err)
	}
	if _, err := OpenBroker(t.Context(), "journal:"+dir, BrokerOptions{}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := FindOwner(dir); held || err != nil {
		t.Errorf("held %v after Close, %v", held, err)
	}
}

func TestUnknownBusesNameTheKnownAndNoSecret(t *testing.T) {
	for what, open := range map[string]func(url string) error{
		"receiver": func(url string) error { _, err := OpenReceiver(t.Context(), url, BusOptions{}); return err },
		"sender":   func(url string) error { _, err := OpenSender(t.Context(), url, BusOptions{}); return err },
	} {
		for _, url := range []string{"stomp://user:hunter2@localhost?password=hunter2", "mqtt://user:hunter2@localhost?pasword=hunter2"} {
			err := open(url)
			if !errkind.Is(err, errkind.Config) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "mqtt") {
				t.Errorf("%s: got %v", what, err)
			}
		}
	}
}
