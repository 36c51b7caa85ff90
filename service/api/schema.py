"""A model's manifest -> the schema of its requests: validation straight from bytes, error messages, OpenAPI.

One set of types serves all three, so that the documentation cannot differ from what is accepted. Messages name
declared things only and never repeat what was submitted.
"""

import difflib
import re
from collections.abc import Iterable, Sequence, Sized
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import orjson
from pydantic import (
    AfterValidator,
    ConfigDict,
    FailFast,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    with_config,
)
from pydantic_core import from_json
from typing_extensions import TypedDict

from service.api.codec import Floats, matrix
from service.api.explanations import ExplainOptions
from service.errors import InvalidRequest, InvalidValue, RequestError, TooManyInstances
from service.manifest import RESERVED_GROUPS, Feature, Manifest, SensitiveFeature

EXPLAIN_FIELDS = ("top_k", "tolerance", "deadline_ms", "if")
# Shares of the largest value below 0.001 cannot be told from float32 rounding of the sums.
TOLERANCE = (0.001, 1.0)
DEADLINE_MS = (1.0, 600_000.0)
MAX_ID_LENGTH = 64
# PostgreSQL has no text with NUL in it.
Identifier = Annotated[str, Strict(), Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00]*$")]
IDENTIFIER_EXPECTED = f"a string of 1 to {MAX_ID_LENGTH} characters is expected, none of them NUL"
MAX_GROUP_LENGTH = 200
# A longer key is not compared with the declared names: the comparison is quadratic.
LONGEST_COMPARED_KEY = 200

# What pydantic calls it -> one of REFUSAL_REASONS.
REASONS = {
    "missing": "absent",
    "literal_error": "category",
    "greater_than_equal": "range",
    "less_than_equal": "range",
    "finite_number": "range",
}


class PredictRequest(NamedTuple):
    """A request that fits the model: `X` `(n, d)` float32, the caller's ids if any, groups for the monitor if any."""

    X: Floats
    ids: list[str] | None
    sensitive_features: list[dict[str, str]] | None
    explain: ExplainOptions | None


