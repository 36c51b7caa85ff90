"""Audit records as a Parquet file, for auditors and for retraining. The only place that imports pyarrow, an extra."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ColumnElement, Engine, func, select

from service.errors import ConfigurationError
from service.manifest import Feature, Manifest
from service.records.counts import reading
from service.records.tables import packages, predictions

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_TOGETHER = 10_000


class Export:
    """The predictions of one model from `since` to `until` (seconds since 1970), oldest first."""

    def __init__(self, engine: Engine, model_name: str, *, since: float, until: float) -> None:
        self._engine = engine
        self._model_name = model_name
        table = predictions.c
        self._wanted: list[ColumnElement[bool]] = [
            table.model_name == model_name,
            table.predicted_at >= since,
            table.predicted_at < until,
        ]
        with reading(engine) as connection:
            self.rows = connection.execute(select(func.count()).where(*self._wanted)).scalar_one()
            self._manifests = {
                package: Manifest.model_validate_json(manifest)
                for package, manifest in connection.execute(
                    select(packages.c.package, packages.c.manifest).where(packages.c.model_name == model_name)
                )
            }

    def write(self, path: Path, progress: Callable[[int], None]) -> None:
        """Write `path` anew, whole or not at all; `progress` is told how many rows more are done.

        Raises ConfigurationError without the extra, RecordsUnavailable if the database does not answer.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ConfigurationError("records export needs the extra plumbline[export], not installed here") from error
        schema = self._schema()
        unfinished = path.with_name(path.name + ".unfinished")
        try:
            with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
                for rows in self._batches():
                    writer.write_table(pa.Table.from_pylist([self._row(row) for row in rows], schema=schema))
                    progress(len(rows))
            unfinished.replace(path)
        except pa.ArrowException as error:  # its message may quote a value
            raise ConfigurationError(
                "records export: the records do not fit the features of the newest version"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _batches(self) -> Iterator[Sequence[Any]]:
        table = predictions.c
        statement = select(predictions).where(*self._wanted).order_by(table.predicted_at, table.id)
        with reading(self._engine) as connection:
            found = connection.execution_options(yield_per=ROWS_TOGETHER).execute(statement)
            yield from found.partitions()

    def _features(self) -> list[Feature]:
        """Every feature of any version, by name; the newest version's kind counts."""
        newest_last = sorted(self._manifests.values(), key=lambda manifest: int(manifest.version))
        return list({feature.name: feature for manifest in newest_last for feature in manifest.features}.values())

    def _schema(self) -> "pa.Schema":
        import pyarrow as pa

        time, text = pa.timestamp("us", tz="UTC"), pa.string()
        kinds = {"numeric": pa.float64(), "integer": pa.int64(), "binary": pa.int64(), "categorical": text}
        names = {feature.name for manifest in self._manifests.values() for feature in manifest.sensitive_features}
        return pa.schema(
            [
                ("model_name", text),
                ("model_version", text),
                ("digest", text),
                ("id", text),
                ("predicted_at", time),
                ("predicted", text),
                ("score", pa.float64()),
                ("probabilities", pa.list_(pa.float64())),
                ("actual", text),
                ("outcome_at", time),
                ("groups", pa.struct([(name, text) for name in sorted(names)])),
                ("features", pa.struct([(feature.name, kinds[feature.kind]) for feature in self._features()])),
                ("explanation", text),
            ]
        )

    def _row(self, row: Any) -> dict[str, Any]:
        manifest = self._manifests[row.package]
        return {
            "model_name": row.model_name,
            "model_version": manifest.version,
            "digest": manifest.digests["model.onnx"],
            "id": row.id,
            "predicted_at": _time(row.predicted_at),
            "predicted": row.predicted,
            "score": row.score,
            "probabilities": None if row.probabilities is None else orjson.loads(row.probabilities),
            "actual": row.actual,
            "outcome_at": _time(row.outcome_at),
            "groups": orjson.loads(row.groups),
            "features": None if row.features is None else orjson.loads(row.features),
            "explanation": row.explanation,
        }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
