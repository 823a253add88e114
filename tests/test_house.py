"""The house: chapters build on earlier ones alone, and notebooks, params files and environment agree."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.util import resolve_name

import jupytext
import nbformat
import pytest
import yaml

from reconfair import params, run, store

ROOT = store.PACKAGE.parent
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(store.PACKAGE.rglob("*.py"))}
# The chapter of each room; every other module serves them all and knows none of them.
# `fairness` is no chapter: it knows nothing of the others, and chapters 04 and 05 use it.
CHAPTER = {
    "data": 1,
    "noise": 2,
    "recon": 3,
    "diagnosis": 4,
    "judge": 5,
    "truth": 5,
    "mitigation": 6,
    "report": 10,
    "estimate": 11,
    "run": 11,  # the command line stands above them all
    "warm": 12,  # but for the process that it is forked from
}
LIGHT = ("data", "noise", "fairness", "figures", "report", "judge", "store", "params")
SCRIPTS = sorted(store.NOTEBOOKS.glob("*.py"))
CHAPTERS = [
    script for script in SCRIPTS if not script.stem.startswith("A")
]  # the others are appendices, read on their own

each_module = pytest.mark.parametrize("module", MODULES)
each_chapter = pytest.mark.parametrize("script", CHAPTERS, ids=lambda path: path.stem)
each_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def imported(module):
    """Modules that a module imports, within functions too, as dotted names; of ``from a import b``, a.b."""
    path = MODULES[module]
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            yield name.values[0].value if isinstance(name, ast.JoinedStr) else name.value


def used(module):
    """What a module imports of the package, as paths within it: ``data/splits`` for ``reconfair.data.splits.names``."""
    for name in imported(module):
        if name.startswith("reconfair."):
            path = name.replace(".", "/")
            while path not in MODULES and f"{path}/__init__" not in MODULES:
                path = path.rpartition("/")[0]
            yield path.removeprefix("reconfair/")


def rooms(module):
    """Rooms of the package that a module imports: ``data`` for ``reconfair.data.splits``."""
    return {path.split("/")[0] for path in used(module)}


def sections(script):
    """Sections that the cell tagged ``parameters`` of a notebook assigns."""
    (cell,) = [cell for cell in jupytext.read(script).cells if "parameters" in cell.metadata.get("tags", [])]
    assigned = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign)  # values only: papermill replaces them, and nothing may follow from them
        assigned[node.targets[0].id] = ast.literal_eval(node.value)
    return assigned


# --- chapters ---


@each_module
def test_no_chapter_imports_a_later_one(module):
    own = CHAPTER.get(module.split("/")[1], 0)
    later = {room for room in rooms(module) if CHAPTER.get(room, 0) > own}
    assert not later, f"{module} (chapter {own}) imports {later}"


def test_imports_within_functions_are_seen():
    assert "training" in rooms("reconfair/diagnosis/__init__")  # imported where it is used
    assert "recon" in rooms("reconfair/recon/__init__")  # by a name that is put together


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("reconfair/fairness/")])
def test_fairness_can_be_lifted_out(module):
    allowed = {"numpy", "scipy", "pandas"} | sys.stdlib_module_names
    others = {name for name in imported(module) if not name.startswith("reconfair.fairness.")}
    assert {name.split(".")[0] for name in others} <= allowed


def test_chapters_without_training_import_no_torch():
    heavy = ("torch", "torchvision", "lightning", "segmentation_models_pytorch")
    rooms = ", ".join(f"reconfair.{room}" for room in LIGHT)
    code = f"import sys, {rooms}; print([module for module in {heavy} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", params.DATASETS)
def test_every_module_that_makes_a_cohort_is_part_of_its_fingerprint(name):
    code = store.flow(params.study(dataset={"name": name}))["cohort"].code
    found = {path for module in code if module != "data" for path in used(f"reconfair/{module}")}
    assert found - {"data", "params"} <= set(code)


@pytest.mark.usefixtures("outputs")
@each_chapter
def test_every_room_that_a_notebook_uses_is_part_of_its_fingerprint(script):
    product = store.flow(params.load(ROOT / "params" / "demo.yaml"))[f"notebooks/{script.stem}"]
    code = {module.split("/")[0] for made in (product, *product.needs) for module in made.code}
    lines = "\n".join(line for line in script.read_text().splitlines() if not line.startswith("#"))
    assert set(re.findall(r"\brf\.(\w+)", lines)) - {"params", "store", "tables"} <= code


# --- notebooks ---


def test_there_is_one_notebook_for_each_chapter():
    assert [path.stem for path in CHAPTERS] == list(store.CHAPTERS) == sorted(store.CHAPTERS)
    assert sorted(store.NOTEBOOKS.glob("*.ipynb")) == [script.with_suffix(".ipynb") for script in SCRIPTS]


@each_chapter
def test_parameters_are_the_sections_of_the_chapter_as_in_the_demo(script):
    demo = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())
    assert sections(script) == {name: demo.get(name, {}) for name in store.CHAPTERS[script.stem]}


@each_notebook
def test_notebook_is_the_script(script):
    assert script.with_suffix(".ipynb").read_text() == run.pair(script)


@each_notebook
def test_notebook_is_valid_and_without_outputs(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert notebook.metadata.kernelspec.name == "python3"


@each_notebook
def test_notebook_defines_no_class_and_trains_nothing_by_itself(script):
    for node in ast.walk(ast.parse(script.read_text())):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.For):
            assert "epoch" not in ast.unparse(node.target) + ast.unparse(node.iter)
        assert not (isinstance(node, ast.Attribute) and node.attr in ("backward", "zero_grad"))


# --- params files and environment ---


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_params_file_is_valid(path):
    study = params.load(path)
    assert study.level in path.stem or path.stem.startswith("demo")


def test_params_files_stand_for_different_runs():
    names = [params.load(path).name for path in (ROOT / "params").glob("*.yaml")]
    assert len(set(names)) == len(names)


def test_conda_and_pip_install_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {package for package in listed if isinstance(package, str)} - {"pip"}
    renamed = {
        name.replace("torch>", "pytorch>") if name.startswith("torch>") else name for name in project["dependencies"]
    }
    assert conda == renamed | {f"python{project['requires-python']}"}
