#!/usr/bin/env python3
"""Train the handbook's five models on the rows that the pipeline exported and on
features computed in batch, and compare how good they are.

The features, the split and the metrics follow Le Borgne, Siblini, Lebichot,
Bontempi: "Reproducible Machine Learning for Credit Card Fraud Detection -
Practical Handbook" (2022), chapters 3 to 5, with the weeks shifted into the data.

    pip install -r requirements.txt
    python handbook.py labels --payments transactions_*.csv.gz --out labels.csv.gz
    python handbook.py compare --payments transactions_*.csv.gz --export training

The exit code is 1 where a metric differs in its first three decimals.
"""

import argparse
import datetime
import sys

import numpy as np
import pandas as pd

DAYS = (1, 7, 30)
DELAY = 7  # days until a fraud is known
# The pipeline's features in the order of the handbook's.
FEATURES = ["tx_amount", "weekend", "night"] + [
    f"customer_{what}_{n}d" for n in DAYS for what in ("tx", "amount")
] + [
    f"terminal_{what}_{n}d" for n in DAYS for what in ("tx", "risk")
]
METRICS = ["AUC ROC", "Average precision", "Card precision@100"]


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = p.add_subparsers(dest="command", required=True)
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("--payments", nargs="+", required=True, metavar="FILE", help="payments as CSV (.gz too), with tx_fraud")
    labels = commands.add_parser("labels", parents=[files], help="write each payment's label as it becomes known, as CSV")
    labels.add_argument("--out", required=True, metavar="FILE")
    compare = commands.add_parser("compare", parents=[files], help="compare an export with features computed in batch")
    compare.add_argument("--export", required=True, metavar="FOLDER", help="what freshet features export has made")
    compare.add_argument("--start", type=datetime.date.fromisoformat, default=datetime.date(2018, 7, 11),
                         help="first day of training (default %(default)s): a week, then a week of delay, then a week of test")
    return p.parse_args()


def read_payments(files):
    frame = pd.concat([pd.read_csv(f) for f in files], ignore_index=True)
    frame["time"] = pd.to_datetime(frame["tx_datetime"], utc=True, format="ISO8601")
    # In order of their ids, also within a second.
    return frame.sort_values("transaction_id", kind="stable", ignore_index=True)


def write_labels(frame, out):
    known = frame["time"] + pd.Timedelta(days=DELAY)
    labels = pd.DataFrame({
        "label_id": frame["transaction_id"].astype(str) + "-1",
        "transaction_id": frame["transaction_id"],
        "terminal_id": frame["terminal_id"],
        "fraud": frame["tx_fraud"],
        "known_at": known.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }, index=frame.index)
    labels.loc[known.sort_values(kind="stable").index].to_csv(out, index=False)
    print(f"{len(labels):,} labels, {int(labels['fraud'].sum()):,} of them fraud")


def add_batch_features(frame):
    """Add the handbook's features, with windows that end at the row."""
    frame["weekend"] = (frame["time"].dt.day_of_week >= 5).astype(int)
    frame["night"] = (frame["time"].dt.hour <= 6).astype(int)

    def rolling(key, column):
        """A function of days that gives count and sum over each key's rolling window."""
        order = np.argsort(frame[key].to_numpy(), kind="stable")
        groups = pd.DataFrame({
            "key": frame[key].to_numpy()[order], "value": frame[column].to_numpy(float)[order],
        }, index=pd.DatetimeIndex(frame["time"].iloc[order])).groupby("key")["value"]

        def over(days):
            window = groups.rolling(f"{days}D")
            result = []
            for values in (window.count(), window.sum()):
                back = np.empty(len(frame))
                back[order] = values.to_numpy()
                result.append(back)
            return result
        return over

    customer = rolling("customer_id", "tx_amount")
    for n in DAYS:
        count, amount = customer(n)
        frame[f"customer_tx_{n}d"], frame[f"customer_amount_{n}d"] = count, amount / count
    # What is known of a terminal ends a delay ago: the longer window less the delay.
    terminal = rolling("terminal_id", "tx_fraud")
    late_count, late_fraud = terminal(DELAY)
    for n in DAYS:
        count, fraud = terminal(DELAY + n)
        count, fraud = count - late_count, np.rint(fraud - late_fraud)
        frame[f"terminal_tx_{n}d"] = count
        frame[f"terminal_risk_{n}d"] = np.divide(fraud, count, out=np.zeros(len(frame)), where=count > 0)
    return frame


def read_export(folder, first, last):
    """The rows of an export of these days, in order of their ids, with the names that read_payments gives."""
    columns = ["id", "key", "time", "label.fraud", *FEATURES]
    frame = pd.read_parquet(folder, columns=columns, filters=[("date", ">=", str(first)), ("date", "<=", str(last))])
    frame = frame.rename(columns={"id": "transaction_id", "key": "customer_id", "label.fraud": "tx_fraud"})
    for name in ("transaction_id", "customer_id"):
        frame[name] = frame[name].astype("int64")
    missing = frame[["tx_fraud", *FEATURES]].isna().sum()
    if missing.any():
        raise SystemExit(f"{folder}: rows without {', '.join(missing.index[missing > 0])}; were the labels there before the payments were scored?")
    frame["tx_fraud"] = frame["tx_fraud"].astype("int64")
    return frame.sort_values("transaction_id", kind="stable", ignore_index=True)


