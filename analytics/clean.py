"""Clean: a notebook that is about to be saved flows in, the same without what it showed flows out.

JupyterLab calls it on each save. Outputs hold data and change with every run: what is kept under version
control is without them, so that whoever only looked has changed nothing. Notebooks in other folders keep
theirs.
"""

from __future__ import annotations

from typing import Any, Final

# The folder of our notebooks, as JupyterLab sees it.
OURS: Final = "notebooks"


def without_outputs(model: dict[str, Any], path: str, **_: Any) -> None:
    """Take outputs, run numbers and the version of Python out of a notebook of ours: a pre-save hook."""
    if model["type"] != "notebook" or not path.strip("/").startswith(f"{OURS}/"):
        return
    model["content"]["metadata"]["language_info"] = {"name": "python"}
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
            cell["metadata"].pop("execution", None)
