"""An installed wheel is on by itself, and steps aside wherever somebody has decided otherwise.

The wheel is installed into an environment of its own, which borrows what kernelwire depends on
from the one that runs the tests. There, ``jupyter kernelwire status`` is asked, and servers are
started that tell which class they use and then stop.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.building import maturin
from support.server import STARTUP

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)  # a first build compiles all that the core depends on

ROOT = Path(__file__).parents[2]
SWITCH = "etc/jupyter/jupyter_server_config.d/kernelwire.json"
TRAIT = "kernel_websocket_connection_class"
OURS = "kernelwire.connection.websocket.KernelwireWebsocketConnection"
MANAGER_TRAIT = "kernel_manager_class"
OUR_MANAGER = "kernelwire.kernels.manager.KernelwireMappingKernelManager"
STOCK = "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"
STOCK_MANAGER = "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
GATEWAY = "jupyter_server.gateway.connections.GatewayWebSocketConnection"
GATEWAY_MANAGER = "jupyter_server.gateway.managers.GatewayMappingKernelManager"
OUR_GATEWAY = "kernelwire.gateway.connection.KernelwireGatewayConnection"
GATEWAY_URL = "http://127.0.0.1:9"
"""Nobody is there, and nobody is asked: no kernel is started."""

TIMEOUT_SECONDS = 90
PROBE = """
def _jupyter_server_extension_points():
    return [{"module": "probe"}]

def _load_jupyter_server_extension(app):
    connection = app.web_app.settings["kernel_websocket_connection_class"]
    manager = type(app.web_app.settings["kernel_manager"])
    print("connection class:", f"{connection.__module__}.{connection.__qualname__}")
    print("manager class:", f"{manager.__module__}.{manager.__qualname__}", flush=True)

async def _start_jupyter_server_extension(app):
    app.io_loop.add_callback(app.stop)
