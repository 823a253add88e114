"""Thresholds by group: what moving the decision, and not the image, would do; a reference for every strategy.

Hardt, Price and Srebro (2016) bring the error rates of groups together after a model is trained, without
touching it. It needs each patient's group at the time of the decision, which a reconstructor does not.
"""

from pathlib import Path

import numpy as np

from reconfair import data, diagnosis, tables
from reconfair.params import Study


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


def write(study: Study, model: str, part: Path) -> None:
    """Predictions on the standard reconstructions of `model`, scores moved so that each group meets its threshold.

    Thresholds come from the validation patients; a joint group with fewer than ``fairness.min_cases`` of them
    of either label keeps the threshold of all.
    """
    predictions = diagnosis.predict(study, model)
    cohort, cut = data.load(study).table, diagnosis.thresholds(study)
    attributes = list(study.attributes("mitigation"))
    patients = cohort.drop_duplicates("patient_id").set_index("patient_id")[attributes].fillna("unknown")
    group = predictions.patient_id.map(patients.agg("/".join, axis=1))
    for task, common in cut.items():
        own = (predictions.task == task) & predictions.label.notna()
        val = predictions[own & (predictions.split == "val")]
        rates = [(val.score[val.label == label] >= common).mean() for label in (1, 0)]
        for name, some in val.groupby(group[val.index]):
            if some.label.value_counts().reindex([0, 1], fill_value=0).min() >= study.fairness.min_cases:
                found = group_threshold(
                    score=some.score.to_numpy(), label=some.label.to_numpy(), tpr=rates[0], fpr=rates[1]
                )
                members = (predictions.task == task) & (group == name)
                predictions.loc[members, "score"] = moved(predictions.score[members], found, common)
    tables.write(predictions.assign(strategy="thresholds"), "predictions", part)
