"""A kernel's state across its births and deaths: starting until the kernel has answered, then idle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async
from traitlets import CaselessStrEnum, Dict, Instance
from traitlets.config import LoggingConfigurable

from kernelwire.kernels.probe import ask_anew, is_probed
from kernelwire.kernels.prompts import Prompts
from kernelwire.kernels.readiness import Readiness

if TYPE_CHECKING:
    import asyncio

    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager as _Base
else:
    _Base = LoggingConfigurable

__all__ = ["RestartsMixin"]


class RestartsMixin(_Base):
    """Follows restarts, whoever does them, and finds out when a kernel is up.

    Upstream leaves a kernel that crashed in the state that it had, and one to which no client
    connects in "starting". Nothing here moves ``last_activity``.
    """

    execution_state_policy = CaselessStrEnum(
        ["true", "stock"],
        default_value="true",
        config=True,
        help="""How a kernel's execution_state follows from the status messages that it publishes.

        "true": a kernel is busy until every request that it runs has become idle. Requests on the
        control channel and in subshells do not end what the main shell runs, and usage requests,
        the management of subshells and iopub_welcome are neither activity nor a change of state.
        "stock": the last status message of a tracked type decides, as in Jupyter Server.
        """,
    )

    prompts = Instance(Prompts, ())
    """The questions of kernels that nobody has answered."""
    _policies: Any = Dict()
    _readiness: Any = Dict()

    def follow_restarts(self, kernel_id: str) -> None:
        """Follow the restarts of a kernel that is watched from now on."""
        kernel: Any = self._kernels[kernel_id]
        if not hasattr(kernel, "add_restart_callback"):
            return
        crashed = getattr(kernel, "_kernelwire_crashed", None)
        if crashed is None:
            # One object for all watchers of the kernel, so that it is registered once.
            crashed = kernel._kernelwire_crashed = partial(self._on_crash, kernel_id)
        kernel.remove_restart_callback(crashed, "restart")
        kernel.add_restart_callback(crashed, "restart")
        if kernel.execution_state == "starting" and self.execution_state_policy != "stock":
            self.await_readiness(kernel_id)

    def await_readiness(self, kernel_id: str) -> None:
        """Find out when a kernel that is starting is up; what it has asked before is void."""
        self._forget_readiness(kernel_id)
        self.prompts.forget(kernel_id)
        kernel: Any = self._kernels.get(kernel_id)
        if kernel is None or not hasattr(kernel, "has_kernel"):
            return
        ask_anew(kernel)
        self._readiness[kernel_id] = Readiness(
            kernel,
            is_up=partial(self._is_up, kernel_id),
            is_asked=partial(is_probed, kernel),
            on_ready=partial(self._on_ready, kernel_id),
            on_new_ports=partial(self._on_new_ports, kernel_id),
        )

    def readiness(self, kernel_id: str) -> asyncio.Future[None] | None:
        """Return what is done when a starting kernel is up; ``None`` where that is not known."""
        readiness = self._readiness.get(kernel_id)
        return None if readiness is None else readiness.ready

    def settle_activity(self, kernel_id: str, until: float | None = None) -> None:
        """Follow now what a kernel has published, until then on the monotonic clock at most."""
        raise NotImplementedError

    if TYPE_CHECKING:  # the other mixin's

        def _tell_away(self, kernel_id: str, status: str) -> None: ...
        def _begin_life(self, kernel_id: str) -> None: ...
        def _end_output(self, kernel_id: str) -> None: ...
        def _interrupt_output(self, kernel_id: str) -> None: ...

    # -- what happens to kernels -----------------------------------------------------------------

    async def restart_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Restart a kernel, which is starting from now on; see upstream."""
        before = self._note_restart(kernel_id) if kernel_id in self._kernels else None
        try:
            answered = await ensure_async(super().restart_kernel(kernel_id, *args, **kwargs))
        except BaseException:
            self._note_failed_restart(kernel_id, before)
            raise
        self._begin_life(kernel_id)
        if kernel_id in self._policies and self.execution_state_policy != "stock":
            if kernel_id not in self._readiness:
                self.await_readiness(kernel_id)
            if hasattr(answered, "add_done_callback"):
                # Upstream asks as well.
                answered.add_done_callback(partial(self._on_answered, kernel_id))
        return answered

    def interrupt_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        """Interrupt a kernel: it waits for no answer then, nor its clients for output; see upstream."""
        self.prompts.forget(kernel_id)
        self._interrupt_output(kernel_id)
        return super().interrupt_kernel(kernel_id, *args, **kwargs)

    def stop_watching_activity(self, kernel_id: str) -> None:
        """Stop watching a kernel, and waiting for it."""
        self._forget_readiness(kernel_id)
        self._policies.pop(kernel_id, None)
        super().stop_watching_activity(kernel_id)

    def _note_restart(self, kernel_id: str) -> str | None:
        """Have a kernel be starting: nothing that it was running goes on; returns its state before."""
        self.prompts.forget(kernel_id)
        self._end_output(kernel_id)
        policy = self._policies.get(kernel_id)
        if policy is None or self.execution_state_policy == "stock":
            return None
        self.settle_activity(kernel_id)
        self._forget_readiness(kernel_id)
        before: str | None = getattr(self._kernels.get(kernel_id), "execution_state", None)
        policy.restart()
        return before

    def _note_failed_restart(self, kernel_id: str, state: str | None) -> None:
        """Have a kernel be what it was, and ask it: its process may live on."""
        policy = self._policies.get(kernel_id)
        if policy is None or self.execution_state_policy == "stock":
            return
        policy.survived(state)
        if self._kernels[kernel_id].execution_state == "starting":
            self.await_readiness(kernel_id)

    def _on_crash(self, kernel_id: str) -> None:
        """Note that a kernel has died, and is about to be restarted."""
        if kernel_id in self._kernels:
            self._end_output(kernel_id)
            self._tell_away(kernel_id, "restarting")
            self._begin_life(kernel_id)
        if self.execution_state_policy != "stock":
            self._note_restart(kernel_id)
            self.await_readiness(kernel_id)

    def _on_answered(self, kernel_id: str, answered: asyncio.Future[Any]) -> None:
        """Take the answer that upstream has got for an answer."""
        readiness = self._readiness.get(kernel_id)
        if readiness is None or answered.cancelled() or answered.exception() is not None:
            return
        readiness.on_reply(answered.result())

    def _on_ready(self, kernel_id: str, session: str | None) -> None:
        """Have a kernel that has answered be idle, unless it runs something already."""
        policy = self._policies.get(kernel_id)
        if policy is not None:
            self.settle_activity(kernel_id)
            policy.ready(session)

    def _found_up(self, kernel_id: str, state: str) -> None:
        """Have a kernel that is watched, and that was up before, be what it was."""
        self._forget_readiness(kernel_id)
        policy = self._policies.get(kernel_id)
        if policy is not None and self.execution_state_policy != "stock":
            policy.survived(state)
        self._kernels[kernel_id].execution_state = state

    def _on_new_ports(self, kernel_id: str) -> None:
        """Watch a kernel where it is now; upstream does so for restarts over REST only."""
        kernel: Any = self._kernels[kernel_id]
        last_activity = kernel.last_activity
        self.stop_watching_activity(kernel_id)
        self.start_watching_activity(kernel_id)
        kernel.last_activity = last_activity

    # -- what is asked of kernels ----------------------------------------------------------------

    def _is_up(self, kernel_id: str) -> bool:
        """Whether there is no point in asking a kernel: it is up, or gone."""
        self.settle_activity(kernel_id)
        return getattr(self._kernels.get(kernel_id), "execution_state", None) != "starting"

    def _forget_readiness(self, kernel_id: str) -> None:
        readiness = self._readiness.pop(kernel_id, None)
        if readiness is not None:
            readiness.close()
