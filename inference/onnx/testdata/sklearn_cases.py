"""Models of scikit-learn, exported by skl2onnx."""

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn import (calibration, compose, decomposition, ensemble, feature_selection, impute, linear_model, naive_bayes,
                     neural_network, pipeline, preprocessing, svm, tree)

from data import FEATURES, Case, ask, case, table

OPSET = {"": 17, "ai.onnx.ml": 3}
NAMES = np.array(["honest", "fraud"])


def export(model, zipmap=False, dtype=FloatTensorType, opset=None):
    last = model[-1] if isinstance(model, pipeline.Pipeline) else model
    # Only classifiers know the option, and LinearSVC, which has no probabilities, does not.
    options = {id(model): {"zipmap": zipmap}} if hasattr(last, "classes_") and not isinstance(last, svm.LinearSVC) else None
    return to_onnx(model, initial_types=[("X", dtype([None, FEATURES]))], target_opset=opset or OPSET, options=options)


def classifier(model, classes=2, missing=0.0, names=None, framework=False, **ask_options):
    x, y, _ = table(classes=classes, missing=missing)
    model.fit(x, y if names is None else names[y])
    answers = {"probabilities": model.predict_proba} if framework else None
    return ask(export(model), missing=missing, framework=answers, **ask_options)


def regressor(model, missing=0.0, framework=False, **ask_options):
    x, _, score = table(missing=missing)
    model.fit(x, score)
    return ask(export(model), missing=missing, framework={"variable": model.predict} if framework else None, **ask_options)


def transformer(model, missing=0.0, **ask_options):
    x, y, _ = table(missing=missing)
    model.fit(x, y)
    return ask(export(model), missing=missing, **ask_options)


# Linear models


@case("LogisticRegression behind a StandardScaler in a Pipeline")
def logistic_scaled():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), framework=True)


@case("LogisticRegression with its ZipMap: probabilities as a list of maps, keys int64")
def logistic_zipmap():
    x, y, _ = table()
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(x, y)
    return ask(export(model, zipmap=True))


@case("LogisticRegression on classes named by strings, with its ZipMap")
def logistic_zipmap_strings():
    x, y, _ = table()
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(x, NAMES[y])
    return ask(export(model, zipmap=True))


@case("LogisticRegression on three classes, softmax")
def logistic_multinomial():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), classes=3)


@case("LogisticRegression on two classes named by strings")
def logistic_strings():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), names=NAMES)


@case("LinearRegression")
def linear_regression():
    return regressor(linear_model.LinearRegression(), framework=True)


@case("Ridge with float64 input and arithmetic")
def ridge_double():
    x, _, score = table()
    model = linear_model.Ridge().fit(x.astype(np.float64), score)
    return ask(export(model, dtype=DoubleTensorType), dtype=np.float64)


@case("Ridge with two targets")
def ridge_two_targets():
    x, _, score = table()
    model = linear_model.Ridge().fit(x, np.stack([score, -2 * score + x[:, 0]], axis=1))
    return ask(export(model))


@case("SGDClassifier, logistic loss")
def sgd_classifier():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(),
                                             linear_model.SGDClassifier(loss="log_loss", random_state=1)))


@case("SGDRegressor")
def sgd_regressor():
    return regressor(pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.SGDRegressor(random_state=1)))


@case("LinearSVC")
def linear_svc():
    return classifier(svm.LinearSVC(random_state=1))


@case("LinearSVC on three classes")
def linear_svc_multi():
    return classifier(svm.LinearSVC(random_state=1), classes=3)


# Support vectors, Bayes, networks


@case("SVC, radial kernel, raw scores")
def svc_rbf():
    x, y, _ = table(rows=120)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()).fit(x, y)
    return ask(export(model))


@case("SVC, polynomial kernel, three classes")
def svc_poly_multi():
    x, y, _ = table(rows=120, classes=3)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC(kernel="poly", degree=2)).fit(x, y)
    return ask(export(model))


@case("SVR, radial kernel")
def svr_rbf():
    x, _, score = table(rows=120)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVR()).fit(x, score)
    return ask(export(model))


@case("OneClassSVM, an anomaly detector")
def one_class_svm():
    x, _, _ = table(rows=120)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), svm.OneClassSVM(nu=0.2)).fit(x)
    return ask(export(model))


