"""``infamous lab`` as a user runs it: who gets in, to which data, what a save leaves, how it ends."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from tests.acceptance.processes import (
    Launcher,
    Process,
    assert_nothing_left,
    processes_of,
    unused_port,
    wait_until,
)

_CELL = {
    "cell_type": "code",
    "id": "a",
    "metadata": {"execution": {"iopub.status.busy": "now"}, "tags": ["report"]},
    "execution_count": 7,
    "source": "1",
    "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}],
}
_NOTEBOOK = {"cells": [_CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def _started(launch: Launcher, home: Path, port: int, **variables: str) -> tuple[Process, str, str]:
    """The lab, its address and its token."""
    lab = launch.start(
        *("infamous", "lab", "--no-browser", "--port", str(port)),
        environment={"INFAMOUS_HOME": str(home), **variables},
    )
    wait_until(lambda: "Ctrl-C" in lab.out() or not lab.lives, "an address", 60)
    assert lab.lives, lab.shown()
    parts = urlsplit(lab.out().split()[0])
    assert parts.hostname == "127.0.0.1"
    return lab, f"http://{parts.netloc}", parse_qs(parts.query)["token"][0]


def _asked(
    address: str, path: str, token: str | None, body: Any = None
) -> tuple[int, dict[str, Any]]:
    """An answer's status, and what it says where that is JSON."""
    headers = {} if token is None else {"Authorization": f"token {token}"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}{path}", data, headers, method="GET" if body is None else "PUT")
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, {}


def test_the_lab_lets_in_who_has_the_token_and_ends_without_a_trace(
    launch: Launcher, ready_home: Path
) -> None:
    """Notebooks are there for who was told the address, beside who has the port; Ctrl-C leaves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lab, address, token = _started(launch, ready_home, port)
        assert urlsplit(address).port != port
        assert _asked(address, "/api/contents/notebooks", None)[0] == 403
        assert _asked(address, "/api/contents/notebooks", "wrong")[0] == 403
        status, found = _asked(address, "/api/contents/notebooks", token)
        assert (status, "01_tour.ipynb" in {one["name"] for one in found["content"]}) == (200, True)

    (jupyter,) = processes_of(ready_home, "jupyterlab")
    assert token.encode() not in Path(f"/proc/{jupyter}/cmdline").read_bytes()
    assert b"\0DATABASE_URL=postgresql" in b"\0" + Path(f"/proc/{jupyter}/environ").read_bytes()
    assert token not in (ready_home / "log" / "jupyter.log").read_text(encoding="utf-8")

    ended = lab.end(signal.SIGINT, within_s=15)
    assert ended.code == 0, ended.text
    assert "Traceback" not in ended.err
    assert_nothing_left(ready_home, within_s=5)


def test_another_jupyter_of_the_same_person_has_no_say(
    launch: Launcher, ready_home: Path, tmp_path: Path
) -> None:
    """A path of settings that let everybody in, and a kernel that takes the name of ours."""
    (tmp_path / "jupyter_server_config.py").write_text('c.IdentityProvider.token = ""\n')
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/bin/false"], "display_name": "other", "language": "python"}')
    paths = {"JUPYTER_CONFIG_PATH": str(tmp_path), "JUPYTER_PATH": str(tmp_path)}
    lab, address, token = _started(launch, ready_home, unused_port(), **paths)
    assert _asked(address, "/api/contents", None)[0] == 403
    status, found = _asked(address, "/api/kernelspecs", token)
    assert status == 200
    assert found["kernelspecs"]["python3"]["spec"]["display_name"] != "other"
    assert lab.end(within_s=15).code == 0


def test_the_browser_is_led_there_without_the_token_on_its_command_line(
    launch: Launcher, ready_home: Path, tmp_path: Path
) -> None:
    """Whoever else is on the machine reads command lines; the file that is opened only its owner can."""
    told, browser = tmp_path / "told", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {told}.part && mv {told}.part {told}\n')
    browser.chmod(0o700)
    lab = launch.start(
        *("infamous", "lab", "--port", str(unused_port())),
        environment={"INFAMOUS_HOME": str(ready_home), "BROWSER": str(browser)},
    )
    wait_until(lambda: told.exists() or not lab.lives, "a browser", 60)
    assert lab.lives, lab.shown()
    address = lab.out().split()[0]
    (token,) = parse_qs(urlsplit(address).query)["token"]
    opened = told.read_text(encoding="utf-8").strip()
    assert token not in opened
    page = Path(urlsplit(opened).path)
    assert address in page.read_text(encoding="utf-8")
    assert page.resolve().is_relative_to(ready_home.resolve())
    assert ready_home.stat().st_mode & 0o077 == 0
    assert lab.end(within_s=15).code == 0


def test_a_folder_of_the_users_own_is_left_where_it_is(launch: Launcher, ready_home: Path) -> None:
    """Who made one where a link belongs is told which, and what to do."""
    ours = ready_home / "lab" / "notebooks"
    ours.mkdir(parents=True)
    lab = launch.start(
        "infamous", "lab", "--no-browser", environment={"INFAMOUS_HOME": str(ready_home)}
    )
    ended = lab.wait(60)
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith(f"{ours} is in the way of a link to ")
    assert ours.is_dir()


def test_a_save_keeps_outputs_of_a_users_notebook_and_of_none_of_ours(
    launch: Launcher, ready_home: Path
) -> None:
    """Whoever ran a notebook of ours and saved it has changed no file that is under version control."""
    lab, address, token = _started(launch, ready_home, unused_port())
    ours = ready_home / "lab" / "notebooks"
    ours.unlink()  # a link to the clone: here a folder takes its place
    ours.mkdir()
    for folder in ("notebooks", "work"):
        model = {"type": "notebook", "format": "json", "content": _NOTEBOOK}
        assert _asked(address, f"/api/contents/{folder}/x.ipynb", token, model)[0] == 201
    (saved,) = json.loads((ours / "x.ipynb").read_text(encoding="utf-8"))["cells"]
    assert (saved["outputs"], saved["execution_count"]) == ([], None)
    assert saved["metadata"] == {"tags": ["report"]}
    work = ready_home / "lab" / "work" / "x.ipynb"
    (kept,) = json.loads(work.read_text(encoding="utf-8"))["cells"]
    assert (kept["execution_count"], len(kept["outputs"])) == (7, 1)
    assert lab.end(within_s=15).code == 0
