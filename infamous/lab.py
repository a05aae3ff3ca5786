"""Lab: a database and a data folder flow in, a JupyterLab on the notebooks flows out.

It listens on loopback alone and behind a token, which goes by the environment: command lines are for all to
see. Its settings are kept in the data folder, apart from those of other Jupyters of the same person.
"""

from __future__ import annotations

import importlib.util
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from analytics import clean
from infamous.children import Child

NOTEBOOKS: Final = Path(__file__).resolve().parents[1] / "analytics" / "notebooks"
_FIRST: Final = f"{clean.OURS}/01_tour.ipynb"
_READY_S: Final = 60.0
_POLL_S: Final = 0.1
_END_S: Final = 8.0
# How long a stop may take in all.
GRACE_S: Final = 10.0
_OPTIONS: Final = {
    "ServerApp.ip": "127.0.0.1",
    "ServerApp.open_browser": "False",
    # Whoever runs the pipeline as root, as in a container, runs this so.
    "ServerApp.allow_root": "True",
    "LabApp.default_url": f"/lab/tree/{_FIRST}",
    "FileContentsManager.pre_save_hook": f"{clean.__name__}.{clean.without_outputs.__name__}",
    "FileContentsManager.delete_to_trash": "False",
    # Nobody is called, and nothing is installed from here.
    "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    "LabApp.news_url": "None",
    "LabApp.extension_manager": "readonly",
}
# A question that JupyterLab would ask at its first start, answered.
_NO_NEWS: Final = (
    "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
)


class LabError(Exception):
    """JupyterLab cannot be started."""


def is_installed() -> bool:
    """Whether JupyterLab and what the notebooks use are there."""
    return all(importlib.util.find_spec(name) for name in ("jupyterlab", "ipykernel", "sklearn"))


@contextmanager
def running(
    home: Path, database_url: str, reports: Path, port: int, lock_fds: tuple[int, ...]
) -> Iterator[tuple[Child, str, Path]]:
    """JupyterLab as a child process, its address with the token, and a file for a browser, which leads there:
    of the address a browser's command line would tell everybody. It is ended on leaving.

    ``port`` is tried first, then those after it. Raises LabError when it does not start.
    """
    folder = home / "lab"
    token = secrets.token_urlsafe(24)
    for made in (folder / "jupyter", folder / "work", reports):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    no_news = folder / "jupyter" / "config" / _NO_NEWS
    if not no_news.exists():
        no_news.parent.mkdir(parents=True, exist_ok=True)
        no_news.write_text('{"fetchNews": "false", "checkForUpdates": false}\n', encoding="utf-8")
    _link(folder / clean.OURS, NOTEBOOKS)
    _link(folder / "reports", reports)
    options = _OPTIONS | {"ServerApp.root_dir": str(folder), "ServerApp.port": str(port)}
    child = Child(
        name="JupyterLab",
        command=["jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
        environment={
            "DATABASE_URL": database_url,
            "READ_DATABASE_URL": database_url,
            "JUPYTER_TOKEN": token,
            **{
                f"JUPYTER_{kind.upper()}_DIR": str(folder / "jupyter" / kind)
                for kind in ("config", "data", "runtime")
            },
            # Of kernels and settings elsewhere nothing is taken: those may let everybody in.
            "JUPYTER_PATH": "",
            "JUPYTER_CONFIG_PATH": "",
        },
        log=home / "log" / "jupyter.log",
        lock_fds=lock_fds,
    )
    child.start()
    try:
        runtime = folder / "jupyter" / "runtime"
        address = f"{_ready(child, runtime)}?token={token}"
        yield child, address, runtime / f"jpserver-{child.pid}-open.html"
    finally:
        child.end(_END_S)


def _link(link: Path, to: Path) -> None:
    """A link in the lab's folder; one that led elsewhere, as to a clone that was moved, is made anew."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise LabError(f"{link} is in the way of a link to {to}: move it into work/, beside it.")
    link.symlink_to(to, target_is_directory=True)


def _ready(child: Child, runtime: Path) -> str:
    """The address, without a token, once it answers there."""
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s:
        if not child.is_alive:
            raise LabError(f"JupyterLab does not start ({child.last_line()}): see {child.log}.")
        with suppress(OSError, URLError, ValueError, KeyError):
            said = runtime / f"jpserver-{child.pid}.json"
            url = str(json.loads(said.read_text(encoding="utf-8"))["url"])
            with urlopen(f"{url}api", timeout=2):  # noqa: S310  # its own word, on loopback
                return f"{url}lab/tree/{_FIRST}"
        time.sleep(_POLL_S)
    raise LabError(f"JupyterLab does not answer after {_READY_S:.0f} s: see {child.log}.")
