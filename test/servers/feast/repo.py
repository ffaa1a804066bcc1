"""Features for the lookup suite: merchants by a string, customers by an integer."""

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
views = [
    FeatureView(name="merchants", entities=[merchant], source=source, schema=[Field(name="merchant_id", dtype=String), *fields]),
    FeatureView(name="customers", entities=[customer], source=source, schema=[Field(name="customer_id", dtype=Int64), *fields]),
]

FeatureStore(".").apply([merchant, customer, *views])
