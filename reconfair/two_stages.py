"""Chapter 09: both stages at once. Strategies of the reconstruction, each read by every reader.

Rows of the grid are the strategies of one reconstructor, columns are the readers. Chapters 06 and 07 made them; a cell
costs only the reading of images by a frozen network. Two placebos are always there: the standard reconstructor and the
standard reader, each trained once more with another seed. The statistics are those of `reconfair.fairness.grid`.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reconfair import data, diagnosis, fair_diagnosis, judge, mitigation, noise, recon, store, synthesis, tables, words
from reconfair.fairness import grid
from reconfair.params import NOISY, ORIGINAL, Reader, Source, Study
from reconfair.store import Product

CHAPTER, PLACEBO, THRESHOLDS = "09", "replicate", "standard+thresholds"
SEES_READER = ("eodd", "adv")  # remedies whose penalty depends on the reader
NAMES = ("grid", "effects", "decisions", "replicates")


class Tables(NamedTuple):
    """Results of the grid; see `tables.SCHEMAS`."""

    grid: pd.DataFrame
    effects: pd.DataFrame
    decisions: pd.DataFrame
    replicates: pd.DataFrame


def model(study: Study) -> str:
    """The reconstructor of the grid."""
    return study.two_stages.model or next(s.model for s in study.mitigated if s.strategy != "thresholds")


def rows(study: Study) -> list[Source]:
    """What is read: the original, the noisy image, and the reconstructor by strategy, the placebo last."""
    wanted = [study.row_name(word) for word in study.two_stages.strategies]
    made = [source for source in study.mitigated if source.model == model(study) and source.strategy != "thresholds"]
    chosen = [source for source in made if source.strategy in wanted or not wanted]
    return [ORIGINAL, NOISY, Source(model(study)), *chosen, Source(model(study), PLACEBO)]


def columns(study: Study) -> list[str]:
    """Readers: the standard one first, the placebo last. Readers of generators are there if they are named.

    The standard reader with thresholds by group is always there, because a gain must beat it.
    """
    alone = [THRESHOLDS] if study.networks_of(THRESHOLDS, refuse=False) else []
    chosen = [name for name in study.grid_readers if name in (*_wanted(study), *alone)]
    return list(dict.fromkeys(["standard", *(name for name in chosen if name != PLACEBO), *alone, PLACEBO]))


def _wanted(study: Study) -> list[str]:
    """Readers that the params name, by default all: among them the rule chooses."""
    return [study.reader_name(word) for word in study.two_stages.readers] or [*study.reader_names]


def cell(study: Study, source: Source, reader: str) -> Product:
    """What `reader` says of a row. The placebo row is the standard reconstructor of a study with another seed."""
    if source.strategy == PLACEBO:
        other = study.model_copy(update={"reconstruction": _other_seed(study.reconstruction)})
        return diagnosis.product(other, source.standard, strategy=reader)
    if source in study.sources:
        return diagnosis.product(study, source, strategy=reader)
    matched = study.two_stages.against == "matched" and _sees(study, source)
    images = mitigation.images(study, source, reader.removesuffix("+thresholds") if matched else "standard")
    return diagnosis.product(study, source, images, reader)


def predictions(study: Study) -> pd.DataFrame:
    """Rows of ``predictions`` of every cell; ``strategy`` names the row of the grid, ``reader`` its column."""
    parts = []
    for source in rows(study):
        cells = [cell(study, source, reader) for reader in columns(study)]
        parts.append(judge.collect("predictions", cells).assign(strategy=source.strategy))
    return pd.concat(parts, ignore_index=True)


def product(study: Study) -> Product:
    """The tables of the grid."""
    settings = study.two_stages.model_dump(mode="json", exclude={"max_cells"})
    settings |= study.fairness.model_dump(mode="json", include={"eodd", "min_cases", "resamples", "seed"})
    readers = [Reader(network, name) for name in columns(study) for network in study.networks_of(name)]
    needs = [data.product(study), *(diagnosis.weights(study, reader) for reader in readers)]
    needs += [cell(study, source, reader) for source in rows(study) for reader in columns(study)]
    needs += [one for other in replicates(study) for one in product(other).needs]
    return Product(
        chapter=CHAPTER,
        run=study.name,
        folder=store.outputs() / study.name / "judged" / "two_stages",
        name="grid",
        write=partial(_write, study),
        parameters=settings | {"attributes": study.attributes()},
        code=(__name__, *judge.STATISTICS, "reconfair.fairness.grid"),
        needs=tuple(dict.fromkeys(needs)),
        work=partial(_work, study),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes: placebos, matched reconstructors, replicates, cells and the grid."""
    if study.grid is None:
        return []
    rooms = (data, noise, recon, diagnosis, mitigation, fair_diagnosis, synthesis)
    others = {(one.folder, one.name) for room in rooms for one in room.products(study)}
    made = {(one.folder, one.name): replace(one, chapter=CHAPTER) for one in _before(product(study))}
    return [one for key, one in made.items() if key not in others]


