"""Structured logs on standard output: one JSON object or one readable line per event, ours and the libraries' alike."""

import logging
import sys

import orjson
import structlog


def is_console(form: str) -> bool:
    """Whether logs are for a person: `form` is `console`, or `auto` on a terminal."""
    return form == "console" or (form == "auto" and sys.stdout.isatty())


def configure_logs(*, level: str, form: str) -> None:
    """Send everything to standard output. `form` is `json`, `console`, or `auto`: console on a terminal."""
    console = is_console(form)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if console
        else structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode())
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))
    logging.captureWarnings(True)
