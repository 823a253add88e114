"""Forks of a warm process do what fresh processes do."""

import os
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from smallest import PARAMS, SMALLEST

from reconfair.run import warm

DATA = ["run", str(PARAMS / "demo.yaml"), "--only", "01", *(w for text in SMALLEST["demo"] for w in ("--set", text))]


def process(words, outputs, **options):
    """A process with one thread and outputs of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RECONFAIR_OUTPUTS": str(outputs)}
    return subprocess.Popen([*words], env=environment, text=True, **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    socket = tmp_path_factory.mktemp("warm") / "socket"
    serving = process([*warm.COMMAND, str(socket)], socket.parent)
    deadline = time.monotonic() + 120
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield str(socket), psutil.Process(serving.pid)
    serving.terminate()
    serving.wait()


def shown(outputs):
    """All that the cells of chapter 01 show: text and pictures."""
    notebook = nbformat.read(outputs / "phantom_mri" / "x8" / "chapters" / "01_data.ipynb", as_version=4)
    found = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.get("data", output.get("text")) for output in found]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_forked_kernel_shows_to_the_byte_what_a_fresh_one_does(server, tmp_path):
    assert process([sys.executable, "-m", "reconfair.run", *DATA], tmp_path / "fresh").wait() == 0
    assert process([*warm.COMMAND, server[0], *DATA], tmp_path / "forked").wait() == 0
    fresh, forked = shown(tmp_path / "fresh"), shown(tmp_path / "forked")
    assert any("image/png" in data for data in fresh if isinstance(data, dict))
    assert forked == fresh


def test_who_asks_gets_output_and_exit_status(server, tmp_path):
    asked = process([*warm.COMMAND, server[0], "check", "nowhere.yaml"], tmp_path, stderr=subprocess.PIPE)
    assert "nowhere.yaml" in asked.communicate()[1] and asked.returncode == 2


def test_the_work_ends_with_who_asked(server, tmp_path):
    asked = process([*warm.COMMAND, server[0], *DATA], tmp_path)
    working = []
    while len(working) < 3:  # the run, who asks for its kernel, and the kernel
        assert asked.poll() is None
        time.sleep(0.1)
        working = server[1].children(recursive=True)
    asked.kill()
    asked.wait()
    left = psutil.wait_procs(working, timeout=30)[1]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_without_a_server_the_work_is_done_where_it_is_asked(outputs, tmp_path):
    assert warm.ask(str(tmp_path / "nobody"), ["check", str(PARAMS / "demo.yaml")], patience=0.1) == 0
