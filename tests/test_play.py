"""Pictures that follow sliders: their numbers, their time, and what stands where nobody can move them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat.v4 as v4
import numpy as np
import pandas as pd
import pytest

from reconfair import play, store
from reconfair.fairness import metrics, simulation, two_groups

START = {key: value for key, (_, _, value) in play.GAP.items()}


def shown(monkeypatch) -> list:
    """What a notebook would display, from now on."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    return displayed


def test_numbers_follow_from_the_settings():
    fair, unfair = (two_groups.compare(**START | {"disparity": value}) for value in (0.0, 1.0))
    assert fair["eodd"] == 0 and fair["low"] == 0 < fair["expected"] and fair["p"] > 0.9
    assert unfair["low"] > 0 and unfair["low"] < unfair["eodd"] < unfair["high"] and unfair["p"] < 0.05
    widths = [
        np.ptp([one["low"], one["high"]])
        for one in (two_groups.compare(**START | {"patients": n}) for n in play.PATIENTS)
    ]
    assert (np.diff(widths) < 0).all()
    tpr = [two_groups.compare(**START | {"threshold": t})["tpr"][0] for t in play.THRESHOLD]
    assert (np.diff(tpr) < 0).all()


def test_the_chance_curve_is_that_of_simulated_studies():
    seen = two_groups.compare(**START | {"disparity": 0.0, "patients": 200})
    share = {"a": two_groups.LARGE / (two_groups.LARGE + 200), "b": 200 / (two_groups.LARGE + 200)}
    how = {"prevalence": two_groups.PREVALENCE, "separation": two_groups.SEPARATION, "images": (1, 1)}
    eodds = []
    for seed in range(200):
        rows = simulation.simulate(patients=two_groups.LARGE + 200, share=share, **how, seed=seed)
        rate = (rows.score >= START["threshold"]).groupby([rows.label, rows.group]).mean().unstack()
        eodds.append(float(metrics.eodd(tpr=rate.loc[1.0], fpr=rate.loc[0.0])))
    x = np.linspace(0, 0.3, 1001)
    mean = np.trapezoid(x * two_groups.density(x, seen["sd"]), x)
    assert np.mean(eodds) == pytest.approx(mean, abs=0.004) and seen["expected"] == pytest.approx(mean, abs=0.002)


def scans():
    """What `play.noise` takes: 20 images, at two levels, with the means of two groups."""
    originals = np.random.default_rng(0).random((20, 64, 64))
    rows = [("sex", group, level, "psnr", 30.0, 29.0, 31.0) for level in ("x4", "x8") for group in ("female", "male")]
    groups = pd.DataFrame(rows, columns=["attribute", "group", "level", "metric", "value", "low", "high"])
    return originals, {"x4": originals / 2, "x8": 0 * originals}, groups


@pytest.mark.parametrize(
    ("draw", "sliders"),
    [play.noise(*scans()), (play.gap, play.GAP), (play.stages, play.STAGES)],
    ids=["chapter 02", "chapter 05", "chapter 09"],
)
def test_a_move_takes_less_than_a_tenth_of_a_second(draw, sliders):
    first, seconds = {key: value for key, (_, _, value) in sliders.items()}, []
    play.png(draw(**first))  # fonts and fixed draws are loaded once
    for key, (_, values, _) in sliders.items():
        for value in values[:2]:
            start = time.process_time()
            play.png(draw(**first | {key: value}))
            seconds.append(time.process_time() - start)
    assert np.median(seconds) < 2 * 0.1  # twice as long is allowed on a slow machine


# What the cells of the three chapters display; chapter 02 with images that need no study.
CELLS = {
    "02": "import numpy as np, pandas as pd\n"
    "o = np.random.default_rng(0).random((20, 64, 64))\n"
    "rows = [('sex', g, l, 'psnr', v, v - 1, v + 1) for l, v in (('x4', 30.0), ('x8', 25.0)) for g in ('a', 'b')]\n"
    "groups = pd.DataFrame(rows, columns='attribute group level metric value low high'.split())\n"
    "play.show(*play.noise(o, {'x4': o / 2, 'x8': 0 * o}, groups))",
    "05": "play.show(play.gap, play.GAP)",
    "09": "play.show(play.stages, play.STAGES)",
}
MOVED = {"02": (0, "ArrowLeft", "30.0 dB"), "05": (1, "ArrowRight", None), "09": (0, "ArrowRight", None)}


