"""The lab: JupyterLab on the notebooks, connected to the data, for as long as somebody is at it."""

from __future__ import annotations

import webbrowser
from typing import Annotated, Final

import typer

from infamous import house, lab, rolled_up
from infamous.house import end, stoppable, tables
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
    with stoppable(), tables() as found, on_signals(lab.GRACE_S) as stop:
        with found.reader() as reader:
            rolled_up.roll_up(found.engine, reader, stop)
        if stop.is_set():
            return
        home, reports = found.config.home, found.config.reports
        running = lab.running(home, found.reading_url, reports, port, found.lock_fds)
        with running as (child, at, leads_there):
            print(f"{at}\nNotebooks of yours go into work/. Ctrl-C ends it.", flush=True)
            if browser:
                webbrowser.open(leads_there.as_uri())
            while not stop.wait(_LOOK_S):
                if not child.is_alive:
                    raise lab.LabError(
                        f"JupyterLab has ended ({child.last_line()}): see {child.log}."
                    )
