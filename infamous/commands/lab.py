"""The lab: JupyterLab on the notebooks, connected to the data, for as long as somebody is at it."""

from __future__ import annotations

import webbrowser
from typing import Annotated, Final

import typer

from infamous import house, lab
from infamous.house import end, joined, stoppable
from pipeline.stop import on_signals

app = house.commands()
_LOOK_S: Final = 0.5


@app.command("lab")
def open_lab(
    *,
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Where to listen; if it is taken, after it.")
    ] = 8888,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Open the notebooks in JupyterLab, connected to the data, until Ctrl-C."""
    if not lab.is_installed():
        end("JupyterLab is not installed here: run `make lab`, which installs and starts it.")
    with stoppable(), joined(must_exist=True) as found:
        home = found.config.home
        with (
            on_signals(lab.GRACE_S) as stop,
            lab.running(
                home, found.servers.database_url, found.config.reports, port, found.servers.lock_fds
            ) as (child, address),
        ):
            print(f"{address}\nNotebooks of yours go into work/. Ctrl-C ends it.", flush=True)
            if browser:
                webbrowser.open(address)
            while not stop.wait(_LOOK_S):
                if not child.is_alive:
                    raise lab.LabError(
                        f"JupyterLab has ended ({child.last_line()}): see {child.log}."
                    )
