#!/usr/bin/env python3
"""Train the fraud model of the card-fraud example and write it as ONNX.

The payments are simulated by the method published in Le Borgne, Siblini,
Lebichot, Bontempi: "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook" (2022), chapter 3, or read from files that
`freshet produce` could send (`--payments`). The features are the ones that
pipeline.yaml computes, with the same windows and the same ties, so that the
model sees in production what it saw here.

    pip install -r requirements.txt
    python train.py
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.metrics import average_precision_score, roc_auc_score

DAY = 86400
WINDOWS = (1, 7, 30)  # days
# The columns of the model's one input, in order.
FEATURES = ["tx_amount", "weekend", "night"] + [
    f"customer_{what}_{n}d" for n in WINDOWS for what in ("tx", "amount")
] + [
    f"terminal_{what}_{n}d" for n in WINDOWS for what in ("tx", "risk")
]
LABEL_DELAY = 7  # days until a fraud is known


def parse_arguments():
    here = Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--payments", nargs="+", metavar="FILE",
                   help="payments as CSV or JSON lines (.gz too) with tx_fraud, instead of simulated ones")
    p.add_argument("--customers", type=int, default=5000)
    p.add_argument("--terminals", type=int, default=10000)
    p.add_argument("--radius", type=float, default=5, help="how far from home a customer pays, on a 100 x 100 grid")
    p.add_argument("--days", type=int, default=120, help="days to simulate")
    p.add_argument("--train-days", type=int, default=42, help="days to train on; they end 14 days before the last day")
    p.add_argument("--trees", type=int, default=100)
    p.add_argument("--depth", type=int, default=6)
    p.add_argument("--seed", type=int, default=20180401)
    p.add_argument("--model-version", default="1.0.0")
    p.add_argument("--out", type=Path, default=here / "models" / "fraud-risk.onnx")
    return p.parse_args()


def simulate(customers, terminals, radius, days, seed):
    """Simulate payments; one row each, in order of time."""
    rnd = np.random.default_rng(seed)
    home = rnd.uniform(0, 100, (customers, 2))
    mean = rnd.uniform(5, 100, customers)
    per_day = rnd.uniform(0, 4, customers)
    shop = rnd.uniform(0, 100, (terminals, 2))
    near = [np.flatnonzero(np.hypot(*(shop - h).T) < radius) for h in home]

    count = rnd.poisson(per_day[:, None], (customers, days))
    customer, day = np.repeat(np.argwhere(np.ones_like(count)), count.ravel(), axis=0).T
    second = rnd.normal(DAY / 2, 20000, len(customer)).astype(np.int64)
    choices = np.array([len(n) for n in near])[customer]
    keep = (second > 0) & (second < DAY) & (choices > 0)
    customer, day, second, choices = customer[keep], day[keep], second[keep], choices[keep]

    amount = rnd.normal(mean[customer], mean[customer] / 2)
    negative = amount < 0
    amount[negative] = rnd.uniform(0, 2 * mean[customer[negative]])
    pick = rnd.integers(0, choices)
    terminal = np.array([near[c][k] for c, k in zip(customer, pick)])
    order = np.argsort(day * DAY + second, kind="stable")
    customer, day, second, terminal = customer[order], day[order], second[order], terminal[order]
    cents = np.rint(amount[order] * 100).astype(np.int64)

    # Scenario 1: every payment above 220.
    scenario = np.where(cents > 22000, 1, 0)
    # Scenario 2: two terminals a day are compromised for 28 days.
    for d in range(days):
        bad = rnd.choice(terminals, 2, replace=False)
        scenario[np.isin(terminal, bad) & (day >= d) & (day < d + 28)] = 2
    # Scenario 3: three customers a day are compromised for 14 days; a third of their payments is five times as high.
    for d in range(days):
        bad = rnd.choice(customers, 3, replace=False)
        rows = np.flatnonzero(np.isin(customer, bad) & (day >= d) & (day < d + 14))
        rows = rnd.choice(rows, len(rows) // 3, replace=False)
        cents[rows] *= 5
        scenario[rows] = 3

    start = int(pd.Timestamp("2018-04-01").timestamp())
    return pd.DataFrame({
        "transaction_id": np.arange(len(cents)),
        "time": start + day * DAY + second,
        "customer_id": customer,
        "terminal_id": terminal,
        "cents": cents,
        "tx_fraud": (scenario > 0).astype(np.int64),
    })


def read_payments(files):
    """Read payments with the fields of the contract."""
    def read(name):
        if ".csv" in name:
            return pd.read_csv(name)
        return pd.read_json(name, lines=True, convert_dates=False)

    frame = pd.concat([read(name) for name in files], ignore_index=True)
    missing = {"transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount", "tx_fraud"} - set(frame.columns)
    if missing:
        raise SystemExit(f"{', '.join(files)}: no column {', '.join(sorted(missing))}; training needs labelled payments")
    time = pd.to_datetime(frame["tx_datetime"], utc=True, format="ISO8601")
    frame["time"] = time.dt.as_unit("s").astype("int64")
    frame["cents"] = (frame["tx_amount"] * 100).round().astype("int64")
    return frame.sort_values(["time", "transaction_id"], kind="stable", ignore_index=True)


def windows(frame, key, column):
    """Return a function that gives count and sum of a column over windows of a key.

    window(n, delay) holds, for each row, the rows of its key that are at least
    `delay` and less than `delay` + n days older. Without a delay it ends at the
    row itself, in order of (time, transaction_id): later rows of the same
    second are not seen.
    """
    order = np.argsort(frame[key].to_numpy(), kind="stable")
    time = frame["time"].to_numpy()[order]
    time = time - time.min()
    # Rows lie key after key, with more time between two keys than any window has.
    _, rank = np.unique(frame[key].to_numpy()[order], return_inverse=True)
    place = rank.astype(np.int64) * (time.max() + (LABEL_DELAY + max(WINDOWS) + 1) * DAY) + time
    sums = np.concatenate([[0], np.cumsum(frame[column].to_numpy(np.int64)[order])])

    def window(days, delay=0):
        begin = np.searchsorted(place, place - (delay + days) * DAY, side="right")
        end = np.arange(1, len(place) + 1) if delay == 0 else np.searchsorted(place, place - delay * DAY, side="right")
        count, total = np.empty(len(place), np.int64), np.empty(len(place), np.int64)
        count[order], total[order] = end - begin, sums[end] - sums[begin]
        return count, total
    return window


def add_features(frame):
    """Add the model's inputs. All sums are of whole numbers, so that one division is all that rounds."""
    stamp = pd.to_datetime(frame["time"], unit="s")
    frame["tx_amount"] = frame["cents"] / 100
    frame["weekend"] = (stamp.dt.day_of_week >= 5).astype(float)
    frame["night"] = (stamp.dt.hour <= 6).astype(float)
    customer = windows(frame, "customer_id", "cents")
    terminal = windows(frame, "terminal_id", "tx_fraud")
    for n in WINDOWS:
        count, cents = customer(n)
        frame[f"customer_tx_{n}d"], frame[f"customer_amount_{n}d"] = count, cents / (100 * count)
        count, frauds = terminal(n, LABEL_DELAY)
        frame[f"terminal_tx_{n}d"], frame[f"terminal_risk_{n}d"] = count, frauds / np.maximum(count, 1)
    return frame


