package pipeline

import (
	"regexp"
	"slices"
	"time"
)

// Every key that a pipeline file can have stands in the tables of this file, once: the
// reader refuses others and asks for what is needed, and Schema is written from them.

// object is a mapping with known keys.
type object struct {
	keys []key
	// rules are conditions on more than one key, as JSON Schema; the reader has its own words for them.
	rules []form
}

// key is one key of a mapping.
type key struct {
	name string
	// needed is what a file without the key is told to add; empty where it may be left out.
	needed string
	doc    string
	form   form
}

func (o *object) names() []string { return keyNames(o.keys) }

func keyNames(keys []key) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

// Limits of what a file may say.
const (
	maxPartitions   = 4096
	defaultParts    = 4
	defaultMaxBytes = 1 << 20
	maxBatch        = 8192
	maxPanes        = 1000
	maxFilled       = 100_000 // rows of a series in one gap
	minMemory       = 1 << 20
	maxCacheRows    = 100_000_000
)

// What a file means that does not say it.
const (
	defaultOrderWait  = 20 * time.Millisecond
	defaultMemory     = 512 << 20
	defaultCheckpoint = 30 * time.Second
	defaultCacheRows  = 100_000
	defaultCacheTTL   = time.Minute
	defaultTimeout    = time.Second
)

var (
	validTopic   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)
	validFeature = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// completeName is the result's field that says whether every look-up succeeded.
const completeName = "features_complete"

// The words that choices are made of, in the order of their constants.
var (
	lateWords   = []string{"score", "dead_letter", "drop"}
	errorWords  = []string{"default", "wait", "dead_letter"}
	fillWords   = []string{"none", "linear", "last"}
	storeWords  = []string{"memory", "pebble"}
	preferWords = []string{"latency", "throughput"}
	kindWords   = []string{"number", "integer", "boolean", "string", "time"}
)

var fileKeys = object{keys: []key{
	{"name", "name: card-fraud", "The pipeline's name: its consumer group, and the prefix of its own topics.", topicForm()},
	{"freshness", "", "The objective: this share of the results is published within the target.", freshnessKeys.form()},
	{"source", "source: {topic: …, contract: …}", "Where events come from.", sourceKeys.form()},
	{"tables", "", "Tables that features look values up in, by name.", mapForm(oneForm(fileTableKeys.form(), topicTableKeys.form(), serverTableKeys.form()))},
	{"labels", "", "A second source, of what becomes known about events later.", labelsKeys.form()},
	{"state", "", "Where keyed state is kept.", stateKeys.form()},
	{"models", "", "URL of the registry that models are looked up in by name: file:///…, s3://…, mlflow+http://… (default: the folder models in the data folder).", textForm()},
	{"record", "", "How long the records of predictions are kept; off keeps none.", anyForm(choiceForm([]string{"on", "off"}), recordKeys.form())},
	{"steps", "steps: [{features: …}, {infer: …}, {route: …}]", "What is computed, in order; route is the last.", filledForm(listForm(stepKeys.form()))},
	{"outputs", "", "Settings of the topics that results go to, by topic.", namedForm(validTopic, anyForm(nullForm(), outputKeys.form()))},
}}

var freshnessKeys = object{keys: []key{
	{"target", "", "How old a result may be when it is published (default 2s).", positiveForm()},
	{"quantile", "", "The share of the results that has to keep the target (default 0.99).", shareForm()},
}}

var sourceKeys = object{keys: []key{
	{"topic", "topic: transactions", "The topic to read; it is made if missing.", topicForm()},
	{"from", "", "URL of a queue or bus whose messages are carried to the topic, such as amqp://host/?queue=payments.", textForm()},
	{"contract", "contract: contracts/transaction.schema.json", "The contract of its events: a path, relative to this file.", textForm()},
	{"id", "", "The field that identifies an event (default: the contract's).", textForm()},
	{"key", "", "The field that order and state go by (default: the contract's).", textForm()},
	{"time", "", "Event time, where it differs from the contract's, and what becomes of late events.", timeKeys.form()},
	{"deduplicate", "", "How long ids of events are remembered, so that one that is stored twice is processed once (default: not at all).", positiveForm()},
	{"partitions", "", "Partitions of the topic when it is made (default 4).", wholeForm(1, maxPartitions)},
	{"max_bytes", "", "The greatest payload; a larger one is a dead letter (default 1048576).", wholeForm(1, defaultMaxBytes)},
}}

var timeKeys = object{keys: []key{
	{"field", "", "The field with the event time (default: the contract's).", textForm()},
	{"lateness", "", "How far out of order events may come and still be counted exactly (default: the contract's).", durationForm()},
	{"late", "", "What becomes of a later event: score it with what is known (the default), dead_letter, or drop.", choiceForm(lateWords)},
	{"order", "", "Take events in the order of their time and, within an instant, of this field.", anyForm(textForm(), orderKeys.form())},
}}

