"""What README and docs print is true: commands and examples run, YAML is valid, links, files and targets exist."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from reconfair import params, run, store, tables
from reconfair.fairness.metrics import UNITS

ROOT = store.PACKAGE.parent
README = ROOT / "README.md"
PAGES = sorted({README, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("workflow/*.md")})
WORDS = 1200
# What is added to a command so that it takes seconds: a dry run reads the same params files and options.
BRIEF = {"plan": [], "run": ["--dry-run"], "check": [], "status": [], "judge": [], "--version": []}
# Programs that are not started here. Their targets and files are checked by the other tests.
ELSEWHERE = {"make", "snakemake", ".venv/bin/python"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(
    r"(?<![\w/.~-])((?:params|benchmarks|notebooks|workflow|tests|docs|reconfair)/[\w./*-]+|[\w-]+\.(?:md|cff|toml))"
)
MADE = re.compile(r"params/mine|docs/parameters|reconfair/(?:check|run)")  # written in the text, not in the project


def written(value) -> str:
    """Name of a case: of a page its path, of anything else its first line."""
    return value.relative_to(ROOT).as_posix() if isinstance(value, Path) else value.partition("\n")[0]


each_page = pytest.mark.parametrize("page", PAGES, ids=written)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of one language."""
    return [text for name, text in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line and not line.startswith("#")]


def name_of(block: str) -> str:
    """The file that a block stands for, named in its first line: ``# my_models.py``."""
    first = re.match(r"# (\S+\.(?:py|yaml))\n", block)
    return first[1] if first else ""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of the project's params, with the files that README and docs tell the reader to write; the place to be."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for page in PAGES:
        for block in blocks(page, "python") + blocks(page, "yaml"):
            if name_of(block):
                (tmp_path / name_of(block)).write_text(block, encoding="utf-8")
    for page, names in {README: ["predictions"], ROOT / "docs" / "your-predictions.md": ["scores", "dx"]}.items():
        for name, table in zip(names, blocks(page, "csv"), strict=True):
            (tmp_path / f"{name}.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    runpy.run_path("many.py")  # writes the table that one of the commands reads
    return tmp_path


# --- commands and examples ---


@pytest.mark.parametrize("page, line", [(page, line) for page in PAGES for line in commands(page)], ids=written)
def test_every_command_runs(project, page, line, capsys):
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    program, *words = words
    if program in ELSEWHERE:
        return
    assert program == ".venv/bin/reconfair"
    words += [word for word in BRIEF[words[0]] if word not in words]
    words = [str(path) for word in words for path in (sorted(Path().glob(word)) if word.endswith(".yaml") else [word])]
    if words[0] == "--version":
        with pytest.raises(SystemExit, match="0"):
            run.main(words)
    else:
        assert run.main(words) == 0, capsys.readouterr().err
    assert capsys.readouterr().out
    if words[0] == "judge":
        assert len(tables.read("fairness", project / "judged"))


@pytest.mark.parametrize(
    "page, block", [(page, block) for page in PAGES for block in blocks(page, "yaml")], ids=written
)
def test_every_params_example_is_valid(project, page, block):
    study = params.study(**params.parsed(block))
    assert study.name


@pytest.mark.parametrize(
    "page, block",
    [(page, block) for page in PAGES for block in blocks(page, "python") if not name_of(block)],
    ids=written,
)
def test_every_python_example_runs(project, page, block, capsys):
    path = project / "example.py"
    path.write_text(block, encoding="utf-8")
    runpy.run_path(str(path))
    printed = capsys.readouterr().out
    for line in block.splitlines():
        if line.startswith("print(") and "  # " in line:
            assert line.partition("  # ")[2] in printed


def test_classes_of_the_page_on_models_make_a_study(project):
    brief = ["reconstruction.threelayers.epochs=1", "diagnosis.tasks=[bright]", "diagnosis.classify.epochs=1"]
    brief += ["dataset.patients=60", "fairness.min_cases=2", "fairness.resamples=99", "compute.workers=1"]
    study = params.load("mine.yaml", brief)
    for product in run.every_product(study):
        if product.folder.name != "chapters" and product.chapter <= "06":
            store.make(product)
    fairness = tables.read("fairness", store.outputs() / study.name / "judged" / "mitigated")
    assert set(fairness.source) == {"original", "noisy", "threelayers"}
    assert set(fairness.strategy) == {"standard", "equalgroups@0.5"}


@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "your-model.md", "python"), ids=name_of)
def test_an_example_class_is_short(block):
    assert len(block.splitlines()) < 60


# --- names ---


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= WORDS


@each_page
def test_links_lead_to_files_and_headings(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in headings]


@each_page
def test_files_that_are_named_exist(page):
    text = re.sub(r"\]\([^)]*\)|https?://\S+", " ", page.read_text(encoding="utf-8"))
    for name in PATH.findall(text):
        name = name.rstrip(".")
        assert MADE.match(name) or any(ROOT.glob(name)) or any(page.parent.glob(name)), name


@each_page
def test_make_targets_that_are_named_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)", "\n".join(commands(page)), re.MULTILINE)
    named += re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))
    assert set(named) <= set(targets)


def test_the_page_of_parameters_is_up_to_date():
    script = runpy.run_path(str(ROOT / "docs" / "make_parameters.py"))
    page = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run: python docs/make_parameters.py"


def test_the_page_of_parameters_names_every_default_of_a_study(outputs):
    page = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    study = params.study(dataset={"name": "phantom_mri"}, mitigation={}, readers={}, synthesis={}, two_stages={})
    study = study.model_dump(mode="json")
    for section, keys in study.items():
        for key in keys:
            assert f"`{section}.{key}`" in page or f"### {key}\n" in page


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_the_page_of_tables_names_every_column(name):
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if line[:1] == "|"))
    assert {*named} - {"fold", *tables.OPTIONAL.get(name, {})} == {*tables.SCHEMAS[name]}


def test_the_page_of_tables_names_every_metric():
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    section = text.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if line[:1] == "|"))
    assert sorted(named) == sorted(UNITS)


def test_the_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == run.reconfair.__version__
    assert citation["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {citation['version']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_calibration_table_is_that_of_the_kept_counts():
    names = runpy.run_path(str(ROOT / "benchmarks" / "calibration.py"))
    page = (ROOT / "docs" / "results.md").read_text()
    assert page == names["written"](page, names["summary"](names["load"]())), "calibration.py --markdown writes it anew"


def test_the_table_of_two_stages_is_that_of_the_kept_units(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    names = runpy.run_path(str(ROOT / "benchmarks" / "two_stages.py"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == names["written"](page, names["kept"](names["RESULTS"])), "two_stages.py --markdown writes it anew"


def test_the_calibration_table_says_which_aim_is_missed():
    names = runpy.run_path(str(ROOT / "benchmarks" / "calibration.py"))
    lines = names["load"]()
    worse = lines.assign(cover_shift=0.8 * lines.studies, studies=100 * lines.studies, wrong=0)
    worse["cover_shift"] *= 100
    text = names["markdown"](names["summary"](worse))
    assert "| limits hold the true shift of the gap | at least 0.93 | 0.800 | **no** |" in text
    assert "wrong sign | at most 0.025 | 0.000 | yes |" in text
