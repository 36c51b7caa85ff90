"""shap's waterfall plot of one explanation, drawn in a process of its own.

The only place that imports shap and matplotlib, which are an optional extra (`plumbline[plots]`): drawing takes tenths
of a second and matplotlib is not safe to share between threads.
"""

import asyncio
import importlib.util
import io
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal

from service.errors import DeadlineExceeded, ModelFailed, NotOffered, QueueFull

Format = Literal["svg", "png"]
MOST_WAITING = 8
TIMEOUT_SECONDS = 30.0
MOST_FEATURES_SHOWN = 12


class Waterfalls:
    """Draws explanations, one at a time. The process starts with the first picture."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._waiting = 0

    async def draw(self, entry: dict[str, Any], *, output: int, form: Format) -> bytes:
        """The picture of one entry of `explanations`, for its column `output`.

        Raises NotOffered without the extra, QueueFull if too many pictures wait, DeadlineExceeded, ModelFailed if the
        drawing process dies.
        """
        if any(importlib.util.find_spec(name) is None for name in ("shap", "matplotlib")):
            raise NotOffered("accept: pictures need the extra plumbline[plots], which is not installed here")
        if self._waiting >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} pictures are being drawn already", retry_after_seconds=1.0)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._waiting += 1
        try:
            drawing = asyncio.get_running_loop().run_in_executor(self._pool, waterfall, entry, output, form)
            return await asyncio.wait_for(drawing, TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise DeadlineExceeded("the picture was not drawn in time") from error
        except BrokenProcessPool as error:
            self._pool = None
            raise ModelFailed("the picture could not be drawn", row=0) from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def waterfall(entry: dict[str, Any], output: int, form: Format) -> bytes:
    """SVG or PNG of an explanation with values, by `shap.plots.waterfall`. Runs in the drawing process."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    import shap
    from matplotlib import pyplot

    explanation = shap.Explanation(
        values=np.array(entry["values"])[:, output],
        base_values=entry["base_values"][output],
        data=np.array(["missing" if value is None else value for value in entry["data"]], dtype=object),
        feature_names=[name.replace("_", " ") for name in entry["feature_names"]],
    )
    axes = shap.plots.waterfall(explanation, max_display=MOST_FEATURES_SHOWN, show=False)
    axes.set_title(f"{entry['output_names'][output].replace('_', ' ')} ({entry['status']})", fontsize=14, pad=44)
    made = io.BytesIO()
    # A fixed salt and no date: the same explanation gives the same picture.
    with mpl.rc_context({"svg.hashsalt": "plumbline"}):
        axes.figure.savefig(made, format=form, bbox_inches="tight", metadata={"Date": None} if form == "svg" else None)
    pyplot.close("all")
    return made.getvalue()
