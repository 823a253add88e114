"""Chapter 07: fairer diagnosis. Readers trained by strategies look at originals and at every source.

The training is in `reconfair.diagnosis` (`strategies`, `fairread`, `crop`, `groupwise`), the measures of the two source
documents in `reconfair.fairness` (`fate`, `medians`). Here are the products of the chapter and its tables.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from reconfair import data, diagnosis, judge, store, tables
from reconfair.fairness import fate, medians
from reconfair.params import ALONE, DOSES, ORIGINAL, Reader, Study
from reconfair.store import Product
from reconfair.words import without_strength

CHAPTER = "07"


def baseline(study: Study) -> str:
    """The reader that others are compared with: the standard one, or on amplified images that which saw them too."""
    return "oversample@0" if study.readers.amplify else "standard"


def weights(study: Study) -> list[Product]:
    """Readers that a strategy trains, and the sensitive network that those of FCRO share."""
    from reconfair.diagnosis import strategies

    made = []
    for strategy in study.reader_names:
        whole = strategy.removesuffix("+thresholds")
        if whole != "standard":
            words = {*study.readers.parts(whole)}
            made += [strategies.sensitive(study)] if words & {*ALONE} - {"adversary"} else []
            for network in study.networks_of(strategy):
                made += _all_weights(study, Reader(network, whole))
    return list(dict.fromkeys(made))


def _all_weights(study: Study, reader: Reader) -> list[Product]:
    """A reader with all that it is made of in this chapter: stage 1 of FairREAD, both networks of a cascade."""
    product = diagnosis.weights(study, reader)
    words = {*study.readers.parts(reader.strategy)}
    before = [diagnosis.weights(study, reader._replace(strategy="fcro"))] if "fairread" in words else []
    if "cascade" in words:
        from reconfair.diagnosis import crop

        first = crop.stages(reader.strategy)[0]
        before += [diagnosis.weights(study, reader._replace(strategy=first))] if first != "standard" else []
    return [*before, product]


def predictions(study: Study) -> list[Product]:
    """What every reader says of every source that no strategy has changed, the standard one first."""
    return [diagnosis.product(study, source, strategy=name) for name in study.reader_names for source in study.sources]


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    if study.readers is None:
        return []
    every = predictions(study)
    made = [one for one in every if one.chapter == CHAPTER]
    before = [need for one in made for need in one.needs if need.name == "predictions" and need.chapter == CHAPTER]
    tables_of = judged(study, every)
    return list(dict.fromkeys([*weights(study), *before, *made, tables_of, product(study, tables_of.needs)]))


def train(study: Study) -> None:
    """Bring every reader of the chapter up to date, from training to what it says of every source.

    Raises
    ------
    ParamsError
        What an earlier chapter makes is missing and takes long to make.
    """
    for made in products(study)[:-2]:  # the tables come last
        store.make(made)


def check(study: Study) -> list[str]:
    """Name strategies that cannot be applied: to a cohort without masks, or with an attribute that does not vary."""
    if study.readers is None:
        return []
    words = {strategy: {*without_strength(strategy).split("+")} for strategy in study.reader_names}
    outlined = "segment" in study.tasks.values()
    blind = [strategy for strategy, some in words.items() if {"crop", "cascade"} & some and not outlined]
    mistakes = [f"readers.strategies: {strategy} needs masks, and {study.label} has none" for strategy in blind]
    if not data.product(study).fresh:
        return mistakes
    from reconfair.diagnosis import groupwise, strategies

    table, asked = data.load(study).table, set().union(*words.values())
    for needing, refuse in (
        ((*ALONE, "thresholds"), groupwise.zeros),
        (DOSES, partial(strategies.dosed_groups, table=table, rows=data.rows(table, "diag"))),
    ):
        try:
            if asked & {*needing}:
                refuse(study)
        except ValueError as error:
            mistakes.append(str(error))
    return list(dict.fromkeys(mistakes))


def judged(study: Study, read: list[Product] | None = None) -> Product:
    """The tables ``performance`` and ``fairness`` of every reader; `read` are its predictions."""
    return judge.judged(study, CHAPTER, "readers", read or predictions(study), [], study.reader_names)


def product(study: Study, needs=None) -> Product:
    """The table ``measures``; see `measured`. It needs what `judged` needs."""
    chosen = study.readers.model_dump(mode="json", include={"dice", "attributes", "amplify"})
    settings = study.fairness.model_dump(mode="json", include={"min_cases", "resamples", "seed"})
    return Product(
        chapter=CHAPTER,
        run=study.name,
        folder=store.outputs() / study.name / "judged" / "readers",
        name="measures",
        write=partial(_write, study),
        parameters=chosen | settings | {"spacing": getattr(study.dataset, "spacing", None), "of": study.attributes()},
        code=(__name__, *(f"reconfair.fairness.{name}" for name in ("fate", "medians", "metrics", "resampling"))),
        needs=needs or judged(study).needs,
        command=study.command,
    )


def measured(study: Study) -> pd.DataFrame:
    """Measures of the source documents for every reader and source, on the test patients.

    Returns
    -------
    DataFrame
        Rows of `fairness.fate.compare` and `fairness.medians.compare`, in the columns of table ``measures``.
    """
    return tables.read("measures", store.make(product(study)))


def measured_on(study: Study, other: Study) -> pd.DataFrame:
    """Measures of the frozen readers of `study` on the test originals of another cohort; see `diagnosis.evaluate_on`.

    Thresholds, by group or common, and the coding of the attributes are those of `study`; readers without a task that
    `other` has are left out.

    Returns
    -------
    DataFrame
        As `measured`, source ``original``.

    Raises
    ------
    ValueError
        The two share no task, or their images differ in size.
    """
    shared = [
        name
        for name in study.reader_names
        if name == "standard" or {task for net in study.networks_of(name) for task in net.tasks} & other.tasks.keys()
    ]
    answers = pd.concat([diagnosis.evaluate_on(study, other, name) for name in shared], ignore_index=True)
    return _measures(study, answers, other)


def judge_readers(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables ``performance`` and ``fairness`` of every reader."""
    return judge.judge(study, judged(study))