"""
PASS_AS_ARGUMENT = f"""
import sys
from jupyter_server.serverapp import ServerApp
from {STOCK.rpartition(".")[0]} import {STOCK.rpartition(".")[2]} as stock
ServerApp.launch_instance(sys.argv[1:], {TRAIT}=stock)
"""


@dataclass(frozen=True)
class Run:
    """What a program that has ended left behind."""

    code: int
    output: str
    """What it printed."""
    log: str
    """What it logged."""

    def reported(self, subject: str) -> tuple[str, str]:
        """What ``status`` says of a subject, and why."""
        found = re.search(rf"^{subject}\n    (.*)\n    because (.*)$", self.output, re.MULTILINE)
        assert found, self.output + self.log
        return found[1], found[2]

    def used(self, what: str) -> str:
        """The class that the server used."""
        found = re.search(rf"^{what} class: (.*)$", self.output, re.MULTILINE)
        assert found, self.output + self.log
        return found[1]

    @property
    def connection_class(self) -> str:
        """The connection class that the server used."""
        return self.used("connection")

    @property
    def reports(self) -> list[str]:
        """What the server logged about whether kernelwire is on."""
        return re.findall(r"^\[I .*\] kernelwire is (.*)$", self.log, re.MULTILINE)

    @property
    def warnings(self) -> list[str]:
        """The lines logged as warning or worse that name kernelwire."""
        return re.findall(r"(?i)^\[[WEC] .*kernelwire.*$", self.log, re.MULTILINE)


class Environment:
    """A virtual environment with the wheel, and a configuration of its own."""

    def __init__(self, prefix: Path, home: Path) -> None:
        self.python = prefix / "bin" / "python"
        self.home = home
        self.config = home / "config"
        (self.config / "jupyter_server_config.d").mkdir(parents=True)
        self.modules = home / "modules"
        self.modules.mkdir()
        self.extend("probe", PROBE)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JUPYTER", "KERNELWIRE", "PYTHON"))
        }
        self.variables = inherited | {
            "HOME": str(home),
            "JUPYTER_CONFIG_DIR": str(self.config),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.modules}{os.pathsep}{STARTUP}",
        }

    def extend(self, name: str, source: str) -> None:
        """Install a server extension and enable it."""
        (self.modules / f"{name}.py").write_text(source)
        enabled = {"ServerApp": {"jpserver_extensions": {name: True}}}
        (self.config / "jupyter_server_config.d" / f"{name}.json").write_text(json.dumps(enabled))

    def configure(self, config: dict[str, Any]) -> None:
        """Write the user's configuration of the server."""
        (self.config / "jupyter_server_config.json").write_text(json.dumps(config))

    def run(self, *arguments: str, stdout: int = subprocess.PIPE) -> Run:
        """Run Python to its end."""
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.home,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def status(self, *arguments: str) -> Run:
        """Ask ``jupyter kernelwire status``."""
        return self.run("-m", "jupyter", "kernelwire", "status", *arguments)

    def serve(self, *arguments: str, launcher: tuple[str, ...] = ("-m", "jupyter_server")) -> Run:
        """Start a server, which stops once it runs."""
        own = ("--ip=127.0.0.1", "--port=0", "--no-browser", "--allow-root")
        run = self.run(*launcher, *own, *arguments)
        assert run.code == 0, run.log
        assert "is running at" in run.log
        return run


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which the wheel is installed; nothing is fetched for it."""
    wheels, prefix = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("environment")
    maturin("build", "--out", str(wheels))
    (wheel,) = wheels.iterdir()

    venv.create(prefix, symlinks=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    # Behind its own packages come those of the environment that runs the tests. Path files in
    # there are not followed, so that an editable installation of kernelwire is not seen.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python")]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "install", *options, str(wheel)], check=True, capture_output=True)
    return prefix


@pytest.fixture
def environment(prefix: Path, tmp_path: Path) -> Environment:
    """The environment of a user who has configured nothing."""
    return Environment(prefix, tmp_path)


# on


def test_status_when_just_installed_then_it_is_on(environment: Environment) -> None:
    """Stops an installation that has to be switched on by hand."""
    run = environment.status()
    why = "installed, and no other class was chosen"
    assert run.code == 0, run.output + run.log
    assert run.reported(TRAIT) == (OURS, why)
    assert run.reported(MANAGER_TRAIT) == (OUR_MANAGER, why)


def test_server_when_just_installed_then_it_uses_kernelwire_and_says_so(
    environment: Environment,
) -> None:
    """Stops a switch that is there and does nothing."""
    run = environment.serve()
    assert run.connection_class == OURS
    assert run.used("manager") == OUR_MANAGER
    assert "kernelwire is on, receiving " in run.log
    assert run.warnings == []


def test_status_when_native_receiving_is_off_then_it_says_why(environment: Environment) -> None:
    """Stops a slower path that nobody can see."""
    environment.variables["KERNELWIRE_DRAIN"] = "python"
    run = environment.status()
    assert run.code == 0
    assert run.reported("receiving") == (
        "portably, through pyzmq",
        "KERNELWIRE_DRAIN=python is set",
    )


def test_status_when_a_program_asks_then_it_says_the_same_as_json(environment: Environment) -> None:
    """Stops a program from having to read lines that are written for people."""
    lines, run = environment.status(), environment.status("--json")
    report = json.loads(run.output)
    assert (report["on"], run.code) == (True, 0)
    for trait in (TRAIT, MANAGER_TRAIT):
        found = report["classes"][trait]
        assert (found["class"], found["reason"]) == lines.reported(trait)
    assert report["receiving"]["reason"] == lines.reported("receiving")[1]
    assert report["driver"]["by"] in ("engine", "loop")
    assert [each["result"] for each in report["self_test"]] == ["passed"]
    assert re.search(
        rf"^kernelwire +{report['versions']['kernelwire']}$", lines.output, re.MULTILINE
    )
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [key for key in report if f"| `{key}` |" not in page] == []
    live = environment.status("--live", "--json")
    assert (json.loads(live.output), live.code) == ({}, 1)


# off


class TestSwitchedOff:
    """``KERNELWIRE=off`` has the servers of an environment use their own classes."""

    REASON = "KERNELWIRE=off is set"

    @pytest.fixture
    def switched_off(self, broken: Environment) -> Environment:
        """Kernelwire cannot even be loaded, so a server that says nothing of that has not tried."""
        broken.variables["KERNELWIRE"] = "off"
        return broken

    def test_server_uses_its_own_classes(self, switched_off: Environment) -> None:
        """Nothing of kernelwire but the switch is loaded, and one line of the log says so."""
        run = switched_off.serve()
        assert run.connection_class == STOCK
        assert run.used("manager") == STOCK_MANAGER
        assert run.reports == [f"off: {self.REASON}"]
        assert run.warnings == []

    def test_status_says_why(self, switched_off: Environment) -> None:
        """As lines and as JSON."""
        run = switched_off.status()
        assert run.reported(TRAIT) == (STOCK, self.REASON)
        assert run.reported(MANAGER_TRAIT) == (STOCK_MANAGER, self.REASON)
        assert run.reported("receiving") == ("not at all", self.REASON)
        report = json.loads(switched_off.status("--json").output)
        assert (report["on"], report["receiving"]["by"]) == (False, "none")

    def test_classes_chosen_by_name_are_replaced(self, environment: Environment) -> None:
        """An operator need not find out who has named kernelwire's classes, and where."""
        environment.variables["KERNELWIRE"] = "off"
        environment.configure({"ServerApp": {TRAIT: OURS, MANAGER_TRAIT: OUR_MANAGER}})
        run = environment.serve()
        assert (run.connection_class, run.used("manager")) == (STOCK, STOCK_MANAGER)
        assert environment.status().reported(TRAIT) == (STOCK, self.REASON)

    def test_subclass_that_was_chosen_is_warned_of(self, environment: Environment) -> None:
        """It is somebody else's class, which nothing can stand in for."""
        (environment.modules / "mine.py").write_text(
            "from kernelwire import KernelwireWebsocketConnection as Ours\nclass Mine(Ours): pass\n"
        )
        environment.variables["KERNELWIRE"] = "off"
        environment.configure({"ServerApp": {TRAIT: "mine.Mine"}})
        run = environment.serve()
        assert run.connection_class == "mine.Mine"
        (warning,) = run.warnings
        assert f"{self.REASON}, but mine.Mine was chosen and is used" in warning

    def test_value_that_means_nothing_is_warned_of(self, environment: Environment) -> None:
        """A switch that is misspelt is not silently ignored."""
        environment.variables["KERNELWIRE"] = "of"
        run = environment.serve()
        assert run.connection_class == OURS
        (warning,) = run.warnings
        assert "KERNELWIRE is 'of', which means nothing" in warning


