"""Readers compared as FairREAD compares classifiers: by worst-case equalised odds over joint groups, and by FATE.

FATE weighs what a fairer reader gains against what it costs: (P - P_b) / P_b - lambda (F - F_b) / F_b, with
performance P, disparity F and a baseline b (Xu and others, FairAdaBN, MICCAI 2023). Where F_b is near 0 it says
nothing, since noise is divided by noise; see `compare`.
"""

import numpy as np
import pandas as pd

from . import metrics
from .resampling import cohorts, with_change

PERMUTATIONS = 100
DISPARITIES = ("eodd_worst_case", "auroc_gap")  # D_EO and D_AUC
FATES = {"fate_eo": ("accuracy", "eodd_worst_case"), "fate_auc": ("auroc", "auroc_gap")}  # performance and disparity
TOO_FEW = "fewer than two groups have enough patients of both labels"
NO_BIAS = "no bias to reduce: the baseline's disparity is not above what is expected if groups did not differ"


def fate(performance, disparity, base_performance, base_disparity, strength=1.0):
    """Relative gain of performance minus `strength` times the relative gain of disparity.

    Examples
    --------
    >>> round(float(fate(0.84, 0.1, 0.8, 0.2)), 3)
    0.55
    """
    gained = (performance - base_performance) / base_performance
    return gained - strength * (disparity - base_disparity) / base_disparity


def measures(*, score, decision, label, member, weights=None):
    """Accuracy, AUROC, and the disparities of both kinds over groups.

    Parameters
    ----------
    score, decision, label : array_like
        (n,) scores; decisions; 0 or 1.
    member : array_like of bool
        (n, G) groups that are compared.
    weights : array_like, optional
        (B, n) how often each resample holds each row.

    Returns
    -------
    dict of ndarray
        ``accuracy, auroc``, ``eodd_worst_case`` (D_EO: the larger of the ranges of TPR and TNR) and ``auroc_gap``
        (D_AUC), each (B,).

    Examples
    --------
    >>> member = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    >>> drawn = measures(score=[0.9, 0.1, 0.4, 0.1], decision=[1, 0, 0, 0], label=[1, 0, 1, 0], member=member)
    >>> {name: float(values[0]) for name, values in drawn.items()}
    {'accuracy': 0.75, 'auroc': 1.0, 'eodd_worst_case': 1.0, 'auroc_gap': 0.0}
    """
    some = {"label": label, "weights": weights}
    rates = {name: getattr(metrics, name)(decision=decision, member=member, **some) for name in ("tpr", "fpr")}
    return {
        "accuracy": metrics.accuracy(decision=decision, **some)[:, 0],
        "auroc": metrics.auroc(score=score, **some)[:, 0],
        "eodd_worst_case": metrics.eodd(**rates, combine="worst_case"),
        "auroc_gap": metrics.gap(metrics.auroc(score=score, member=member, **some)),
    }


def expected(*, score, decision, label, patient, member, rng, permutations=PERMUTATIONS):
    """Mean disparities if groups did not differ: groups are exchanged among patients with the same labels.

    Returns
    -------
    dict of float
        ``eodd_worst_case, auroc_gap``.
    """
    code = np.unique(patient, return_inverse=True)[1]
    counts = np.stack([np.bincount(code, np.asarray(label) == y) for y in (0, 1)], 1)
    strata = np.unique(counts, axis=0, return_inverse=True)[1]
    of = np.zeros((len(counts), member.shape[1]), bool)
    of[code] = member  # a patient's rows are of one group
    sums = []
    for _ in range(permutations if member.shape[1] > 1 else 0):
        order = np.arange(len(of))
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            order[rows] = rng.permutation(rows)
        drawn = measures(score=score, decision=decision, label=label, member=of[order][code])
        sums.append([drawn[name][0] for name in DISPARITIES])
    return dict(zip(DISPARITIES, map(float, np.mean(sums, axis=0)), strict=True)) if sums else {}


