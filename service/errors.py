"""Every error that Plumbline raises on purpose. Knows no status codes: `api.http_errors` translates.

    PlumblineError
    |- ConfigurationError       a setting or the environment is wrong; start-up stops
    |- PackageError             a model package breaks its contract; it is not served
    |- ProviderError            the device that was asked for is not the one that would run
    |- RequestError             what a caller sent cannot be answered
    |  |- InvalidRequest        the body does not fit the model's schema
    |  |- BodyTooLarge          the body exceeds the byte limit
    |  |- TooManyInstances      more instances than one request may have
    |  |- UnsupportedMediaType  the body is not JSON
    |  |- NotAllowed            the service is set up not to do that
    |  `- UnknownModel          no such model, version or verb
    `- InferenceError           the request was fine, an answer could not be given
       |- NotReady              the model is not loaded and checked
       |- RecordsUnavailable    the audit database does not answer
       |- QueueFull             more rows are waiting than may wait
       |- DeadlineExceeded      the answer would come too late
       |- ModelFailed           the graph failed, or gave a value that is not finite
       `- NotOffered            the model's package lacks the part that was asked for

Messages say where the problem is and what is expected. They never repeat a value or a key that a caller sent;
the one exception is the model name and version in the path.
"""


class PlumblineError(Exception):
    """The root; catching it catches nothing that Python or a library raised."""


class ConfigurationError(PlumblineError):
    """A setting, an environment variable or an installed package is not what it must be."""


# Where a package may be refused.
LOADING_STEPS = (
    "manifest",
    "files",
    "reference",
    "series",
    "graph",
    "golden_rows",
    "explainer",
    "device",
    "records",
)


class PackageError(PlumblineError):
    """A model package breaks its contract. `step` is one of LOADING_STEPS."""

    step = "manifest"


class ProviderError(PlumblineError):
    """ONNX Runtime would not run on the device that was asked for."""

    step = "device"


class RequestError(PlumblineError):
    """What a caller sent cannot be answered."""


class InvalidRequest(RequestError):
    """The body does not fit; the message is `where: what is expected`."""

    def __init__(self, where: str, expected: str) -> None:
        super().__init__(f"{where}: {expected}")


class InvalidValue(InvalidRequest):
    """The value of a feature does not fit. `reason` is one of REFUSAL_REASONS."""

    def __init__(self, where: str, expected: str, *, feature: str, reason: str) -> None:
        super().__init__(where, expected)
        self.feature = feature
        self.reason = reason


class InvalidRow(InvalidRequest):
    """A value in a stream or file of rows, which are counted from 0, does not fit."""

    def __init__(self, row: int, feature: str, expected: str) -> None:
        super().__init__(f"row {row}, {feature}", expected)
        self.row = row
        self.feature = feature


# An undeclared category, a number outside the declared range, no such key, anything else.
REFUSAL_REASONS = ("category", "range", "absent", "type")


class BodyTooLarge(RequestError):
    """The body exceeds the byte limit."""


class TooManyInstances(RequestError):
    """More instances than one request may have."""


class UnsupportedMediaType(RequestError):
    """The body is declared as something other than JSON."""


class NotAllowed(RequestError):
    """The service is set up not to do that for callers."""


class UnknownModel(RequestError):
    """No such model, version or verb."""


class InferenceError(PlumblineError):
    """The request was fine, but an answer could not be given."""


class NotReady(InferenceError):
    """The model is not loaded and checked."""


class RecordsUnavailable(InferenceError):
    """The audit database does not answer, so that nothing may be decided."""


class QueueFull(InferenceError):
    """More rows are waiting than may wait; trying again after `retry_after_seconds` makes sense."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(InferenceError):
    """The answer would come after the deadline."""


class ModelFailed(InferenceError):
    """The graph failed on a row, or gave a value that is not finite. `row` counts within the caller's own rows."""

    def __init__(self, message: str, *, row: int) -> None:
        super().__init__(message)
        self.row = row


class NotOffered(InferenceError):
    """The model's package lacks the part that was asked for."""