def _write(study: Study, folder: Path) -> None:
    answers = judge.collect("predictions", predictions(study))
    tables.write(_measures(study, answers[answers.split == "test"], study), "measures", folder)


def _measures(study: Study, test: pd.DataFrame, of: Study) -> pd.DataFrame:
    """Measures of the readers of `study` from rows of ``predictions`` on test patients of the study `of`."""
    from reconfair.diagnosis import groupwise

    people = data.load(of).table.drop_duplicates("patient_id").set_index("patient_id")
    settings, parts = study.fairness, []
    how = {"resamples": settings.resamples, "seed": settings.seed, "min_cases": settings.min_cases}
    classified, outlined = (test[test.kind == kind] for kind in ("classify", "segment"))
    if len(classified):
        zeros = groupwise.zeros(study)
        limits = judge.thresholds(study, list(dict.fromkeys(classified.reader)))
        groups = groupwise.groups(people, zeros)
        measures = fate.compare(classified, groups, limits, base=baseline(study), **how)
        parts.append(measures.assign(attribute="*".join(zeros)))
    if len(outlined):
        known = [name for name in study.attributes() if {*name.split("*")} <= {*people}]
        groups = pd.DataFrame({name: data.splits.groups_of(people, name) for name in known}, people.index)
        how |= {"how": study.readers.dice, "spacing": getattr(of.dataset, "spacing", None)}  # mm per pixel, or pixels
        parts.append(medians.compare(outlined, groups, **how))
    whole = pd.concat(parts, ignore_index=True).assign(strategy="standard")
    return whole.reindex(columns=list(tables.SCHEMAS["measures"]))


def latent(study: Study, reader: Reader, most: int = 400) -> tuple:
    """What a reader's last layer sees of the test originals: features (n, d), and the rows of the cohort (n)."""
    from reconfair import training

    cohort = data.load(study)
    rows = data.rows(cohort.table, "test")[:most]
    frozen = training.placed(diagnosis.load(study, *reader), study.compute)
    batches = training.apply(frozen.features, cohort.images, rows, study.compute, f"{reader} features")
    return pd.concat([pd.DataFrame(values) for _, values in batches]).to_numpy(), cohort.table.iloc[rows]


def windows(study: Study) -> pd.DataFrame:
    """Window size, errors of the box and empty first masks of every cascade, on the test originals.

    Returns
    -------
    DataFrame
        ``network, reader, height, width`` (pixels), ``box_error_y, box_error_x`` (percent, mean over patients),
        ``first_empty`` (patients) and ``patients``.
    """
    from reconfair.diagnosis import crop

    rows = []
    for strategy in study.reader_names:
        if not {"crop", "cascade"} & {*strategy.split("+")}:
            continue
        table = tables.read("predictions", store.make(diagnosis.product(study, ORIGINAL, strategy=strategy)))
        for network in study.networks_of(strategy):
            test = table[(table.split == "test") & (table.task == network.tasks[0])].groupby("patient_id")
            height, width = crop.sizes(study, Reader(network, strategy))
            row = {"network": network.name, "reader": strategy, "height": height, "width": width}
            if "first_empty" in table:
                row |= {name: test[name].first().mean() for name in ("box_error_y", "box_error_x")}
                row["first_empty"] = int(test.first_empty.max().sum())
            rows.append(row | {"patients": test.ngroups})
    return pd.DataFrame(rows)