class RequestSchema:
    """Validates and documents the requests of one model version."""

    def __init__(self, manifest: Manifest, *, max_instances: int) -> None:
        self._features = {feature.name: feature for feature in manifest.features}
        self._sensitive = {feature.name: feature for feature in manifest.sensitive_features}
        self._max_instances = max_instances
        self._whens = whens(manifest)
        self._request = _request_type(manifest, max_instances)
        self._fields = self._request.__annotations__.keys()
        self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(self._request)
        self._validate = self._adapter.validator.validate_json
        companions: TypeAdapter[dict[str, Any]] = TypeAdapter(
            request_object("Companions", _companion_types(manifest, max_instances))
        )
        self._check_companions = companions.validator.validate_python

    def parse(self, body: bytes) -> PredictRequest:
        """Validate `body`.

        Raises InvalidRequest saying where the first problem is and what is expected there, or TooManyInstances.
        """
        try:
            request = self._validate(body)
        except ValidationError as error:
            raise self._translate(error, body) from None  # the cause quotes the input
        if not request.keys() <= self._fields:
            self._refuse_unknown("body", request, self._fields)
        instances: list[dict[str, Any]] = request["instances"]
        width = len(self._features)
        for index, row in enumerate(instances):
            if len(row) != width:
                self._refuse_unknown(f"instances[{index}]", row, self._features)
        return self._accompanied(matrix(instances), request)

    def accompany(self, X: Floats, companions: dict[str, Any]) -> PredictRequest:
        """Rows that came another way, with what may stand beside `instances`: parsed JSON, not validated.

        Raises InvalidRequest as `parse` does.
        """
        try:
            self._check_companions(companions)
        except ValidationError as error:
            raise self._translate(error, b"") from None  # the cause quotes the input
        return self._accompanied(X, companions)

    def _accompanied(self, X: Floats, companions: dict[str, Any]) -> PredictRequest:
        ids, groups = companions.get("ids"), companions.get("sensitive_features")
        if ids is not None:
            _same_length("ids", ids, X)
            if len(set(ids)) != len(ids):
                raise InvalidRequest("ids", "each id may stand in a request once")
        if groups is not None:
            _same_length("sensitive_features", groups, X)
            for index, row in enumerate(groups):
                self._refuse_unknown(f"sensitive_features[{index}]", row, self._sensitive, declare=True)
        return PredictRequest(X, ids, groups, self._options(companions.get("explain", False)))

    def _options(self, explain: bool | dict[str, Any]) -> ExplainOptions | None:
        if isinstance(explain, bool):
            return ExplainOptions() if explain else None
        self._refuse_unknown("explain", explain, EXPLAIN_FIELDS)
        top_k = explain.get("top_k")
        return ExplainOptions(
            top_k=None if top_k is None else int(top_k),
            tolerance=explain.get("tolerance"),
            deadline_ms=explain.get("deadline_ms"),
            when=explain.get("if", "always"),
        )

    def json_schema(self) -> dict[str, Any]:
        """The request's JSON Schema, self-contained."""
        return self._adapter.json_schema()

    def _refuse_unknown(
        self, where: str, found: dict[str, Any], known: Iterable[str], *, declare: bool = False
    ) -> None:
        names = list(known)
        text = _about_unknown(found, names)
        if text is None:
            return
        if declare:
            raise InvalidRequest(where, f"unknown sensitive feature; declared are: {', '.join(names) or 'none'}")
        raise InvalidRequest(where, text)

    def _translate(self, error: ValidationError, body: bytes) -> RequestError:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        first = errors[0]
        if first["loc"][:1] == ("explain",):  # two types were tried; the deepest error is about what was meant
            first = max(errors, key=lambda tried: len(tried["loc"]))
        location, kind = first["loc"], first["type"]
        if kind == "too_long" and location == ("instances",):
            return TooManyInstances(f"instances: at most {self._max_instances} are accepted")
        if kind == "json_invalid":
            position = re.search(r"line \d+ column \d+$", first["msg"])
            return InvalidRequest("body", f"valid JSON is expected ({position.group() if position else 'not UTF-8'})")
        if kind == "missing" and (misspelt := self._misspelt(location, body)):
            return misspelt
        return self._expectation(location, kind, _reason(errors, location, body))

    def _misspelt(self, location: tuple[int | str, ...], body: bytes) -> InvalidRequest | None:
        """The missing field may be there under another name: then that name is the better news."""
        if len(location) == 1:
            text = _about_unknown(from_json(body), list(self._fields))
            return None if text is None else InvalidRequest("body", text)
        text = _about_unknown(_at(body, location[:-1]), list(self._features))
        if text is None:
            return None
        return InvalidValue(f"instances[{location[1]}]", text, feature=str(location[2]), reason="absent")

    def _expectation(self, location: tuple[int | str, ...], kind: str, reason: str) -> InvalidRequest:
        match location:
            case ():
                return InvalidRequest("body", "a JSON object is expected")
            case ("instances",):
                return InvalidRequest("instances", f"a list of 1 to {self._max_instances} objects is expected")
            case ("instances", int(index), str(name), *_):
                text = ("missing; " if kind == "missing" else "") + expected_value(self._features[name])
                return InvalidValue(f"instances[{index}].{name}", text, feature=name, reason=reason)
            case ("ids", int(index), *_):
                return InvalidRequest(f"ids[{index}]", IDENTIFIER_EXPECTED)
            case ("sensitive_features", int(index), str(name), *_):
                text = expected_group(self._sensitive[name])
                return InvalidRequest(f"sensitive_features[{index}].{name}", text)
            case ("explain", _, str(option), *_) if option in EXPLAIN_FIELDS:
                return InvalidRequest(f"explain.{option}", self._expected_option(option))
            case ("explain", *_):
                return InvalidRequest("explain", f"true, false or an object of {', '.join(EXPLAIN_FIELDS)} is expected")
            case (str(field), int(index), *_):
                return InvalidRequest(f"{field}[{index}]", "an object is expected")
            case _:
                return InvalidRequest(str(location[0]), "a list, one entry per instance, is expected")

    def _expected_option(self, option: str) -> str:
        if option == "top_k":
            return f"a whole number from 1 to {len(self._features)} is expected"
        if option == "if":
            return f"one of {', '.join(self._whens)} is expected"
        low, high = TOLERANCE if option == "tolerance" else DEADLINE_MS
        return f"a number from {low:g} to {high:g} is expected"