@pytest.fixture
def disabled(environment: Environment, prefix: Path) -> Iterator[Environment]:
    """The environment after ``jupyter server extension disable kernelwire``."""
    switch = prefix / SWITCH
    installed = switch.read_bytes()
    run = environment.run("-m", "jupyter_server.extension.serverextension", "disable", "kernelwire")
    assert run.code == 0, run.log
    yield environment
    switch.write_bytes(installed)


def test_status_when_extension_is_disabled_then_it_says_off_and_why(disabled: Environment) -> None:
    """Stops a user from not knowing whether it is gone."""
    run = disabled.status()
    assert run.reported(TRAIT) == (STOCK, "the server extension kernelwire is not enabled")
    assert run.code == 1


def test_server_when_extension_is_disabled_then_stock_serves(disabled: Environment) -> None:
    """Stops the documented way to be rid of it from failing when it is needed."""
    run = disabled.serve()
    assert run.connection_class == STOCK
    assert "kernelwire is on" not in run.log


@dataclass(frozen=True)
class Decision:
    """Something that a user has decided, and what kernelwire says about it."""

    kept: str
    reason: str
    config: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


CHOSEN = "it was chosen by configuration"
REMOTE = "kernels run on a gateway"
DECISIONS = {
    "class in a file": Decision(STOCK, CHOSEN, config={"ServerApp": {TRAIT: STOCK}}),
    "class on the command line": Decision(
        STOCK, CHOSEN, arguments=(f"--ServerApp.{TRAIT}={STOCK}",)
    ),
    "gateway and class": Decision(
        GATEWAY,
        CHOSEN,
        config={"ServerApp": {TRAIT: GATEWAY}, "GatewayClient": {"url": GATEWAY_URL}},
    ),
}
GATEWAYS = {
    "in the environment": Decision(
        GATEWAY_MANAGER, REMOTE, variables={"JUPYTER_GATEWAY_URL": GATEWAY_URL}
    ),
    "in a file": Decision(GATEWAY_MANAGER, REMOTE, config={"GatewayClient": {"url": GATEWAY_URL}}),
    "on the command line": Decision(
        GATEWAY_MANAGER, REMOTE, arguments=(f"--gateway-url={GATEWAY_URL}",)
    ),
}


