"""Models of LightGBM and XGBoost, exported by onnxmltools."""

import lightgbm
import numpy as np
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from data import FEATURES, ask, case, table

OPSET = 15
INPUT = [("X", FloatTensorType([None, FEATURES]))]


def light(kind, classes=2, regression=False, missing=0.1, zipmap=False, split=None, categorical=None, **parameters):
    x, y, score = table(classes=classes, missing=missing)
    if categorical is not None:
        x[:, categorical] = np.nan_to_num(x[:, categorical])
    parameters = {"n_estimators": 20, "num_leaves": 12, "n_jobs": 1, "random_state": 1, "verbose": -1, "deterministic": True} | parameters
    model = kind(**parameters).fit(x, score if regression else y,
                                   categorical_feature="auto" if categorical is None else [categorical])
    options = {"split": split} if split else {"zipmap": zipmap}
    proto = convert_lightgbm(model, initial_types=INPUT, target_opset=OPSET, **options)
    last = proto.graph.output[-1].name
    # A map of the framework's answer to the output is only made where both are tensors.
    answers = {} if zipmap else {last: model.predict if regression else model.predict_proba}
    return ask(proto, missing=missing, framework=answers)


@case("LGBMClassifier trained with missing values")
def lightgbm_binary():
    return light(lightgbm.LGBMClassifier)


@case("LGBMClassifier, three classes, missing values")
def lightgbm_multi():
    return light(lightgbm.LGBMClassifier, classes=3, n_estimators=8)


@case("LGBMClassifier with its ZipMap")
def lightgbm_zipmap():
    return light(lightgbm.LGBMClassifier, n_estimators=6, zipmap=True)


@case("LGBMRegressor trained with missing values")
def lightgbm_regressor():
    return light(lightgbm.LGBMRegressor, regression=True)


@case("LGBMRegressor, exported as several ensembles that are summed in float64")
def lightgbm_split():
    return light(lightgbm.LGBMRegressor, regression=True, split=5)


@case("LGBMClassifier with a categorical feature: BRANCH_EQ")
def lightgbm_categorical():
    return light(lightgbm.LGBMClassifier, n_estimators=10, categorical=4, missing=0, min_data_per_group=5, cat_smooth=1)


@case("LGBMRegressor, Poisson objective: exp of the sum")
def lightgbm_poisson():
    x, y, _ = table(classes=5)
    model = lightgbm.LGBMRegressor(objective="poisson", n_estimators=10, num_leaves=8, n_jobs=1, random_state=1, verbose=-1).fit(x, y)
    return ask(convert_lightgbm(model, initial_types=INPUT, target_opset=OPSET), framework={"variable": model.predict})


def boost(kind, classes=2, regression=False, missing=0.1, **parameters):
    x, y, score = table(classes=classes, missing=missing)
    parameters = {"n_estimators": 20, "max_depth": 4, "tree_method": "hist", "n_jobs": 1, "random_state": 1} | parameters
    model = kind(**parameters).fit(x, score if regression else y)
    proto = convert_xgboost(model, initial_types=INPUT, target_opset=OPSET)
    last = proto.graph.output[-1].name
    return ask(proto, missing=missing, framework={last: model.predict if regression else model.predict_proba})


@case("XGBClassifier trained with missing values: BRANCH_LT, missing routed both ways")
def xgboost_binary():
    return boost(xgboost.XGBClassifier)


@case("XGBClassifier, three classes, missing values")
def xgboost_multi():
    return boost(xgboost.XGBClassifier, classes=3, n_estimators=8)


@case("XGBRegressor trained with missing values")
def xgboost_regressor():
    return boost(xgboost.XGBRegressor, regression=True)


@case("XGBRFRegressor, a forest of one boosting round")
def xgboost_forest():
    return boost(xgboost.XGBRFRegressor, regression=True, n_estimators=8)


@case("XGBClassifier of one stump")
def xgboost_stump():
    return boost(xgboost.XGBClassifier, n_estimators=1, max_depth=1)
