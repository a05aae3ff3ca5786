"""The machine: what it and the servers tell of themselves flows out, so that numbers can be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from bench.house import House

_ROOT: Final = Path(__file__).resolve().parent.parent


def facts(house: House) -> dict[str, str | int]:
    """What a reader of the numbers has to know."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": str(house.servers.postgres.binary),
        "redis": str(house.servers.redis.binary),
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _commit() -> str:
    """The version of the code, with a plus where files were changed since; empty where git is missing."""
    try:
        told = [
            subprocess.run(
                ["git", "-C", str(_ROOT), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told[0] + ("+" if told[1] else "")
