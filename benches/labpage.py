"""A notebook in JupyterLab, in Chromium: what a person does there, and sees.

Needs ``jupyterlab`` and ``playwright`` (``pip install kernelwire[browser]``), and Debian's ``chromium``.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as NotSeenError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMPLETER", "Notebook", "browser_page", "chromium"]

PATIENCE_MS = 120_000
"""Time in which a cell must end; a flood at the default limits takes 20 s."""

PRESSES = 10
"""How often Tab is pressed until something is proposed."""

CELL = "jupyterapp.shell.currentWidget.content.widgets[i]"
CELL_MODEL = "jupyterapp.shell.currentWidget.content.model.cells.get(i)"
OUTPUTS = f"{CELL_MODEL}.outputs"

STATUS = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"

READY = f"() => {STATUS} === 'idle'"

ACTIVATE = """i => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = i;
    notebook.deselectAll();
}"""

EDIT_AT_END = """i => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = i;
    notebook.mode = 'edit';
    const editor = notebook.widgets[i].editor;
    const lines = editor.lineCount;
    editor.focus();
    editor.setCursorPosition({line: lines - 1, column: editor.getLine(lines - 1).length});
}"""

IS_EDITED = """i => {
    const notebook = jupyterapp.shell.currentWidget.content;
    const cell = notebook.widgets[i];
    return notebook.mode === 'edit' && cell.node.contains(document.activeElement);
}"""

COMPLETER = ".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item"


def chromium() -> str | None:
    """Return the path of the browser; ``None`` where it is not installed."""
    return shutil.which("chromium")


@contextmanager
def browser_page() -> Iterator[Page]:
    """Give an empty page, in a browser of its own."""
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; in containers, little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        try:
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(PATIENCE_MS)
            yield page
        finally:
            browser.close()


class Notebook:
    """The notebook that a page shows. Cells are named by their index."""

    def __init__(
        self, page: Page, url: str, token: str, name: str, *, path: str = "lab/tree"
    ) -> None:
        self.page = page
        page.goto(f"{url}/{path}/{name}?reset&token={token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(READY)

    @classmethod
    @contextmanager
    def opened(
        cls, url: str, token: str, name: str, *, path: str = "lab/tree"
    ) -> Iterator[Notebook]:
        """Open a notebook of a server in a browser of its own; ``path`` is the front end's."""
        with browser_page() as page:
            yield cls(page, url, token, name, path=path)

    def start(self, cell: int) -> None:
        """Run a cell, and wait for nothing."""
        self.page.evaluate(ACTIVATE, cell)
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-cell'); }")

    def run(self, cell: int) -> None:
        """Run a cell until it has its number."""
        self.start(cell)
        self.wait_for_number(cell)

    def wait_for_number(self, cell: int) -> None:
        """Wait until the prompt of a cell has a number: it has ended."""
        shows = f"i => /^\\[\\d+\\]/.test({CELL}.node.querySelector('.jp-InputPrompt').textContent)"
        self.page.wait_for_function(shows, arg=cell)

    def is_running(self, cell: int) -> bool:
        """Whether the prompt of a cell says that it runs."""
        prompt = f"i => {CELL}.node.querySelector('.jp-InputPrompt').textContent"
        return bool(self.page.evaluate(prompt, cell) == "[*]:")

    def count(self, cell: int) -> int:
        """How many outputs a cell has."""
        return int(self.page.evaluate(f"i => {OUTPUTS}.length", cell))

    def wait_for_count(self, cell: int, count: int) -> None:
        """Wait until a cell has so many outputs."""
        arguments = [cell, count]
        self.page.wait_for_function(f"([i, n]) => {OUTPUTS}.length >= n", arg=arguments)

    def outputs(self, cell: int) -> list[dict[str, Any]]:
        """Return the outputs of a cell, as the notebook's file would have them."""
        return list(self.page.evaluate(f"i => {OUTPUTS}.toJSON()", cell))

    def shown(self, cell: int) -> str:
        """Return the text that a person sees below a cell."""
        area = f"i => {CELL}.node.querySelector('.jp-Cell-outputArea').innerText"
        return str(self.page.evaluate(area, cell))

    def save(self) -> None:
        """Save the notebook."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")

    def interrupt(self) -> None:
        """Press the button that interrupts the kernel."""
        self.page.click('[data-jp-item-name="interrupt"]')

    def restart(self) -> None:
        """Restart the kernel, and say yes to that."""
        self.page.click('[data-jp-item-name="restart"]')
        self.page.click(".jp-Dialog .jp-mod-accept")
        self.page.wait_for_selector(".jp-Dialog", state="detached")

    def answer(self, text: str) -> None:
        """Answer the question of the cell that runs."""
        self.page.fill(".jp-Stdin-input", text)
        self.page.press(".jp-Stdin-input", "Enter")

    def reload(self) -> None:
        """Reload the page, and wait until it shows the notebook and has its kernel."""
        self.page.reload()
        self._wait_for_kernel()

    def reopen(self) -> None:
        """Close the tab, and open the notebook in another one."""
        url, context = self.page.url, self.page.context
        self.page.close()
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.goto(url)
        self._wait_for_kernel()

    def _wait_for_kernel(self) -> None:
        """Wait until the page shows the notebook and has its kernel, whatever that does."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(f"() => Boolean({STATUS})")

    def wait_for_status(self, status: str) -> None:
        """Wait until the kernel is in a state, as far as the page knows."""
        self.page.wait_for_function(f"status => {STATUS} === status", arg=status)

    def wait_for_text(self, cell: int, text: str) -> None:
        """Wait until the outputs of a cell have a text."""
        shows = f"([i, text]) => JSON.stringify({OUTPUTS}.toJSON()).includes(text)"
        self.page.wait_for_function(shows, arg=[cell, text])

    def lose_network(self, seconds: float) -> None:
        """Have the page without a network for some time."""
        context = self.page.context
        context.set_offline(True)
        self.page.wait_for_timeout(seconds * 1000)
        context.set_offline(False)

    def edit_at_end(self, cell: int) -> None:
        """Put the cursor at the end of a cell."""
        self.page.evaluate(EDIT_AT_END, cell)
        self.page.wait_for_function(IS_EDITED, arg=cell)

    def complete(self, cell: int) -> None:
        """Press Tab at the end of a cell, and see what is proposed.

        JupyterLab shows nothing that takes it longer than a second; then it is pressed again.
        """
        for _ in range(PRESSES):
            self.edit_at_end(cell)
            self.page.keyboard.press("Tab")
            with suppress(NotSeenError):
                self.page.wait_for_selector(COMPLETER, timeout=2_000)
                return
        raise NotSeenError(f"nothing was proposed, {PRESSES} times")

    def escape(self) -> None:
        """Have what is proposed go away."""
        self.page.keyboard.press("Escape")
        self.page.wait_for_selector(COMPLETER, state="hidden")
        self.page.keyboard.press("Escape")

    def move_slider(self, label: str) -> None:
        """Move the slider one step to the right, until the text at a selector is another."""
        before = self.page.inner_text(label)
        self.page.focus(".noUi-handle")
        self.page.keyboard.press("ArrowRight")
        changed = "([at, text]) => document.querySelector(at).textContent !== text"
        self.page.wait_for_function(changed, arg=[label, before])
