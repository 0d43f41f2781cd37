"""A server's metrics, as Prometheus reads them."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from prometheus_client import Metric

    from support.server import Server

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""By the name of a sample and its labels, what it is."""


def published(server: Server) -> str:
    """All that a server publishes."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = server.open_socket()
    try:
        connection.request("GET", "/metrics", headers=server.auth_headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def scrape(server: Server) -> dict[str, Metric]:
    """What a server publishes of kernelwire's, by name."""
    families = text_string_to_metric_families(published(server))
    return {family.name: family for family in families if family.name.startswith("kernelwire")}


class Scrape:
    """The samples of one scrape."""

    def __init__(self, server: Server) -> None:
        self.families = scrape(server)
        self.numbers: Numbers = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """One sample; the name is without the prefix."""
        return self.numbers[f"kernelwire_{name}", frozenset(labels.items())]

    def counters(self) -> Numbers:
        """All samples that never go down."""
        kinds = {name: family.type for name, family in self.families.items()}
        endings = ("_total", "_bucket", "_count", "_sum")
        never = {name + end for name, kind in kinds.items() if kind != "gauge" for end in endings}
        return {key: number for key, number in self.numbers.items() if key[0] in never}
