// Package eventgrid receives from and sends to the topics of Azure Event Grid
// namespaces, by pull delivery and publishing of CloudEvents over HTTP.
//
//	eventgrid://NAMESPACE.REGION-1.eventgrid.azure.net/TOPIC/SUBSCRIPTION   a receiver
//	eventgrid://NAMESPACE.REGION-1.eventgrid.azure.net/TOPIC                a sender
//
// Credentials are Azure's default ones (the environment, a workload or managed
// identity, the Azure CLI's), or an access key of the namespace by key_file= or
// key_env=. Other options: timeout= of a call (10s), lock= (60s), which is the
// lock duration that the subscription is configured with, wait= (30s; 10s to
// 120s) of a receive call, receives= (2) in flight, endpoint= an address to use
// in place of https://HOST.
//
// The calls are those of the data plane's API version 2024-06-01. They are made
// here, over Azure's own pipeline and credentials, and not by the aznamespaces
// module: that one turns data and data_base64 into the same bytes, writes times anew,
// and fails a whole batch for one event that it cannot read.
//
// # Messages
//
// Records are CloudEvents in JSON: the id is the record's ID, partitionkey its
// Key. What JSON loses of a record travels in the attribute freshetrecord. A
// record without ID gets a random one on its way.
//
// # Receiving
//
// Locks of messages that are out are renewed until they are acknowledged. Ack
// returns when the service has acknowledged all; a lock that was lost is a
// Conflict. There is no order. Calls that are under way at Close may have taken
// events: those come again when their locks end.
//
// # Sending
//
// Send publishes up to 1 MB a call, which is taken whole or not at all. Where the
// service calls a batch invalid its events are published one by one, and those
// that it refuses are in the RefusedError.
package eventgrid
