package onnx

// Local says that calls stay in the process.
func (m *Model) Local() {}