def compare(predictions, groups, thresholds, *, base="standard", min_cases=20, resamples=1000, seed=0):
    """Measures of every reader of classifications, and their changes from a baseline on the same patients.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Test rows: ``unit, patient_id, task, source, reader, label, score``, and ``raw_score`` where scores were moved
        to meet thresholds by group, whose AUROC is that of the raw ones.
    groups : pandas.Series
        Joint group by patient; missing where an attribute is.
    thresholds : dict
        By task a dict of scores by reader.
    base : str
        The reader that others are compared with.
    min_cases : int
        Patients of either label that a group needs to be compared.
    resamples, seed : int
        Of the paired bootstrap of patients, which is the same for all tasks, readers and sources.

    Returns
    -------
    pandas.DataFrame
        ``task`` (or ``average`` over tasks), ``source, reader, group`` ("all", or one joint group), ``metric, value``
        with its 95 % interval ``low, high``; ``change`` from the baseline with ``change_low, change_high``;
        ``expected`` disparity if groups did not differ; ``n, patients, note``. ``fate_eo`` and ``fate_auc`` are
        missing, and the note says why, where the baseline's disparity is not above the expected one.
    """
    rng, rows, ratios = np.random.default_rng(seed), [], {}
    people = np.unique(predictions.patient_id)
    drawn = cohorts(len(people), resamples=resamples, rng=rng)
    drawn = np.concatenate([np.ones((1, len(people))), drawn])  # the first resample is the cohort itself
    for (task, source), some in predictions[predictions.label.notna()].groupby(["task", "source"], sort=False):
        readers = {name: rows.set_index("unit").sort_index() for name, rows in some.groupby("reader", sort=False)}
        if base not in readers:
            raise ValueError(f"base: task '{task}' and source '{source}' have no reader '{base}'; {', '.join(readers)}")
        first = readers[base]
        readers = {name: one.loc[first.index] for name, one in readers.items()}
        member, names, left_out = _members(first, groups, min_cases)
        weights = drawn[:, np.searchsorted(people, first.patient_id)]
        arms = {name: _arm(one, thresholds[task][name]) for name, one in readers.items()}
        every = {name: measures(**arm, label=first.label, member=member, weights=weights) for name, arm in arms.items()}
        chance = expected(**arms[base], label=first.label, patient=first.patient_id, member=member, rng=rng)
        known = {"task": task, "source": source, "patients": first.patient_id.nunique(), "n": len(first)}
        note = f"not compared: {', '.join(left_out)}" if left_out else ""
        for name, each in every.items():
            keys = known | {"reader": name, "group": "all"}
            for metric, values in each.items():
                about = {"expected": chance.get(metric, np.nan), "note": note if metric in DISPARITIES else ""}
                before = None if name == base else every[base][metric]
                rows.append(keys | {"metric": metric} | with_change(values, before) | about)
            for metric, (p, f) in FATES.items() if name != base else ():
                biased = every[base][f][0] > chance.get(f, np.inf)
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = fate(each[p], each[f], every[base][p], every[base][f])
                why = {"note": NO_BIAS if member.shape[1] > 1 else TOO_FEW}
                rows.append(keys | {"metric": metric} | (with_change(values) if biased else why))
                if biased:
                    ratios.setdefault((source, name, metric), []).append(values)
        rows += _by_group(arms, first, member, names, weights, known)
    for (source, name, metric), values in ratios.items():
        keys = {"task": "average", "source": source, "reader": name, "group": "all", "metric": metric}
        rows.append(keys | with_change(np.mean(values, axis=0)) | {"note": f"mean over {len(values)} tasks with bias"})
    columns = ["task", "source", "reader", "group", "metric", "value", "low", "high", "change", "change_low"]
    columns += ["change_high", "expected", "n", "patients", "note"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.assign(note=table.note.astype(object).where(table.note.notna(), ""))


def _members(rows, groups, min_cases):
    """Groups with enough patients of both labels (n, G), their names, and those left out with their numbers."""
    group = rows.patient_id.map(groups)
    kept, left_out = [], []
    for name in sorted(group.dropna().unique()):
        cases = min(rows.patient_id[(group == name) & (rows.label == y)].nunique() for y in (0, 1))
        kept += [name] if cases >= min_cases else []
        left_out += [f"{name} ({cases})"] if cases < min_cases else []
    member = [(group == name).to_numpy() for name in kept]
    return np.array(member, bool).reshape(len(kept), len(rows)).T, kept, left_out


def _arm(rows, threshold):
    """Decisions by the scores, and the scores that AUROC is computed from."""
    raw = rows.raw_score.where(rows.raw_score.notna(), rows.score) if "raw_score" in rows else rows.score
    return {"score": raw.to_numpy(), "decision": (rows.score >= threshold).to_numpy()}


def _by_group(arms, rows, member, names, weights, known):
    """Rows of each joint group that is compared."""
    for reader, arm in arms.items():
        some = {"label": rows.label, "member": member, "weights": weights}
        by = {name: getattr(metrics, name)(decision=arm["decision"], **some) for name in ("tpr", "fpr", "accuracy")}
        by["auroc"] = metrics.auroc(score=arm["score"], **some)
        for at, name in enumerate(names):
            n = {"n": int(member[:, at].sum()), "patients": rows.patient_id[member[:, at]].nunique()}
            for metric in ("tpr", "fpr", "auroc", "accuracy"):
                keys = known | n | {"reader": reader, "group": name, "metric": metric}
                yield keys | with_change(by[metric][:, at])
