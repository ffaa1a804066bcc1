// Package frameworks holds models of scikit-learn, LightGBM and XGBoost with what the frameworks themselves predict for
// 10,000 rows each, and for some of them explanations, for tests of whatever runs these models: the interpreter, a
// worker of ONNX Runtime, a model server. make.py made the files; README.md describes them.
//
// A runtime passes when Check says so of each of Cases.
package frameworks
