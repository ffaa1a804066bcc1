// Package oip calls models by the Open Inference Protocol, version 2, which Triton,
// KServe, MLServer, the OpenVINO model server and TorchServe speak.
//
//	oip://host:8001/MODEL          gRPC (oip+tls:// with TLS); 8001 is the default
//	oip+http://host:8080/MODEL     HTTP (oip+https:// with TLS)
//
// Several hosts are separated by commas: calls go to the one with the fewest under way
// (inference.Balance). A path in front of the model is kept with HTTP, for gateways.
// Options of the URL: version=3, timeout=10s of a call, token_env or token_file for a
// bearer token, and those of TLS; user and password go as basic authorization.
// The rest stands in the settings:
//
//	options:
//	  inputs: [amount, age]           # their order; default: all that the server names
//	  outputs: [score]                # default: all that the server names
//	  features: [amount, age]         # names of the values of the only input
//	  parameters: {threshold: 0.5}    # of each request: texts, numbers, true or false
//	  batch: 256                      # rows of a call at most
//	  concurrency: 16                 # calls at a time, for each host
//	  timeout: 10s                    # instead of the URL's
//	  max_answer: 67108864            # bytes of an answer
//	  host: risk.example.com          # instead of the URL's, for gateways: Host or :authority
//	  contents: raw                   # gRPC: or typed, for servers that take no raw contents
//	  binary: false                   # HTTP: raw contents behind the JSON, Triton's extension
//	  nan: "null"                     # HTTP without binary: or literal, refuse
//	  "null": error                   # HTTP without binary: or nan
//
// Many servers do not know what a model takes: MLServer does not for scikit-learn
// unless its settings say so. An entry of inputs and outputs may then be a
// mapping, which also overrides what the server says:
//
//	inputs: [{name: x, datatype: FP64, shape: [8], parameters: {content_type: np}}]
//	outputs: [{name: predict_proba, datatype: FP64, shape: [2], labels: [good, fraud]}]
//
// shape is that of a row, without the batch; none is one value a row, [n]. Where
// nobody names inputs, those of the step travel as columns, [n, 1].
//
// # Opening
//
// Open asks for the model's metadata and whether it is ready. A model or version that
// the server does not know is NotFound, one that is not ready Transient. The first
// dimension has to be the batch: −1, or 1 for a model of one row at a time. Of
// several hosts one has to answer; the others are asked before their first call, and
// have to serve the same. The version is in the record of predictions only where
// the URL names it, and an answer that names another is then an error.
//
// # Types
//
// FP32, FP64, INT64, INT32 and BOOL are what they say, BYTES is text in UTF-8. The
// others are widened: FP16 and BF16 to float32, INT8, INT16, UINT8 and UINT16 to
// int32, UINT32 and UINT64 to int64. A value that the server's type cannot hold is
// Invalid as an input and Permanent as an output; a float32 is rounded to FP16 and BF16,
// to even.
//
// # Calls
//
// With gRPC, tensors travel as raw contents, little endian, and the server may
// answer with raw or typed ones. An answer has to hold each output asked for once, of its
// datatype, with n rows of its shape, and as many elements as its shape says: anything
// else is Permanent, and no score. Dimensions of size 1 may be missing or too many, as
// [n, 1] for [n], and so may outputs that nobody asked for.
//
// JSON has no NaN, and no infinities. nan says how they go out: null (infinities are
// Invalid then), literal (NaN, Infinity and -Infinity, in answers too) or refuse. A null in an
// answer is an error, for servers write it for NaN and for infinities alike; null: nan takes
// it for NaN. With gRPC and with binary all of them are values.
//
// # Errors
//
// With gRPC: INVALID_ARGUMENT and OUT_OF_RANGE are Invalid, UNAUTHENTICATED and
// PERMISSION_DENIED Config, NOT_FOUND NotFound, RESOURCE_EXHAUSTED Throttled, with the
// pause of a RetryInfo (Invalid where the request was too long), UNAVAILABLE,
// DEADLINE_EXCEEDED, INTERNAL, UNKNOWN, ABORTED and DATA_LOSS Transient, and the rest
// Permanent. With HTTP they are as inference/internal/web says. Rows that a server
// refuses are only Invalid where the model is ready after that: else the error is
// Transient, or NotFound where the model is gone. A lost connection is made again by itself.
//
// What is here was tested against MLServer 1.7 and the server of kserve 0.16.
package oip
