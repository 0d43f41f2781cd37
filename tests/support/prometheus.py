"""A Prometheus that reads a server's metrics, told how as docs/metrics.md says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from support.server import free_port
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.server import Server

MISSING = "Prometheus is missing: apt-get install prometheus"
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def is_there() -> bool:
    """Whether there are a Prometheus and its tool on this machine."""
    return all(map(shutil.which, ("prometheus", "promtool")))


def documented(file: str) -> str:
    """The file of this name that docs/metrics.md shows."""
    _, _, rest = PAGE.read_text().partition(f"```yaml\n# {file}\n")
    return rest.partition("```")[0]


def check(kind: str, text: str, home: Path) -> str:
    """What promtool finds wrong with "config", "rules" or "metrics"; nothing where that is nothing."""
    path = home / kind
    path.write_text(text)
    source = [] if kind == "metrics" else [str(path)]
    done = subprocess.run(
        ["promtool", "check", kind, *source],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


class Prometheus:
    """A running one, which reads one server every tenth of a second."""

    def __init__(self, home: Path, server: Server) -> None:
        self._port = free_port()
        token = home / "token"
        token.write_text(server.token)
        config: dict[str, Any] = yaml.safe_load(documented("prometheus.yml"))
        config["global"] = {"scrape_interval": "100ms", "scrape_timeout": "100ms"}
        (job,) = config["scrape_configs"]
        job["authorization"]["credentials_file"] = str(token)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
        (home / "prometheus.yml").write_text(json.dumps(config))
        with (home / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={home / 'prometheus.yml'}",
                    f"--storage.tsdb.path={home / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self.ask("up") == [1.0], what="Prometheus' first look at the server")

    def ask(self, query: str) -> list[float]:
        """The values that a query has now; none where it does not answer yet."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?query={quote(query)}"
        try:
            with urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except URLError:
            return []
        return [float(each["value"][1]) for each in found]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