var orderKeys = object{keys: []key{
	{"by", "by: transaction_id", "The field that orders events of the same instant.", textForm()},
	{"wait", "", "How long a partition has to be silent before its last events are taken (default 20ms).", positiveForm()},
}}

var labelsKeys = object{
	keys: []key{
		{"topic", "topic: fraud-labels", "The topic to read; it is made if missing.", topicForm()},
		{"contract", "contract: contracts/fraud-label.schema.json", "The labels' contract; its time is when a label became known.", textForm()},
		{"event", "", "The label's field with the id of the event that it is about.", textForm()},
		{"key", "", "The label's field with a key; labels are then rows of their own in the windows by that key.", textForm()},
		{"time", "", "When the label became known, where it differs from the contract's.", labelTimeKeys.form()},
		{"default", "", "What an event without a label counts as, by label field.", mapForm(literalForm())},
		{"partitions", "", "Partitions of the topic when it is made (default 4).", wholeForm(1, maxPartitions)},
	},
	rules: []form{exactlyOneForm("event", "key")},
}

var labelTimeKeys = object{keys: []key{
	{"field", "", "The field with the time at which the label became known.", textForm()},
	{"lateness", "", "How far out of order labels may come.", durationForm()},
}}

var stateKeys = object{
	keys: []key{
		{"store", "", "memory (the default), or pebble: keys beyond `memory` bytes lie on the local disk.", choiceForm(storeWords)},
		{"memory", "", "The memory for state, in bytes or with KiB, MiB, GiB; only with pebble (default 512MiB).", bytesForm()},
		{"checkpoints", "", "Where checkpoints go: file:///folder, file:folder beside this file, or s3://bucket/prefix?endpoint=… (default: the broker).", textForm()},
		{"every", "", "How far the state in the checkpoints may be behind (default 30s).", positiveForm()},
	},
	rules: []form{{
		"if":   form{"required": []string{"memory"}},
		"then": form{"required": []string{"store"}, "properties": form{"store": form{"not": form{"const": "memory"}}}},
	}},
}

var fileTableKeys = object{keys: []key{
	{"file", "file: tables/merchants.csv", "A CSV, JSON or NDJSON file, relative to this file; read at the start.", textForm()},
	tableKey, tableTime,
}}

var topicTableKeys = object{keys: []key{
	{"topic", "topic: accounts", "A compacted topic: the newest record of each key is its row.", topicForm()},
	{"contract", "contract: contracts/account.schema.json", "The contract of its records: a path, relative to this file.", textForm()},
	tableKey, tableTime,
}}

var serverTableKeys = object{keys: []key{
	{"url", `url: "${REDIS_URL}"`, "A server: redis://, postgres:// or feast+http://.", textForm()},
	{"from", "", "Redis: what stands before the key; PostgreSQL: the table; Feast: the feature view.", textForm()},
	tableKey, tableTime,
	{"fields", "fields: {risk: number}", "The fields that can be looked up, with their kinds.", filledForm(mapForm(choiceForm(kindWords)))},
	{"cache", "", "Rows that are kept between look-ups.", cacheKeys.form()},
	{"timeout", "", "How long a look-up may take, repetitions included (default 1s).", positiveForm()},
	{"on_error", "", "What becomes of an event whose look-up fails: default values (the default), wait, or dead_letter.", choiceForm(errorWords)},
}}

var (
	tableKey  = key{"key", "key: id", "The column, field or entity by which rows are found.", textForm()}
	tableTime = key{"time", "", "The column or field with the time of a row's values; not with Feast, which knows it.", textForm()}
)

var cacheKeys = object{keys: []key{
	{"rows", "", "The most rows that are kept; 0 keeps none (default 100000).", wholeForm(0, maxCacheRows)},
	{"ttl", "", "How long a row is kept (default 1m).", positiveForm()},
}}

var outputKeys = object{keys: []key{
	{"partitions", "", "Partitions of the topic when it is made (default 4).", wholeForm(1, maxPartitions)},
	{"retention", "", "How long results are kept (default: for ever).", durationForm()},
	{"also", "", "URLs of queues, databases, files and webhooks that results are handed to as well.", listForm(textForm())},
}}

// stepKeys are the kinds of steps; a step has one of them.
var stepKeys = object{
	keys: []key{
		{"validate", "", "Says that the contract is applied first, which it always is.", anyForm(nullForm(), validateKeys.form())},
		{"resample", "", "Turns each key's readings into a series with a fixed step; only as the first step.", resampleKeys.form()},
		{"features", "", "Computes columns, by name.", namedForm(validFeature, oneForm(windowKeys.form(), exprKeys.form(), lookupKeys.form()))},
		{"infer", "", "Scores each event with a model.", inferKeys.form()},
		{"route", "", "Chooses where a result goes: the first case that holds.", filledForm(listForm(caseKeys.form()))},
	},
	rules: []form{{"minProperties": 1, "maxProperties": 1}},
}

