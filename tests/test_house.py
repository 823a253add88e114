"""The house: rooms build on lower ones alone, and notebooks, params files and environment agree."""

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

from reconfair import params, store
from reconfair.run import notebooks
from reconfair.run.products import CHAPTERS, FOLDER, chapters, every_product

ROOT = store.PACKAGE.parent
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(store.PACKAGE.rglob("*.py"))}
# The floor of each room: a room builds on those below it, and on none beside it of another name. The ground floor (0)
# serves all and knows none of them. `fairness` knows nothing of the others at all.
GROUND = (
    "words",
    "params",
    "store",
    "tables",
    "entries",
    "keyed",
    "training",
    "quality",
    "figures",
    "play",
    "fairness",
)
FLOOR = dict.fromkeys(GROUND, 0)
FLOOR |= {
    "data": 1,
    "noise": 2,
    "recon": 3,
    "remedies": 3,
    "diagnosis": 4,
    "perceptual": 4.5,
    "judge": 5,
    "truth": 5,
    "mitigation": 6,
}
FLOOR |= {"fair_diagnosis": 7, "synthesis": 8, "two_stages": 9, "report": 10, "run": 11}
KNOWS_NOTHING = ("store", "words", "tables")  # of rooms and chapters
LIGHT = ("data", "noise", "fairness", "figures", "report", "judge", "store", "params", "run")
SCRIPTS = sorted(FOLDER.glob("*.py"))
NUMBERED = [script for script in SCRIPTS if not script.stem.startswith("A")]  # the others are appendices

each_module = pytest.mark.parametrize("module", MODULES)
each_chapter = pytest.mark.parametrize("script", NUMBERED, ids=lambda path: path.stem)
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


def used(module):
    """What a module imports of the package, as modules: ``reconfair.data.splits`` for ``reconfair.data.splits.names``."""
    for name in imported(module):
        path = name.replace(".", "/")
        while path.startswith("reconfair/") and path not in MODULES and f"{path}/__init__" not in MODULES:
            path = path.rpartition("/")[0]
        if path.startswith("reconfair/"):
            yield path.replace("/", ".")


def room(name):
    """The room of a module: ``data`` for ``reconfair.data.splits`` and for ``reconfair/data/splits``."""
    return name.replace("/", ".").split(".")[1]


def sections(script):
    """Sections that the cell tagged ``parameters`` of a notebook assigns."""
    (cell,) = [cell for cell in jupytext.read(script).cells if "parameters" in cell.metadata.get("tags", [])]
    assigned = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign)  # values only: papermill replaces them, and nothing may follow from them
        assigned[node.targets[0].id] = ast.literal_eval(node.value)
    return assigned


# --- rooms ---


@each_module
def test_no_room_imports_one_above_it(module):
    mine = room(module)
    if module != "reconfair/__init__":
        above = {name for name in map(room, used(module)) if name != mine and FLOOR[name] >= max(FLOOR[mine], 1)}
        assert not above, f"{module} (floor {FLOOR[mine]}) imports {above}"


def circles(imports):
    """Names that reach themselves through what they import."""

    def reached(name, seen):
        for other in imports.get(name, set()) - seen:
            seen |= {other}
            reached(other, seen)
        return seen

    return {name for name in imports if any(name in reached(other, set()) for other in imports[name] - {name})}


def test_no_rooms_import_each_other():
    imports = {}
    for module in MODULES:
        imports.setdefault(room(module), set()).update(map(room, used(module)))
    assert not circles(imports)


def test_no_files_import_each_other():
    """But for the file of a room that stands for the room itself."""
    files = {module for module in MODULES if not module.endswith("__init__")}
    imports = {module: {name.replace(".", "/") for name in used(module)} & files for module in files}
    assert not circles(imports)


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} - {"__init__"} <= set(FLOOR)


@each_module
def test_no_module_is_imported_by_a_name_that_is_put_together(module):
    # Else neither these tests nor fingerprints would see it.
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            assert module == "reconfair/__init__"  # its rooms, by their names, for `rf.data` and the like


def test_imports_within_functions_are_seen():
    assert "reconfair.training" in used("reconfair/diagnosis/__init__")
    assert {f"reconfair.recon.{name}" for name in ("unet", "pix2pix", "sde")} <= set(used("reconfair/recon/__init__"))