def expected_value(feature: Feature, *, missing: str = "null") -> str:
    """What a value of `feature` must be, as a message says it; `missing` is how an absent one is written."""
    if feature.categories is not None:
        text = "one of " + ", ".join(orjson.dumps(value).decode() for value in feature.categories)
    elif feature.kind == "binary":
        text = "0, 1, false or true"
    else:
        text = ("a finite number" if feature.kind == "numeric" else "a whole number") + _range(feature)
    return f"{text}{f' or {missing}' if feature.nullable else ''} is expected"


def _range(feature: Feature) -> str:
    low, high = feature.minimum, feature.maximum
    unit = f" {feature.unit}" if feature.unit else ""
    if low is not None and high is not None:
        return f" from {_exactly(low)} to {_exactly(high)}{unit}"
    if low is not None:
        return f" of at least {_exactly(low)}{unit}"
    return f" of at most {_exactly(high)}{unit}" if high is not None else (unit and f" in{unit}")


def _exactly(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) and abs(bound) < 1e15 else repr(bound)


def expected_group(feature: SensitiveFeature) -> str:
    """What a value of a sensitive feature must be."""
    return f"a string is expected: {', '.join(feature.groups)} or {RESERVED_GROUPS[1]}; others count as other"


def _about_unknown(found: dict[str, Any], names: Sequence[str]) -> str | None:
    """What to say of the first key that is none of `names`; None where there is no such key."""
    unknown = next((key for key in found if key not in names), None)
    return None if unknown is None else "unknown field" + did_you_mean(unknown, names)


def _reason(errors: Sequence[Any], location: tuple[int | str, ...], body: bytes) -> str:
    """One of REFUSAL_REASONS for the value at `location`; a binary one has an error for each type that was tried."""
    kinds = [error["type"] for error in errors if error["loc"][:3] == location[:3]]
    if location[:1] == ("instances",) and "literal_error" in kinds and not isinstance(_at(body, location), str):
        return "type"
    return next((REASONS[kind] for kind in kinds if kind in REASONS), "type")


def _at(body: bytes, location: Sequence[int | str]) -> Any:
    """The part of the JSON `body` that an error is about."""
    part: Any = from_json(body)
    for step in location:
        part = part[step]
    return part


def did_you_mean(key: str, names: Sequence[str]) -> str:
    """The declared name that is close to `key`, else all of them, as the end of a message."""
    close = difflib.get_close_matches(key, names, 1) if len(key) <= LONGEST_COMPARED_KEY else []
    return f"; did you mean {close[0]}?" if close else f"; known are: {', '.join(names)}"


def _same_length(field: str, entries: Sequence[object], instances: Sized) -> None:
    if len(entries) != len(instances):
        raise InvalidRequest(field, "one entry per instance is expected")


def request_object(name: str, fields: dict[str, Any]) -> Any:
    """A TypedDict that keeps unknown keys, for the caller to find, and documents that there may be none.

    Forbidding them in the type costs 17 us of error building per unknown key: 12 s for a body of 8 MB.
    """
    config = ConfigDict(title=name, extra="allow", json_schema_extra={"additionalProperties": False})
    return with_config(config)(TypedDict(name, fields))  # type: ignore[operator]  # made at run time


