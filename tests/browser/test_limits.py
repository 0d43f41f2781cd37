"""What a person sees in JupyterLab at the default limits, of output that comes faster than those.

Run by ``nox --session browser``, which installs JupyterLab and Playwright.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from benches.lab import BACKLOG, WIDGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benches.labpage import Notebook

    OpenNotebook = Callable[[Sequence[str]], Notebook]


def notices(notebook: Notebook, cell: int) -> list[str]:
    """What is said on stderr below a cell, where nothing but notices is."""
    outputs = notebook.outputs(cell)
    return ["".join(one["text"]) for one in outputs if one.get("name") == "stderr"]


@pytest.mark.fails_on_stock("updates are withheld, and the cell hangs at [*]")
def test_loop_when_it_updates_a_display_20000_times_then_its_last_step_is_shown(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a progress from standing still at a step in the middle."""
    loop = "handle = display('step 0', display_id=True)\n"
    loop += "for step in range(1, 20001):\n    handle.update(f'step {step}')"
    notebook = open_notebook(["from IPython.display import display\n" + loop])
    notebook.run(0)
    assert notebook.shown(0).strip() == "'step 20000'"
    assert notebook.count(0) == 1


def test_displays_when_there_are_5000_then_the_notebook_has_all(
    open_notebook: OpenNotebook, lab: tuple[str, Path], request: pytest.FixtureRequest
) -> None:
    """Stops output from missing in the file because it came fast."""
    notebook = open_notebook(["for number in range(5000):\n    display(number)"])
    notebook.run(0)
    notebook.save()
    _, home = lab
    saved = json.loads((home / f"{request.node.originalname}.ipynb").read_text())
    outputs = saved["cells"][0]["outputs"]
    assert ["".join(one["data"]["text/plain"]) for one in outputs] == [*map(str, range(5000))]


@pytest.mark.fails_on_stock("updates are withheld, and the cell hangs at [*]")
def test_progress_bar_when_it_draws_every_step_then_it_ends_at_100_percent(
    open_notebook: OpenNotebook,
) -> None:
    """Stops widgets from being left where a limit cut them off, and the rest of the cell with them."""
    bar = "from tqdm.notebook import tqdm\n"
    bar += "for _ in tqdm(range(20000), mininterval=0, miniters=1): pass\nprint('behind it')"
    notebook = open_notebook([bar])
    notebook.run(0)
    shown = notebook.shown(0)
    assert "100%" in shown
    assert "20000/20000" in shown
    assert "behind it" in shown
    assert not notices(notebook, 0)


def test_display_when_it_takes_the_place_of_many_then_it_is_shown(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a cell from ending empty, where its output was cleared for what then did not come."""
    cell = "from IPython.display import clear_output\nfor number in range(3500):\n"
    cell += "    display(number)\nclear_output()\ndisplay('final')"
    notebook = open_notebook([cell])
    notebook.run(0)
    assert notebook.shown(0).strip() == "'final'"


@pytest.mark.fails_on_stock("displays are withheld, and the cell hangs at [*]")
def test_completion_and_widgets_when_20000_displays_wait_then_they_are_answered_meanwhile(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a notebook from being dead until all output of a cell has come."""
    notebook = open_notebook([WIDGETS, "import os\nos.pa", BACKLOG])
    notebook.run(0)
    notebook.page.wait_for_selector(".position")
    notebook.start(2)
    notebook.wait_for_count(2, 1)
    for step in (1, 2):
        notebook.complete(1)
        notebook.escape()
        notebook.move_slider(".position")
        assert notebook.page.inner_text(".position") == f"at {step}"
        assert notebook.is_running(2)
        assert notebook.count(2) < 20_000
    notebook.wait_for_number(2)
    shown = [one["data"]["text/plain"] for one in notebook.outputs(2)]
    assert shown == [*map(str, range(20_000))]


def test_flood_when_it_is_interrupted_then_the_cell_ends_with_its_error_and_one_knows_why(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a cell from going on for minutes after the button was pressed."""
    notebook = open_notebook(["while True:\n    display('x' * 300)", "print('next')"])
    notebook.start(0)
    notebook.wait_for_count(0, 3000)
    notebook.interrupt()
    notebook.wait_for_number(0)
    assert notebook.outputs(0)[-1]["ename"] == "KeyboardInterrupt"
    told = notices(notebook, 0)
    assert all("were skipped because the kernel was interrupted" in notice for notice in told)
    notebook.run(1)
    assert notebook.shown(1).strip() == "next"
