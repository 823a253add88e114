"""Thresholds by group: what moving the decision, and not the image, would do; a reference for every strategy.

Hardt, Price and Srebro (2016) bring the error rates of groups together after a model is trained, without
touching it. It needs each patient's group at the time of the decision, which a reconstructor does not.
"""

from functools import partial
from pathlib import Path

import numpy as np

from reconfair import data, diagnosis, store, tables
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


def moved(score, threshold: float, common: float):
    """Stretch scores such that `threshold` comes to lie at `common`, and 0 and 1 stay where they are.

    Examples
    --------
    >>> [round(float(value), 3) for value in moved(np.array([0, 0.1, 0.2, 1]), 0.2, 0.5)]
    [0.0, 0.25, 0.5, 1.0]
    """
    low, high = max(threshold, 1e-12), max(1 - threshold, 1e-12)
    score = np.asarray(score, float)
    return np.where(score < threshold, score * common / low, 1 - (1 - score) * (1 - common) / high)


def product(study: Study, source: Source) -> Product:
    """Predictions on the standard reconstructions with scores moved; see `write`."""
    standard = diagnosis.product(study, source.standard)
    readers = [diagnosis.weights(study, Reader(network)) for network in study.networks]
    return Product(
        chapter="06",
        run=study.name,
        folder=store.outputs() / study.name / "sources" / str(source),
        name="predictions",
        write=partial(write, study, source),
        parameters={"attributes": study.attributes("mitigation"), "min_cases": study.fairness.min_cases},
        code=(__name__,),
        needs=(standard, data.product(study), *readers),
        job=str(source),
        command=study.command,
    )


def write(study: Study, source: Source, folder: Path) -> None:
    """Predictions on the standard reconstructions, with scores moved so that each group meets its threshold.

    Thresholds come from the validation patients; a joint group with fewer than ``fairness.min_cases`` of them
    of either label keeps the threshold of all.
    """
    predictions = tables.read("predictions", store.ready(diagnosis.product(study, source.standard)))
    cohort, by_task = data.load(study).table, diagnosis.thresholds(study)
    attributes = list(study.attributes("mitigation"))
    patients = cohort.drop_duplicates("patient_id").set_index("patient_id")[attributes].fillna("unknown")
    group = predictions.patient_id.map(patients.agg("/".join, axis=1))
    for task, common in by_task.items():
        labelled = (predictions.task == task) & predictions.label.notna()
        val = predictions[labelled & (predictions.split == "val")]
        tpr, fpr = ((val.score[val.label == label] >= common).mean() for label in (1, 0))
        for name, rows in val.groupby(group[val.index]):
            if rows.label.value_counts().reindex([0, 1], fill_value=0).min() >= study.fairness.min_cases:
                score, label = rows.score.to_numpy(), rows.label.to_numpy()
                threshold = group_threshold(score=score, label=label, tpr=tpr, fpr=fpr)
                members = (predictions.task == task) & (group == name)
                predictions.loc[members, "score"] = moved(predictions.score[members], threshold, common)
    tables.write(predictions.assign(strategy="thresholds"), "predictions", folder)
