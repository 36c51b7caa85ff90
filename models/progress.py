"""The progress bar of all long work, on standard error so that standard output stays readable by programs."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def progress(*, transient: bool = False) -> Progress:
    """A bar with description, count and elapsed time; use it as a context manager.

    A transient one goes when it is done, and is not drawn at all where nobody watches.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=transient, disable=transient and not console.is_terminal)
