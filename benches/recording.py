"""The recording in the README: one notebook on Jupyter Server, and on Jupyter Server with kernelwire.

Usage: ``python -m benches.recording docs/recording.gif``. Both run JupyterLab in Chromium, one after
the other, at the default limits; the pictures are put below each other by the time since the cell was
started. Needs what ``benches.labpage`` needs, and Pillow, which comes with matplotlib.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from benches.lab import LabServer
from benches.labpage import Notebook
from benches.notebooks import write_notebook
from kernelwire.bench.contenders import KERNELWIRE, STOCK
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.server import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernelwire.bench.contenders import Contender

END = "finished"
STEPS = 20_000
CELL = f"""\
progress = display("step 0", display_id=True)
for step in range(1, {STEPS + 1:_}):
    progress.update(f"step {{step:,}} of {STEPS:,}")
print("{END}")"""

TITLES = {STOCK.name: "Jupyter Server", KERNELWIRE.name: "Jupyter Server with kernelwire"}
SECONDS, INTERVAL_S, HELD_S = 16.0, 0.5, 4.0
"""How long is recorded, how often the picture changes, and for how long the last one stands."""
WIDTH, HEIGHT, TITLE_HEIGHT = 600, 180, 30
ZOOM = 1.15
COLOURS = 64

PLAIN = """zoom => {
    jupyterapp.shell.collapseLeft();
    jupyterapp.shell.collapseRight?.();
    document.querySelector('.jp-NotebookPanel-toolbar').style.display = 'none';
    document.body.style.zoom = zoom;
    const style = document.head.appendChild(document.createElement('style'));
    style.textContent = '.Toastify, .jp-Notebook-footer { display: none }';
}"""
"""Nothing but the notebook is of interest, and text is to be readable on a phone."""
CORNER = """zoom => {
    const area = document.querySelector('.jp-Notebook').getBoundingClientRect();
    return [Math.round(area.left * zoom), Math.round(area.top * zoom)];
}"""


def record(contender: Contender) -> list[tuple[float, Image.Image]]:
    """Run the notebook, and take pictures: seconds since the start of the cell, and what is seen."""
    pictures: list[tuple[float, Image.Image]] = []
    with running(LabServer(Settings.of(contender, lift_limits=False))) as server:
        write_notebook(server.root / "work" / "progress.ipynb", [CELL])
        url = f"http://127.0.0.1:{server.port}"
        with one_core(), Notebook.opened(url, server.token, "progress.ipynb") as notebook:
            page = notebook.page
            page.set_viewport_size({"width": WIDTH + 110, "height": 480})
            page.evaluate(PLAIN, ZOOM)
            page.wait_for_timeout(1_000)
            left, top = page.evaluate(CORNER, ZOOM)
            session = page.context.new_cdp_session(page)

            def painted(event: dict[str, Any]) -> None:
                now = time.monotonic() - begun
                picture = Image.open(io.BytesIO(base64.b64decode(event["data"]))).convert("RGB")
                pictures.append((now, picture.crop((left, top, left + WIDTH, top + HEIGHT))))
                session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

            session.on("Page.screencastFrame", painted)
            begun = time.monotonic()
            session.send("Page.startScreencast", {"format": "png", "everyNthFrame": 5})
            notebook.start(0)
            page.wait_for_timeout(SECONDS * 1000)
            session.send("Page.stopScreencast")
            shown = notebook.shown(0)
    print(f"{contender.name}: {len(pictures)} pictures, in the end {shown!r}")
    if contender is KERNELWIRE and END not in shown:
        # On a busy machine the kernel is slower than the limits, and both look the same.
        sys.exit(f"the cell has not ended within {SECONDS} s: record on a machine that is not busy")
    return pictures


@contextmanager
def one_core() -> Iterator[None]:
    """Have this thread, and a browser that it starts, leave the other cores to server and kernel.

    Elsewhere the browser has a machine of its own.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def at(pictures: list[tuple[float, Image.Image]], now: float) -> Image.Image:
    """Return what was seen at a time: the last picture that was taken by then."""
    seen = [picture for taken, picture in pictures if taken <= now]
    return seen[-1] if seen else pictures[0][1]


def frame(recorded: dict[str, list[tuple[float, Image.Image]]], now: float) -> Image.Image:
    """Put what was seen at a time below each other, each with its title."""
    whole = Image.new("RGB", (WIDTH, (HEIGHT + TITLE_HEIGHT) * len(recorded)), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=17)
    for index, (name, pictures) in enumerate(recorded.items()):
        top = index * (HEIGHT + TITLE_HEIGHT)
        whole.paste(at(pictures, now), (0, top + TITLE_HEIGHT))
        draw.rectangle((0, top, WIDTH, top + TITLE_HEIGHT), fill="#24425f")
        draw.text((10, top + 5), TITLES[name], fill="white", font=font)
        draw.text((WIDTH - 10, top + 5), f"{now:.1f} s", fill="white", font=font, anchor="ra")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Record both, and write the GIF."""
    parser = argparse.ArgumentParser(prog="python -m benches.recording", description=__doc__)
    parser.add_argument("file", help="the GIF to be written")
    options = parser.parse_args(arguments)
    end_on_signals()
    recorded = {contender.name: record(contender) for contender in (STOCK, KERNELWIRE)}
    times = [number * INTERVAL_S for number in range(int(SECONDS / INTERVAL_S))]
    palette = frame(recorded, times[-1]).quantize(COLOURS)
    first, *rest = (frame(recorded, now).quantize(palette=palette) for now in times)
    lengths = [int(INTERVAL_S * 1000)] * (len(times) - 1) + [int(HELD_S * 1000)]
    first.save(options.file, save_all=True, append_images=rest, duration=lengths, loop=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
