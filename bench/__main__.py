"""The command line of the measurements: `http` beside the tutorial's way, `explain` beside shap."""

import signal
import sys

import typer

from bench.explain import explain
from bench.http import http

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
cli.command()(http)
cli.command()(explain)


@cli.callback()
def _main() -> None:
    # As an exception it lets the servers that were started be ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


if __name__ == "__main__":
    cli()
