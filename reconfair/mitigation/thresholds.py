"""Thresholds by group: what moving the decision, and not the image, would do; a reference for every strategy.

Hardt, Price and Srebro (2016) bring the error rates of groups together after a model is trained, without
touching it. It needs each patient's group at the time of the decision, which a reconstructor does not.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, store, tables
from reconfair.fairness.threshold import moved
from reconfair.params import Reader, Source, Study
from reconfair.store import Product


def group_threshold(*, score, label, tpr: float, fpr: float) -> float:
    """Threshold at which a group's rates come nearest to `tpr` and `fpr` (decision: score >= threshold).

    Parameters
    ----------
    score, label : ndarray
        (n,) scores of one group; 0 or 1.
    tpr, fpr : float
        Rates to meet, in [0, 1].

    Returns
    -------
    float
        The score with the smallest abs(TPR - tpr) + abs(FPR - fpr); of several, the lowest.

    Examples
    --------
    >>> score, label = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])
    >>> group_threshold(score=score, label=label, tpr=1, fpr=0)
    0.3
    """
    candidates, positive = np.unique(score), label == 1
    above = [1 - np.searchsorted(np.sort(score[of]), candidates) / of.sum() for of in (positive, ~positive)]
    distance = np.abs(above[0] - tpr) + np.abs(above[1] - fpr)
    return float(candidates[np.argmin(np.round(distance, 12))])


def product(study: Study, source: Source) -> Product:
    """Predictions on the standard reconstructions with scores moved; see `write`."""
    standard = diagnosis.product(study, source.standard)
    readers = [diagnosis.weights(study, Reader(network)) for network in study.networks]
    return Product(
        chapter="06",
        run=study.name,
        folder=store.outputs() / study.name / study.fold / "sources" / str(source),
        name="predictions",
        write=partial(write, study, source),
        parameters={"attributes": study.attributes("mitigation"), "min_cases": study.fairness.min_cases},
        code=(__name__, "reconfair.fairness.threshold"),
        needs=(standard, data.product(study), *readers),
        job=study.job(str(source)),
        command=study.command,
    )


def write(study: Study, source: Source, folder: Path) -> None:
    """Predictions on the standard reconstructions, with scores moved so that each group meets its threshold.

    Thresholds come from the validation patients. A joint group with fewer than ``fairness.min_cases`` of them of
    either label takes the threshold of its group of the first attribute, else of the next one, else that of all. So do
    patients of whom not all attributes are known.
    `read` says which groups got a threshold. Several classes keep their scores: no threshold enters their decision.
    """
    predictions = tables.read("predictions", store.ready(diagnosis.product(study, source.standard)))
    cohort, by_task = data.load(study).table, diagnosis.thresholds(study)
    attributes = list(study.attributes("mitigation"))
    people = cohort.drop_duplicates("patient_id").set_index("patient_id")[attributes]
    joint = people.dropna().astype(str).agg("/".join, axis=1)
    levels = {"*".join(attributes): joint} | {each: people[each] for each in attributes}
    score, label = predictions.score.copy(), predictions.label
    groups = []
    for task, common in by_task.items():
        rows = predictions.task == task
        val = rows & label.notna() & (predictions.split == "val")
        tpr, fpr = ((score[val & (label == y)] >= common).mean() for y in (1, 0))
        waiting = rows.copy()
        several = "class" in predictions and predictions["class"][rows].notna().any()  # their decision has no threshold
        for attribute, group_of in () if several else levels.items():
            group = predictions.patient_id.map(group_of)
            for group_name in sorted(group[waiting].dropna().unique()):
                members, known = waiting & (group == group_name), val & (group == group_name)
                cases = [predictions.patient_id[known & (label == y)].nunique() for y in (0, 1)]
                if min(cases) >= study.fairness.min_cases:
                    scores = {"score": score[known].to_numpy(), "label": label[known].to_numpy()}
                    threshold = group_threshold(**scores, tpr=tpr, fpr=fpr)
                    predictions.loc[members, "score"] = moved(score[members], threshold, common)
                    waiting &= ~members
                    patients = predictions.patient_id[members].nunique()
                    row = {"task": task, "attribute": attribute, "group": group_name, "patients": patients}
                    groups.append(row | {"threshold": threshold, "moved": True})
        if waiting.any():
            patients = predictions.patient_id[waiting].nunique()
            row = {"task": task, "attribute": "all", "group": "all", "patients": patients}
            groups.append(row | {"threshold": float(common), "moved": False})
    (folder / "thresholds.json").write_text(json.dumps(groups, indent=1), encoding="utf-8")
    tables.write(predictions.assign(strategy="thresholds"), "predictions", folder)


def read(study: Study, source: Source) -> pd.DataFrame | None:
    """Which groups got a threshold of their own; None where this was not recorded.

    Returns
    -------
    DataFrame
        A row per group of patients with one threshold: ``task, attribute`` (by which they are grouped), ``group,
        patients, threshold, moved`` (false: they keep the threshold of all), in every fold.
    """
    try:
        texts = [(product(fold, source).folder / "thresholds.json").read_text(encoding="utf-8") for fold in study.folds]
    except OSError:
        return None
    return pd.concat([pd.DataFrame(json.loads(text)) for text in texts], ignore_index=True)
