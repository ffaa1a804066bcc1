"""A scikit-learn model behind Flask, as people put one there: python app.py PORT.

POST /predict takes {"instances": [[amount, count, night], ...]} and answers
{"predictions": [{"score": ..., "label": ..., "flag": ...}], "vectors": [[...], ...]}.
GET /golden gives rows with the framework's own answers.
"""

import sys

import numpy as np
from flask import Flask, jsonify, request
from sklearn.ensemble import HistGradientBoostingClassifier

random = np.random.default_rng(1)
X = np.column_stack([random.gamma(2.0, 60.0, 4000), random.integers(0, 20, 4000), random.random(4000) < 0.3]).astype(float)
y = (X[:, 0] * (1 + X[:, 2]) + 5 * X[:, 1] + random.normal(0, 40, 4000) > 220).astype(int)
X[random.random(X.shape) < 0.05] = np.nan
model = HistGradientBoostingClassifier(max_iter=50, random_state=1).fit(X, y)

app = Flask(__name__)


def answer(rows):
    p = model.predict_proba(rows)
    return [{"score": s, "label": "fraud" if s > 0.5 else "good", "flag": bool(s > 0.9)} for s in p[:, 1].tolist()], p.tolist()


@app.post("/predict")
def predict():
    rows = np.array(request.get_json()["instances"], dtype=float)
    if rows.ndim != 2 or rows.shape[1] != 3:
        return jsonify(error="expected rows of 3 numbers"), 400
    predictions, vectors = answer(rows)
    return jsonify(predictions=predictions, vectors=vectors)


@app.get("/golden")
def golden():
    rows = np.where(random.random((200, 3)) < 0.1, np.nan, np.column_stack([random.gamma(2.0, 60.0, 200), random.integers(0, 20, 200), random.random(200) < 0.3]))
    return jsonify(rows=[[None if v != v else v for v in r] for r in rows.tolist()], scores=model.predict_proba(rows)[:, 1].tolist())


@app.get("/healthz")
def healthz():
    return "ok"


app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