def _request_type(manifest: Manifest, max_instances: int) -> Any:
    row = request_object("Instance", {feature.name: _feature_type(feature) for feature in manifest.features})
    rows = Annotated[list[row], Field(min_length=1, max_length=max_instances), FailFast()]  # type: ignore[valid-type]
    return request_object("PredictRequest", {"instances": rows, **_companion_types(manifest, max_instances)})


def _companion_types(manifest: Manifest, max_instances: int) -> dict[str, Any]:
    """What may stand beside the rows, whatever the protocol."""
    unique = Field(max_length=max_instances, json_schema_extra={"uniqueItems": True})
    groups: Any = request_object(
        "SensitiveFeatures",
        {feature.name: NotRequired[_group_type(feature)] for feature in manifest.sensitive_features},
    )
    return {
        "ids": NotRequired[Annotated[list[Identifier], unique, FailFast()]],
        "explain": NotRequired[_explain_type(manifest)],
        "sensitive_features": NotRequired[Annotated[list[groups], Field(max_length=max_instances), FailFast()]],
    }


def whens(manifest: Manifest) -> list[str]:
    """Which rows can be asked for: by label where one of the classes is the positive one."""
    return ["always", "positive", "negative"] if manifest.positive_class is not None else ["always"]


def _explain_type(manifest: Manifest) -> Any:
    def number(bounds: tuple[float, float], multiple_of: float | None, description: str) -> Any:
        limits = Field(ge=bounds[0], le=bounds[1], multiple_of=multiple_of, allow_inf_nan=False)
        kind: Any = Annotated[float, Strict(), limits, Field(description=description)]
        return NotRequired[kind if multiple_of is None else _whole(kind)]

    options = request_object(
        "ExplainOptions",
        {
            "top_k": number((1, len(manifest.features)), 1, "Certify this many top features; escalates if uncertain."),
            "tolerance": number(TOLERANCE, None, "Largest error, as a share of the largest value; escalates if above."),
            "deadline_ms": number(DEADLINE_MS, None, "Time for all explanations; rows not reached are skipped."),
            "if": NotRequired[Annotated[Literal[tuple(whens(manifest))], Field(description="Which rows, by label.")]],
        },
    )
    about = Field(description="Return a SHAP explanation of the margin for each instance.")
    return Annotated[Annotated[bool, Strict()] | options, about]


def _group_type(feature: SensitiveFeature) -> Any:
    described = Field(max_length=MAX_GROUP_LENGTH, examples=[*feature.groups, RESERVED_GROUPS[1]])
    return Annotated[str, Strict(), described]


def _feature_type(feature: Feature) -> Any:
    about: dict[str, Any] = {"description": feature.description} | ({"unit": feature.unit} if feature.unit else {})
    kind: Any
    if feature.categories is not None:
        indices = {category: index for index, category in enumerate(feature.categories)}
        kind = Annotated[Literal[tuple(feature.categories)], AfterValidator(indices.__getitem__)]
    elif feature.kind == "binary":
        one_or_zero = Annotated[float, Strict(), Field(ge=0, le=1, multiple_of=1, allow_inf_nan=False)]
        kind = Annotated[
            Annotated[bool, Strict()] | _whole(one_or_zero),
            WithJsonSchema({"enum": [0, 1, False, True]}),
        ]
    else:
        low, high = feature.bounds
        whole = 1 if feature.kind == "integer" else None
        kind = Annotated[float, Strict(), Field(ge=low, le=high, multiple_of=whole, allow_inf_nan=False)]
        kind = kind if whole is None else _whole(kind)
    return Annotated[kind | None if feature.nullable else kind, Field(json_schema_extra=about)]


def _whole(kind: Any) -> Any:
    """`kind`, a float, exactly whole: pydantic's own `multiple_of` takes 5.5e-15 for 0."""
    return Annotated[kind, AfterValidator(_exactly_whole)]


def _exactly_whole(value: float) -> float:
    if not value.is_integer():
        raise ValueError("a whole number is expected")
    return value
