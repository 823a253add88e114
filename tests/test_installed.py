"""The wheel alone, far from a checkout: it holds the notebooks, and a copied notebook that is edited is the one run."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import reconfair
from reconfair import params, run, store
from reconfair.run import notebooks

ROOT = store.PACKAGE.parent


def test_init_copies_what_is_edited_and_keeps_what_is_there(tmp_path, capsys):
    assert run.main(["init", str(tmp_path / "mine")]) == 0
    for folder in ("notebooks", "params", "workflow"):
        names = {path.name for path in (ROOT / folder).iterdir() if not path.name.startswith((".", "__"))}
        assert {path.name for path in (tmp_path / "mine" / folder).iterdir()} == names
    assert (tmp_path / "mine" / "workflow" / "profiles" / "slurm" / "config.yaml").is_file()
    (tmp_path / "mine" / "params" / "demo.yaml").write_text("changed")
    assert run.main(["init", str(tmp_path / "mine")]) == 2
    assert str(tmp_path / "mine") in capsys.readouterr().err
    assert (tmp_path / "mine" / "params" / "demo.yaml").read_text() == "changed"


def test_a_file_of_the_project_goes_before_that_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert params.project_file("params/demo.yaml") == ROOT / "params" / "demo.yaml"
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text("dataset: {name: phantom_mri, patients: 30}\nnoise: {}\n")
    assert params.study("demo").dataset.patients == 30
    assert params.study("class").dataset == params.load(ROOT / "params" / "class.yaml").dataset


def environment(folder: Path) -> Path:
    """A new virtual environment with the wheel of this checkout and the libraries that this Python has."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed; make setup installs it")
    for name in (
        "reconfair",
        "notebooks",
        "params",
        "workflow",
        "benchmarks/results",
    ):  # a build writes into its source
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = [uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", folder, folder / "source"], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python, [wheel] = folder / "venv" / "bin" / "python", folder.glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel]
    subprocess.run(install, check=True)
    # A path in a .pth file brings the libraries, and not the link to this checkout that is installed among them.
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.mark.slow
def test_the_wheel_runs_its_copied_notebooks_outside_any_checkout(tmp_path):
    python = environment(tmp_path)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RECONFAIR_OUTPUTS")}

    clean["JUPYTER_PATH"] = str(Path(sysconfig.get_path("data")) / "share" / "jupyter")  # templates of the libraries

    def call(*words: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    code = "import reconfair as rf; print(rf.__file__, rf.params.shipped(), rf.params.study('demo').name)"
    package, shipped, name = call(python, "-c", code).split()
    assert {Path(package).is_relative_to(tmp_path / "venv"), Path(shipped).is_relative_to(tmp_path / "venv")} == {True}
    assert name == "phantom_mri/x8" and (Path(shipped) / "benchmarks" / "results" / "mitigation.csv").is_file()

    command, folder = python.with_name("reconfair"), tmp_path / "study"
    assert call(command, "--version") == f"reconfair {reconfair.__version__}\n"
    assert "reconfair run params/demo.yaml" in call(command, "init", str(folder))
    assert "valid" in call(command, "check", "params/demo.yaml", cwd=folder)
    path = folder / "notebooks" / "02_noising.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][-1] |= {"cell_type": "code", "outputs": [], "execution_count": None, "metadata": {}}
    notebook["cells"][-1]["source"] = "print('this copy was', 'edited')"
    path.write_text(json.dumps(notebook))
    call(command, "run", "params/class.yaml", "--until", "02", cwd=folder)
    copies = folder / "outputs" / "class" / "x4" / "chapters"
    assert (copies / "01_data.html").is_file() and "this copy was edited" in (copies / "02_noising.ipynb").read_text()
    again = call(command, "run", "params/class.yaml", "--until", "02", cwd=folder)
    assert again.count(" fresh ") == 2


@pytest.mark.slow
def test_the_first_cell_of_an_exercise_installs_the_release(tmp_path):
    python = environment(tmp_path)
    subprocess.run(
        [Path(sys.executable).with_name("uv"), "pip", "uninstall", "--python", python, "reconfair"], check=True
    )
    here = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    here |= {"PIP_NO_DEPS": "1", "PIP_IGNORE_INSTALLED": "1"}  # this checkout is still listed among the libraries
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | here
    lines = [notebooks.INSTALL.format(version=reconfair.__version__), "import reconfair as rf", "print(rf.__file__)"]
    lines += ["print(rf.params.study('class').name)"]  # the first line of each chapter finds its base
    done = subprocess.run([python, "-c", "\n".join(lines)], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    place, name = done.stdout.split()[-2:]
    assert Path(place).is_relative_to(tmp_path / "venv") and name == "class/x4"
