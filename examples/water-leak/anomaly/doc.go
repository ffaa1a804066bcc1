// Package anomaly has the detectors of the water-leak example: the one that its
// pipelines use, which is written as ONNX, and the two that it is compared with.
package anomaly
