# make          build ./freshet, a static binary
# make worker   build ./freshet-onnxruntime, which evaluates models with ONNX Runtime; needs a C compiler
# make test     vet, all tests, then again under the race detector
# make test-heavy  also the tests that take minutes: clusters and servers killed again and again
# make lint     golangci-lint, the arrows included
# make bench    all comparisons with peers, in one run on this machine
# make delivery every broker against every fault, the results into docs/DELIVERY.md
# make fuzz     every fuzz target for FUZZTIME each

GO       ?= go
FUZZTIME ?= 2m
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build worker test test-heavy lint bench delivery fuzz

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o freshet ./cmd/freshet

worker:
	CGO_ENABLED=1 $(GO) build -trimpath -o freshet-onnxruntime ./cmd/freshet-onnxruntime

test:
	@GO='$(GO)' test/run.sh

test-heavy:
	FRESHET_HEAVY=1 $(GO) test -timeout 40m ./broker/... ./bus/... ./inference/... ./test/...

lint:
	$(GO) run $(GOLANGCI_LINT) run ./...

bench:
	@GO='$(GO)' bench/run.sh

delivery:
	$(GO) run ./test/delivery $(DELIVERY)

fuzz:
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' test/fuzz.sh
