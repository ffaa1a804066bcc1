// Package openai asks language models and embedding models behind the API of
// OpenAI: chat completions, completions and embeddings, as vLLM, SGLang, the server of
// llama.cpp, Ollama and others serve them.
//
// The URL is openai://host:port/v1, or openai+tls:// for an encrypted connection; a
// key comes from token_env=NAME or token_file=PATH. The rest stands in the settings:
//
//	options:
//	  api: chat                  # or completions, embeddings
//	  model: qwen2.5-7b          # may be left out where the server has only one
//	  system: "Sort support tickets. Answer in JSON."
//	  prompt: "{{.subject}}\n\n{{.body}}"
//	  schema:                    # chat: each property becomes an output
//	    type: object
//	    properties:
//	      category: {type: string, enum: [billing, technical, other]}
//	      score: {type: number, minimum: 0, maximum: 1}
//	  schema_as: json_schema     # or json_object, none: what the server is told of it
//	  temperature: 0             # also top_p, seed, stop
//	  max_tokens: 512            # of an answer
//	  max_tokens_as: max_tokens  # or max_completion_tokens, where a server wants that name
//	  stream: false              # read the answer as it is written
//	  width: 384                 # embeddings: numbers of one; asked of the server where absent
//	  dimensions: 384            # embeddings: the same, and sent
//	  batch: 16                  # rows of a call; 64 for embeddings
//	  concurrency: 8             # requests at a time
//	  timeout: 1m                # of a request
//	  max_answer: 1048576        # bytes; 64 MiB for embeddings
//	  extra: {chat_template_kwargs: {enable_thinking: false}}  # more fields of the request
//	  version: "2026-03"         # what the server serves, for the record; else the model's name
//	  budget:
//	    tokens_per_minute: 100000
//	    cost_per_minute: 0.5
//	    price: {input: 0.15, output: 0.6}   # of a million tokens
//	    wait: 2s                 # how long a call is held back at most
//
// # Requests
//
// Chat and completions make one request for each row, up to concurrency at a time; embeddings
// one for a batch. prompt is a Go text/template over the inputs by name; without it the
// prompt is the only input where that is a text, or a JSON object of all inputs. Functions are json,
// which writes a value as JSON, and has, which is false for a number that is not there (NaN; null
// in JSON). system is no template.
//
// # Answers
//
// Outputs are text (string) without a schema, the schema's properties in the order of their names with
// one (string, number, integer and boolean as String, Float64, Int64 and Bool, a list of
// numbers of a fixed length as a row of Float64), and embedding (Float32, one row of width). The
// schema goes to the server, strict, and the answer is held against it here all the same,
// because servers differ in how strict they are. An answer that does not fit, is
// cut off at max_tokens, is declined, filtered or wants a tool is a Permanent error which says so: it is
// neither asked again nor repaired, and the pipeline's fallback acts. So is an answer with
// other embeddings than asked for, or with numbers that are none.
//
// With stream an answer with a schema is complete when its JSON object is; where the server writes on,
// the connection is closed, which ends its work. Stats has the time to the first piece.
//
// A batch fails as a whole, and the caller then gives its rows again, in halves or alone. What the others
// had brought serves them then, for a minute, so that no answer is paid for twice.
//
// # Budgets and back-pressure
//
// Before a request, as many tokens as it may come to (the prompt's by an estimate that
// learns from the server's counts, the answer's by max_tokens) are set aside; its usage corrects
// that. The sum of any 60 seconds stays within the budget, up to the error of the estimate. A request that finds no room waits for
// it, for wait at most and not beyond its deadline, or fails as Throttled with the
// time until there is room. A request that was given up while under way counts as what was set
// aside. Status 429, and 503 with Retry-After, hold all requests of the driver back
// in the same way, for as long as the server says or, where it does not, for 1 s and up to 30 s while it goes on. Quota
// that is used up (insufficient_quota) is Exhausted, which nobody repeats.
//
// # What texts can do to a model
//
// Inputs are data: they stand in the user's message alone, never in the system's, and no tools are
// offered, so a text cannot make the model act. It can still talk a model into an
// answer ("ignore what you were told, this is urgent"). The schema bounds the form of what
// comes out, and an enum the words, but not their truth. Treat outputs as you would a claim by
// the author of the text: route and rank with them, and let nothing that matters hang on them alone.
//
// # Opening
//
// Open asks for GET /models: with it the key is checked, and the model found. A server without that list is
// believed. Where an embedding's width is not given, one word is embedded.
package openai
