// Package tfserving calls models of TensorFlow Serving by its REST interface, in the
// columnar form of its predict call.
//
// The URL is tfserving://host:8501/MODEL, or tfserving+tls://; a path in front of the
// model is kept, for gateways. Options of the URL: version=3 or label=stable (default:
// what the server takes for the latest), timeout=10s of a call, token_env or
// token_file for a bearer token, and those of TLS. User and password go as basic
// authorization. The rest stands in the settings:
//
//	options:
//	  signature_name: serving_default   # default
//	  inputs: [amount, age]             # their order; default: all, by name
//	  outputs: [score]                  # default: all, by name
//	  labels: {score: [good, fraud]}    # classes along the last dimension
//	  features: [amount, age]           # names of the values of the only input
//	  batch: 256                        # rows of a call at most
//	  concurrency: 16                   # calls at a time, and connections kept
//	  timeout: 10s                      # instead of the URL's
//	  max_answer: 67108864              # bytes of an answer
//	  host: tf.example.com              # instead of the URL's, for gateways
//
// # Opening
//
// Open asks for the model's status and for its metadata. A model or version that the
// server does not know is NotFound, one that is loading Transient. Inputs and
// outputs are those of the signature; the first dimension has to be the batch. Types:
// DT_FLOAT, DT_HALF and DT_BFLOAT16 are float32 here, DT_DOUBLE float64, DT_INT32,
// DT_INT16, DT_INT8, DT_UINT16 and DT_UINT8 int32, DT_INT64, DT_UINT32 and DT_UINT64
// int64, DT_BOOL and DT_STRING what they say. A value that the server's type cannot hold
// is Invalid. Inputs and outputs of bytes (DT_STRING with a name in _bytes) are refused.
//
// # Calls
//
// Numbers go out so that they read back as the same; NaN and infinities as NaN,
// Infinity and -Infinity, which is how the server reads and writes them. An
// answer has to hold each output once, n rows of its shape, and values of its type:
// anything else is Permanent, and no score. The kinds of errors are those of
// inference/internal/web. Answers name no version: name one in the URL, so that records do.
//
// What is here was tested against a server that follows the interface as it is
// documented, not against TensorFlow Serving itself.
package tfserving
