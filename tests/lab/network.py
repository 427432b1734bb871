"""One network namespace for a whole lab: every pod and service address is local there, and nothing gets out.

`ip route add local 10.244.0.0/16 dev lo` ("AnyIP") makes the kernel take all of them for its own, so one process bound
to a pod's address is that pod.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

from tests.lab.build import LabUnavailable

PODS, SERVICES = "10.244.0.0/16", "10.96.0.0/16"
_CLONE_NEWNET = 0x40000000


def check() -> None:
    """Whether a namespace can be made here.

    Raises:
        LabUnavailable: what is missing.
    """
    if os.geteuid() != 0:
        raise LabUnavailable("the lab makes a network namespace, which only root may")
    if shutil.which("ip") is None:
        raise LabUnavailable("the lab makes a network namespace with `ip` (iproute2), which is not on PATH")


def enter_new() -> None:
    """Moves this process, and whatever it starts, into a fresh namespace that ends with the last of them.

    Raises:
        LabUnavailable: the kernel refused.
    """
    check()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise LabUnavailable(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
    for command in (
        ["ip", "link", "set", "lo", "up"],
        *(["ip", "route", "add", "local", network, "dev", "lo"] for network in (PODS, SERVICES)),
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode != 0:
            raise LabUnavailable(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