def check(study: Study) -> list[str]:
    """Name a grid that is larger than allowed, with its cost, and readers that no penalty can look through."""
    if study.grid is None:
        return []
    mistakes, every, readers = [], rows(study)[2:], columns(study)
    cells, trainings = len(every) * len(readers), len([p for p in products(study) if p.name == "weights"])
    if cells > study.two_stages.max_cells:
        rates = store.throughputs()
        seconds = sum(store.estimate(one, rates)[0] for one in products(study) if one.work and not one.fresh)
        cost = f"{trainings} trainings of its own, about {store.clock(seconds)} in all"
        few = "name fewer strategies or readers, or raise two_stages.max_cells"
        mistakes.append(f"two_stages: {len(every)} x {len(readers)} = {cells} cells ({cost}) are too many; {few}")
    for section in _trained(study):
        if (seed := getattr(study, section).seed) in study.two_stages.seeds:
            mistakes.append(
                f"two_stages.seeds: {seed} is the seed of the study itself ({section}.seed); its training is counted "
                "already, so name other seeds"
            )
            break
    for reader in readers if study.two_stages.against == "matched" else ():
        if {"fairread", "crop", "cascade"} & {*reader.split("+")} and any(_sees(study, source) for source in every):
            mistakes.append(f"two_stages.against: matched: no penalty can look through '{reader}'; leave it out")
    return mistakes


def replicates(study: Study) -> list[Study]:
    """The same study, trained with each further seed; outputs of each stand under a label of their own."""
    others = []
    for seed in study.two_stages.seeds:
        changed = {name: getattr(study, name).model_copy(update={"seed": seed}) for name in _trained(study)}
        changed["dataset"] = study.dataset.model_copy(update={"label": f"{study.label}-seed-{seed}"})
        changed["two_stages"] = study.two_stages.model_copy(update={"seeds": ()})
        others.append(study.model_copy(update=changed))
    return others


def read(study: Study) -> Tables:
    """The results of the grid; whatever of this chapter is not fresh is made first, however long that takes.

    Raises
    ------
    ParamsError
        What an earlier chapter makes is missing and takes long to make.
    """
    for one in products(study):
        store.make(one)
    return Tables(*(tables.read(name, product(study).folder) for name in NAMES))


def made(study: Study) -> Tables | None:
    """The results that a run has left, fresh or not; None where there are none."""
    if study.grid is None or not product(study).stamp.exists():
        return None
    read = {name: tables.read(name, product(study).folder) for name in NAMES}
    return Tables(**{name: table.reindex(columns=list(tables.SCHEMAS[name])) for name, table in read.items()})


def sentences(results: Tables) -> list[str]:
    """Say what the rule chose for every task and attribute, and what test says of it, with 95 % limits."""
    test = results.grid[results.grid.split == "test"].set_index(["task", "attribute", "row", "reader"])
    lines = []
    for chosen in results.decisions.itertuples():
        cell = test.loc[(chosen.task, chosen.attribute, chosen.row, chosen.reader)]
        what, gap = f"{chosen.task}, {words.name(chosen.attribute)}", words.name(cell.gap_metric)
        where = f"reconstruction: {words.name(chosen.row)}, reader: {words.name(chosen.reader)}"
        if chosen.verdict == "standard":
            kept = f"Its {gap} is {_limited(cell, 'gap')} ({trainings(chosen)})."
            lines.append(f"{what}: the rule keeps the standard system. {kept}")
            continue
        relative = " (relative to the standard)" * (cell.gap_metric == "ser")
        changes = f"{gap}{relative} changes by {_limited(cell, 'gap_change', True)}, and "
        changes += f"{words.name(cell.performance_metric)} by {_limited(cell, 'change', True)} ({trainings(chosen)})"
        if chosen.verdict == "better":
            luck = "" if chosen.seeds > 1 else " Whether another training gains as much cannot be told."
            lines.append(f"{what}: intervene here ({where}). On test patients {changes}.{luck}")
        else:
            rival = ", read by ".join(map(words.name, chosen.best_rival.split(", ")))
            rival = f" That of the best rival ({rival}) is {words.number(chosen.rival_gap)}." if rival else ""
            known = f"Its {gap} is {words.number(cell.gap)}."
            lines.append(f"{what}: validation chose {where}. Test does not show a gain: {changes}. {known}{rival}")
    return lines


def trainings(row) -> str:
    """How many trainings stand behind a row of ``grid`` or ``decisions``, and their share of its variance.

    Examples
    --------
    >>> from types import SimpleNamespace as Row
    >>> trainings(Row(seeds=1, share_seeds=float("nan"))), trainings(Row(seeds=3, share_seeds=0.4))
    ('one training', '3 trainings: 40 % of the variance is between them')
    """
    if not row.seeds > 1:
        return "one training"
    share = f"{words.number(100 * row.share_seeds, 0)} % of the variance is between them"
    return f"{row.seeds:.0f} trainings: {share}" if row.share_seeds == row.share_seeds else f"{row.seeds:.0f} trainings"


