package mqtt

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

func TestMosquittoThatDemandsCredentials(t *testing.T) {
	s := start(t, "tls")
	ca, pair := "&tls_ca="+s.Word("ca"), "&tls_cert="+s.Word("cert")+"&tls_key="+s.Word("key")
	password := func(name string) (string, bool) {
		return map[string]string{"GOOD": servers.Password, "BAD": "wrong-secret"}[name], name == "GOOD" || name == "BAD"
	}
	plain, secure := "mqtt://freshet@"+s.Address+"/a/b?client_id=security", "mqtts://"+s.Word("tls")+"/a/b?client_id=security"
	for _, c := range []struct {
		name, url string
		kind      errkind.Kind // Unknown means that it works
		want      string
	}{
		{"password", plain + "&password_env=GOOD", errkind.Unknown, ""},
		{"several hosts", strings.Replace(plain, "@", "@127.0.0.1:1,", 1) + "&password_env=GOOD", errkind.Unknown, ""},
		{"wrong password", plain + "&password_env=BAD", errkind.Config, "not authorized"},
		{"no password", plain, errkind.Config, "not authorized"},
		{"certificate", secure + ca + pair, errkind.Unknown, ""},
		{"certificate, by the other scheme", strings.Replace(secure, "mqtts", "mqtt+tls", 1) + ca + pair, errkind.Unknown, ""},
		{"no certificate", secure + ca, errkind.Config, "certificate required"},
		{"a certificate that nobody signed", secure + ca + "&tls_cert=" + s.Word("other") + "&tls_key=" + s.Word("otherkey"), errkind.Config, "tls"},
		{"a server that is not trusted", secure + pair, errkind.Config, "certificate"},
		{"a server of another name", secure + ca + pair + "&tls_server_name=elsewhere", errkind.Config, "elsewhere"},
		{"TLS to a plain port", "mqtts://" + s.Address + "/a?timeout=2s", errkind.Transient, ""},
		{"nobody listens", "mqtt://127.0.0.1:1/a", errkind.Transient, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(what string, err error) {
				t.Helper()
				switch {
				case c.kind == errkind.Unknown && err != nil:
					t.Errorf("%s: %v", what, err)
				case c.kind != errkind.Unknown && (!errkind.Is(err, c.kind) || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%s: got %v (kind %v), want kind %v with %q", what, err, errkind.Of(err), c.kind, c.want)
				}
				if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), servers.Password)) {
					t.Errorf("%s: the error holds a password: %v", what, err)
				}
			}
			r, err := OpenReceiver(t.Context(), c.url, bus.Limits{}, Options{Env: password})
			check("OpenReceiver", err)
			if err == nil {
				check("Close", r.Close())
			}
			to, err := OpenSender(t.Context(), c.url, Options{Env: password})
			if err == nil {
				err = to.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("x")}}})
				_ = to.Close()
			}
			check("OpenSender and Send", err)
		})
	}
}

func TestSendingToAForbiddenTopicIsRefused(t *testing.T) {
	s := start(t)
	to, err := OpenSender(t.Context(), s.url("forbidden/x", ""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = to.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("x")}}})
	if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("got %v (kind %v), want a Config error", err, errkind.Of(err))
	}
}

// scripted is a server that answers one connection after another as f says.
func scripted(t *testing.T, f func(p *packets.ControlPacket) []packets.Packet) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				p, err := packets.ReadPacket(c)
				if err != nil || p.Type == packets.DISCONNECT {
					break
				}
				for _, answer := range f(p) {
					if _, err := answer.WriteTo(c); err != nil {
						break
					}
				}
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func accept(p *packets.ControlPacket) []packets.Packet {
	none := &packets.Properties{}
	switch c := p.Content.(type) {
	case *packets.Connect:
		return []packets.Packet{&packets.Connack{Properties: none}}
	case *packets.Subscribe:
		return []packets.Packet{&packets.Suback{PacketID: c.PacketID, Reasons: []byte{1}, Properties: none}}
	case *packets.Publish:
		return []packets.Packet{&packets.Puback{PacketID: c.PacketID, Properties: none}}
	}
	return nil
}

