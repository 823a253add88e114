"""Thresholds by group for any classifier: the decision moves, and not the network.

It needs each patient's attributes at the time of the decision. Scores are stretched so that every group's threshold
comes to lie at the reader's common one; the order of scores within a group stays.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, store, tables
from reconfair.fairness.threshold import balanced_threshold, moved
from reconfair.params import ORIGINAL, Source, Study
from reconfair.store import Product

REFERENCES = {"sex": "female", "age_group": "younger", "race": "White", "race_merged": "White"}


def product(study: Study, source: Source, images: Product | None, strategy: str) -> Product:
    """Predictions of the reader ``<base>+thresholds`` on a source, and which groups have a threshold."""
    base = strategy.removesuffix("+thresholds")
    before = diagnosis.product(study, source, images, base)
    validated = diagnosis.product(study, ORIGINAL, strategy=base)
    folder = before.folder.parent if base != "standard" else before.folder / "readers"
    return Product(
        chapter=max("07", before.chapter),
        run=before.run,
        folder=folder / strategy,
        name="predictions",
        write=partial(_write, study, source, images, strategy),
        parameters={
            "criterion": criterion(study),
            "attributes": study.attributes("readers"),
            "min_cases": study.fairness.min_cases,
        },
        code=(__name__, "reconfair.fairness.threshold"),
        needs=(before, validated, data.product(study)),
        job=before.job,
        command=study.command,
    )


def criterion(study: Study) -> str:
    """How a group's threshold is chosen; a strategy that names thresholds where the section has none: ``min_gap``."""
    return "min_gap" if study.readers.thresholds == "none" else study.readers.thresholds


def references(table: pd.DataFrame, attributes) -> dict[str, str]:
    """The group of each attribute that is coded 0: of races White, or else the largest group.

    Raises
    ------
    ValueError
        An attribute is the same for every image.
    """
    chosen = {}
    for attribute in attributes:
        sizes = table[attribute].value_counts()
        if len(sizes) < 2:
            raise ValueError(
                f"readers.attributes: '{attribute}' is the same for all {len(table)} training images, so there is "
                "nothing to learn from it; leave it out"
            )
        usual = REFERENCES.get(attribute)
        chosen[attribute] = usual if usual in sizes.index else sizes.index[0]
    return chosen


def coded(table: pd.DataFrame, zeros: dict[str, str]) -> np.ndarray:
    """Attributes as numbers (n, attributes): 0 for the group in `zeros`, 1 for all others, missing where unknown.

    Examples
    --------
    >>> coded(pd.DataFrame({"race": ["White", "Asian", None]}), {"race": "White"}).ravel().tolist()
    [0.0, 1.0, nan]
    """
    columns = [(table[name] != zero).astype(float).where(table[name].notna()) for name, zero in zeros.items()]
    return np.stack(columns, 1).astype(np.float32)


def zeros(study: Study) -> dict[str, str]:
    """The group of each attribute that is coded 0, from the images that train the diagnosis; raises as `references`."""
    table = data.load(study).table
    return references(table.iloc[data.rows(table, "diag")], study.attributes("readers"))


def groups(table: pd.DataFrame, zeros: dict[str, str]) -> pd.Series:
    """Joint group of each image by binary attributes, such as ``sex not female, race White``; unknown: missing."""
    parts = [
        table[name].map(lambda group, zero=zero: zero if group == zero else f"not {zero}").where(table[name].notna())
        for name, zero in zeros.items()
    ]
    joined = parts[0].str.cat(parts[1:], sep=", ") if len(parts) > 1 else parts[0]
    return joined.where(pd.concat(parts, axis=1).notna().all(axis=1))