@pytest.mark.parametrize("name", KNOWS_NOTHING)
def test_the_ground_floor_names_no_room_and_no_chapter(name):
    upstairs = {other for other, floor in FLOOR.items() if floor} | {stem[3:] for stem in CHAPTERS} | {*CHAPTERS}
    upstairs -= {"run", "data"} if name == "words" else set()  # no words of its vocabulary
    tree = ast.parse(MODULES[f"reconfair/{name}"].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {word for text in texts for word in (text, *re.split(r"[/.]", text))}
    assert not names & (upstairs - {"fairness", "synthesis"}) and not any(
        FLOOR[room(other)] for other in used(f"reconfair/{name}")
    )


NO_NAMES = {"found", "told", "said", "shown", "beheld", "own", "beside"}


@each_module
def test_names_are_nouns_and_no_participles(module):
    tree, names = ast.parse(MODULES[module].read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
        names |= {node.arg} if isinstance(node, ast.arg) else set()
        names |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
    assert not names & NO_NAMES


@each_module
def test_no_folder_name_is_taken_apart(module):
    ours = room(module) != "data"  # folders of public datasets have names that say something
    for node in ast.walk(ast.parse(MODULES[module].read_text())) if ours else ():
        if isinstance(node, ast.Attribute) and node.attr in ("parts", "split", "partition", "rpartition"):
            assert not re.search(r"\b(folder|product)(\.name)?$|\.key$", ast.unparse(node.value)), ast.unparse(node)


def test_remedies_know_no_stage():
    stages = {"data", "noise", "recon", "diagnosis", "judge", "mitigation", "synthesis", "report", "run"}
    rooms = {room(name) for module in MODULES if room(module) == "remedies" for name in used(module)}
    assert not rooms & stages


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("reconfair/fairness/")])
def test_fairness_can_be_lifted_out(module):
    allowed = {"numpy", "scipy", "pandas"} | sys.stdlib_module_names
    others = {name for name in imported(module) if not name.startswith("reconfair.fairness")}
    assert {name.split(".")[0] for name in others} <= allowed


def test_chapters_without_training_import_no_torch():
    heavy = ("torch", "torchvision", "lightning", "segmentation_models_pytorch")
    rooms = ", ".join(f"reconfair.{room}" for room in LIGHT)
    code = f"import sys, {rooms}; print([module for module in {heavy} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- fingerprints ---

OTHER_READERS = ("classify", "segment", "given", "strategies", "learning", "fairread", "crop", "groupwise")
# What a module of a room imports from its own room, and yet does not compute with.
LOOKED_UP = {
    # settings classes, and tables of all kinds of which the product names its own
    "reconfair.data": lambda name: name.startswith("reconfair.data.") and name != "reconfair.data.splits",
    "reconfair.noise": lambda name: name.startswith("reconfair.noise."),
    "reconfair.recon": lambda name: name.startswith("reconfair.recon."),
    "reconfair.diagnosis": lambda name: name.split(".")[-1] in OTHER_READERS,
    "reconfair.data.ucsf_pdgm": lambda name: name == "reconfair.data.lgg",  # names of tasks
    "reconfair.data.phantom_mri": lambda name: name == "reconfair.data.lgg",
    "reconfair.mitigation": lambda name: name == "reconfair.mitigation.thresholds",  # a product of its own
}
EVERY = ["reweight", "dro", "eodd", "adv", "reweight+eodd", "thresholds"]


def lacking(product):
    """Modules that those of a product import from their own rooms, and that are neither in its code nor that of needs."""
    known, needs = set(product.code), list(product.needs)
    while needs:
        need = needs.pop()
        known |= set(need.code)
        needs += need.needs
    imports = set()
    for name in (name for name in product.code if name.startswith("reconfair.")):
        path = name.replace(".", "/")
        module = path if path in MODULES else f"{path}/__init__"
        looked_up = LOOKED_UP.get(name, lambda other: False)
        imports |= {other for other in used(module) if room(other) == room(name) and not looked_up(other)}
    return imports - known


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", params.DATASETS)
def test_every_module_of_a_room_that_makes_a_product_is_in_its_fingerprint(name):
    study = params.study(dataset={"name": name}, mitigation={"strategies": EVERY})
    made = [product for product in every_product(study) if product.folder.name != "chapters"]
    assert {product.key: lacking(product) for product in made if lacking(product)} == {}


@pytest.mark.usefixtures("outputs")
def test_the_module_of_each_kind_is_in_the_fingerprint_of_what_it_makes():
    study = params.study(dataset={"name": "phantom_mri"}, mitigation={"strategies": EVERY})
    code = {product.key.removeprefix("phantom_mri/"): product.code for product in every_product(study)}
    for key, module in {
        "cohort/cohort": "data.phantom_mri",
        "noise/x8/noisy": "noise.kspace",
        "x8/sources/unet/weights": "recon.unet",
        "x8/sources/pix2pix/weights": "recon.pix2pix",
        "x8/sources/sde/weights": "recon.scorenet",
        "readers/grade/weights": "diagnosis.classify",
        "readers/tumour/weights": "diagnosis.segment",
        "x8/sources/unet-reweight+eodd/weights": "remedies.eodd",
    }.items():
        assert f"reconfair.{module}" in code[key], key