@pytest.fixture(params=GATEWAYS)
def gateway(request: pytest.FixtureRequest, environment: Environment) -> Decision:
    """A gateway, told to the server in each way."""
    return put_into(environment, GATEWAYS[request.param])


@pytest.fixture(params=DECISIONS)
def decision(request: pytest.FixtureRequest, environment: Environment) -> Decision:
    """Each decision in turn, put into the environment."""
    return put_into(environment, DECISIONS[request.param])


def put_into(environment: Environment, decision: Decision) -> Decision:
    """Have what is run in an environment find a decision."""
    environment.configure(decision.config)
    environment.variables |= decision.variables
    return decision


def test_status_when_user_has_decided_then_it_says_off_and_why(
    environment: Environment, decision: Decision
) -> None:
    """Stops a report that promises what the server will not do."""
    run = environment.status(*decision.arguments)
    assert run.reported(TRAIT) == (decision.kept, decision.reason)
    assert run.code == 1


def test_server_when_user_has_decided_then_the_class_is_left_alone(
    environment: Environment, decision: Decision
) -> None:
    """Stops an installation from overriding a user's choice, or from breaking a gateway."""
    run = environment.serve(*decision.arguments)
    assert run.connection_class == decision.kept
    assert f"{decision.kept} is kept: {decision.reason}" in run.log


def test_status_when_kernels_run_on_a_gateway_then_connections_are_ours(
    environment: Environment, gateway: Decision
) -> None:
    """Stops kernelwire from stepping aside where messages are only passed on."""
    run = environment.status(*gateway.arguments)
    assert run.reported(TRAIT) == (OUR_GATEWAY, "installed, and no other class was chosen")
    assert run.reported(MANAGER_TRAIT) == (gateway.kept, gateway.reason)
    assert run.code == 0


def test_server_when_kernels_run_on_a_gateway_then_the_manager_is_left_alone(
    environment: Environment, gateway: Decision
) -> None:
    """Stops a manager of kernels on this machine from taking the place of the gateway's."""
    run = environment.serve(*gateway.arguments)
    assert run.connection_class == OUR_GATEWAY
    assert run.used("manager") == gateway.kept
    assert run.reports == [
        f"on for connections only, relaying what a gateway sends; {gateway.kept} is kept: {REMOTE}"
    ]


def test_server_when_class_is_passed_by_its_program_then_it_is_left_alone(
    environment: Environment,
) -> None:
    """Stops applications that start a server with a class of their own from losing it."""
    run = environment.serve(launcher=("-c", PASS_AS_ARGUMENT))
    assert run.connection_class == STOCK
    assert f"{STOCK} is kept: {CHOSEN}" in run.log


# other extensions

CLASSES = """
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

class Connection(ZMQChannelsWebsocketConnection):
    pass

class Manager(AsyncMappingKernelManager):
    pass
"""
IDLE = """
def _jupyter_server_extension_points():
    return [{"module": __name__}]

def _load_jupyter_server_extension(app):
    pass
"""
ON_LINK = f"""{CLASSES}{IDLE}
from traitlets.config import Config

def _link_jupyter_server_extension(app):
    classes = ("{TRAIT}", f"{{__name__}}.Connection"), ("{MANAGER_TRAIT}", f"{{__name__}}.Manager")
    app.update_config(Config(ServerApp=dict(classes)))
"""
"""An extension that sets both classes when it is linked, as jupyter-server-documents does."""

ON_LOAD = f"""{IDLE}
def _load_jupyter_server_extension(app):
    app.web_app.settings["{TRAIT}"] = Connection
"""
"""An extension that writes the settings of the web application when it is loaded."""

