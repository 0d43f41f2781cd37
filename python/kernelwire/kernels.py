"""The kernel manager: stock's, with activity followed natively and a buffer that keeps its bounds."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import observe, validate
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._compat.jupyter import (
    activity_stream,
    set_activity_stream,
    starts_watching_as_starting,
    utcnow,
)
from kernelwire._config import at_least, check_connections
from kernelwire._logs import Throttle, hide_secrets
from kernelwire.activity import ActivityReader
from kernelwire.listening import SETTLE_SECONDS, ActivityStream
from kernelwire.lossless import LosslessMixin
from kernelwire.restarts import RestartsMixin
from kernelwire.sessions import SessionsMixin
from kernelwire.states import make_policy
from kernelwire.turns import SharedTime

if TYPE_CHECKING:
    from kernelwire import _native
    from kernelwire.stream import KernelwireStream

__all__ = ["KernelwireKernelsMixin", "KernelwireMappingKernelManager"]


class KernelwireKernelsMixin(LosslessMixin, RestartsMixin, SessionsMixin):
    """What kernelwire adds to a ``MappingKernelManager``: put it before the class in the bases.

    >>> class MyManager(KernelwireKernelsMixin, RemoteMappingKernelManager): ...
    """

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
        stream = kernel.connect_iopub()
        session = Session(config=kernel.session.config, key=kernel.session.key)
        policy = make_policy(self, kernel_id, partial(self.await_readiness, kernel_id))
        self._policies[kernel_id] = policy
        reader = ActivityReader(kernel_id, session, Throttle(self.log), policy)
        self.follow_restarts(kernel_id)
        if type(stream) is not ZMQStream:  # a manager with streams of its own kind
            set_activity_stream(kernel, stream)
            stream.on_recv_stream(reader.one)
            return
        if reader.can_overhear:
            # Other digests are checked in Python, more slowly than a kernel can publish: there only
            # libzmq bounds what waits.
            stream.socket.setsockopt(zmq.RCVHWM, 0)
        watcher: Any = ActivityStream.adopt(stream)
        set_activity_stream(kernel, watcher)
        watcher.channel = "iopub"
        watcher.follow_with(reader)

    def offer_iopub(self, kernel_id: str, stream: KernelwireStream) -> None:
        """Let the watcher listen in on a client's stream, for want of which it has its own."""
        watcher = activity_stream(self._kernels.get(kernel_id))
        if isinstance(watcher, ActivityStream):
            watcher.offer(stream)

    def settle_activity(self, kernel_id: str, until: float | None = None) -> None:
        """Follow now what a kernel has said, so that its state and its dates are what they are.

        Wake-ups of the watcher are moderated: between two of them, up to
        ``pacing.ACTIVITY.longest`` seconds, messages may wait. It ends at ``until`` on the monotonic
        clock, or after ``listening.SETTLE_SECONDS``.
        """
        stream = activity_stream(self._kernels.get(kernel_id))
        if isinstance(stream, ActivityStream):
            stream.settle(until)

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
        self.prompts.forget(kernel_id)
        self._forget_readiness(kernel_id)
        self._policies.pop(kernel_id, None)
        self._discard_sessions(kernel_id)
        watcher = None if kernel is None else activity_stream(kernel)
        if watcher is not None:
            set_activity_stream(kernel, None)
            if not watcher.closed():
                watcher.on_recv(None)
                watcher.close()
        return kernel


class KernelwireMappingKernelManager(KernelwireKernelsMixin, AsyncMappingKernelManager):
    """Stock's ``AsyncMappingKernelManager`` with kernelwire's watcher and offline buffer."""
