"""The command line of the measurements: this service beside the usual ways, and what its alerts and monitor cost."""

import contextlib
import signal
import sys

import typer

from bench.alerts import alerts
from bench.drift import drift
from bench.explain import explain
from bench.gpu import gpu
from bench.http import http
from bench.monitor import monitor

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
cli.command()(http)
cli.command()(explain)
cli.command()(gpu)
cli.command()(alerts)
cli.command()(drift)
cli.command()(monitor)
with contextlib.suppress(ModuleNotFoundError):  # of pyarrow, which the others do without
    from bench.score import score

    cli.command()(score)


@cli.callback()
def _main() -> None:
    # As an exception it lets the servers that were started be ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


if __name__ == "__main__":
    cli()
