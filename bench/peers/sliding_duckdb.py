"""Comparison (h) on DuckDB: DIR KEYS FILLED BATCH EACH LIMIT; prints JSON."""
import json, os, resource, sys, time
import duckdb
import numpy as np

folder, keys, filled, batch, each, limit = sys.argv[1], *map(int, sys.argv[2:6]), float(sys.argv[6])
key, at, amt = (np.fromfile(os.path.join(folder, n), dtype="<i8") for n in ("key", "at", "amt"))
day = 86_400_000_000
spans = (day, 7 * day, 30 * day)


def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def rows(a, b):
    return {"i": np.arange(a, b), "k": key[a:b], "ts": at[a:b], "amt": amt[a:b]}


db = duckdb.connect()
db.execute(f"SET threads={os.cpu_count()}")
base = peak()
answers = []


def keep(r):
    for j in np.flatnonzero((r["i"] % each == 0) & (r["i"] >= filled)):
        answers.append({"i": int(r["i"][j]), "n": [int(r[f"n{s}"][j]) for s in range(3)],
                        "mean": [float(r[f"m{s}"][j]) / 100 for s in range(3)]})


if batch == 0:
    events = rows(0, len(key))
    db.execute("CREATE TABLE event AS SELECT i, k, ts, amt FROM events")
    frames = ", ".join(f"w{s} AS (PARTITION BY k ORDER BY ts RANGE BETWEEN {o - 1} PRECEDING AND CURRENT ROW)" for s, o in enumerate(spans))
    columns = ", ".join(f"count(*) OVER w{s} AS n{s}, avg(amt) OVER w{s} AS m{s}" for s in range(3))
    began, used = time.monotonic(), cpu()
    db.execute(f"CREATE TABLE answer AS SELECT i, {columns} FROM event WINDOW {frames}")
    wall, used, n = time.monotonic() - began, cpu() - used, len(key)
    top = peak()
    keep(db.execute(f"SELECT * FROM answer WHERE i % {each} = 0").fetchnumpy())
else:
    events = rows(0, filled)
    db.execute("CREATE TABLE event AS SELECT i, k, ts, amt FROM events")
    columns = ", ".join(f"count(*) FILTER (e.ts > b.ts - {o}) AS n{s}, avg(e.amt) FILTER (e.ts > b.ts - {o}) AS m{s}" for s, o in enumerate(spans))
    query = f"SELECT b.i, {columns} FROM b JOIN event e ON e.k = b.k AND e.ts <= b.ts AND e.ts > b.ts - {spans[2]} GROUP BY b.i"
    n = filled
    began, used = time.monotonic(), cpu()
    while n < len(key) and time.monotonic() - began < limit:
        b = rows(n, min(n + batch, len(key)))
        db.execute("INSERT INTO event SELECT i, k, ts, amt FROM b")
        keep(db.execute(query).fetchnumpy())
        n += len(b["i"])
    wall, used, n = time.monotonic() - began, cpu() - used, n - filled
    top = peak()
print(json.dumps({"events": n, "wall_ns": int(wall * 1e9), "cpu_ns": int(used * 1e9), "peak_bytes_per_key": (top - base) / keys, "answers": answers}))
