"""A feature server for the lookup suite: merchants by a string, customers by an
integer. Run as: repo.py PORT, in a folder with feature_store.yaml. It does what
`feast apply` and `feast serve` do, in one process, because importing Feast
takes seconds."""

import sys

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float64, Int64, String, UnixTimestamp

fields = [
    Field(name="risk", dtype=Float64),
    Field(name="visits", dtype=Int64),
    Field(name="vip", dtype=Bool),
    Field(name="city", dtype=String),
    Field(name="since", dtype=UnixTimestamp),
]
# Rows are written straight to the online store; the source is never read.
source = FileSource(name="source", path="none.parquet", timestamp_field="updated_at")
merchant = Entity(name="merchant", join_keys=["merchant_id"], value_type=ValueType.STRING)
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
views = [FeatureView(name="customers", entities=[customer], source=source, schema=[Field(name="customer_id", dtype=Int64), *fields])]
# The view of docs/lookups.md.
schema = [Field(name="merchant_id", dtype=String), Field(name="risk", dtype=Float64), Field(name="tier", dtype=String)]
views.append(FeatureView(name="merchants", entities=[merchant], source=source, schema=schema))
# A view for each table that the suite puts.
for i in range(30):
    schema = [Field(name="merchant_id", dtype=String), *fields]
    views.append(FeatureView(name=f"merchants{i}", entities=[merchant], source=source, schema=schema))

store = FeatureStore(".")
store.apply([merchant, customer, *views])
store.serve(host="127.0.0.1", port=int(sys.argv[1]))