var validateKeys object

var resampleKeys = object{keys: []key{
	{"by", "", "The field whose values each have a series (default: the source's key).", textForm()},
	{"every", "every: 10s", "The series' step.", positiveForm()},
	{"limit", "limit: 2m", "The longest gap between readings that is filled.", positiveForm()},
	{"fields", "fields: {pressure: linear}", "The fields of the series, and how their gaps are filled.", filledForm(mapForm(choiceForm(fillWords)))},
	{"flag", "", "The name of a boolean column that says whether a row was filled.", patternForm(validFeature)},
}}

// aggregateKeys are the aggregates, in the order of feature.Aggregates.
var aggregateKeys = []key{
	{"count", "", "The number of events (true), or of a field's values.", anyForm(yesForm(), textForm())},
	{"sum", "", "The sum of a field's values.", textForm()},
	{"mean", "", "The mean of a field's values.", textForm()},
	{"min", "", "The smallest value of a field.", textForm()},
	{"max", "", "The largest value of a field.", textForm()},
	{"last", "", "The newest value of a field.", textForm()},
	{"distinct", "", "The number of different values of a field.", textForm()},
	{"first", "", "The oldest value of a field.", textForm()},
	{"stddev", "", "The sample standard deviation of a field's values.", textForm()},
	{"rate", "", "Events (true), or a field's values, a second.", anyForm(yesForm(), textForm())},
	{"since_last", "", "Seconds since the event (true), or the value of a field, before this one.", anyForm(yesForm(), textForm())},
	{"quantile", "", "The q-quantile of a field's values, by t-digest.", textForm()},
	{"decayed", "", "The sum of a field's values, each halved for every half_life that it is old.", textForm()},
	{"duration", "", "Seconds since the session began (true).", yesForm()},
}

// shapeKeys say which events a window holds; it has one of them.
var shapeKeys = []key{
	{"over", "", "The events of the last so long.", positiveForm()},
	{"tumbling", "", "The events since the last multiple of so long, counted from 1970-01-01T00:00:00Z.", positiveForm()},
	{"session", "", "The events since the last silence of so long.", positiveForm()},
	{"half_life", "", "The age at which an event counts half; only with decayed.", positiveForm()},
}

var windowKeys = object{
	keys: slices.Concat(
		[]key{{"by", "", "The field whose values are the keys (default: the source's key).", textForm()}},
		aggregateKeys, shapeKeys,
		[]key{
			{"delay", "", "How much older than the event all of the window is; only with over, without panes.", positiveForm()},
			{"panes", "", "Keep so many sums a key instead of its events; only with over.", wholeForm(2, maxPanes)},
			{"q", "", "The quantile, between 0 and 1; only with quantile.", shareForm()},
			{"sketch", "", "Estimate the number (HyperLogLog); only with distinct, in panes, tumbling or session.", boolForm()},
			{"where", "", "A CEL condition: only events for which it holds are in the window.", exprForm()},
			{"default", "", "The value where the window has none.", literalForm()},
		}),
	rules: []form{
		exactlyOneForm(keyNames(aggregateKeys)...),
		exactlyOneForm(keyNames(shapeKeys)...),
		{"dependencies": map[string][]string{
			"panes": {"over"}, "delay": {"over"}, "q": {"quantile"}, "quantile": {"q"}, "sketch": {"distinct"},
			"half_life": {"decayed"}, "decayed": {"half_life"}, "duration": {"session"},
		}},
		neverForm([]string{"delay", "panes"}),
		neverForm([]string{"quantile", "over"}, "panes"),
		neverForm([]string{"sketch", "over"}, "panes"),
		neverForm([]string{"default", "count"}), neverForm([]string{"default", "distinct"}), neverForm([]string{"default", "rate"}),
		neverForm([]string{"default", "sum"}), neverForm([]string{"default", "decayed"}),
	},
}

var exprKeys = object{keys: []key{
	{"expr", "expr: …", "A CEL expression over fields, earlier features and time.", exprForm()},
}}

var lookupKeys = object{keys: []key{
	{"lookup", "lookup: merchants", "The table.", textForm()},
	{"key", "key: merchant_id", "The field or feature that is looked up.", textForm()},
	{"fields", "fields: [risk]", "The fields of the row; each becomes a column NAME.FIELD.", filledForm(listForm(textForm()))},
	{"default", "", "The values where the table has no such row, by field.", mapForm(literalForm())},
}}

var caseKeys = object{keys: []key{
	{"name", "", "The result's route (default: the first topic).", textForm()},
	{"when", "", "A CEL condition; the last case has none.", exprForm()},
	{"to", "to: scored-transactions", "The topic, or topics, that the result is published to.", anyForm(topicForm(), filledForm(listForm(topicForm())))},
}}