def split(frame, train_days):
    """Train on a span of days, test on the last week, with the label delay between them."""
    day = frame["time"] // DAY
    last = day.max()
    test = frame[day > last - 7]
    end = last - 7 - LABEL_DELAY
    train = frame[(day > end - train_days) & (day <= end)]
    if len(train) == 0 or train["tx_fraud"].nunique() < 2:
        raise SystemExit("no frauds in the training days: give more days of payments")
    return train, test


def card_precision(test, history, top):
    """Mean over the days of the share of compromised cards among the `top` riskiest.

    Cards with a fraud that became known in the week before that day, after the
    label delay, are blocked by then and left out.
    """
    values = []
    for day, rows in test.groupby(test["time"] // DAY):
        age = day - history["time"] // DAY
        known = history[(history["tx_fraud"] == 1) & (age > LABEL_DELAY) & (age <= LABEL_DELAY + 7)]
        rows = rows[~rows["customer_id"].isin(known["customer_id"])]
        cards = rows.groupby("customer_id")[["score", "tx_fraud"]].max().nlargest(top, "score")
        values.append(cards["tx_fraud"].sum() / top)
    return float(np.mean(values))


def report(test, history):
    print(f"  AUC ROC             {roc_auc_score(test['tx_fraud'], test['score']):.3f}")
    print(f"  average precision   {average_precision_score(test['tx_fraud'], test['score']):.3f}")
    print(f"  card precision@100  {card_precision(test, history, 100):.3f}")


def export(model, version):
    """Convert to ONNX: input features [n, 15]; outputs label [n] and probabilities [n, 2]."""
    proto = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
                            target_opset=15)
    proto.graph.name = "fraud-risk"
    proto.model_version = int(version.split(".")[0])
    for key, value in {"version": version, "feature_names": ",".join(FEATURES)}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def main():
    args = parse_arguments()
    if args.payments:
        frame = read_payments(args.payments)
    else:
        frame = simulate(args.customers, args.terminals, args.radius, args.days, args.seed)
    print(f"{len(frame):,} payments, {frame['tx_fraud'].mean():.2%} fraudulent")
    frame = add_features(frame)
    train, test = split(frame, args.train_days)
    print(f"train on {len(train):,}, test on {len(test):,} of the last week")

    # Frauds are rare, and so are amounts near their limits: few bins would put the splits beside them.
    model = xgboost.XGBClassifier(n_estimators=args.trees, max_depth=args.depth, learning_rate=0.1,
                                  min_child_weight=1, gamma=0.2, tree_method="hist", max_bin=8192,
                                  n_jobs=2, random_state=args.seed)
    model.fit(train[FEATURES].to_numpy(np.float32), train["tx_fraud"])

    data = export(model, args.model_version)
    rows = test[FEATURES].to_numpy(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    probabilities = session.run(["probabilities"], {"features": rows})[0][:, 1]
    worst = np.abs(probabilities - model.predict_proba(rows)[:, 1]).max()
    if worst > 1e-5:
        raise SystemExit(f"the exported model differs from the trained one by {worst:g}")
    report(test.assign(score=probabilities), frame)
    importance = dict(zip(FEATURES, (round(float(v), 3) for v in model.feature_importances_)))
    print("  importance         ", json.dumps(importance))

    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    print(f"wrote {args.out.name}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
