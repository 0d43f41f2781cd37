"""What a person sees in JupyterLab while working: questions, restarts, closed tabs, networks, files.

Run by ``nox --session browser``, which installs JupyterLab and Playwright.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benches.labpage import Notebook

    OpenNotebook = Callable[[Sequence[str]], Notebook]


def test_question_when_it_is_answered_then_the_cell_goes_on(open_notebook: OpenNotebook) -> None:
    """Stops a cell from hanging because its question, or the answer, got lost in a flood."""
    ask = "for _ in range(3000):\n    print('before it')\nname = input('Who? ')\nprint(f'hello {name}')"
    notebook = open_notebook([ask])
    notebook.start(0)
    notebook.answer("everybody")
    notebook.wait_for_number(0)
    shown = notebook.shown(0).split()
    assert shown[:6000] == ["before", "it"] * 3000
    # The question itself goes a moment later.
    assert shown[6000:6004] == ["Who?", "everybody", "hello", "everybody"]


def test_kernel_when_it_is_restarted_in_a_flood_then_the_next_cell_runs(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a notebook from being dead, or busy for good, behind a restart."""
    notebook = open_notebook(["while True:\n    display('x' * 300)", "print('next')"])
    notebook.start(0)
    notebook.wait_for_count(0, 3000)
    notebook.restart()
    notebook.run(1)
    assert notebook.shown(1).strip() == "next"
    assert not notebook.is_running(0)
    notebook.wait_for_status("idle")


@pytest.fixture
def end(lab: tuple[str, Path], request: pytest.FixtureRequest) -> Path:
    """What ends a cell, once it exists."""
    _, home = lab
    return home / f"{request.node.originalname}.end"


def open_in_the_middle(open_notebook: OpenNotebook, end: Path, step: str) -> Notebook:
    """Open a notebook whose first cell runs, a step after the other, until a file exists."""
    waiting = f"import os, time\nprint('begun')\nwhile not os.path.exists({str(end)!r}):\n"
    notebook = open_notebook([f"{waiting}    {step}\nended = 1", "print('ended:', ended)"])
    notebook.start(0)
    notebook.wait_for_text(0, "begun")
    notebook.save()
    return notebook


def check_that_the_next_runs(notebook: Notebook, end: Path) -> None:
    """Have that cell end, and see that the one behind it runs then."""
    notebook.start(1)
    end.touch()
    notebook.wait_for_number(1)
    assert notebook.shown(1).strip() == "ended: 1"
    notebook.wait_for_status("idle")


def test_page_when_it_is_reloaded_in_the_middle_of_a_cell_then_the_kernel_is_as_it_was(
    open_notebook: OpenNotebook, end: Path
) -> None:
    """Stops a page that is opened again from showing a wrong state, or from missing what follows."""
    notebook = open_in_the_middle(open_notebook, end, "time.sleep(0.1)")
    notebook.reload()
    # It says that the state is unknown, with stock as well: it has asked the kernel, which runs.
    check_that_the_next_runs(notebook, end)


def test_tab_when_it_is_closed_in_the_middle_of_a_cell_then_another_one_goes_on(
    open_notebook: OpenNotebook, end: Path
) -> None:
    """Stops a kernel from being dead, or asked for anew, for whoever closes a tab and opens it again."""
    notebook = open_in_the_middle(open_notebook, end, "print('x' * 500); time.sleep(0.01)")
    notebook.reopen()
    check_that_the_next_runs(notebook, end)


