"""All products of a study: those of each room, and the executed notebooks."""

from __future__ import annotations

from functools import partial
from hashlib import sha256

from reconfair import (
    data,
    diagnosis,
    fair_diagnosis,
    judge,
    mitigation,
    noise,
    params,
    perceptual,
    recon,
    report,
    store,
    synthesis,
    two_stages,
)
from reconfair.params import Study
from reconfair.store import Product, Work

FOLDER = params.project_file("notebooks/01_data.ipynb").parent  # yours, if the project's folder has notebooks
_READERS = ["reconfair.fair_diagnosis", "reconfair.remedies.balance", "reconfair.diagnosis.fairread"]
_SHOWN = {  # what a chapter shows beyond the products it needs
    "04": ["reconfair.diagnosis.curves"],
    "06": report.ROOM,
    "07": _READERS,
    "09": ["reconfair.two_stages", "reconfair.fairness.grid"],
    "10": report.ROOM,
}
_TABLES = ("dataset", "noise", "reconstruction", "diagnosis", "fairness")
# The chapters, and the sections of a params file that each uses.
CHAPTERS = {
    "01_data": ("dataset", "noise", "diagnosis", "compute"),
    "02_noising": ("dataset", "noise", "compute"),
    "03_reconstruction": ("dataset", "noise", "reconstruction", "compute"),
    "04_diagnosis": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "compute"),
    "05_fairness": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "compute"),
    "06_mitigation": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "mitigation", "compute"),
    "07_fair_diagnosis": (*_TABLES, "readers", "compute"),
    "08_synthesis": (*_TABLES, "synthesis", "compute"),
    "09_two_stages": (*_TABLES, "mitigation", "readers", "synthesis", "two_stages", "compute"),
    "10_report": (*_TABLES, "mitigation", "readers", "synthesis", "two_stages", "report", "compute"),
}

# Sections without which a chapter is not run, its own last.
NEEDS = {
    "02_noising": ("noise",),
    "03_reconstruction": ("noise",),
    "06_mitigation": ("noise", "mitigation"),
    "07_fair_diagnosis": ("readers",),
    "08_synthesis": ("synthesis",),
    "09_two_stages": ("noise", "mitigation", "readers", "two_stages"),
}


def chapters(study: Study) -> list[str]:
    """Names of the notebooks that a study runs: without noise, or without a section for it, a chapter is left out."""
    names = [name for name in CHAPTERS if not lacking(study, name)]
    return [name for name in names if name != "06_mitigation" or study.mitigated]


def lacking(study: Study, chapter: str) -> list[str]:
    """Sections of the params that a chapter needs and that are left out; ``noise`` where it is none."""
    there = {name: getattr(study, name) is not None for name in params.OPTIONAL} | {"noise": study.noise.kind != "none"}
    return [name for name in NEEDS.get(chapter, ()) if not there[name]]


def remarks(study: Study) -> list[str]:
    """One sentence for each section that is there for a chapter which lacks another section, and so is not run."""
    lines = []
    for chapter, sections in NEEDS.items():
        if (missing := lacking(study, chapter)) and sections[-1] in params.OPTIONAL and sections[-1] not in missing:
            lines.append(f"{sections[-1]} needs {' and '.join(missing)}: {chapter} is not run")
    return lines


def part_of(product: Product, run: str) -> str:
    """What ``--part`` calls the job of a product in one run; a replicate of chapter 09 names its own run first.

    Examples
    --------
    >>> from types import SimpleNamespace as Made
    >>> part_of(Made(run="lgg/x8", job="unet"), "lgg/x8"), part_of(Made(run="lgg/x8-seed-1", job="unet"), "lgg/x8")
    ('unet', 'lgg/x8-seed-1/unet')
    """
    return (
        f"{product.run}/{product.job}" if product.job and product.run not in (run, run.split("/")[0]) else product.job
    )


@store.uncollected()
def every_product(study: Study) -> list[Product]:
    """All products of a study, in the order in which they are made: those of each room, and the executed notebooks.

    A notebook is stale when its text, its sections or what it shows has changed.
    """
    rooms = (
        data,
        noise,
        recon,
        perceptual,
        diagnosis,
        judge,
        mitigation,
        fair_diagnosis,
        synthesis,
        two_stages,
        report,
    )
    made = [product for room in rooms for product in room.products(study)]
    copies = []
    for notebook in chapters(study):
        sections = study.sections(*(set(CHAPTERS[notebook]) - {"compute"}))
        text = sha256((FOLDER / f"{notebook}.ipynb").read_bytes()).hexdigest()
        copy = Product(
            chapter=notebook[:2],
            run=study.name,
            folder=store.outputs() / study.name / "chapters",
            name=notebook,
            write=lambda folder: None,  # not made like other products: a notebook that fails must stay, with its error
            parameters=sections | {"text": text},
            code=("reconfair.figures", "reconfair.words", "reconfair.judge", *_SHOWN.get(notebook[:2], [])),
            needs=tuple(product for product in made if product.chapter <= notebook[:2]),
            work=partial(Work, f"notebook {notebook}", 1, 6.0, disk=2),
            command=study.command,
        )
        copies.append(copy)
    return made + copies