class Browser:
    """Chromium without a window, told what to do through its debugging port."""

    def __init__(self, folder, port: int):
        self.port, self.socket, self.calls = port, None, 0
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        command += [f"--remote-debugging-port={port}", "--remote-allow-origins=*", "--window-size=1400,1000"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answer(f"http://127.0.0.1:{port}/json")

    def open(self, address: str) -> None:
        """Open an address in a new tab, to which all further calls go."""
        import websocket

        self.close()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?{address}", method="PUT")
        with urllib.request.urlopen(request, timeout=20) as reply:
            page = json.load(reply)
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60)
        self.call("Page.bringToFront")

    def close(self) -> None:
        if self.socket:
            self.socket.close()

    def call(self, method: str, **settings) -> dict:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": settings}))
        while (reply := json.loads(self.socket.recv())).get("id") != self.calls:
            pass
        return reply["result"]

    def value(self, code: str):
        """What a line of JavaScript gives; None if it fails."""
        return self.call("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def wait(self, code: str, seconds: float = 60):
        """Ask until the answer is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if seen := self.value(code):
                return seen
            time.sleep(0.05)
        raise TimeoutError(code)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def answer(address: str):
    """The JSON that a server gives, once it has started."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as reply:
            return json.load(reply)
        time.sleep(0.2)
    raise TimeoutError(address)


def ready(address: str, notebook: str) -> bool:
    """Whether the kernel of a notebook waits for code from its page."""
    of = [session["kernel"] for session in answer(f"{address}api/sessions") if session["path"] == notebook]
    return any(kernel["execution_state"] == "idle" and kernel["connections"] for kernel in of)


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a notebook for each of `CELLS`: its address and a browser."""
    pytest.importorskip("ipywidgets")
    pytest.importorskip("websocket")
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("lab")
    for name, code in CELLS.items():
        notebook = v4.new_notebook(cells=[v4.new_code_cell(f"from reconfair import play\n{code}")])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (folder / f"{name}.ipynb").write_text(v4.writes(notebook))
    homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
    elsewhere = {home: str(tmp_path_factory.mktemp("home")) for home in (*homes, "JUPYTERLAB_WORKSPACES_DIR")}
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    command += ["--LabApp.expose_app_in_browser=True"]
    environment = {key: value for key, value in os.environ.items() if key != "RECONFAIR_PROGRESS"} | elsewhere
    environment |= {"PYTHONPATH": str(store.PACKAGE.parent)}
    style = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **style)
    browser = None
    try:
        answer(f"http://127.0.0.1:{port}/api")
        browser = Browser(tmp_path_factory.mktemp("profile"), free_port())
        yield f"http://127.0.0.1:{port}/lab/tree", browser
    finally:
        if browser:
            browser.close()
        for process in (server, *([browser.process] if browser else ())):
            process.terminate()
            process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CELLS)
def test_a_slider_that_is_moved_in_a_browser_moves_the_numbers(lab, chapter):
    address, browser = lab
    browser.open(f"{address}/{chapter}.ipynb?reset")
    end = time.monotonic() + 60
    while not ready(address.removesuffix("lab/tree"), f"{chapter}.ipynb"):
        assert time.monotonic() < end, "no kernel has started"
        time.sleep(0.2)
    browser.wait("!!document.querySelector('.jp-Notebook .jp-Cell')")
    browser.value("window.jupyterapp.commands.execute('notebook:run-all-cells'), 1")
    text = "[...document.querySelectorAll('.widget-vbox > .widget-label')].at(-1)?.textContent"
    before = browser.wait(text)
    at, key, expected = MOVED[chapter]
    browser.wait(f"document.querySelectorAll('.noUi-handle')[{at}].focus(), 1")
    start = time.monotonic()
    browser.press(key, 37 if key == "ArrowLeft" else 39)
    after = browser.wait(f"({text}) !== {json.dumps(before)} && {text}", 20)
    seconds = time.monotonic() - start
    if chapter == "05":
        seen = two_groups.compare(**START | {"disparity": 0.6})
        expected = f"EODD {seen['eodd']:.3f}, interval {seen['low']:.3f} to {seen['high']:.3f}"
    if chapter == "09":
        first = {name: value for name, (_, _, value) in play.STAGES.items()}
        four = two_groups.by_stage(**first | {"by_row": 0.7})
        expected = f"standard reconstruction, standard reader: {four['standard', 'standard']['eodd']:.3f}"
    assert expected in after and expected not in before
    assert seconds < 5  # with the way to the browser and back; the drawing itself is timed above


def test_a_slider_moves_the_picture():
    pytest.importorskip("ipywidgets")
    tool = play.widget(play.gap, play.GAP)
    *controls, picture, numbers = tool.children
    assert [control.description for control in controls] == [text for text, *_ in play.GAP.values()]
    before = picture.value
    controls[1].value = 1.5
    assert picture.value != before
    assert picture.value == play.png(play.gap(**START | {"disparity": 1.5}))
    assert f"EODD {two_groups.compare(**START | {'disparity': 1.5})['eodd']:.3f}, interval" in numbers.value


def test_a_run_shows_one_picture_and_a_sentence(monkeypatch):
    displayed = shown(monkeypatch)
    monkeypatch.setenv("RECONFAIR_PROGRESS", "file")
    play.show(play.gap, play.GAP)
    picture, sentence = displayed
    assert "image/png" in picture and "widget" not in " ".join(picture) and "disparity = 0.5" in sentence.data


def test_a_notebook_has_the_sliders_and_a_picture_for_its_page(monkeypatch):
    pytest.importorskip("ipywidgets")
    displayed = shown(monkeypatch)
    monkeypatch.delenv("RECONFAIR_PROGRESS", raising=False)
    play.show(play.stages, play.STAGES)
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= {*displayed[0]}


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 3, 8, 8)], ids=["grey", "colour"])
def test_the_picture_of_noise_shows_the_level_and_the_image(shape):
    originals = np.random.default_rng(0).random(shape)
    rows = [("sex", group, level, "psnr", 30.0, 29.0, 31.0) for level in ("x4", "x8") for group in ("female", "male")]
    groups = pd.DataFrame(rows, columns=["attribute", "group", "level", "metric", "value", "low", "high"])
    draw, sliders = play.noise(originals, {"x4": originals / 2, "x8": 0 * originals}, groups)
    figure = draw("x8", 2)
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    expected = np.moveaxis(originals[1], 0, -1) if len(shape) == 4 else originals[1]
    assert np.allclose(drawn[0], expected) and not drawn[1].any() and sliders["image"][1] == (1, 2, 3)
