"""An authorizer that refuses what a request itself asks to be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_server.auth import Authorizer

if TYPE_CHECKING:
    from jupyter_server.base.handlers import JupyterHandler

HEADER = "X-Denied"
"""The header of a request that says what its user may not do: ``read kernels``."""


class DenyingAuthorizer(Authorizer):
    """Lets everybody do everything else."""

    def is_authorized(
        self, handler: JupyterHandler, user: object, action: str, resource: str
    ) -> bool:
        """Decide."""
        del user
        return handler.request.headers.get(HEADER) != f"{action} {resource}"
