"""Builds the lab's programs from their public Go modules, once, into a cache folder: versions and sums are pinned.

    python -m tests.lab build

A build that was cut short begins again where it was: Go keeps what it has compiled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
KUBERNETES = "v1.34.4"
_LIMIT = 2400
"""Seconds that one program may take: the whole of Kubernetes, compiled on two slow cores."""


class LabUnavailable(Exception):
    """The lab cannot run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Program:
    """One binary of the lab."""

    name: str
    module: str
    package: str
    flags: str = "-s -w"


_VERSION = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (("gitVersion", KUBERNETES), ("gitMajor", "1"), ("gitMinor", KUBERNETES.split(".")[1]))
)
PROGRAMS = (
    Program("etcd", "etcd", "./cmd/etcd"),
    Program("kube-apiserver", "kubernetes", "./cmd/kube-apiserver", f"-s -w {_VERSION}"),
    Program("kube-controller-manager", "kubernetes", "./cmd/kube-controller-manager", f"-s -w {_VERSION}"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    Program("istiod", "istio", "./cmd/istiod"),
)


def cache() -> Path:
    """Where programs of these very versions lie, built or to be built."""
    base = os.environ.get("AUTOPILOT_LAB_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256()
    for path in sorted(MODULES.rglob("*")):
        if path.suffix in {".go", ".mod", ".sum"}:
            digest.update(path.relative_to(MODULES).as_posix().encode() + b"\0" + path.read_bytes())
    return Path(base) / "mesh-autopilot-lab" / digest.hexdigest()[:16]


def missing() -> list[Program]:
    """The programs that are not built yet."""
    return [program for program in PROGRAMS if not (cache() / program.name).exists()]


def build() -> Path:
    """Builds what is missing, saying what it does; returns the folder.

    Raises:
        LabUnavailable: there is no Go, or a build failed.
    """
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = missing()
    if wanted and shutil.which("go") is None:
        raise LabUnavailable("the lab's programs are built from source and there is no Go (>= 1.26) on PATH")
    for number, program in enumerate(wanted, 1):
        _say(f"building {program.name} ({number} of {len(wanted)}; minutes the first time, kept in {folder})")
        started = time.monotonic()
        half = folder / f".{program.name}.{os.getpid()}"
        try:
            done = subprocess.run(
                ["go", "build", "-ldflags", program.flags, "-o", str(half), program.package],
                cwd=MODULES / program.module,
                env={**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"},
                stdout=sys.stderr,
                timeout=_LIMIT,
                check=False,
            )
            if done.returncode != 0:
                raise LabUnavailable(f"{program.name} could not be built; the reason is above")
            half.rename(folder / program.name)
        finally:
            half.unlink(missing_ok=True)
        _say(f"built {program.name} in {time.monotonic() - started:.0f} s")
    return folder


def module_folder(module: str, path: str) -> Path:
    """Where the source of a module that ours require lies: it holds the CRDs.

    Raises:
        LabUnavailable: Go cannot say.
    """
    done = subprocess.run(
        ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path],
        cwd=MODULES / module,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0 or not done.stdout.strip():
        raise LabUnavailable(f"go knows no folder of {path}: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def _say(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)
