"""Jupyter in a container: its port is published on loopback, its token comes from a secret."""

from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # Jupyter's

token = Path("/run/secrets/jupyter_token").read_text(encoding="ascii").strip()
if not token:
    raise SystemExit(
        "The secret jupyter_token is empty: remove secrets/jupyter_token and run `make secrets`."
    )
c.IdentityProvider.token = token
c.ServerApp.ip = "0.0.0.0"  # noqa: S104  # of the container
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/home/infamous"
c.ServerApp.terminals_enabled = False
c.LabApp.default_url = "/lab/tree/notebooks/01_tour.ipynb"
# Nobody is called, and nothing is installed from here.
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
c.LabApp.extension_manager = "readonly"
c.FileContentsManager.delete_to_trash = False
