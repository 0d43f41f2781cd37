"""What the engine tells an event loop."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from tornado.log import gen_log

from kernelwire._logging import Throttle
from kernelwire.sockets.driver import engine
from kernelwire.sockets.turns import TURN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire import _native

__all__ = ["ACTIVITY", "APPENDED", "FAILED", "OUTBOX", "RELAY", "Desk", "desk_of"]

APPENDED, ACTIVITY, OUTBOX, FAILED, RELAY = 1, 2, 4, 8, 16
"""What one is told, as bits; see ``Told`` in ``rust/engine/src/desk.rs``."""

ENGINE = 0
"""The token of the engine itself."""


class Desk:
    """Calls those in an event loop whom the engine tells something.

    Whoever is called may return ``True`` to be called again after others had their turn.
    """

    def __init__(self, native: _native.Desk, loop: Any) -> None:
        self.native = native
        self._call_soon = loop.call_soon
        self._called: dict[int, WeakMethod[Callable[[int], bool]]] = {}
        self._last = ENGINE
        self._due: dict[int, int] = {}
        """By token, what is to be told, in its turn."""
        self._scheduled = False
        self._failures = Throttle(gen_log)
        loop.add_reader(native.fileno(), self._woken)

    def open(self, callback: Callable[[int], bool]) -> int:
        """Have a method called with what is told under the token that this returns."""
        self._last += 1
        self._called[self._last] = WeakMethod(callback)
        return self._last

    def close(self, token: int) -> None:
        """Call nobody any more who has this token."""
        self._called.pop(token, None)

    def _woken(self) -> None:
        for token, bits in self.native.take():
            if token == ENGINE:
                gen_log.error("kernelwire's engine has failed; the event loop goes on in its place")
                for other in self._called:
                    self._note(other, bits)
            else:
                self._note(token, bits)
        if not self._scheduled:
            self._call()

    def _note(self, token: int, bits: int) -> None:
        self._due[token] = self._due.get(token, 0) | bits

    def _call(self) -> None:
        """Call those that are due, one at least, until the time is up."""
        self._scheduled = False
        until = monotonic() + TURN_SECONDS
        for _ in range(len(self._due)):
            token = next(iter(self._due), ENGINE)
            bits = self._due.pop(token, 0)
            if self._call_one(token, bits):
                self._note(token, bits)
            if monotonic() > until:
                break
        if self._due and not self._scheduled:
            self._scheduled = True
            self._call_soon(self._call)

    def _call_one(self, token: int, bits: int) -> bool:
        method = self._called.get(token)
        callback = None if method is None else method()
        if callback is None:
            self.close(token)
            return False
        try:
            return callback(bits)
        except Exception:
            self._failures.failure("told", "Serving what the engine has told failed")
            return False


def desk_of(loop: Any) -> Desk:
    """Return the desk of an event loop, which is freed together with it; there must be an engine."""
    # A dictionary with weak keys would keep the loops: desks refer to them.
    desk: Desk | None = vars(loop).get("kernelwire_desk")
    if desk is None:
        native = engine()
        if native is None:
            raise RuntimeError("there is no engine")
        desk = vars(loop)["kernelwire_desk"] = Desk(native.desk(), loop)
    return desk
