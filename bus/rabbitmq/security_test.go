package rabbitmq

import (
	"testing"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/test/servers"
)

func TestCertificatesOfBothSidesAreChecked(t *testing.T) {
	n := server(t, true)
	base := n.words["amqps"] + "/?queue=kept&tls_ca=" + n.words["ca"]
	files := "&tls_cert=" + n.words["cert"] + "&tls_key=" + n.words["key"]
	for _, url := range []string{
		"amqps://freshet:" + servers.Password + "@" + base + files,
		"amqp+tls://" + base + files + "&sasl=external",
	} {
		r := receiver(t, url, bus.Limits{})
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, url := range map[string]string{
		"no certificate of the client's": "amqps://freshet:" + servers.Password + "@" + base,
		"a server that is not trusted":   "amqps://freshet:" + servers.Password + "@" + n.words["amqps"] + "/?queue=kept" + files,
		"another name":                   "amqps://freshet:" + servers.Password + "@" + base + files + "&tls_server_name=example.com",
	} {
		if _, err := OpenReceiver(t.Context(), url, bus.Limits{}, Options{}); !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: got %v (kind %v), want kind config", name, err, errkind.Of(err))
		}
	}
}
