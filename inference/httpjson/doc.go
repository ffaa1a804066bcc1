// Package httpjson calls a model behind plain HTTP and JSON: what people serve with
// Flask, FastAPI, BentoML, Ray Serve or a program of their own.
//
// The URL is http:// or https://host:port/path, read by internal/endpoint: user and
// password go as basic authorization, token_env or token_file as a bearer token.
// The rest stands in the settings:
//
//	options:
//	  request:
//	    method: POST                  # default
//	    path: /v2/score?raw=1         # instead of the URL's
//	    headers: {X-Team: risk}
//	    headers_env: {X-Api-Key: RISK_API_KEY}   # values from the environment
//	    body: '{"dataframe_records": {{.rows}}}' # default: {"instances": {{.instances}}}
//	    per_row: false                # true: a request for each row
//	  response:                       # one entry for each output; needed
//	    score: predictions.#.score
//	    label: {path: predictions.#.label, type: string}
//	    embedding: {path: vectors, type: float, width: 384}
//	  batch: 256                      # rows of a request at most
//	  concurrency: 8                  # requests at a time, and connections kept
//	  timeout: 10s                    # of a request
//	  max_answer: 67108864            # bytes of an answer
//	  nan: "null"                     # or literal, text, refuse
//	  ready: /healthz                 # asked once when the model is opened
//	  version: "7"                    # what the server serves, for the record
//
// # Requests
//
// body is a Go text/template over .rows (a list with a mapping from input name to value for
// each row), .columns (a mapping from input name to its list of values), .instances (a list
// with the list of values of each row, in the order of the inputs), .names and .n; with
// per_row also .row and .instance, those of the one row. Whatever an action prints is
// written as JSON, so that no value can end a string and begin something else:
// {{.rows}} is the same as {{json .rows}}. Inside of a JSON string {{text .row.city}}
// writes a value without its quotes. A body that is no JSON is refused
// when the model is opened.
//
// JSON has no NaN, which is what a missing number is here. nan says what is written:
// null (default; infinities are Invalid then, since they are not missing), literal (NaN,
// Infinity and -Infinity as Python's json reads and writes them, in answers too), text
// ("NaN", "Infinity", "-Infinity"), or refuse (such rows are Invalid).
//
// # Answers
//
// path is in the syntax of github.com/tidwall/gjson and gives a list with one value
// for each row, in order: with width a list of that many values each; with per_row the value itself.
// Types are float (default), int, bool and string, and nothing is converted: a float is a
// number (or one of the texts of NaN and infinities), an int a whole number within
// 64 bits. A null is an error unless the output has null: nan. So a model's
// score is what the server wrote, or there is an error: NaN comes out only where the server
// said NaN, in one of these ways.
//
// An answer that is no JSON, is too long, lacks an output, has another number of rows, or a
// value of another type is Permanent, and says where. Redirects are not followed. A status is an error
// as inference/internal/web says: 400, 413 and 422 Invalid, 401 and 403 Config, 404 NotFound, 429 Throttled,
// 408, 425 and 5xx Transient, both with the Retry-After of the server.
//
// # Opening
//
// Open sends one request without a body: GET for ready, which must answer with
// success, or else HEAD for the path, where any answer of HTTP will do that does not refuse the credentials.
package httpjson
