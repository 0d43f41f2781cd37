"""How long does a person wait in JupyterLab, while 20,000 displays wait? At the default limits.

Usage: ``python -m benches.lab --json benches/results/lab.json``; see benches/README.md. In Chromium, Tab
is pressed at the end of a line, and a slider is moved by its arrow key, in turn, while a third cell's
output comes. Told are the milliseconds from the key until the proposals, or the slider's label, are on
the screen, and how many of the displays were there then. In a cell that displays without end, the
button is pressed that interrupts it: the milliseconds until its error, and until its number.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from playwright.sync_api import TimeoutError as NotSeenError

from benches import rounds
from benches.labpage import COMPLETER, Notebook
from benches.notebooks import write_notebook
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.server import Server, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelwire.bench.contenders import Contender

COUNT = 20_000
SETTLED_S = 5.0
"""A browser has to show the first 3,000 displays first, which come at once, as without kernelwire."""
SAMPLES = 10
GIVEN_UP_MS = 2_000
"""JupyterLab itself gives up proposals that take longer than a second."""
LONGEST_S = 25.0
"""Seconds after which a cell is not waited for any more; at the limits, the displays take 17."""
FLOOD_S = 6.0

WIDGETS = """
%config IPCompleter.use_jedi = False
import os, ipywidgets
from IPython.display import display
slider, label = ipywidgets.IntSlider(), ipywidgets.Label("at 0")
label.add_class("position")
slider.observe(lambda change: setattr(label, "value", f"at {change.new}"), "value")
display(slider, label)
"""

BACKLOG = f"""
shell = get_ipython().kernel
session, parent = shell.session, shell.get_parent()
def message(number):
    content = dict(data={{"text/plain": str(number)}}, metadata=dict(), transient=dict())
    made = session.msg("display_data", content=content, parent=parent)
    return session.serialize(made, ident=b"display_data")
messages = [message(number) for number in range({COUNT})]
def publish():
    for each in messages:
        shell.iopub_thread.socket.send_multipart(each)
shell.iopub_thread.schedule(publish)
"""

FLOOD = "while True:\n    display('x' * 300)"

WATCH = """([selector, text]) => {
    const look = () => {
        const found = document.querySelector(selector);
        const shown = found && found.getClientRects().length && found.textContent !== text;
        if (shown) watched.shown = performance.now();
        else requestAnimationFrame(look);
    };
    window.watched = {};
    document.addEventListener(
        'keydown', event => { watched.pressed = event.timeStamp; look(); }, {capture: true, once: true},
    );
}"""

WATCH_END = """([cell]) => {
    const notebook = jupyterapp.shell.currentWidget.content;
    const look = () => {
        const outputs = notebook.model.cells.get(cell).outputs;
        const last = Math.max(0, outputs.length - 8);
        for (let at = last; at < outputs.length && !watched.error; at++)
            if (outputs.get(at).type === 'error') watched.error = performance.now();
        const prompt = notebook.widgets[cell].node.querySelector('.jp-InputPrompt').textContent;
        if (/^\\[\\d+\\]/.test(prompt)) watched.ended = performance.now();
        else requestAnimationFrame(look);
    };
    window.watched = {};
    document.addEventListener(
        'mousedown', event => { watched.pressed = event.timeStamp; look(); },
        {capture: true, once: true},
    );
}"""


class LabServer(Server):
    """A server with JupyterLab in it."""

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Have it load JupyterLab."""
        config = super().configuration()
        config["ServerApp"]["jpserver_extensions"]["jupyterlab"] = True
        return config | {"LabApp": {"expose_app_in_browser": True, "news_url": None}}


def press(notebook: Notebook, key: str, selector: str, text: str) -> float | None:
    """Press a key; milliseconds until something else than ``text`` is at the selector."""
    notebook.page.evaluate(WATCH, [selector, text])
    notebook.page.keyboard.press(key)
    try:
        notebook.page.wait_for_function("() => watched.shown", timeout=GIVEN_UP_MS)
    except NotSeenError:
        return None
    return float(notebook.page.evaluate("() => watched.shown - watched.pressed"))


