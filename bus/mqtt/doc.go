// Package mqtt takes messages from a broker of MQTT 5, and sends some to it,
// at QoS 1 and as CloudEvents.
//
//	mqtt://user@host:1883/sensors/+/temperature?share=freshet&client_id=freshet-0&password_env=MQTT_PASSWORD
//	mqtts://host/alerts/{key}?tls_ca=/etc/ca.pem&tls_cert=/etc/client.pem&tls_key=/etc/client.key
//
// mqtts and mqtt+tls encrypt. Several hosts are tried in turn. A # in a filter is written %23.
//
// # Receiving
//
// The path is the topic filter. The order of events: the broker keeps a session under
// client_id, in which it stores messages of the filter, also while nobody is
// connected, for as long as the option expiry says; it sends them, not more than
// bus.Limits.Unacknowledged at a time; Receive hands them out; Ack sends a PUBACK,
// in the order in which the messages came, as MQTT demands, so that
// one which is late holds back those behind it; only then does the broker forget the message.
// After a lost connection it sends again all whose PUBACK it has not seen.
// Nack puts messages in front of those that wait here.
//
// What MQTT does not say is how safe a broker keeps its sessions: its acknowledgement to a
// publisher is no promise of a disk. Mosquitto writes them when it ends in an orderly way, and every
// 30 minutes: a broker that is killed loses what came since, and forgets acknowledgements.
// "persistence true" and "autosave_on_changes true" with "autosave_interval 1" make it write at each
// change: a subscription, a message that has to wait, an acknowledgement by a receiver. A
// message that it sends to a connected receiver at once is none, and it answers a publisher
// before it writes. So Mosquitto 2.0.11, killed, loses messages that it had accepted since the last change:
// for each receiver at most those under way to it (bus.Limits.Unacknowledged, or max_inflight_messages
// where that is less), and one of each publisher's connections. Nothing that a client can do mends that;
// where it matters, publish to a broker that replicates or logs its sessions.
// It also drops messages beyond max_queued_messages (1000) of a session
// without a word: set that to 0 or to what memory allows. Its max_inflight_messages (20)
// bounds the messages under way, and with them the speed.
//
// With share=GROUP, the receivers of a group share the messages: each needs
// a client_id of its own. What was sent to one and not acknowledged waits for that one to
// come back, or goes to the others when its session ends. Two receivers with one
// client_id throw each other out: the former ends with a Config error where the broker says
// why it hangs up, and else both connect again and again, with a warning each time. Mosquitto 2.0.11
// does not say it. It also forgets shared subscriptions when it restarts: what is sent until the
// receiver is back is lost, so do without share where that matters.
//
// # Records
//
// A message with the user property "specversion" is a CloudEvent in binary mode: user properties
// are its attributes, by their own names, and headers where the name is not
// one of an attribute. One of the content type application/cloudevents+json is taken apart into the same form.
// Any other message is a record of its payload, with user properties as headers, and without
// an ID unless it came from here. The content type becomes the header content-type, and the topic mqtt-topic.
//
// The key is the attribute or user property partitionkey, and else the topic: order holds for
// each topic. The option key says otherwise: topic, none, or the number of a level of the topic, from 1.
//
// # Sending
//
// The path is the topic, in which {key} and {topic} stand for the record's key,
// with %, /, + and # percent-encoded, and the topic of the pipeline; {topic} alone by default. Send returns
// when the broker has acknowledged all records, which it does without a
// promise that they are on disk (see above). mode=structured sends events as JSON; a
// plain record goes as it is, with ID and key in user properties.
// A header whose name could be an attribute's has "header-" before it, and headers whose
// values are not text are refused.
//
// # Options
//
// Both: timeout (10s, of connecting and of each answer), keepalive (30s: within
// this a broker that is gone is noticed), client_id, qos (1), and those of package endpoint. Receiving: share, expiry (168h),
// key. Sending: mode (binary or structured).
package mqtt