def chosen(study: Study, strategy: str) -> pd.DataFrame:
    """Threshold of every group and task, from the validation originals of the base reader.

    Returns
    -------
    DataFrame
        ``task, group, threshold, common`` (the reader's own threshold), ``patients`` and ``cases`` (validation
        patients, and those of the rarer label), ``moved`` (False: fewer than ``fairness.min_cases``; the group takes
        the threshold of all) and ``note``. The last row of a task, group ``all``, serves those too few or unknown.
    """
    base = strategy.removesuffix("+thresholds")
    predictions = tables.read("predictions", store.ready(diagnosis.product(study, ORIGINAL, strategy=base)))
    val = predictions[(predictions.split == "val") & predictions.label.notna() & (predictions.kind == "classify")]
    of, least, rows = _group_of(study), study.fairness.min_cases, []
    for task, some in val.groupby("task", sort=False):
        common = diagnosis.thresholds(study, base)[task]
        how = {"criterion": criterion(study)}
        everyone = balanced_threshold(score=some.score, label=some.label, **how)
        group = some.patient_id.map(of)
        for name in sorted(of.dropna().unique()):  # also those of whom no patient validates
            members = some[group == name]
            cases = min(members[members.label == y].patient_id.nunique() for y in (0, 1))
            enough = cases >= least
            threshold = balanced_threshold(score=members.score, label=members.label, **how) if enough else everyone
            note = "" if enough else f"fewer than {least} patients of a label: the threshold of all"
            row = {"task": task, "group": name, "threshold": threshold, "common": common, "cases": cases}
            rows.append(row | {"patients": members.patient_id.nunique(), "moved": enough, "note": note})
        row = {"task": task, "group": "all", "threshold": everyone, "common": common, "moved": False}
        cases = min(some[some.label == y].patient_id.nunique() for y in (0, 1))
        rows.append(row | {"patients": some.patient_id.nunique(), "cases": cases, "note": "unknown attributes"})
    return pd.DataFrame(rows)


def applied(predictions: pd.DataFrame, thresholds: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Predictions with scores moved; `group` is that of each row."""
    score = predictions.score.astype(float)
    for task, some in thresholds.groupby("task", sort=False):
        rows, named = predictions.task == task, some[some.group != "all"]
        rest = ~group.isin(named.group)
        for row in some.itertuples():
            members = rows & (rest if row.group == "all" else group == row.group)
            score[members] = moved(score[members], row.threshold, row.common)
    return predictions.assign(score=score)


def read(study: Study, strategy: str) -> pd.DataFrame:
    """The table of `chosen`, as a made product has it."""
    folder = store.ready(diagnosis.product(study, ORIGINAL, strategy=strategy))
    return pd.DataFrame(json.loads((folder / "thresholds.json").read_text(encoding="utf-8")))


def sentence(thresholds: pd.DataFrame, strategy: str, least: int) -> str:
    """Say which groups take the threshold of all, since they have too few cases; `thresholds` as of `chosen`.

    Examples
    --------
    >>> rows = {"task": "grade", "group": ["f", "m", "all"], "cases": [3, 40, 43], "moved": [False, True, False]}
    >>> print(sentence(pd.DataFrame(rows), "fcro+thresholds", 20))
    `fcro+thresholds`: 1 of 2 groups take the threshold of all (fewer than 20 validation patients of a label): f (3).
    """
    groups = thresholds[thresholds.group != "all"]
    few = groups[~groups.moved.astype(bool)]
    if few.empty:
        return f"`{strategy}`: each of the {len(groups)} groups has a threshold of its own."
    several = groups.task.nunique() > 1
    named = [f"{row.task}, " * several + f"{row.group} ({row.cases})" for row in few.itertuples()]
    text = f"`{strategy}`: {len(few)} of {len(groups)} groups take the threshold of all"
    return f"{text} (fewer than {least} validation patients of a label): {'; '.join(named)}."


def elsewhere(study: Study, strategy: str, predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Predictions on another cohort, whose `table` it is, with the thresholds of this study."""
    rows = predictions[predictions.kind == "classify"]
    return applied(rows, chosen(study, strategy), rows.patient_id.map(_group_of(study, table)))


def _group_of(study: Study, table: pd.DataFrame | None = None) -> pd.Series:
    """Group of each patient, by the coding of this study."""
    table = data.load(study).table if table is None else table
    people = table.drop_duplicates("patient_id").set_index("patient_id")
    return groups(people, zeros(study))


def _write(study: Study, source: Source, images: Product | None, strategy: str, folder: Path) -> None:
    base = strategy.removesuffix("+thresholds")
    predictions = tables.read("predictions", store.ready(diagnosis.product(study, source, images, base)))
    predictions = predictions[predictions.kind == "classify"]
    thresholds = chosen(study, strategy)
    answers = applied(predictions, thresholds, predictions.patient_id.map(_group_of(study)))
    written = json.dumps(thresholds.to_dict("records"), indent=1)  # pandas would round thresholds to 10 digits
    (folder / "thresholds.json").write_text(written, encoding="utf-8")
    tables.write(answers.assign(raw_score=predictions.score, reader=strategy), "predictions", folder)
