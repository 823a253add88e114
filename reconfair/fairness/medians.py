"""Readers compared as Lee and others compare segmenters: by medians over the patients of each group.

Dice of a patient is that of all slices together (``volume``) or the mean over slices. Where truth and answer are both
empty it is missing; where only the answer is empty it is 0, and such patients are counted.

References
----------
Lee and others: MELBA 2025, arXiv 2503.17089.
"""

import numpy as np
import pandas as pd
from scipy import stats

from .resampling import cohorts, with_change


def ser_median(medians):
    """max(1 - D_g) / min(1 - D_g) of group medians D_g of Dice: (K, ...) to (...); NaN where the best is perfect.

    Examples
    --------
    >>> round(float(ser_median([0.896, 0.846])), 2)
    1.48
    """
    error = 1 - np.asarray(medians, float)
    return error.max(axis=0) / np.where(error.min(axis=0) > 0, error.min(axis=0), np.nan)


def patient_scores(rows, how="volume"):
    """Dice and Hausdorff distance of each patient from the slices.

    Parameters
    ----------
    rows : pandas.DataFrame
        A row per slice: ``patient_id, dice``, pixel counts ``overlap, answered, outlined``, and ``hausdorff``.
    how : {"volume", "slice_mean"}
        Hausdorff distance: the largest over slices, or the mean.

    Returns
    -------
    pandas.DataFrame
        By patient ``dice, hausdorff, empty_truth, empty_answer``.

    Examples
    --------
    >>> rows = pd.DataFrame({"patient_id": "a", "dice": [1.0, 0.0], "overlap": [8, 0], "answered": [8, 0]})
    >>> rows = rows.assign(outlined=[8, 8], hausdorff=[0.0, np.nan])
    >>> [round(float(patient_scores(rows, how).dice.iloc[0]), 3) for how in ("volume", "slice_mean")]
    [0.667, 0.5]
    """
    by = rows.groupby("patient_id")
    sums = by[["overlap", "answered", "outlined"]].sum()
    both = sums.answered + sums.outlined
    dice = (2 * sums.overlap / both.where(both > 0)) if how == "volume" else by.dice.mean()
    distance = by.hausdorff.max() if how == "volume" else by.hausdorff.mean()
    empty = {"empty_truth": sums.outlined == 0, "empty_answer": (sums.answered == 0) & (sums.outlined > 0)}
    return pd.DataFrame({"dice": dice.where(sums.outlined > 0), "hausdorff": distance, **empty})


