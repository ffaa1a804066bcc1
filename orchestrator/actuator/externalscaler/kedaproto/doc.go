// Package kedaproto is the generated code of KEDA's interface for external scalers, server and client.
//
// externalscaler.proto is pkg/scalers/externalscaler/externalscaler.proto of
// github.com/kedacore/keda/v2 at v2.21.0, unchanged: copyright of the KEDA authors, Apache License 2.0, as
// is this project. protoc 3.21.12, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.6.2
// made the rest of it.
package kedaproto

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go_opt=Mexternalscaler.proto=github.com/freshet-io/freshet/orchestrator/actuator/externalscaler/kedaproto;kedaproto --go-grpc_out=. --go-grpc_opt=paths=source_relative --go-grpc_opt=Mexternalscaler.proto=github.com/freshet-io/freshet/orchestrator/actuator/externalscaler/kedaproto;kedaproto externalscaler.proto