def split(frame, start):
    """A week of training, a week of delay, a week of test, without the cards that are known to be compromised."""
    day = (frame["time"].dt.tz_convert(None).dt.normalize() - pd.Timestamp(start)).dt.days
    train = frame[(day >= 0) & (day < 7)]
    known = set(train.loc[train["tx_fraud"] == 1, "customer_id"])
    test = []
    for d in range(7):
        # On a test day the frauds of one more day of the delay are known.
        recent = frame[day == 7 + d - 1]
        known |= set(recent.loc[recent["tx_fraud"] == 1, "customer_id"])
        rows = frame[day == 7 + DELAY + d]
        test.append(rows[~rows["customer_id"].isin(known)].assign(day=d))
    return train, pd.concat(test)


def card_precision(test, score, top):
    """Mean over the days of the share of compromised cards among the `top` of highest score; found ones are blocked."""
    found, shares = [], []
    for _, rows in test.assign(score=score).groupby("day"):
        cards = rows[~rows["customer_id"].isin(found)].groupby("customer_id")[["score", "tx_fraud"]].max()
        cards = cards.sort_values("score", ascending=False, kind="stable").head(top)
        hits = cards.index[cards["tx_fraud"] == 1]
        found.extend(hits)
        shares.append(len(hits) / top)
    return float(np.mean(shares))


def measure(frame, start):
    """Train the five models and return their metrics on the test week."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score, roc_auc_score
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier
    from xgboost import XGBClassifier

    train, test = split(frame, start)
    scaler = StandardScaler().fit(train[FEATURES])
    x, unseen = scaler.transform(train[FEATURES]), scaler.transform(test[FEATURES])
    models = {
        "Logistic regression": LogisticRegression(random_state=0),
        "Decision tree, depth 2": DecisionTreeClassifier(max_depth=2, random_state=0),
        "Decision tree, unlimited": DecisionTreeClassifier(random_state=0),
        "Random forest": RandomForestClassifier(random_state=0, n_jobs=-1),
        "XGBoost": XGBClassifier(random_state=0, n_jobs=-1),
    }
    results = {}
    for name, model in models.items():
        score = model.fit(x, train["tx_fraud"]).predict_proba(unseen)[:, 1]
        results[name] = [roc_auc_score(test["tx_fraud"], score), average_precision_score(test["tx_fraud"], score),
                         card_precision(test, score, 100)]
    return results, len(train), len(test)


def compare_features(export, batch):
    """Print how far the features of the same payments are apart; returns whether the rows are the same."""
    same = len(export) == len(batch) and (export["transaction_id"].to_numpy() == batch["transaction_id"].to_numpy()).all()
    if not same:
        print(f"the export has {len(export):,} payments of these weeks, the files have {len(batch):,}")
        return False
    differ = int((export["tx_fraud"].to_numpy() != batch["tx_fraud"].to_numpy()).sum())
    worst, where = 0.0, "all equal"
    for name in FEATURES:
        a, b = export[name].to_numpy(float), batch[name].to_numpy(float)
        gap = float((np.abs(a - b) / np.maximum(1, np.abs(b))).max())
        if gap > worst:
            worst, where = gap, name
    print(f"{len(batch):,} payments, labels of {differ:,} differ, largest relative difference of a feature {worst:.1e} ({where})")
    return differ == 0


def compare(args):
    first, last = args.start, args.start + datetime.timedelta(days=7 + DELAY + 7 - 1)
    batch = add_batch_features(read_payments(args.payments))
    day = batch["time"].dt.date
    if not (day.min() <= first - datetime.timedelta(days=DELAY + max(DAYS)) and last <= day.max()):
        raise SystemExit(f"--start {first}: the payments begin on {day.min()} and end on {day.max()}; "
                         f"expected {DELAY + max(DAYS)} days before, and {7 + DELAY + 7} days from there on")
    batch = batch[(day >= first) & (day <= last)].reset_index(drop=True)
    export = read_export(args.export, first, last)
    agree = compare_features(export, batch)
    ours, rows, unseen = measure(export, first)
    theirs, _, _ = measure(batch, first)
    print(f"trained on {rows:,} payments from {first}, tested on {unseen:,} up to {last}\n")
    print("| model | " + " | ".join(f"{m}, export | batch" for m in METRICS) + " |")  # two columns a metric
    print("|---|" + "---|" * 2 * len(METRICS))
    for name in ours:
        cells = [f"{v:.3f}" for pair in zip(ours[name], theirs[name]) for v in pair]
        print(f"| {name} | " + " | ".join(cells) + " |")
        agree &= all(a == b for a, b in zip(cells[::2], cells[1::2]))
    print("\nThe metrics agree to three decimals." if agree else "\nThe two do NOT agree.")
    return 0 if agree else 1


def main():
    args = parse_arguments()
    if args.command == "labels":
        write_labels(read_payments(args.payments), args.out)
        return 0
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())