func TestAReceiverWhoseSessionIsTakenOverEnds(t *testing.T) {
	address := scripted(t, func(p *packets.ControlPacket) []packets.Packet {
		answer := accept(p)
		if p.Type == packets.SUBSCRIBE {
			answer = append(answer, &packets.Disconnect{ReasonCode: 0x8e, Properties: &packets.Properties{}})
		}
		return answer
	})
	r, err := OpenReceiver(t.Context(), "mqtt://"+address+"/a", bus.Limits{}, Options{})
	if err == nil { // else it was as quick
		defer r.Close()
		_, err = r.Receive(t.Context(), 1)
	}
	if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "client_id of its own") {
		t.Errorf("got %v (kind %v), want a Config error that says what to do", err, errkind.Of(err))
	}
}

func TestAnswersOfTheServerDecideWhatMayBeRepeated(t *testing.T) {
	for code, want := range map[byte]errkind.Kind{0x00: errkind.Unknown, 0x10: errkind.Unknown, 0x80: errkind.Transient, 0x87: errkind.Config, 0x90: errkind.Invalid, 0x95: errkind.Invalid, 0x97: errkind.Throttled} {
		address := scripted(t, func(p *packets.ControlPacket) []packets.Packet {
			if c, ok := p.Content.(*packets.Publish); ok && string(c.Payload) == "bad" {
				return []packets.Packet{&packets.Puback{PacketID: c.PacketID, ReasonCode: code, Properties: &packets.Properties{ReasonString: "so it is"}}}
			}
			return accept(p)
		})
		to, err := OpenSender(t.Context(), "mqtt://"+address+"/a", Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = to.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("good")}, {Value: []byte("bad")}, {Value: []byte("good")}}})
		if (err != nil) != (want != errkind.Unknown) || errkind.Of(err) != want {
			t.Errorf("reason 0x%02x: got %v (kind %v), want kind %v", code, err, errkind.Of(err), want)
		}
		var refused *bus.RefusedError
		if errors.As(err, &refused) && (len(refused.Records) != 1 || refused.Records[0].Index != 1) {
			t.Errorf("reason 0x%02x: %v", code, err)
		}
		if err != nil && !strings.Contains(err.Error(), "so it is") {
			t.Errorf("reason 0x%02x: the server's words are missing: %v", code, err)
		}
		_ = to.Close()
	}
}

func TestAServerThatGoesSilentIsNoticed(t *testing.T) {
	address := scripted(t, func(p *packets.ControlPacket) []packets.Packet {
		if p.Type == packets.PUBLISH {
			return nil
		}
		return accept(p)
	})
	to, err := OpenSender(t.Context(), "mqtt://"+address+"/a?timeout=300ms&keepalive=1s", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = to.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("x")}}})
	if !errkind.Is(err, errkind.Transient) {
		t.Errorf("got %v (kind %v), want a Transient error", err, errkind.Of(err))
	}
	r, err := OpenReceiver(t.Context(), "mqtt://"+address+"/a?keepalive=1s", bus.Limits{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := r.link
	select {
	case <-l.ended: // the pings were not answered
	case <-time.After(20 * time.Second):
		t.Error("a silent server was not noticed")
	}
}

func TestMessagesAtQoS0AreTakenAtTheReceiversPace(t *testing.T) {
	const n, limit = 200, 8
	address := scripted(t, func(p *packets.ControlPacket) []packets.Packet {
		answer := accept(p)
		for i := range n {
			if p.Type == packets.SUBSCRIBE {
				answer = append(answer, &packets.Publish{Topic: "a", Payload: fmt.Append(nil, i), Properties: &packets.Properties{}})
			}
		}
		return answer
	})
	r, err := OpenReceiver(t.Context(), "mqtt://"+address+"/a", bus.Limits{Unacknowledged: limit}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for next := 0; next < n; {
		m, err := r.Receive(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m {
			if got := string(m[i].Record.Value); got != fmt.Sprint(next) {
				t.Fatalf("message %s comes where %d is next", got, next)
			}
			next++
		}
		r.mu.Lock()
		held := len(r.pending)
		r.mu.Unlock()
		if held > 2*limit+5 {
			t.Fatalf("%d messages are held, with a limit of %d", held, limit)
		}
		if err := r.Ack(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}
