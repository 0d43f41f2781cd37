"""The kernel manager: stock's, with activity followed natively and a buffer that keeps its bounds."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Dict, observe, validate
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._compat.jupyter import (
    activity_stream,
    set_activity_stream,
    starts_watching_as_starting,
    utcnow,
)
from kernelwire._config import at_least, check_connections
from kernelwire._logging import Throttle, hide_secrets
from kernelwire.kernels.activity import Activity
from kernelwire.kernels.external import ExternalMixin
from kernelwire.kernels.lossless import LosslessMixin
from kernelwire.kernels.restarts import RestartsMixin
from kernelwire.kernels.sessions import SessionsMixin
from kernelwire.kernels.source import subscription_to
from kernelwire.kernels.states import make_policy
from kernelwire.log.channel import LogStream
from kernelwire.log.kernel_log import SETTLE_SECONDS, KernelLog, ports_of
from kernelwire.log.listeners import MAX_LISTENER_BYTES, Listener
from kernelwire.sockets.options import unbounded_receiving
from kernelwire.sockets.stream import KernelwireStream
from kernelwire.sockets.subscription import Subscription
from kernelwire.sockets.turns import SharedTime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kernelwire import _native

__all__ = ["KernelwireKernelsMixin", "KernelwireMappingKernelManager"]


class KernelwireKernelsMixin(ExternalMixin, LosslessMixin, RestartsMixin, SessionsMixin):
    """What kernelwire adds to a ``MappingKernelManager``: put it before the class in the bases.

    >>> class MyManager(KernelwireKernelsMixin, RemoteMappingKernelManager): ...
    """

    _logs: Any = Dict()
    """By kernel, the log of what it publishes."""

    def __init__(self, **kwargs: Any) -> None:
        """Make a manager; see ``MappingKernelManager`` for the arguments."""
        super().__init__(**kwargs)
        self._describing = SharedTime(SETTLE_SECONDS)
        check_connections(self.parent)
        hide_secrets()

    @validate("kernel_info_timeout")
    def _valid_timeout(self, proposal: Any) -> Any:
        """Refuse times that mean nothing."""
        return at_least(proposal, 0)

    # -- activity --------------------------------------------------------------------------------

    def start_watching_activity(self, kernel_id: str) -> None:
        """Watch a kernel's messages for activity and for its state, as upstream does."""
        self.log.debug("Watching kernel activity: %s", kernel_id)
        kernel: Any = self._kernels[kernel_id]
        if starts_watching_as_starting():
            kernel.execution_state = "starting"
        kernel.reason = ""
        kernel.last_activity = utcnow()
        session = Session(config=kernel.session.config, key=kernel.session.key)
        policy = make_policy(self, kernel_id, partial(self.await_readiness, kernel_id))
        self._policies[kernel_id] = policy
        source: Any = subscription_to(kernel)
        if source is None:
            with unbounded_receiving(getattr(kernel, "context", None)):
                source = kernel.connect_iopub()
        loop: Any = source.io_loop
        failures = Throttle(self.log)
        activity = Activity(kernel_id, session, failures, policy, loop.asyncio_loop)
        self.follow_restarts(kernel_id)
        if type(source) is ZMQStream:
            source = KernelwireStream.adopt(source)
        elif not isinstance(source, Subscription):  # a manager with streams of its own kind
            set_activity_stream(kernel, source)
            source.on_recv_stream(activity.one)
            return
        log = self._logs.get(kernel_id)
        if log is None or not log.is_open:
            log = self._logs[kernel_id] = KernelLog(session, failures)
        log.activity = activity
        log.on_failed = partial(self._on_new_ports, kernel_id)
        log.subscribe(source, ports_of(kernel))
        before = activity_stream(kernel)
        watcher = LogStream(log)
        watcher.set_close_callback(partial(_end_activity, log, activity))
        set_activity_stream(kernel, watcher)
        if isinstance(before, LogStream):
            before.close()

    def kernel_log(self, kernel_id: str) -> KernelLog | None:
        """Return the log of what a kernel publishes; ``None`` where it is not received with one.

        It begins when the kernel is first watched, and lasts as long as anybody uses it. A kernel
        that has moved to other ports, whoever has done that, is received there.
        """
        log: KernelLog | None = self._logs.get(kernel_id)
        if log is None or not log.is_open:
            return None
        ports = ports_of(self._kernels.get(kernel_id))
        if ports != log.ports and 0 not in ports and log.activity is not None:
            log.use(self)  # it is not to end between the two subscriptions
            try:
                self._on_new_ports(kernel_id)
            finally:
                log.leave(self)
        return log

    def describe_logs(self) -> dict[str, dict[str, Any]]:
        """Say of each kernel what its log has, and of the sessions that are away how far they are."""
        return {
            kernel_id: {**log.describe(), "away": self.describe_away(kernel_id)}
            for kernel_id, log in self._logs.items()
        }

    def _begin_life(self, kernel_id: str) -> None:
        """Note that a kernel is another process from now on."""
        log = self._logs.get(kernel_id)
        if log is not None:
            log.restart()

    def _interrupt_output(self, kernel_id: str) -> None:
        """Have no client wait for output of what a kernel runs that is interrupted."""
        log = self._logs.get(kernel_id)
        if log is not None:
            log.interrupt()

    def _end_output(self, kernel_id: str) -> None:
        """Have no client wait for output of a kernel's process that ends."""
        log = self._logs.get(kernel_id)
        if log is not None:
            log.end_output()

    def listen(
        self,
        kernel_id: str,
        callback: Callable[[list[list[bytes]], int], Any],
        msg_types: Collection[str] | None = None,
        *,
        max_bytes: int = MAX_LISTENER_BYTES,
    ) -> Listener:
        """Give what a kernel publishes from now on to ``callback``, until the listener is closed.

        No further subscription is made, and the kernel does not know of it. Messages come in batches,
        each with its frames as they were received (identities, delimiter, signature, header, parent
        header, metadata, content, buffers), and its signature not checked.

        Parameters
        ----------
        kernel_id
            The kernel.
        callback
            ``callback(messages, missed)`` is called in the event loop with a list of messages and the
            number of those that were dropped before them. Where it returns an awaitable, it is not
            called again before that is done. What it raises is logged.
        msg_types
            The types of the messages to listen to; ``None`` for all.
        max_bytes
            Bytes that may wait for it. Over that, output is dropped, the oldest first, and counted.

        Returns
        -------
        Listener
            Its ``close()`` ends the listening.

        Raises
        ------
        HTTPError
            With status 404, if there is no such kernel.
        ValueError
            If the kernel is not received with a log, as its manager has streams of its own kind.
        """
        if kernel_id not in self:
            raise HTTPError(404, f"Kernel does not exist: {kernel_id}")
        log = self.kernel_log(kernel_id)
        if log is None:
            raise ValueError(f"kernel {kernel_id} is not received with a log, so nobody can listen")
        return Listener(log, callback, msg_types=msg_types, bound=max_bytes)

    def settle_activity(self, kernel_id: str, until: float | None = None) -> None:
        """Follow now what a kernel has said, so that its state and its dates are what they are.

        It is told of changes of state as they come, and of mere activity once in a while. It ends at
        ``until`` on the monotonic clock, or after ``kernel_log.SETTLE_SECONDS``.
        """
        log = self._logs.get(kernel_id)
        if log is not None:
            log.settle(until)

    def kernel_model(self, kernel_id: str) -> Any:
        """Describe a kernel as it is now; a list of kernels, or of sessions, takes no longer than one."""
        until = self._describing.until()
        if monotonic() < until:
            self.settle_activity(kernel_id, until)
        return super().kernel_model(kernel_id)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Cull a kernel if it is idle now."""
        await asyncio.sleep(0)  # each kernel may take a while to settle
        self.settle_activity(kernel_id)
        await super().cull_kernel_if_idle(kernel_id)

    @observe("untracked_message_types")
    def _forget_types(self, _change: Any) -> None:
        """Have each type of request asked for again."""
        for policy in self._policies.values():
            if policy.tracker is not None:
                policy.tracker.forget_types()

    def note_deletion(self, kernel_id: str, request_id: str, subshell_id: str) -> None:
        """Note that a kernel was sent a request that deletes a subshell."""
        if (tracker := self._tracker(kernel_id)) is not None:
            tracker.will_delete(request_id, subshell_id)

    def note_control(self, kernel_id: str, request_id: str) -> None:
        """Note that a kernel was sent a request on its control channel."""
        if (tracker := self._tracker(kernel_id)) is not None:
            tracker.will_run_on_control(request_id)

    def may_run(self, kernel_id: str, request_id: str) -> bool:
        """Return whether a kernel runs that request, as far as is known."""
        tracker = self._tracker(kernel_id)
        return tracker is None or tracker.runs(request_id)

    def _tracker(self, kernel_id: str) -> _native.StateTracker | None:
        """Return what follows a kernel's state; ``None`` where nothing does natively."""
        policy = self._policies.get(kernel_id)
        return None if policy is None else policy.tracker

    # -- the end ---------------------------------------------------------------------------------

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel, and close what is open for it.

        Upstream closes that before it stops a kernel, so that the streams of a tab that is closed
        meanwhile stay open for ever; and not at all where a kernel has died for good.
        """
        kernel: Any = super().remove_kernel(kernel_id)
        self._forget_kernel(kernel_id, kernel)
        return kernel

    def _forget_kernel(self, kernel_id: str, kernel: Any) -> None:
        """Close what is open for a kernel that is listed no more."""
        self.prompts.forget(kernel_id)
        self._forget_readiness(kernel_id)
        self._policies.pop(kernel_id, None)
        log = self._logs.pop(kernel_id, None)
        if log is not None:
            log.end()
        self._discard_sessions(kernel_id)
        watcher = None if kernel is None else activity_stream(kernel)
        if watcher is not None:
            set_activity_stream(kernel, None)
            if not watcher.closed():
                watcher.on_recv(None)
                watcher.close()


class KernelwireMappingKernelManager(KernelwireKernelsMixin, AsyncMappingKernelManager):
    """Stock's ``AsyncMappingKernelManager`` with kernelwire's watcher and offline buffer."""


def _end_activity(log: KernelLog, activity: Activity) -> None:
    """Follow a kernel no more; its log may go on for clients."""
    activity.end()
    if log.activity is activity:
        log.activity = None
