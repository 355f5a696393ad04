"""JupyterLab and Chromium, started for the tests, and notebooks open in them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import nbformat

SECONDS = 90.0  # to wait for anything at most; a machine may be busy with other tests
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PICTURES = Path(__file__).parents[2] / ".browser"  # what each test saw last
HOMES = (
    "HOME",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
IDLE = f"() => {KERNEL}?.status === 'idle'"
OPEN = """async ([path, id]) => {
    const kernel = { id, name: "python3" };
    await window.jupyterapp.commands.execute("docmanager:open", { path, kernel });
}"""
CLOSE = "() => { window.jupyterapp.shell.currentWidget.dispose(); }"
CELLS = "window.jupyterapp.shell.currentWidget.content"


def browser_path() -> str | None:
    """Return the browser of this machine, if it has one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Lab:
    """A JupyterLab of its own: nothing of the user is read or written.

    Parameters
    ----------
    folder : Path
        For everything it keeps; notebooks are in ``notebooks`` of it.
    environment : dict of str to str
        What its kernels see beside what we see.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.notebooks = folder / "notebooks"
        self._folder = folder
        self._environment = environment
        self._token = secrets.token_hex(8)
        self._base = ""
        self._tabs: Any = None
        self._kernel = ""

    @contextmanager
    def open(self, browser: str) -> Iterator[Self]:
        """Start the server and the browser; stop them in the end."""
        from playwright.sync_api import sync_playwright

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._base = f"http://127.0.0.1:{port}"
        self._settle()
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *(f"--port={port}", f"--IdentityProvider.token={self._token}"),
            *(f"--ServerApp.root_dir={self.notebooks}", "--LabApp.expose_app_in_browser=True"),
        ]
        own = {name: str(self._folder / name.lower()) for name in HOMES}
        environment = {**os.environ, **own, **self._environment}
        with (
            (self._folder / "lab.log").open("wb") as log,
            subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
            sync_playwright() as playwright,
        ):
            try:
                self._await(server)
                flags = ["--no-sandbox", "--disable-dev-shm-usage"]
                launched = playwright.chromium.launch(executable_path=browser, args=flags)
                # One context for all tabs, which therefore share the cache of what is served.
                self._tabs = launched.new_context(viewport={"width": 1100, "height": 1000})
                yield self
                launched.close()
            finally:
                server.send_signal(signal.SIGTERM)

    @property
    def tab(self) -> Any:
        """The tab that is in use; loading a JupyterLab takes longer than most tests."""
        return self._tabs.pages[-1] if self._tabs.pages else self._tabs.new_page()

    def notebook(self, cells: list[str]) -> Notebook:
        """Make a notebook, and open it."""
        path = self.notebooks / f"n{secrets.token_hex(4)}.ipynb"
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        notebook = nbformat.v4.new_notebook(cells=made, metadata=kernel)  # type: ignore[no-untyped-call]
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        url = f"{self._base}/doc/tree/{path.name}?token={self._token}"
        opened = Notebook(self.tab, url, path)
        if self._kernel:
            opened.open(self._kernel)
        else:
            opened.load()
            self._kernel = opened.page.evaluate(f"() => {KERNEL}.id")
        return opened

    def _settle(self) -> None:
        """Make the folders, and ask JupyterLab for no news."""
        self.notebooks.mkdir()
        settings = self._folder / "jupyterlab_settings_dir" / "@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false"}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self._base}/api?token={self._token}", timeout=5):  # noqa: S310 - our own
                    return
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (self._folder / "lab.log").read_text()
                assert time.monotonic() < deadline, "JupyterLab does not answer"
                time.sleep(0.1)


class Notebook:
    """A notebook that is open in a tab.

    Parameters
    ----------
    page : playwright.sync_api.Page
    url : str
    path : Path
        Of the file.
    """

    def __init__(self, page: Any, url: str, path: Path) -> None:
        self.page, self.url, self.path = page, url, path

    def open(self, kernel: str) -> None:
        """Open it in a tab that has a JupyterLab, for a kernel that is there already."""
        self.page.evaluate(OPEN, [self.path.name, kernel])
        self._until_here()

    def load(self) -> None:
        """Load all of JupyterLab, and it; its kernel may live already."""
        self.page.goto(self.url)
        self._until_here()

    def close(self) -> None:
        """Show nothing of it any more; its kernel goes on, and saved it is not."""
        self.page.evaluate(CLOSE)

    def reopen(self) -> None:
        """Open it in a new tab; the one it was in was closed."""
        self.page = self.page.context.new_page()
        self.load()

    def command(self, name: str) -> None:
        """Do what a menu does; not waited for."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)

    def start(self, index: int) -> None:
        """Run a cell."""
        self.page.evaluate(
            f"(i) => {{ {CELLS}.activeCellIndex = i; {CELLS}.scrollToItem(i); }}", index
        )
        self.command("notebook:run-cell")

    def run(self, index: int) -> str:
        """Run a cell to its end; return what stands below it."""
        self.start(index)
        self.wait_done(index)
        return self.text(index)

    def wait_done(self, index: int) -> None:
        """Wait until a cell has its number, and the kernel nothing to do."""
        self._until(
            f"(i) => {{ const model = {CELLS}.widgets[i].model;"
            " return model.executionCount !== null && model.executionState !== 'running'"
            f" && {KERNEL}?.status === 'idle'; }}",
            index,
        )

    def output(self, index: int) -> Any:
        """Return where a cell shows what it gives."""
        self.page.evaluate(f"(i) => {{ {CELLS}.scrollToItem(i); }}", index)
        cell = f".jp-Cell[data-windowed-list-index='{index}']"
        return self.page.locator(f"{cell} .jp-OutputArea").first

    def text(self, index: int) -> str:
        """Return what is read below a cell."""
        return str(self.output(index).inner_text())

    def save(self) -> None:
        """Write the file, and wait until it is written."""
        before = self.path.stat().st_mtime_ns
        self.command("docmanager:save")
        deadline = time.monotonic() + SECONDS
        while self.path.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, "the notebook was not saved"
            self.page.wait_for_timeout(50)

    def restart(self) -> None:
        """Restart the kernel, as a person does."""
        self.command("notebook:restart-kernel")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.wait_for_timeout(200)  # before which it is idle still
        self._until(IDLE)

    def _until_here(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=SECONDS * 1000)
        self._until(IDLE)

    def _until(self, condition: str, argument: Any = None) -> None:
        self.page.wait_for_function(condition, arg=argument, timeout=SECONDS * 1000)
