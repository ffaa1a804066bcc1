package pipeline

// The words of an infer step's choices, in the order of their constants.
var (
	runtimeWords     = []string{"interpreter", "onnxruntime"}
	lateScoringWords = []string{"score", "fallback", "skip"}
	methodWords      = []string{"best", "path", "linear", "treeshap", "sampled"}
)

var inferKeys = object{keys: []key{
	{"name", "", "The step's name; needed where there are several.", patternForm(validFeature)},
	{"model", "model: models/fraud-risk.onnx", "A name in the registry; a file (.onnx, .rule.yaml), relative to this one; or the URL of a server: oip://, oip+http://, tfserving://, http://, openai://.", textForm()},
	{"runtime", "", "What evaluates an ONNX file: interpreter (the default) or onnxruntime, in a process of its own.", choiceForm(runtimeWords)},
	{"options", "", "Settings of the server's adapter, such as templates of requests.", form{"type": "object"}},
	{"inputs", "inputs: [amount, customer_tx_1d]", "Fields and features in the order of the model's input, or by the names of its inputs.", anyForm(filledForm(listForm(textForm())), filledForm(mapForm(textForm())))},
	{"outputs", "", "Names for the model's answer: probability, label, value, or one of its outputs, with [i] for one element; vector(OUTPUT) for a whole row.", namedForm(validFeature, textForm())},
	{"batch", "", "Bounds of what the model is given at once.", batchKeys.form()},
	{"prefer", "", "latency (the default): no row waits while the model is idle; throughput: rows wait for a full batch as long as none is late.", choiceForm(preferWords)},
	{"timeout", "", "The longest that one call may take (default 10s).", positiveForm()},
	{"retry", "", "Repeats of calls whose error may pass.", retryKeys.form()},
	{"breaker", "", "When the model is given up for a while.", breakerKeys.form()},
	{"concurrency", "", "How many calls may run at once.", concurrencyKeys.form()},
	{"hedge", "", "Send a second call when the first takes longer than this quantile of calls.", shareForm()},
	{"cache", "", "Answers that are kept for rows with the same inputs.", cacheAnswerKeys.form()},
	{"warmup", "", "Calls that are made before the first rows are taken.", wholeForm(0, 1000)},
	{"late", "", "What becomes of rows that are older than the freshness target: score (the default), fallback, or skip.", choiceForm(lateScoringWords)},
	{"fallback", "", "Ways to an answer where the model gives none, tried in order; without any the event is a dead letter.", anyForm(fallbackKeys.form(), filledForm(listForm(fallbackKeys.form())))},
	{"rollout", "", "How new versions are tried out on this step's events.", rolloutKeys.form()},
	{"explain", "", "Which predictions are explained, and how.", explainKeys.form()},
}}

var batchKeys = object{keys: []key{
	{"max", "", "The most rows of one call (default 256).", wholeForm(1, maxBatch)},
	{"buckets", "", "Sizes that batches are padded to, rising.", filledForm(listForm(wholeForm(1, maxBatch)))},
}}

var retryKeys = object{keys: []key{
	{"attempts", "", "How often a call is tried (default 3).", wholeForm(1, 100)},
	{"budget", "", "The share of calls that may be repeats (default 0.2).", shareForm()},
}}

var breakerKeys = object{keys: []key{
	{"failures", "", "The share of failed calls that opens it (default 0.5).", shareForm()},
	{"calls", "", "The number of calls that are looked at (default 20).", wholeForm(1, 10_000)},
	{"pause", "", "How long it stays open before a call tries again (default 5s).", positiveForm()},
}}

var concurrencyKeys = object{keys: []key{
	{"max", "", "The most calls at a time (default: what the runtime allows).", wholeForm(1, 10_000)},
	{"adapt", "", "Let the number follow the server: down when calls queue there, up while they do not.", boolForm()},
}}