def press_both(notebook: Notebook) -> dict[str, float | None]:
    """Press Tab in one cell, and move the slider of another; the milliseconds of each."""
    notebook.edit_at_end(1)
    completion = press(notebook, "Tab", COMPLETER, "")
    if completion is not None:
        notebook.escape()
    notebook.page.focus(".noUi-handle")
    label = ".position"
    slider = press(notebook, "ArrowRight", label, notebook.page.inner_text(label))
    return {"completion": completion, "slider": slider}


def wait_behind(notebook: Notebook) -> list[dict[str, Any]]:
    """Press both keys in turn before the displays come, and while they do."""
    notebook.run(0)
    notebook.page.wait_for_selector(".position")
    seen: list[dict[str, Any]] = [
        {"phase": "before", **press_both(notebook)} for _ in range(SAMPLES)
    ]
    notebook.start(2)
    notebook.wait_for_count(2, 1)
    begun = time.monotonic()
    while notebook.is_running(2) and time.monotonic() - begun < LONGEST_S:
        phase = "first" if time.monotonic() - begun < SETTLED_S else "then"
        pressed = press_both(notebook)
        if notebook.count(2) < COUNT:
            seen.append({"phase": phase, **pressed})
    return seen


def interrupt(notebook: Notebook) -> dict[str, float | None]:
    """Press the button; milliseconds until the error and the number of the cell are there."""
    notebook.start(3)
    notebook.wait_for_count(3, 1)
    notebook.page.wait_for_timeout(FLOOD_S * 1000)
    notebook.page.evaluate(WATCH_END, [3])
    notebook.interrupt()
    with suppress(NotSeenError):
        notebook.page.wait_for_function("() => watched.ended", timeout=LONGEST_S * 1000)
    error, ended = notebook.page.evaluate(
        """() => [watched.error, watched.ended].map(at => at ? at - watched.pressed : null)"""
    )
    return {"error_ms": error, "number_ms": ended}


def measure(contender: Contender) -> dict[str, Any]:
    """One observation in a fresh server, and a fresh browser."""
    settings = Settings.of(contender, lift_limits=False, config=contender.config)
    with running(LabServer(settings)) as server:
        write_notebook(
            server.root / "work" / "lab.ipynb", [WIDGETS, "import os\nos.pa", BACKLOG, FLOOD]
        )
        url = f"http://127.0.0.1:{server.port}"
        with Notebook.opened(url, server.token, "lab.ipynb") as notebook:
            seen = {"waits": wait_behind(notebook), "displays": notebook.count(2)}
            # What never ends behind output that was lost is in the way of the next cell.
            return {**seen, "ended": not notebook.is_running(2), "interrupt": interrupt(notebook)}


def describe(outcome: dict[str, Any]) -> str:
    """Put an observation into words."""
    parts = [f"{outcome['displays']} of {COUNT} displays"]
    for what in ("completion", "slider"):
        for phase in ("before", "first", "then"):
            times = [one[what] for one in outcome["waits"] if one["phase"] == phase]
            told = ", ".join("never" if ms is None else f"{ms:.0f}" for ms in times[:SAMPLES])
            parts.append(f"{what} {phase}: {told or '-'} ms")
    ends = outcome["interrupt"]
    parts.append(f"interrupt: error {ends['error_ms']}, number {ends['number_ms']} ms")
    return "; ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Observe each contender in turn."""
    options = rounds.parser("lab", __doc__).parse_args(arguments)
    end_on_signals()

    def measured(contender: Contender) -> dict[str, Any]:
        outcome = measure(contender)
        print(f"{contender.name:20} {describe(outcome)}", flush=True)
        return outcome

    settings = {"count": COUNT, "settled_s": SETTLED_S, "flood_s": FLOOD_S}
    rounds.write(options, "lab", settings, rounds.observe(options, measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
