"""Finds Prometheus, or downloads it: no wheel contains it, so several sources are tried.

Nothing is installed on the system: the binary ends up in the state's `tools/`, and every step has a time limit. The
order: PATH, `tools/`, Debian's package unpacked, the Docker image's binary copied out, `go install`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autopilot.local.processes import dies_with_parent
from autopilot.local.prometheus import PrometheusCommand

VARIABLE = "AUTOPILOT_PROMETHEUS_BINARY"
IMAGE = "prom/prometheus"
GO_PACKAGE = "github.com/prometheus/prometheus/cmd/prometheus@v0.316.0"

_FAILED = "no-prometheus"
_LATELY = 3600.0
_VERSION = re.compile(r"version (\S+)")
_INSTALLS_GO = 900.0
_PULL, _DOWNLOAD, _SHORT = 120.0, 60.0, 10.0


class StepFailed(Exception):
    """One way of installing Prometheus does not work here; the message says why."""


def find(tools: Path) -> PrometheusCommand | None:
    """The Prometheus that is installed: `$AUTOPILOT_PROMETHEUS_BINARY`, on PATH, or in `tools`."""
    named = os.environ.get(VARIABLE)
    candidates = (
        (named, f"${VARIABLE}"),
        (shutil.which("prometheus"), "on PATH"),
        (str(tools / "prometheus"), f"in {tools}"),
    )
    for path, origin in candidates:
        if path and os.access(path, os.X_OK) and (version := _version(Path(path))):
            return PrometheusCommand(Path(path), version, origin)
    return None


def ensure(tools: Path, say: Callable[[str], None], *, build: bool = True) -> PrometheusCommand | None:
    """The Prometheus that is installed, else one that is downloaded; None where no source works.

    Args:
        tools: the folder a fetched binary is put in.
        say: told, in one line each, what was found or done, and why a way did not work.
        build: whether to compile it as the last resort, which takes minutes.
    """
    if found := find(tools):
        say(f"Prometheus {found.version}: {found.origin}")
        return found
    ways: list[tuple[str, Callable[[Path], Path]]] = [
        ("Debian's package", _from_debian),
        ("the Docker image", _from_docker),
    ]
    if build:
        ways.append(("go install", _from_go))
    tools.mkdir(parents=True, exist_ok=True)
    for name, fetch in ways:
        # On the same file system as its destination, so that the last step is one rename.
        with tempfile.TemporaryDirectory(dir=tools, prefix="fetch-") as scratch:
            try:
                binary = fetch(Path(scratch))
                binary.chmod(0o755)
                binary.replace(tools / "prometheus")
            except (StepFailed, OSError) as error:
                say(f"Prometheus: {name} failed: {error}")
                continue
        if version := _version(tools / "prometheus"):
            say(f"Prometheus {version}: {name}, now in {tools}")
            return PrometheusCommand(tools / "prometheus", version, f"in {tools}")
        (tools / "prometheus").unlink()
        say(f"Prometheus: {name} failed: its binary does not run here")
    (tools / _FAILED).touch()
    say("no Prometheus: counts come only from the proxies' own statistics; put a `prometheus` binary on PATH")
    return None


def tried_lately(tools: Path) -> bool:
    """Whether every way failed within the last hour: a start need not wait for that again."""
    try:
        return time.time() - (tools / _FAILED).stat().st_mtime < _LATELY
    except OSError:
        return False


def _version(binary: Path) -> str:
    """Its version; empty where it does not run."""
    try:
        said = _run([str(binary), "--version"], limit=_SHORT)
    except StepFailed:
        return ""
    match = _VERSION.search(said)
    return match.group(1) if match else ""


def _run(command: Sequence[str], *, limit: float, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Runs one command without input, within its limit; returns what it said.

    Raises:
        StepFailed: it is not there, failed, or took too long.
    """
    name = " ".join(command[:2])
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
            cwd=cwd,
            env=env,
            preexec_fn=dies_with_parent(),
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{name} took longer than {limit:g} s") from None
    except OSError as error:
        raise StepFailed(f"{name} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        # apt marks errors E:, and ends with advice.
        errors = [line for line in lines if line.startswith("E:")] or lines
        raise StepFailed(f"{name} failed: {errors[-1] if errors else f'exit code {done.returncode}'}")
    return done.stdout


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise StepFailed(f"{program} is not installed")


def _from_debian(scratch: Path) -> Path:
    """Downloads and unpacks the package; with package lists of its own where the system's are missing or stale."""
    _need("apt-get")
    _need("dpkg-deb")
    limits = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15", "-o", "Acquire::https::Timeout=15"]
    # As root apt drops to a user that can't write here.
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    common = ["apt-get", "--quiet", *limits, *sandbox]
    try:
        _run([*common, "download", "prometheus"], limit=_DOWNLOAD, cwd=scratch, env=env)
    except StepFailed:
        state = scratch / "apt"
        for folder in ("lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True)
        private = ["-o", f"Dir::State={state}", "-o", f"Dir::State::lists={state / 'lists'}"]
        private += ["-o", f"Dir::Cache={state / 'cache'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        said = _run([*common, *private, "update"], limit=_DOWNLOAD, cwd=scratch, env=env)
        try:
            _run([*common, *private, "download", "prometheus"], limit=_DOWNLOAD, cwd=scratch, env=env)
        except StepFailed as error:
            # An update that reaches no server ends well, with warnings; they are the cause.
            cause = next((line for line in said.splitlines() if "Failed to fetch" in line), "")
            raise StepFailed(f"{error} {cause}".strip()) from None
    packages = list(scratch.glob("prometheus_*.deb"))
    if not packages:
        raise StepFailed("apt-get downloaded nothing")
    _run(["dpkg-deb", "-x", str(packages[0]), str(scratch / "unpacked")], limit=_DOWNLOAD)
    return scratch / "unpacked" / "usr" / "bin" / "prometheus"


def _from_docker(scratch: Path) -> Path:
    """Copies the binary out of the image: a process of ours ends with us, a container may not."""
    _need("docker")
    _run(["docker", "info"], limit=_SHORT)
    _run(["docker", "pull", "--quiet", IMAGE], limit=_PULL)
    container = _run(["docker", "create", IMAGE], limit=_SHORT).strip().splitlines()[-1]
    try:
        _run(["docker", "cp", f"{container}:/bin/prometheus", str(scratch / "prometheus")], limit=_DOWNLOAD)
    finally:
        _run(["docker", "rm", "--force", container], limit=_SHORT)
    return scratch / "prometheus"


def _from_go(scratch: Path) -> Path:
    """Compiles it; without the tag a discovery dependency fails to resolve."""
    _need("go")
    env = {**os.environ, "GOBIN": str(scratch), "GOFLAGS": "-modcacherw"}
    _run(["go", "install", "-tags", "remove_all_sd", GO_PACKAGE], limit=_INSTALLS_GO, cwd=scratch, env=env)
    return scratch / "prometheus"