@pytest.mark.usefixtures("outputs")
@each_chapter
def test_every_room_that_a_notebook_uses_is_part_of_its_fingerprint(script):
    study = params.load(ROOT / "params" / "demo.yaml")
    (copy,) = [product for product in every_product(study) if product.name == script.stem]
    rooms = {room(name) for made in (copy, *copy.needs) for name in made.code}
    lines = "\n".join(line for line in script.read_text().splitlines() if not line.startswith("#"))
    assert set(re.findall(r"\brf\.(\w+)", lines)) - {"params", "store", "tables"} <= rooms


TIMES = """
import time
from reconfair import params
from reconfair.run.products import every_product
start = time.process_time()
[product.fingerprint for product in every_product(params.load("params/demo.yaml"))]
print(time.process_time() - start)
"""


@pytest.mark.usefixtures("outputs")
def test_fingerprints_of_a_whole_study_take_half_a_second():
    # Twice as long is allowed, and the best of three counts: the machine may be busy with other work.
    runs = [subprocess.run([sys.executable, "-c", TIMES], capture_output=True, text=True, cwd=ROOT) for _ in range(3)]
    assert min(float(done.stdout) for done in runs) < 1.0


# --- text ---


def without_encoding(code):
    """Calls that open or read text and leave its encoding to the machine."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of = getattr(getattr(node.func, "value", None), "id", "")
        modes = [one.value for one in (*node.args, *(word.value for word in node.keywords)) if hasattr(one, "value")]
        binary = any(isinstance(mode, str) and re.fullmatch("[rwax+]*b[rwax+]*", mode) for mode in modes)
        opens = called == "open" and of not in ("Sheet", "Image") and not binary
        if (opens or called in ("read_text", "write_text")) and "encoding" not in {word.arg for word in node.keywords}:
            yield ast.unparse(node)


def test_text_has_the_same_encoding_on_every_machine():
    assert len(list(without_encoding("open('a')\np.read_text()\np.open('w')\np.write_text('b')"))) == 4
    assert not list(without_encoding("open('a', 'rb')\nImage.open(p)\np.open(encoding='utf-8')"))
    code = {path: path.read_text(encoding="utf-8") for path in store.PACKAGE.rglob("*.py")}
    assert {path.name: calls for path, text in code.items() if (calls := list(without_encoding(text)))} == {}


# --- notebooks ---


def test_there_is_one_notebook_for_each_chapter():
    assert [path.stem for path in NUMBERED] == list(CHAPTERS) == sorted(CHAPTERS)
    assert sorted(FOLDER.glob("*.ipynb")) == [script.with_suffix(".ipynb") for script in SCRIPTS]


@each_chapter
def test_parameters_are_a_base_and_what_to_change_in_each_section_of_the_chapter(script):
    cell = sections(script)
    base = cell.pop("base")
    assert (ROOT / "params" / f"{base}.yaml").is_file() and list(cell) == list(CHAPTERS[script.stem])
    assert script.stem in chapters(params.study(base, **cell))
    # Two chapters leave something out that takes minutes, and say so.
    changed = {name: value for name, value in cell.items() if value != {}}
    assert len(changed) == {"07_fair_diagnosis": 1, "10_report": 3}.get(script.stem, 0)


@each_notebook
def test_notebook_is_the_script(script):
    assert script.with_suffix(".ipynb").read_text() == notebooks.pair(script)


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
        assert not (isinstance(node, ast.Attribute) and node.attr == "zero_grad")  # one gradient may be shown


# --- params files and environment ---


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_params_file_is_valid(path):
    study = params.load(path)
    assert study.level in path.stem or path.stem.startswith(("demo", "class"))


def test_params_files_stand_for_different_runs():
    names = [params.load(path).name for path in (ROOT / "params").glob("*.yaml")]
    assert len(set(names)) == len(names)


def test_conda_and_pip_install_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {package for package in listed if isinstance(package, str)} - {"pip"}
    others = {"torch": "pytorch", "xxhash": "python-xxhash"}  # names that conda has for the same package
    renamed = {
        re.sub(r"^[\w-]+", lambda name: others.get(name[0], name[0]), package) for package in project["dependencies"]
    }
    assert conda == renamed | {f"python{project['requires-python']}"}