@case("GaussianNB")
def gaussian_nb():
    return classifier(naive_bayes.GaussianNB())


@case("MLPClassifier, two hidden layers, ReLU, logistic output")
def mlp_classifier():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), neural_network.MLPClassifier(
        (16, 8), max_iter=200, random_state=1)), framework=True)


@case("MLPClassifier, tanh, three classes")
def mlp_classifier_multi():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), neural_network.MLPClassifier(
        (16,), activation="tanh", max_iter=200, random_state=1)), classes=3)


@case("MLPRegressor, logistic activation")
def mlp_regressor():
    return regressor(pipeline.make_pipeline(preprocessing.StandardScaler(), neural_network.MLPRegressor(
        hidden_layer_sizes=(16,), activation="logistic", max_iter=200, random_state=1)))


# Trees


@case("RandomForestClassifier")
def random_forest():
    return classifier(ensemble.RandomForestClassifier(12, max_depth=5, random_state=1), framework=True)


@case("RandomForestClassifier, three classes named by strings")
def random_forest_multi():
    return classifier(ensemble.RandomForestClassifier(8, max_depth=5, random_state=1), classes=3,
                      names=np.array(["low", "medium", "high"]))


@case("RandomForestClassifier with its ZipMap, keys strings")
def random_forest_zipmap():
    x, y, _ = table()
    return ask(export(ensemble.RandomForestClassifier(5, max_depth=4, random_state=1).fit(x, NAMES[y]), zipmap=True))


@case("RandomForestRegressor")
def random_forest_regressor():
    return regressor(ensemble.RandomForestRegressor(8, max_depth=5, random_state=1))


@case("ExtraTreesClassifier")
def extra_trees():
    return classifier(ensemble.ExtraTreesClassifier(10, max_depth=5, random_state=1))


@case("ExtraTreesRegressor with float64 input")
def extra_trees_double():
    x, _, score = table()
    model = ensemble.ExtraTreesRegressor(8, max_depth=5, random_state=1).fit(x.astype(np.float64), score)
    proto = export(model, dtype=DoubleTensorType)
    # skl2onnx announces float64, but the operator's output is float32.
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return ask(proto, dtype=np.float64)


@case("RandomForestClassifier with float64 input")
def random_forest_double():
    x, y, _ = table()
    model = ensemble.RandomForestClassifier(8, max_depth=5, random_state=1).fit(x.astype(np.float64), y)
    return ask(export(model, dtype=DoubleTensorType), dtype=np.float64)


@case("RandomForestClassifier exported for ai.onnx.ml 1, as old files are")
def random_forest_ml1():
    x, y, _ = table()
    model = ensemble.RandomForestClassifier(8, max_depth=5, random_state=1).fit(x, y)
    return ask(export(model, opset={"": 11, "ai.onnx.ml": 1}))


@case("GradientBoostingClassifier")
def gradient_boosting():
    return classifier(ensemble.GradientBoostingClassifier(n_estimators=30, max_depth=3, random_state=1), framework=True)


@case("GradientBoostingClassifier, three classes")
def gradient_boosting_multi():
    return classifier(ensemble.GradientBoostingClassifier(n_estimators=12, max_depth=3, random_state=1), classes=3)


@case("GradientBoostingRegressor")
def gradient_boosting_regressor():
    return regressor(ensemble.GradientBoostingRegressor(n_estimators=30, max_depth=3, random_state=1), framework=True)


def hist(model, classes=None):
    x, y, score = table(missing=0.1, classes=classes or 2)
    model.fit(x, y if classes else score)
    return ask(export(model), missing=0.1,
               framework={"probabilities": model.predict_proba} if classes else {"variable": model.predict})


@case("HistGradientBoostingClassifier trained with missing values")
def hist_boosting():
    return hist(ensemble.HistGradientBoostingClassifier(max_iter=25, max_depth=4, random_state=1), classes=2)


@case("HistGradientBoostingClassifier, three classes, missing values")
def hist_boosting_multi():
    return hist(ensemble.HistGradientBoostingClassifier(max_iter=10, max_depth=3, random_state=1), classes=3)


