"""What the chain knows about a user and a document, in Feast's own words."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, Int64, String, UnixTimestamp
from feast.value_type import ValueType

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
document = Entity(name="document", join_keys=["document_id"], value_type=ValueType.STRING)

user_profiles = FileSource(
    name="user_profiles",
    path="../../.headrace/tables/user_profiles",
    file_format=DeltaFormat(),
    timestamp_field="updated_at",
)
document_statistics = FileSource(
    name="document_statistics",
    path="../../.headrace/tables/document_stats",
    file_format=DeltaFormat(),
    timestamp_field="updated_at",
)

user_profile = FeatureView(
    name="user_profile",
    description="Who is asking; changes the wording asked for and which modules come first.",
    entities=[user],
    ttl=timedelta(days=365),
    source=user_profiles,
    schema=[
        Field(name="user_id", dtype=String),
        Field(name="experience_level", dtype=String, description="beginner or expert"),
        Field(name="preferred_modules", dtype=Array(String)),
        Field(name="tone", dtype=String, description="friendly or terse"),
        Field(name="tier", dtype=String, description="free or paid"),
    ],
)
document_stats = FeatureView(
    name="document_stats",
    description="How much a document is used and trusted; moves it up the ranking.",
    entities=[document],
    ttl=timedelta(days=90),
    source=document_statistics,
    schema=[
        Field(name="document_id", dtype=String),
        Field(name="views", dtype=Int64),
        Field(name="helpful_votes", dtype=Int64),
        Field(name="last_reviewed", dtype=UnixTimestamp),
    ],
)

rag_v1 = FeatureService(name="rag_v1", features=[user_profile, document_stats])