var cacheAnswerKeys = object{keys: []key{
	{"rows", "", "The most answers that are kept (default 100000).", wholeForm(1, 100_000_000)},
	{"ttl", "", "How long an answer serves in place of a call (default 10m).", positiveForm()},
}}

var fallbackKeys = object{
	keys: []key{
		{"version", "", "previous: the champion before this one.", choiceForm([]string{"previous"})},
		{"cached", "", "The model's own answer to the same inputs, at most this old.", positiveForm()},
		{"expr", "", "A CEL expression that gives the score.", exprForm()},
		{"rule", "", "CEL expressions by the outputs that they give.", namedForm(validFeature, exprForm())},
		{"value", "", "A fixed score.", literalForm()},
	},
	rules: []form{exactlyOneForm("version", "cached", "expr", "rule", "value")},
}

var rolloutKeys = object{keys: []key{
	{"key", "", "The field whose values are dealt to versions (default: the event's key).", textForm()},
	{"label", "", "The labels' field that says what the score should have been: a number, or true and false. The gate on quality compares the versions' scores with it.", textForm()},
	{"steps", "", "The shares that a canary goes through (default 0.01, 0.1, 0.5).", filledForm(listForm(shareForm()))},
	{"hold", "", "How long at least each share lasts (default 10m).", positiveForm()},
	{"min_rows", "", "How many rows at least the new version scores at each share (default 100).", wholeForm(1, 1<<30)},
	{"gates", "", "How much worse the new version may be.", gateKeys.form()},
}}

// gatesByDefault are the gates that are on where nothing is written; a negative number turns them off.
var gatesByDefault = []string{"errors", "late", "slower", "shift"}

func gateForm() form { return anyForm(form{"type": "number"}, variableForm()) }

// gateKeys are the gates of a rollout, by the names that package model gives them.
var gateKeys = object{keys: []key{
	{"errors", "", "How much greater the share of events without an answer may be (default 0.01).", gateForm()},
	{"late", "", "How much greater the share of late answers may be (default 0.02).", gateForm()},
	{"slower", "", "How many times longer the 99th percentile of its calls may be (default 1.5).", gateForm()},
	{"agreement", "", "The least share of events on which both versions agree (default: not asked).", numberForm()},
	{"within", "", "The distance of scores that agree (default 0.1).", numberForm()},
	{"shift", "", "The greatest distance between the distributions of scores, 0 to 1 (default 0.3, which may fail and need not be passed).", gateForm()},
	{"quality", "", "By which share of the champion's loss its own may be greater, where labels come (default: not asked).", numberForm()},
	{"min_labels", "", "How many labels the gate on quality needs (default 0: promotes without).", numberForm()},
	{"alpha", "", "The probability of a wrong decision over the whole rollout (default 0.05).", numberForm()},
}}

var explainKeys = object{keys: []key{
	{"method", "", "best (the default: the best that the model offers), path, linear, treeshap or sampled.", choiceForm(methodWords)},
	{"share", "", "The share of the predictions that are explained (default: all).", anyForm(form{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, variableForm())},
	{"when", "", "A CEL condition: only predictions for which it holds are explained.", exprForm()},
	{"top", "", "How many attributions a result shows (default 5).", wholeForm(0, 1000)},
	{"background", "", "A sample of rows as JSON lines, CSV or Parquet; versions of a registry have their own.", textForm()},
}}

var recordKeys = object{keys: []key{
	{"retention", "", "How long the topic of records keeps them (default 168h).", positiveForm()},
	{"keep", "", "What the local store keeps for how long; the first rule that holds. Without rules: everything, as long as the topic.", filledForm(listForm(keepKeys.form()))},
}}

var keepKeys = object{keys: []key{
	{"when", "", "A CEL condition on the record.", textForm()},
	{"share", "", "A share of the records, dealt by the event's id.", shareForm()},
	{"for", "for: 720h", "How long.", positiveForm()},
}}
