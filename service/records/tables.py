"""The tables of the audit log, the same in SQLite and PostgreSQL.

A prediction is one row: what was decided about whom (by group, never by value), by which package, and, later, how it
turned out. Times are seconds since 1970 in UTC.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text

# SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535.
IDS_TOGETHER = 30_000
# Counts up with every change of these tables; a database of another version is refused.
SCHEMA_VERSION = 2
# Versions of which these tables are an extension: missing ones are made.
EXTENDED_VERSIONS = (1,)

metadata = MetaData()

schema = Table("plumbline_schema", metadata, Column("version", Integer, primary_key=True))

packages = Table(
    "packages",
    metadata,
    Column("package", Text, primary_key=True),  # begins the digest of the manifest, which has every file's digest
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of model.onnx
    Column("manifest", Text, nullable=False),  # JSON; reports and exports read past predictions by it
)

predictions = Table(
    "predictions",
    metadata,
    Column("model_name", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("package", Text, nullable=False),
    Column("predicted_at", Float(53), nullable=False),
    Column("predicted", Text, nullable=False),  # class label
    Column("score", Float(53), nullable=False),  # probability of the positive class, else of the predicted one
    Column("groups", Text, nullable=False),  # JSON object, sensitive feature -> declared or reserved group
    Column("probabilities", Text),  # JSON list, multi-class only: a retried request gets the same answer
    Column("features", Text),  # JSON object, as posted; only where a setting asks
    Column("explanation", Text),  # JSON object, as answered; only where a setting asks
    Column("actual", Text),  # class label, from the outcome
    Column("outcome_at", Float(53)),
    PrimaryKeyConstraint("model_name", "id"),
    Index("predictions_by_time", "model_name", "predicted_at"),
    sqlite_with_rowid=False,  # one tree instead of two for each row
)

# SHAP values added up by day and combination of groups, written over and over by the replica that explained. Without
# ids; but a sum over one row is that row's.
attributions = Table(
    "attributions",
    metadata,
    Column("package", Text, nullable=False),
    Column("day", Integer, nullable=False),  # its first second, UTC
    Column("replica", Text, nullable=False),
    Column("groups", Text, nullable=False),  # as in predictions
    Column("rows", Integer, nullable=False),
    Column("margin_sum", Float(53), nullable=False),
    Column("sums", Text, nullable=False),  # JSON list, one sum of SHAP values for each feature
    PrimaryKeyConstraint("package", "day", "replica", "groups"),
)

# Rows by bin of features and scores, added up by slots of time for all people together and, scores only, by group.
# Written over and over by the replica that counted, without ids.
drift_counts = Table(
    "drift_counts",
    metadata,
    Column("package", Text, nullable=False),
    Column("slot", BigInteger, nullable=False),  # its first second, UTC
    Column("replica", Text, nullable=False),
    Column("counts", Text, nullable=False),  # JSON list, in the order that the package's reference gives
    PrimaryKeyConstraint("package", "slot", "replica"),
)


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """`ids` in parts that fit into one statement each."""
    for start in range(0, len(ids), IDS_TOGETHER):
        yield ids[start : start + IDS_TOGETHER]
