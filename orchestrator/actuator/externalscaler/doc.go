// Package externalscaler orders workers through KEDA: it serves KEDA's interface for external scalers, and
// KEDA, which asks, makes the number so.
//
//	externalscaler://[HOST]:PORT?then=inactive&object=NAMESPACE/NAME&tls_cert=FILE&tls_key=FILE&tls_ca=FILE
//
// It listens on the loopback interface where HOST is empty. Elsewhere it wants a certificate, or the
// word that none is needed. With tls_ca only clients with a certificate of that authority are
// answered. The files are read again at every handshake, so they may be renewed.
//
//	then      what holds while no orders are in force: "inactive" (0 workers, not active: the other
//	          triggers decide alone), a number of workers, or "unavailable" (metrics fail, and the
//	          ScaledObject's fallback decides)
//	object    the one ScaledObject that is answered; all are without it
//	metric    the metric's name; freshet-workers
//	insecure  true: no certificate although HOST is not the loopback interface
//
// The metric's target is 1 an AverageValue, so its value is a number of workers. The trigger is active while that
// is not 0. Of several triggers KEDA takes the largest number: an order is a floor under the others. The
// autoscaler ignores changes of up to a tenth, unless its behavior says tolerance 0.
//
// # Guarantee
//
// An order is in force from the moment when Apply returns until it expires or is reverted, and then what
// "then" says holds again, for pushed and for asked values alike. It is in this process only: when the process
// ends, KEDA finds nobody, and the ScaledObject's fallback decides. So orders end by themselves
// in every case. Nothing says here whether KEDA has carried them out; Status notes when it last asked.
package externalscaler