@case("HistGradientBoostingRegressor trained with missing values")
def hist_boosting_regressor():
    return hist(ensemble.HistGradientBoostingRegressor(max_iter=25, max_depth=4, random_state=1))


@case("DecisionTreeClassifier, unlimited depth")
def decision_tree_deep():
    return classifier(tree.DecisionTreeClassifier(random_state=1))


@case("DecisionTreeRegressor grown as a long chain, 60 deep")
def decision_tree_chain():
    x, _, _ = table()
    # A target that grows ever faster along one feature makes each split cut off the largest value.
    rank = np.argsort(np.argsort(x[:, 3]))
    model = tree.DecisionTreeRegressor(max_depth=60, random_state=1).fit(x, 1.5 ** (rank / 3).astype(np.float64) / 1e30)
    return ask(export(model))


@case("DecisionTreeClassifier that is a single leaf")
def decision_tree_leaf():
    x, y, _ = table()
    model = tree.DecisionTreeClassifier(min_samples_leaf=400, random_state=1).fit(x, y)
    return ask(export(model))


@case("DecisionTreeRegressor with three targets")
def decision_tree_targets():
    x, _, score = table()
    model = tree.DecisionTreeRegressor(max_depth=5, random_state=1).fit(x, np.stack([score, x[:, 1], -score], axis=1))
    return ask(export(model))


@case("IsolationForest, an anomaly detector")
def isolation_forest():
    x, _, _ = table()
    return ask(export(ensemble.IsolationForest(n_estimators=8, max_samples=64, random_state=1).fit(x)), nan=False)


@case("AdaBoostClassifier over stumps")
def ada_boost():
    return classifier(ensemble.AdaBoostClassifier(n_estimators=10, random_state=1), nan=False, infinite=False)


@case("CalibratedClassifierCV over a small forest, sigmoid")
def calibrated():
    return classifier(calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(3, max_depth=3, random_state=1), cv=2))


@case("VotingClassifier, soft, of a linear model and a tree")
def voting_soft():
    return classifier(ensemble.VotingClassifier([
        ("linear", linear_model.LogisticRegression(max_iter=2000)),
        ("tree", tree.DecisionTreeClassifier(max_depth=4, random_state=1))], voting="soft", flatten_transform=False))


@case("StackingClassifier of a linear model and a tree")
def stacking():
    return classifier(ensemble.StackingClassifier([
        ("linear", linear_model.LogisticRegression(max_iter=2000)),
        ("tree", tree.DecisionTreeClassifier(max_depth=4, random_state=1))], cv=2))


# Transformers


@case("SimpleImputer by the mean, then a StandardScaler, then LogisticRegression")
def imputer_mean():
    return classifier(pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler(),
                                             linear_model.LogisticRegression()), missing=0.2)


@case("SimpleImputer by the most frequent value, for zeros")
def imputer_zero():
    return transformer(impute.SimpleImputer(missing_values=0.0, strategy="most_frequent"), nan=False)


@case("Normalizer, L1")
def normalizer_l1():
    return transformer(preprocessing.Normalizer("l1"))


@case("Normalizer, L2")
def normalizer_l2():
    return transformer(preprocessing.Normalizer("l2"))


@case("Normalizer, largest value")
def normalizer_max():
    return transformer(preprocessing.Normalizer("max"))


@case("MinMaxScaler that clips")
def min_max_clip():
    return transformer(preprocessing.MinMaxScaler((-1, 1), clip=True))


@case("MaxAbsScaler and RobustScaler")
def max_abs_robust():
    return transformer(pipeline.make_pipeline(preprocessing.MaxAbsScaler(), preprocessing.RobustScaler()))


@case("Binarizer")
def binarizer():
    return transformer(preprocessing.Binarizer(threshold=0.5), nan=False)


@case("KBinsDiscretizer, ordinal codes")
def k_bins():
    return transformer(preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
                       nan=False)


@case("PolynomialFeatures of degree 2, then Ridge")
def polynomial():
    return regressor(pipeline.make_pipeline(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2),
                                            linear_model.Ridge()))


@case("PCA, then LogisticRegression")
def pca():
    return classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(4), linear_model.LogisticRegression()))


