"""Compare an export with the results it was made of: compare.py FOLDER EVENTS.jsonl"""

import json
import math
import sys

import pandas as pd
import pyarrow.dataset as ds


def same(got, want):
    if want is None:
        return got is None or got is pd.NaT or (isinstance(got, float) and math.isnan(got))
    if isinstance(want, float) or isinstance(got, float):
        return float(got) == float(want)
    return got == want


def main():
    folder, events = sys.argv[1:]
    # As a user would, once with each: pandas, and pyarrow's dataset with the folders as columns.
    frame = pd.read_parquet(folder)
    table = ds.dataset(folder, partitioning="hive").to_table()
    assert len(frame) == table.num_rows, (len(frame), table.num_rows)
    assert frame["id"].is_unique
    rows = {r["id"]: r for r in frame.to_dict("records")}
    stamps = frame.set_index("id")[["time", "published"]]
    values = 0
    for line in open(events, encoding="utf-8"):
        event = json.loads(line)
        result = event["data"]
        row = rows.pop(result["source_id"])
        want = {"result_id": result["id"], "key": result["key"], "score": result["score"], "model": result["model"],
                "version": result["version"], "route": result["route"], "contract": result["contract"],
                **result.get("outputs", {}), **result["features"]}
        for name, value in want.items():
            assert same(row[name], value), (name, row[name], value)
            values += 1
        time = pd.Timestamp(result["time"])
        assert row["time"] == time and row["published"] == pd.Timestamp(event["time"]), (row["time"], row["published"])
        assert str(row["date"]) == time.strftime("%Y-%m-%d") and int(row["hour"]) == time.hour
    assert not rows, f"{len(rows)} rows are no results"
    assert str(stamps["time"].dtype) == "datetime64[ns, UTC]", stamps["time"].dtype
    print(f"{len(frame)} rows, {values} values")


main()