ASSIGNING = f"""{IDLE}
from elsewhere import Connection

def _link_jupyter_server_extension(app):
    app.{TRAIT} = Connection
"""
"""An extension that sets a class of another package when it is linked."""

FAILING = f"""{IDLE}
def _link_jupyter_server_extension(app):
    raise RuntimeError("not here")
"""
ENDING = FAILING.replace("RuntimeError", "SystemExit")
CURIOUS = f"""{IDLE}
import inspect

def _link_jupyter_server_extension(app):
    inspect.getmembers(app)
"""
"""An extension that reads every attribute of the server, as notebook_shim does."""

NOTE = "note: an extension that replaces a class only when it is loaded does not show here"


class TestOtherExtensions:
    """An extension may set a class before kernelwire is linked, after, or when it is loaded."""

    @pytest.mark.parametrize("name", ["aa_ext", "zz_ext"])
    def test_status_names_the_one_that_sets_a_class(
        self, environment: Environment, name: str
    ) -> None:
        """It links them in the server's order, so it gives the server's answer."""
        environment.extend(name, ON_LINK)
        run = environment.status()
        why = f"it was set by the extension {name}"
        assert run.reported(TRAIT) == (f"{name}.Connection", why)
        assert run.reported(MANAGER_TRAIT) == (f"{name}.Manager", why)
        assert run.reported("receiving") == ("not at all", "neither class is kernelwire's")
        assert "driver" not in run.output
        assert run.code == 1

    @pytest.mark.parametrize(("name", "verb"), [("aa_ext", "kept"), ("zz_ext", "used")])
    def test_log_names_the_one_that_sets_a_class(
        self, environment: Environment, name: str, verb: str
    ) -> None:
        """The one line about kernelwire comes when the class in use is known."""
        environment.extend(name, ON_LINK)
        run = environment.serve()
        assert run.connection_class == f"{name}.Connection"
        reason = f"it was set by the extension {name}"
        classes = [f"{name}.{cls} is {verb}: {reason}" for cls in ("Connection", "Manager")]
        assert run.reports == ["; ".join(["off", *classes])]

    def test_log_names_one_that_writes_the_settings(self, environment: Environment) -> None:
        """What an extension does when it is loaded is seen, as the line comes after that."""
        environment.extend("set_ext", CLASSES + ON_LOAD)
        (report,) = environment.serve().reports
        assert report.startswith("on for the kernel manager only, receiving ")
        assert report.endswith("; set_ext.Connection is used: it was set by the extension set_ext")

    @pytest.mark.parametrize(
        ("factory", "name"),
        [
            ("functools.partial(Connection)", "functools.partial"),
            ("lambda **given: Connection(**given)", "set_ext._load_jupyter_server_extension"),
        ],
    )
    def test_log_names_what_makes_connections(
        self, environment: Environment, factory: str, name: str
    ) -> None:
        """The server calls what is in the settings, so it need not be a class."""
        source = f"import functools\n{CLASSES}{ON_LOAD}".replace("= Connection", f"= {factory}")
        environment.extend("set_ext", source)
        (report,) = environment.serve().reports
        assert report.startswith("on for the kernel manager only, receiving ")
        assert f"; {name}" in report

    def test_status_says_that_it_loads_nothing(self, environment: Environment) -> None:
        """What an extension does when it is loaded cannot be told without a server."""
        environment.extend("set_ext", CLASSES + ON_LOAD)
        assert NOTE in environment.status().output

    def test_log_does_not_guess_whose_a_class_is(self, environment: Environment) -> None:
        """A class of a package that is no extension's names nobody."""
        (environment.modules / "elsewhere.py").write_text(CLASSES)
        environment.extend("set_ext", "from elsewhere import Connection\n" + ON_LOAD)
        (report,) = environment.serve().reports
        assert report.endswith(
            "; elsewhere.Connection is used: "
            "it was set after kernelwire was linked, by whom is not known"
        )

    def test_log_does_not_take_an_extension_for_the_user(self, environment: Environment) -> None:
        """A class that one linked before has put in place is not in the configuration."""
        (environment.modules / "elsewhere.py").write_text(CLASSES)
        environment.extend("aa_ext", ASSIGNING)
        (report,) = environment.serve().reports
        assert report.endswith(
            "; elsewhere.Connection is kept: "
            "it was set before kernelwire was linked, by whom is not known"
        )

    def test_log_tells_a_choice_from_others_extensions(self, environment: Environment) -> None:
        """A class in a file is the user's choice, whatever is linked before."""
        environment.extend("aa_ext", IDLE)
        environment.configure({"ServerApp": {TRAIT: STOCK}})
        assert f"{STOCK} is kept: {CHOSEN}" in environment.serve().log

    def test_status_tells_a_choice_from_an_extension(self, environment: Environment) -> None:
        """The class of an extension's package, chosen on the command line, is the user's choice."""
        environment.extend("aa_ext", CLASSES + IDLE)
        option = f"--ServerApp.{TRAIT}=aa_ext.Connection"
        assert environment.status(option).reported(TRAIT) == ("aa_ext.Connection", CHOSEN)
        assert f"aa_ext.Connection is kept: {CHOSEN}" in environment.serve(option).log

    def test_status_survives_one_that_cannot_be_linked(self, environment: Environment) -> None:
        """Whatever an extension raises, the rest is reported."""
        environment.extend("aa_ext", FAILING)
        run = environment.status()
        assert run.code == 0, run.output + run.log
        assert run.reported(TRAIT)[0] == OURS
        assert "note: the extension aa_ext could not be linked" in run.output

    def test_status_tells_of_one_that_ends_the_server(self, environment: Environment) -> None:
        """No class is in use where no server starts."""
        environment.extend("aa_ext", ENDING)
        run = environment.status()
        assert run.code == 1
        assert "note: a server does not start: the extension aa_ext ends it" in run.output

    def test_status_writes_nothing(self, environment: Environment) -> None:
        """Reading a default, such as the cookie's secret, must neither write a file nor count."""
        environment.extend("aa_ext", CURIOUS)
        run = environment.status()
        assert run.code == 0, run.output + run.log
        assert run.reported(TRAIT) == (OURS, "installed, and no other class was chosen")
        assert list(environment.home.rglob("*cookie_secret")) == []


