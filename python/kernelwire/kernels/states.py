"""What a kernel's messages make of its ``execution_state`` and of its ``last_activity``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelwire import _native
from kernelwire._compat.jupyter import managed_kernel, utcnow
from kernelwire._logging import shows_debug

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StockPolicy", "TruePolicy", "make_policy", "marks_of"]

Marks = tuple["int | None", "int | None", "int | None"]
"""Hashes of a request's id, of its subshell, and of the session of the kernel that answers."""

NO_MARKS: Marks = (None, None, None)


class StockPolicy:
    """Upstream's ``record_activity``, message for message: the last status is the state."""

    tracker: _native.StateTracker | None = None
    """What follows the state natively."""

    def __init__(self, manager: Any, kernel_id: str) -> None:
        self._manager = manager
        self._kernel_id = kernel_id
        self._kernel = managed_kernel(manager, kernel_id)

    def message(self, msg_type: Any, parent_type: Any, state: Any, marks: Marks = NO_MARKS) -> None:
        """Follow a message; ``state`` is what a status reports."""
        del marks
        manager, kernel = self._manager, self._kernel
        track = manager.track_message_type
        if track(msg_type) or track(parent_type) or kernel.execution_state == "busy":
            manager.last_kernel_activity = kernel.last_activity = utcnow()
        if msg_type == "status":
            if track(parent_type):
                kernel.execution_state = state
            elif kernel.execution_state == "starting" and state != "starting":
                # Upstream: "We always normalize post-starting execution state to 'idle' unless we
                # know that the status is in response to one of our tracked message types."
                kernel.execution_state = "idle"
        self._log(msg_type)

    def _log(self, msg_type: Any) -> None:
        log = self._manager.log
        if shows_debug(log):
            shown = f" ({self._kernel.execution_state})" if msg_type == "status" else ""
            log.debug("activity on %s: %s%s", self._kernel_id, msg_type, shown)

    def apply(self) -> None:
        """Apply what has been followed: it has been, message for message."""

    def restart(self) -> None:
        """Note that the kernel is being restarted."""
        self._kernel.execution_state = "starting"

    def ready(self, session: str | None) -> None:
        """Note that the kernel has answered."""
        del session
        if self._kernel.execution_state == "starting":
            self._kernel.execution_state = "idle"


class TruePolicy(StockPolicy):
    """Busy until all that the kernel runs has become idle; see ``rust/core/src/state.rs``.

    Statuses are followed natively. The state and the dates are set once for all messages that were
    read together: who observes ``execution_state`` is not called for each of many changes.
    """

    tracker: _native.StateTracker

    def __init__(
        self, manager: Any, kernel_id: str, on_restart: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(manager, kernel_id)
        self.tracker = _native.StateTracker(_text(self._kernel.execution_state) or "unknown")
        self._on_restart = on_restart
        self._active = False
        """Whether a message counts as activity."""
        self._seen = False
        """Whether one would if the kernel were busy."""

    def message(self, msg_type: Any, parent_type: Any, state: Any, marks: Marks = NO_MARKS) -> None:
        """Follow a message; ``state`` is what a status reports."""
        track = self._manager.track_message_type
        if msg_type == "status":
            known = parent_type is None or _text(parent_type) is not None
            name = parent_type if known else str(parent_type).encode(errors="replace").decode()
            shown = _text(state)
            self.tracker.status(
                name, "unknown" if shown is None else shown, marks, track(parent_type)
            )
        elif msg_type == "iopub_welcome":
            self.tracker.welcome(marks)
        elif parent_type is None and self._kernel.execution_state == "starting":
            pass  # what a kernel prints of its own start is nobody's activity
        elif not any(_is_ignored(name) for name in (msg_type, parent_type)):
            self._seen = True
            self._active = self._active or track(msg_type) or track(parent_type)
            self._log(msg_type)

    def apply(self) -> None:
        """Set the state and the dates according to all that has been followed."""
        kernel = self._kernel
        state, counted, active, is_up, restarted = self.tracker.take()
        active, self._active = active or self._active, False
        seen, self._seen = self._seen, False
        before = kernel.execution_state
        if active or (seen and "busy" in (before, state)):
            self._manager.last_kernel_activity = kernel.last_activity = utcnow()
        if (counted or (is_up and before == "starting")) and before != state:
            kernel.execution_state = state
            self._log("status")
        if restarted or (counted and state == "starting" and before != "starting"):
            self._on_restart()

    def restart(self) -> None:
        """Note that the kernel is being restarted: nothing is running."""
        self.tracker.restart()
        self.tracker.take()
        super().restart()

    def survived(self, state: str | None) -> None:
        """Note that a restart has failed, and that the kernel is in ``state`` as before."""
        self.tracker.survive()
        if state == "busy":
            self.tracker.status("execute_request", state, NO_MARKS, True)
        elif state == "idle":
            self.tracker.ready(None)
        self.apply()

    def ready(self, session: str | None) -> None:
        """Note that the kernel has answered."""
        self.tracker.ready(session)
        self.apply()


def make_policy(manager: Any, kernel_id: str, on_restart: Callable[[], None]) -> StockPolicy:
    """Make what the manager's ``execution_state_policy`` asks for."""
    if manager.execution_state_policy == "stock":
        return StockPolicy(manager, kernel_id)
    return TruePolicy(manager, kernel_id, on_restart)


def marks_of(header: dict[str, Any], parent_header: dict[str, Any]) -> Marks:
    """Return the marks of a message whose headers have been read by Python's parsers."""
    session, client = header.get("session"), parent_header.get("session")
    return _native.StateTracker.marks(
        _text(parent_header.get("msg_id")),
        _text(parent_header.get("subshell_id")),
        _text(session) if session != client else None,
    )


def _text(value: Any) -> str | None:
    """Return a string that can be encoded; ``None`` for anything else."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _is_ignored(msg_type: Any) -> bool:
    text = _text(msg_type)
    return text is not None and _native.is_ignored(text)
