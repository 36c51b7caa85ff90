"""What a user asks of `python -m models package`, in the words of its options."""

from dataclasses import dataclass
from pathlib import Path

from models.packaging.outputs import Meaning


@dataclass(frozen=True)
class Request:
    """The options; those that are None or empty are inferred, and the inference is reported."""

    onnx: Path
    data: Path
    name: str
    version: str
    repository: Path
    label: str | None = None
    sensitive: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    ranges: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    schema: Path | None = None
    classes: tuple[str, ...] | None = None
    positive: str | None = None
    favourable: str | None = None
    threshold: float | None = None
    reference: tuple[str, ...] = ()
    intersections: tuple[str, ...] = ()
    output: Meaning | None = None
    description: str | None = None
    held_out: bool = False
    replace: bool = False