def compare(predictions, groups, *, base="standard", how="volume", min_cases=2, spacing=None, resamples=1000, seed=0):
    """Medians of every reader of segmentations by group, and their changes from a baseline on the same patients.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Test rows, one per slice: ``patient_id, task, source, reader`` and the columns of `patient_scores`.
    groups : pandas.DataFrame
        By patient a column for each attribute.
    base : str
    how : {"volume", "slice_mean"}
    min_cases : int
        Patients that a group needs.
    spacing : float, optional
        mm per pixel; without it distances are in pixels.
    resamples, seed : int
        Of the paired bootstrap of patients.

    Returns
    -------
    pandas.DataFrame
        ``task, source, reader, attribute, group, metric, value`` with its 95 % interval ``low, high``, ``change`` from
        the baseline with ``change_low, change_high``, ``patients, empty_truth, empty_answer, note``. Of groups (and
        "all") ``dice_median, dice_iqr, hausdorff_mm_median, hausdorff_mm_iqr`` (or ``..._px_...``). Of an attribute
        ``ser_median``, and against its largest group, for each other one, ``fairness_gap`` (median of the largest minus
        that of the other) and ``p_mannwhitney``.
    """
    rows, unit = [], "px" if spacing is None else "mm"
    for (task, source), some in predictions.groupby(["task", "source"], sort=False):
        scores = {name: patient_scores(rows, how) for name, rows in some.groupby("reader", sort=False)}
        people = scores[base].index
        drawn = cohorts(len(people), resamples=resamples, rng=np.random.default_rng(seed))
        drawn = np.concatenate([np.ones((1, len(people))), drawn])
        values = {name: each.assign(hausdorff=each.hausdorff * (spacing or 1)) for name, each in scores.items()}
        values = {name: each.reindex(people) for name, each in values.items()}
        known = {"task": task, "source": source}
        for attribute in ("all", *groups.columns):
            of = pd.Series("all", people) if attribute == "all" else groups[attribute].reindex(people)
            rows += _of_attribute(values, of, attribute, known, drawn, base, unit, min_cases)
    columns = ["task", "source", "reader", "attribute", "group", "metric", "value", "low", "high", "change"]
    columns += ["change_low", "change_high", "patients", "empty_truth", "empty_answer", "note"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.assign(note=table.note.astype(object).where(table.note.notna(), ""))


def _of_attribute(values, of, attribute, known, drawn, base, unit, min_cases):
    """Rows of one attribute: of its groups, then of their differences."""
    dice = {name: each.dice.to_numpy() for name, each in values.items()}
    sizes = of[np.isfinite(dice[base])].value_counts()
    kept = [name for name in sizes.index if sizes[name] >= max(min_cases, 2)]
    few = [f"{name} ({sizes[name]})" for name in sizes.index if name not in kept]
    member = {name: (of == name).to_numpy() for name in kept}
    quantiles, note = {}, f"not compared: {', '.join(few)}" if few else ""
    first = {base: values[base]} | values  # the baseline comes before its changes
    for reader, each in first.items():
        for group in kept:
            rows = member[group]
            counts = {name: int(each[name][rows].sum()) for name in ("empty_truth", "empty_answer")}
            keys = known | {"reader": reader, "attribute": attribute, "group": group, "patients": int(rows.sum())}
            for measure, name in (("dice", "dice"), ("hausdorff", f"hausdorff_{unit}")):
                cuts = weighted_quantiles(each[measure].to_numpy()[rows], drawn[:, rows], (0.25, 0.5, 0.75))
                quantiles[reader, group, f"{name}_median"] = cuts[:, 1]
                quantiles[reader, group, f"{name}_iqr"] = cuts[:, 2] - cuts[:, 0]
            for metric in ("dice_median", "dice_iqr", f"hausdorff_{unit}_median", f"hausdorff_{unit}_iqr"):
                before = None if reader == base else quantiles.get((base, group, metric))
                yield keys | counts | {"metric": metric} | with_change(quantiles[reader, group, metric], before)
    for reader in values if len(kept) > 1 else ():
        keys = known | {"reader": reader, "attribute": attribute, "group": "all", "note": note}
        medians = {name: np.stack([quantiles[name, group, "dice_median"] for group in kept]) for name in (reader, base)}
        ratio = {name: ser_median(some) for name, some in medians.items()}
        yield keys | {"metric": "ser_median"} | with_change(ratio[reader], None if reader == base else ratio[base])
        for at, group in enumerate(kept[1:], 1):
            gap = {name: m[0] - m[at] for name, m in medians.items()}
            keys = keys | {"group": group, "note": f"against {kept[0]}"}
            yield keys | {"metric": "fairness_gap"} | with_change(gap[reader], None if reader == base else gap[base])
            samples = [dice[reader][member[name]] for name in (kept[0], group)]
            p = stats.mannwhitneyu(*[sample[np.isfinite(sample)] for sample in samples]).pvalue
            yield keys | {"metric": "p_mannwhitney", "value": float(p)}


def weighted_quantiles(values, weights, shares):
    """Quantiles (B, shares) of values (n,) under weights (B, n), as `numpy.quantile` where all weights are 1.

    Examples
    --------
    >>> weighted_quantiles(np.array([1.0, 3.0, 2.0]), np.array([[1, 1, 1], [0, 2, 1]]), (0.5,)).ravel().tolist()
    [2.0, 3.0]
    """
    known = np.isfinite(values)
    values, weights = values[known], np.asarray(weights, float)[:, known]
    if not values.size:
        return np.full((len(weights), len(shares)), np.nan)
    order = np.argsort(values, kind="stable")
    values, ends = values[order], np.cumsum(weights[:, order], 1)
    quantiles = np.full((len(weights), len(shares)), np.nan)
    for row, end in enumerate(ends):
        if end[-1] < 1:
            continue
        place = np.asarray(shares) * (end[-1] - 1)  # as if each value were repeated
        low, high = (np.searchsorted(end, rounded, "right") for rounded in (np.floor(place), np.ceil(place)))
        quantiles[row] = values[low] + (place - np.floor(place)) * (values[high] - values[low])
    return quantiles
