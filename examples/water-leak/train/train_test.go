package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestTheModelInTheExampleIsTheOneThatTrainingGives(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors may round the last bit of a sum differently")
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := train(path, 7); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../models/leak-anomaly.onnx")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("models/leak-anomaly.onnx is another: run go run ./examples/water-leak/train")
	}
}