def judged(study: Study, split: str) -> grid.Grid:
    """The grid of the val or test patients, with thresholds from the validation originals."""
    answers = predictions(study)
    return grid.grid(
        judge.shared(answers[answers.split == split], ["task", "unit"], study),
        data.load(study).table,
        attributes=study.attributes(),
        thresholds=judge.thresholds(study, columns(study)),
        watch=partial(store.progress, what="judging the grid"),
        **study.fairness.model_dump(include={"eodd", "min_cases", "resamples", "seed"}),
    )


def decide(study: Study, validation: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Choose a cell on validation and look at it once on test, for every task and attribute.

    Returns
    -------
    DataFrame
        ``task, attribute`` and the columns of `grid.verdict`; tasks without a grid on both splits are left out.
    """
    rivals = [(PLACEBO, "standard"), ("standard", PLACEBO), ("standard", THRESHOLDS)]
    rule = study.two_stages
    decisions, keys = [], ["task", "attribute"]
    for key, cells in test.groupby(keys, sort=False) if len(test) and len(validation) else ():
        before = validation[(validation[keys] == list(key)).all(axis=1)]
        eligible = before[(before["row"] != PLACEBO) & before.reader.isin(["standard", *_wanted(study)])]
        if len(eligible):
            chosen = grid.choose(eligible, rule.tolerance, rule.rule)
            verdict = grid.verdict(cells, chosen, before, rivals, rule.margin)
            decisions.append(dict(zip(keys, key, strict=True)) | verdict)
    return pd.DataFrame(decisions, columns=list(tables.SCHEMAS["decisions"]))


def _write(study: Study, folder: Path) -> None:
    validated, first = judged(study, "val"), judged(study, "test")
    trained = [first, *(judged(other, "test") for other in replicates(study))]
    order = [ORIGINAL.model, NOISY.model, *(row.strategy for row in rows(study)[2:])]
    again = grid.replicated([one.draws for one in trained]) if first.draws else pd.DataFrame()
    decisions = decide(study, validated.cells, first.cells)
    kept = decisions.verdict == "standard"  # its gap has a variance, and no change
    moved = {"gap": kept, "gap_change": ~kept}
    effects = [validated.effects.assign(split="val")]
    effects.append(grid.shared_out([one.effects for one in trained]).assign(split="test"))
    cells = [validated.cells.assign(split="val"), _with_share(first.cells, again, "gap").assign(split="test")]
    results = {
        "grid": pd.concat(cells, ignore_index=True),
        "effects": pd.concat(effects, ignore_index=True),
        "decisions": pd.concat(
            [_with_share(decisions[some], again, metric) for metric, some in moved.items()], ignore_index=True
        ),
        "replicates": again,
    }
    orders = {"task": list(study.tasks), "row": order, "reader": columns(study)}
    for name, table in results.items():
        tables.write(_in_order(table.reindex(columns=list(tables.SCHEMAS[name])), orders), name, folder)


def _work(study: Study) -> store.Work:
    """Judging the cells: the val patients once, those of test for each training; in 1e6 resamples of a gap."""
    gaps = len(rows(study)) * len(columns(study)) * len(study.tasks) * len(study.attributes())
    amount = (2 + len(study.two_stages.seeds)) * gaps * study.fairness.resamples / 1e6
    return store.Work("judge grid", amount, 20.0, memory=500)


def _with_share(table: pd.DataFrame, again: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A table with the number of trainings of each cell, and the share of a metric's variance between them."""
    keys, share = ["task", "attribute", "row", "reader"], ["seeds", "share_seeds"]
    if table.empty or again.empty:
        return table
    return table.drop(columns=share, errors="ignore").merge(
        again.loc[again.metric == metric, [*keys, *share]], on=keys, how="left"
    )


def _in_order(table: pd.DataFrame, orders: dict[str, list[str]]) -> pd.DataFrame:
    """Rows in the order of tasks, then attributes as they come, rows and readers of the grid."""
    ranks = {key: table[key].map({word: at for at, word in enumerate(names)}) for key, names in orders.items()}
    place = pd.DataFrame(ranks | {"attribute": pd.factorize(table["attribute"])[0]}, table.index)
    place["split"] = table["split"] == "test" if "split" in table else 0
    return table.loc[place.sort_values(["split", "task", "attribute", "row", "reader"], kind="stable").index]


def _limited(cell: pd.Series, what: str, sign: bool = False) -> str:
    """A value of a cell with its limits."""
    limits = judge.limits(cell[f"{what}_low"], cell[f"{what}_high"], sign)
    return f"{words.number(cell[what], sign=sign)} ({limits})"


def _sees(study: Study, source: Source) -> bool:
    """Whether the strategy of a row has a penalty that depends on the reader."""
    known = source.strategy not in ("standard", PLACEBO)
    return known and bool({*study.remedies(source)} & {*SEES_READER})


def _before(made: Product) -> list[Product]:
    """All that a product is made from, in the order of making, and the product."""
    return list(dict.fromkeys([*(one for need in made.needs for one in _before(need)), made]))


def _trained(study: Study) -> list[str]:
    """Sections whose seed decides a training."""
    return ["reconstruction", "diagnosis", "mitigation", "readers", *(["synthesis"] if study.synthesis else [])]


def _other_seed(section):
    return section.model_copy(update={"seed": section.seed + 1})
