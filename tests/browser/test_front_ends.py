"""The main path of front ends other than JupyterLab, and of widgets of others.

Run by ``nox --session frontends``, which installs them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.labpage import Notebook
    from playwright.sync_api import Page

    OpenPage = Callable[[Sequence[str], str], Page]
    OpenNotebook = Callable[..., Notebook]


def needs(module: str) -> pytest.MarkDecorator:
    """Skip a test where a package is missing."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"pip install {module}")


FLOOD = "for number in range(2000):\n    display(number)"
SLIDER = "import ipywidgets\nslider, shown = ipywidgets.IntSlider(), ipywidgets.Label('none')\n"
SLIDER += "shown.add_class('shown')\n"
SLIDER += "slider.observe(lambda c: setattr(shown, 'value', f'{c.new} it is'), 'value')\n"
SLIDER += "ipywidgets.VBox([slider, shown])"
SHOWS_READOUT = """() => {
    const value = document.querySelector('.widget-readout').textContent;
    return value !== '0' && document.querySelector('.shown').textContent === `${value} it is`;
}"""


def move_slider(page: Page) -> None:
    """Move a slider by keyboard; each of its values is to be shown."""
    for step in range(1, 11):
        page.press(".noUi-handle", "ArrowRight")
        page.wait_for_selector(f".shown:has-text('{step} it is')")


def click_slider(page: Page) -> None:
    """Move a slider by the mouse, in Notebook 7, which takes its keys away; with stock as well."""
    for place in (50, 100, 150):
        page.click(".noUi-target", position={"x": place, "y": 2})
        page.wait_for_function(SHOWS_READOUT)


@needs("notebook")
def test_notebook_7_when_it_runs_cells_then_all_is_shown(open_notebook: OpenNotebook) -> None:
    """Stops Notebook 7 from missing output, questions or widgets."""
    notebook = open_notebook([FLOOD, "print('hello', input('Who? '))", SLIDER], path="notebooks")
    notebook.run(0)
    assert notebook.count(0) == 2000
    notebook.start(1)
    notebook.answer("everybody")
    notebook.wait_for_text(1, "hello everybody")
    notebook.run(2)
    click_slider(notebook.page)
    notebook.restart()
    notebook.wait_for_status("idle")


CLASSIC_READY = (
    "() => window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook._fully_loaded"
)
CLASSIC_RUN = "i => { Jupyter.notebook.execute_cells([i]); }"
CLASSIC_OUTPUTS = "i => Jupyter.notebook.get_cell(i).output_area.outputs"


@needs("nbclassic")
def test_nbclassic_when_it_runs_cells_then_all_is_shown(open_page: OpenPage) -> None:
    """Stops the default protocol, which it speaks, from losing output or questions."""
    page = open_page([FLOOD, "print('hello', input('Who? '))"], "nbclassic/notebooks")
    page.wait_for_function(CLASSIC_READY)
    page.evaluate(CLASSIC_RUN, 0)
    # The number comes with the reply, which may be ahead of the output.
    page.wait_for_function(f"i => ({CLASSIC_OUTPUTS})(i).length >= 2000", arg=0)
    outputs = page.evaluate(CLASSIC_OUTPUTS, 0)
    assert [one["data"]["text/plain"] for one in outputs] == [*map(str, range(2000))]
    page.evaluate(CLASSIC_RUN, 1)
    page.fill(".raw_input", "everybody")
    page.press(".raw_input", "Enter")
    page.wait_for_selector(".output_area:has-text('hello everybody')")


@needs("voila")
def test_voila_when_its_page_has_widgets_then_they_answer(open_page: OpenPage) -> None:
    """Stops a dashboard from being a dead page."""
    many = "ipywidgets.HBox([ipywidgets.Label(f'label {n};') for n in range(300)])"
    page = open_page([SLIDER, many, "print('the end')"], "voila/render")
    page.wait_for_selector(":text('the end')")
    page.wait_for_selector(".widget-label:has-text('label 299;')", state="attached")
    assert page.locator(".widget-label:has-text('label ')").count() == 300
    move_slider(page)


@needs("ipympl")
def test_plot_when_it_comes_as_buffers_then_it_is_drawn(open_notebook: OpenNotebook) -> None:
    """Stops the images of an interactive plot from being lost, or changed."""
    plot = "%matplotlib widget\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n"
    notebook = open_notebook([f"{plot}_ = ax.imshow([[0, 1], [1, 0]], cmap='gray')"])
    notebook.run(0)
    colours = "() => { const canvas = document.querySelector('.jupyter-matplotlib-canvas-container canvas');"
    colours += " if (!canvas || !canvas.width) return null;"
    colours += (
        " const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
    )
    colours += " let black = 0; for (let at = 0; at < all.length; at += 4)"
    colours += " { if (all[at + 3] === 255 && all[at] < 8) black += 1; } return black > 10000; }"
    notebook.page.wait_for_function(colours)
