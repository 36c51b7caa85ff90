"""What a user declares about features by hand: `--range`, `--nullable` and the `--schema` file.

# features.yaml: names as in the data, fields as in the manifest
income: {kind: numeric, unit: EUR, minimum: 0, nullable: true, description: net, a month}
home: {kind: categorical, categories: [own, rent, mortgage]}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.packaging.findings import listed
from service.errors import PackageError
from service.manifest import Feature

FIELDS = [name for name in Feature.model_fields if name != "name"]
Declared = dict[str, dict[str, Any]]


def declared(schema: Path | None, ranges: Sequence[str], nullable: Sequence[str]) -> Declared:
    """Fields of `service.manifest.Feature` by feature name, from all three sources; the options win over the file."""
    found: Declared = {name: dict(fields) for name, fields in (read_schema(schema) if schema else {}).items()}
    for text in ranges:
        name, bounds = parse_range(text)
        found.setdefault(name, {}).update(bounds)
    for name in nullable:
        found.setdefault(name, {})["nullable"] = True
    return found


def parse_range(text: str) -> tuple[str, dict[str, float]]:
    """`age=18:110` -> ("age", {"minimum": 18, "maximum": 110}); either side may be left open."""
    name, equals, bounds = text.rpartition("=")
    low, colon, high = bounds.partition(":")
    try:
        found = {key: float(side) for key, side in (("minimum", low), ("maximum", high)) if side.strip()}
    except ValueError:
        found = {}
    if not (equals and colon and name.strip() and found):
        raise PackageError(f"--range: {text!r} must read NAME=LOW:HIGH, with numbers, one of which may be left out")
    return name.strip(), found


def read_schema(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The YAML file `path`; PackageError names the feature and the field that cannot stand there."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise PackageError("--schema: reading it needs PyYAML: pip install PyYAML") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackageError(f"--schema: {path.name} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PackageError(f"--schema: {path.name} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not all(isinstance(fields, dict) for fields in content.values()):
        raise PackageError(f"--schema: {path.name} must map each feature's name to its fields: {listed(FIELDS)}")
    for name, fields in content.items():
        if unknown := sorted(str(key) for key in fields if key not in FIELDS):
            raise PackageError(f"--schema: {name}: unknown {listed(unknown)}; the fields are {listed(FIELDS)}")
    return {str(name): fields for name, fields in content.items()}