def test_slider_when_it_is_moved_by_keyboard_then_its_value_is_soon_shown(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a widget from following the hand late, or not at all."""
    slider = "import ipywidgets\nslider, shown = ipywidgets.IntSlider(), ipywidgets.Label('none')\n"
    slider += "shown.add_class('shown')\n"
    slider += "slider.observe(lambda c: setattr(shown, 'value', f'{c.new} it is'), 'value')\n"
    notebook = open_notebook([f"{slider}ipywidgets.VBox([slider, shown])"])
    notebook.run(0)
    for step in range(1, 21):
        notebook.move_slider(".shown")
        assert notebook.page.inner_text(".shown") == f"{step} it is"


def test_network_when_it_is_gone_for_seconds_then_what_was_printed_meanwhile_is_shown(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a gap in a cell's output where a laptop has lost its network."""
    ticks = "import time\nfor number in range(150):\n    print(f'tick {number};', flush=True)\n"
    notebook = open_notebook([f"{ticks}    time.sleep(0.1)"])
    notebook.start(0)
    notebook.wait_for_text(0, "tick 5;")
    notebook.lose_network(5)
    notebook.wait_for_number(0)
    assert notebook.shown(0).split("\n")[:-1] == [f"tick {number};" for number in range(150)]


def test_image_when_it_comes_as_a_buffer_then_it_is_shown(open_notebook: OpenNotebook) -> None:
    """Stops binary messages to the browser from being lost, or changed."""
    image = "import base64, ipywidgets, struct, zlib\n"
    image += "def chunk(kind, data):\n    end = struct.pack('>I', zlib.crc32(kind + data))\n"
    image += "    return struct.pack('>I', len(data)) + kind + data + end\n"
    image += "rows = zlib.compress((b'\\0' + bytes(range(256)) * 9) * 321, 0)\n"
    image += "head = chunk(b'IHDR', struct.pack('>IIBBBBB', 768, 321, 8, 2, 0, 0, 0))\n"
    image += "png = b'\\x89PNG\\r\\n\\x1a\\n' + head + chunk(b'IDAT', rows) + chunk(b'IEND', b'')\n"
    image += "assert len(png) > 700_000\nipywidgets.Image(value=png)"
    notebook = open_notebook([image])
    notebook.run(0)
    size = "() => { const shown = document.querySelector('img.widget-image');"
    size += (
        " return shown && shown.naturalWidth ? [shown.naturalWidth, shown.naturalHeight] : null; }"
    )
    assert notebook.page.wait_for_function(size).json_value() == [768, 321]


def test_file_when_it_is_uploaded_by_a_widget_then_the_kernel_has_every_byte(
    open_notebook: OpenNotebook,
) -> None:
    """Stops binary messages of megabytes to the kernel from being lost, or changed."""
    content = random.Random(8).randbytes(8 << 20)
    digest = "import hashlib\n(file,) = upload.value\n"
    digest += "print(len(file.content), hashlib.sha256(file.content).hexdigest())"
    notebook = open_notebook(
        ["import ipywidgets\nupload = ipywidgets.FileUpload()\nupload", digest]
    )
    notebook.run(0)
    with notebook.page.expect_file_chooser() as chooser:
        notebook.page.click(".widget-upload")
    file = {"name": "some.bin", "mimeType": "application/octet-stream", "buffer": content}
    chooser.value.set_files(file)  # type: ignore[arg-type]
    notebook.page.wait_for_selector(".widget-upload:has-text('(1)')")
    notebook.run(1)
    assert notebook.shown(1).split() == [str(len(content)), hashlib.sha256(content).hexdigest()]


def test_debugger_when_the_page_is_reloaded_while_it_has_stopped_then_one_can_go_on(
    open_notebook: OpenNotebook,
) -> None:
    """Stops a kernel that stands at a breakpoint from being lost with the page."""
    lines = ["first = 1", "second = first + 1", "third = second + 1", "fourth = third + 1"]
    notebook = open_notebook(["\n".join(lines), "print('sum:', first + second + third + fourth)"])
    page = notebook.page
    page.click(".jp-DebuggerBugButton")
    page.locator(".cm-breakpoint-gutter .cm-gutterElement").nth(2).click()
    page.wait_for_selector(".cm-gutterElement:nth-child(3) .cm-breakpoint-icon")
    notebook.start(0)
    page.wait_for_selector(f".jp-DebuggerEditor-highlight:has-text('{lines[1]}')")
    page.click('[data-command="debugger:next"]')
    page.wait_for_selector(f".jp-DebuggerEditor-highlight:has-text('{lines[2]}')")
    notebook.save()
    notebook.reload()
    page.wait_for_selector(".jp-DebuggerCallstackFrame:has-text(':3')")
    # Until it is known that the kernel has stopped, the button is there, and does nothing.
    page.click('[data-command="debugger:continue"][aria-disabled="false"]')
    notebook.run(1)
    assert notebook.shown(1).strip() == "sum: 10"