@case("SelectKBest, then a tree")
def select_best():
    return classifier(pipeline.make_pipeline(feature_selection.SelectKBest(k=4), tree.DecisionTreeClassifier(max_depth=4, random_state=1)))


# Columns of mixed types

CARDS = np.array(["debit", "credit", "prepaid"])
COUNTRIES = np.array(["DE", "FR", "CZ", "PL"])


def columns(rows, seed):
    rnd = np.random.default_rng(seed)
    return {
        "amount": np.exp(rnd.normal(3, 1, (rows, 1))).astype(np.float32),
        "age": rnd.normal(40, 12, (rows, 1)).astype(np.float32),
        "visits": rnd.integers(0, 30, (rows, 1)),
        "card": CARDS[rnd.integers(0, 3, (rows, 1))],
        "country": COUNTRIES[rnd.integers(0, 4, (rows, 1))],
    }


TYPES = {"amount": FloatTensorType, "age": FloatTensorType, "visits": Int64TensorType,
         "card": StringTensorType, "country": StringTensorType}


def column_rows():
    """Rows to ask about: ordinary ones, then unknown strings, empty strings, missing and infinite numbers."""
    rows = columns(48, 7)
    edge = columns(8, 8)
    edge["card"][0:2] = [["gift"], [""]]
    edge["country"][2:4] = [["XX"], ["de"]]
    edge["amount"][4:6] = [[np.nan], [np.inf]]
    edge["age"][6:7] = [[np.nan]]
    edge["visits"][7] = -(2**40)
    return {k: np.concatenate([rows[k], edge[k]]) for k in rows}


def column_model(last, encoder):
    import pandas as pd

    data = columns(500, 5)
    y = ((data["amount"] > 25) & (data["card"] != "debit") | (data["country"] == "PL") & (data["visits"] < 6)).ravel().astype(np.int64)
    data["amount"][::17] = np.nan
    model = pipeline.make_pipeline(compose.ColumnTransformer([
        ("numbers", pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler()), ["amount", "age"]),
        ("counts", "passthrough", ["visits"]),
        ("words", encoder, ["card", "country"])]), last)
    # One input for each column, of shape [n, 1].
    model.fit(pd.DataFrame({k: v.ravel() for k, v in data.items()}), y)
    proto = to_onnx(model, initial_types=[(k, t([None, 1])) for k, t in TYPES.items()],
                    target_opset=OPSET, options={id(model): {"zipmap": False}})
    return Case(proto, column_rows(), 48)


@case("One input for each column, numbers and strings: imputer, scaler, OneHotEncoder, LogisticRegression")
def columns_onehot_logistic():
    return column_model(linear_model.LogisticRegression(max_iter=1000), preprocessing.OneHotEncoder(handle_unknown="ignore"))


@case("One input for each column: OrdinalEncoder and a gradient boosting")
def columns_ordinal_boosting():
    return column_model(ensemble.GradientBoostingClassifier(n_estimators=15, random_state=1),
                        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1))


@case("OneHotEncoder of two string columns in one input")
def onehot_strings():
    data = columns(100, 5)
    words = np.concatenate([data["card"], data["country"]], axis=1)
    model = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(words)
    rows = column_rows()
    return Case(to_onnx(model, initial_types=[("X", StringTensorType([None, 2]))], target_opset=OPSET),
                {"X": np.concatenate([rows["card"], rows["country"]], axis=1)}, 48)


@case("OneHotEncoder of integers, first category dropped")
def onehot_integers():
    rnd = np.random.default_rng(3)
    x = rnd.integers(-2, 4, (100, 3))
    model = preprocessing.OneHotEncoder(drop="first", sparse_output=False, handle_unknown="ignore").fit(x)
    ask_rows = np.concatenate([rnd.integers(-2, 4, (30, 3)), [[9, 9, 9], [2**40, -2, 0]]])
    return Case(to_onnx(model, initial_types=[("X", Int64TensorType([None, 3]))], target_opset=OPSET), {"X": ask_rows}, 30)


@case("LabelEncoder from strings to numbers")
def label_encoder():
    model = preprocessing.LabelEncoder().fit(COUNTRIES)
    rows = column_rows()["country"].ravel()
    return Case(to_onnx(model, initial_types=[("X", StringTensorType([None]))], target_opset=OPSET), {"X": rows}, 48)
