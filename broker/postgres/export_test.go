package postgres

// Statements are those that touch tables that grow.
var Statements = map[string]string{
	"store": store, "storeOnce": storeOnce, "fetch": fetch, "describe": describe, "seek": seek,
	"sweepable": sweepable, "excess": excess, "sweep": sweep, "forgetIDs": forgetIDs,
}