# broken


def test_status_when_a_trait_is_wrong_then_it_says_that_no_server_starts(
    environment: Environment,
) -> None:
    """Stops a report that names the default as the reason, where every server ends."""
    environment.configure({"KernelwireWebsocketConnection": {"max_pending_bytes": -1}})
    run = environment.status()
    assert run.code == 1
    assert run.reported(TRAIT) == (STOCK, "the extension kernelwire could not be linked")
    assert "note: a server does not start: the extension kernelwire ends it" in run.output


def test_status_when_nobody_reads_it_then_it_ends_without_a_word(environment: Environment) -> None:
    """Stops `status | head` from ending in a traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        run = environment.run("-m", "jupyter", "kernelwire", "status", stdout=write)
    finally:
        os.close(write)
    assert (run.code, run.log) == (1, "")


@pytest.fixture
def broken(environment: Environment, prefix: Path) -> Environment:
    """An environment in which the native module cannot be loaded."""
    (installed,) = prefix.glob("lib/python*/site-packages/kernelwire")
    copy = environment.modules / "kernelwire"
    shutil.copytree(installed, copy)
    (copy / "_native.abi3.so").write_bytes(b"not for this machine")
    return environment


def test_server_when_native_module_is_broken_then_stock_serves_behind_one_warning(
    broken: Environment,
) -> None:
    """Stops a bad installation from keeping a server from starting."""
    run = broken.serve()
    assert run.connection_class == STOCK
    (warning,) = run.warnings
    assert "kernelwire is off: it could not be loaded (" in warning
    assert "Traceback" not in run.log


def test_status_when_native_module_is_broken_then_it_says_off_and_why(broken: Environment) -> None:
    """Stops a report that says on where every server will say off."""
    run = broken.status()
    assert run.reported("receiving")[0] == "not at all"
    assert run.reported(TRAIT)[0] == STOCK
    assert run.code == 1
