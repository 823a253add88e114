"""Who is served worse, and whether a source changes that: `assess` turns predictions into tables.

The room imports NumPy, SciPy and pandas only and nothing else of the package, so that it can be used
on anyone's predictions. Inference on rates is in `counts`, on AUROC, Dice and image quality in
`scores`, the paper's bootstrap in `resampling`; each says what its numbers are good for.
"""

import numpy as np
import pandas as pd
from scipy import stats

from . import counts, metrics, scores
from .checks import COLUMNS, task_of, tasks_of, traits_of
from .resampling import interval, patient_weights, shift
from .threshold import balanced_threshold

__all__ = ["INFERENCES", "MARGINS", "assess"]

INFERENCES = ("randomisation", "bootstrap", "as_published")
# Changes that would not matter: of rates and scores (0 to 1), of dB, and of the relative change of SER.
MARGINS = {
    "eodd": 0.05,
    "eop": 0.05,
    "fpr_gap": 0.05,
    "demographic_parity": 0.05,
    "auroc_gap": 0.02,
    "auprc_gap": 0.02,
    "calibration_gap": 0.02,
    "delta_dice": 0.02,
    "ser": 0.05,
    "psnr_gap": 0.5,
    "ssim_gap": 0.02,
}
# By kind and metric: what it compares between groups, and whether by their ratio of errors.
_GAPS = {
    "classify": {
        "auroc_gap": ("auroc", False),
        "auprc_gap": ("auprc", False),
        "demographic_parity": ("ppr", False),
        "calibration_gap": ("calibration", False),
    },
    "segment": {"ser": ("dice", True), "delta_dice": ("dice", False)},
    "image": {"psnr_gap": ("psnr", False), "ssim_gap": ("ssim", False)},
}
_ORIGINAL = ("original", "standard")
_RATED = ["value", "low", "high", "se", "change", "change_low", "change_high"]
# Columns of the fairness table and what the inferences call them.
_DISPARITY = {
    "value": "value",
    "low": "low",
    "high": "high",
    "se": "se",
    "expected": "expected_if_none",
    "p_range": "p",
    "p_disparity": "p_max_t",
    "sd_between": "sd_between",
}
_SHIFT = {
    "shift": "value",
    "shift_percent": "percent",
    "shift_low": "low",
    "shift_high": "high",
    "shift_se": "se",
    "p": "p",
    "p_interaction": "p_interaction",
    "gamma": "gamma",
    "margin": "margin_supported",
    "equivalent": "equivalent",
    "detectable": "detectable",
}
_SHIFT_STANDARD = {
    "shift_standard": "value",
    "shift_standard_low": "low",
    "shift_standard_high": "high",
    "shift_standard_p": "p",
}


def assess(
    predictions,
    cohort,
    *,
    quality=None,
    attributes=("sex", "age_group", "race"),
    thresholds,
    inference="randomisation",
    eodd="mean",
    min_cases=20,
    margins=None,
    resamples=1000,
    seed=0,
):
    """Performance by group, disparity between groups, and its shift against the originals.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per unit, task, source and strategy: ``unit, patient_id, task, kind`` ("classify"
        or "segment"), ``source, strategy`` ("standard" where nothing mitigates), ``label`` (0, 1,
        NaN unknown), ``score`` (0 to 1; classify), ``dice`` (0 to 1; segment; NaN where truth
        and prediction are empty).
    cohort : pandas.DataFrame
        One row per image with ``patient_id`` and the attributes, constants of a patient.
    quality : pandas.DataFrame, optional
        ``image_id, patient_id, source, strategy, psnr`` (dB), ``ssim``; becomes task "image".
    attributes : sequence of str
        Columns of the cohort; ``"sex*age_group"`` compares the intersections of both.
    thresholds : dict of float
        By task; a score at or above it is called positive. Choose it on other patients.
    inference : {"randomisation", "bootstrap", "as_published"}
        Permutation and swap tests with intersection bounds; or the paper's bootstrap of patients; or
        that of its code: images are resampled, p is one-sided, and each source has its own balanced
        threshold, chosen on the scores that are judged.
    eodd : {"mean", "worst_case"}
    min_cases : int
        Patients of each label (segment, image: with a value in every source) without which a
        group is left out of comparisons.
    margins : dict of float, optional
        Changes of a metric that would not matter, where they are not those of `MARGINS`.
    resamples, seed : int

    Returns
    -------
    performance : pandas.DataFrame
        By ``task, source, strategy, attribute, group`` ("all" for everyone) and ``metric``:
        ``value``, percentile 95 % interval ``low, high`` of a bootstrap of patients, ``se``;
        ``change`` from the original with ``change_low, change_high`` of the same resamples; units
        ``n``, ``patients``, ``positives``, and units ``missing`` for want of label or attribute.
    fairness : pandas.DataFrame
        By ``task, source, strategy, attribute, metric``:

        - ``value`` with its 95 % interval ``low, high`` and ``se``; ``expected``, the mean value if
          groups did not differ; ``p_disparity`` (max-t) and the weaker ``p_range`` of the value;
          ``sd_between`` groups, noise subtracted;
        - ``shift`` from the original, ``shift_percent`` of the original's value, ``shift_low,
          shift_high, shift_se``; ``p`` of the swap test and ``p_adjusted`` (Benjamini-Hochberg over all
          rows of the metric); ``p_interaction``, whether groups changed unequally; ``gamma``, the largest
          change of any gap, its upper bound ``margin``, and ``equivalent`` (1, 0), whether that is within
          the margin; ``detectable``, the smallest shift that would be found with 80 % power;
        - ``shift_standard`` from the unmitigated strategy of the same source, with ``_low, _high, _p``;
        - ``n_smallest`` patients of the rarer label in the smallest compared group; ``groups``
          compared, those ``left_out`` with patients of their rarer label; ``missing``; ``B``.

        NaN where there is nothing to compare, or where an inference does not know a column.

    Raises
    ------
    ValueError
        Naming the row, patient, unit, column, task or argument that is not as described.
    """
    if inference not in INFERENCES:
        raise ValueError(f"inference must be one of {', '.join(INFERENCES)}, not {inference!r}")
    compare, traits = _randomised if inference == "randomisation" else _bootstrapped, traits_of(cohort, attributes)
    options = {"combine": eodd, "min_cases": min_cases, "resamples": resamples, "seed": seed}
    options |= {"margins": MARGINS | (margins or {}), "one_sided": inference == "as_published"}
    performance, fairness = [], []
    for name, rows in tasks_of(predictions, quality).items():
        task = task_of(name, rows, traits)
        decided = _decisions(task, thresholds, inference)
        patient = np.arange(task.patient.size) if inference == "as_published" else task.patient
        drawn = patient_weights(patient=np.unique(patient), resamples=resamples, rng=np.random.default_rng(seed))
        weights = np.concatenate([chunk.astype(np.uint8) for chunk in drawn])
        for attribute in task.groups:
            terms = _terms(task, decided, attribute, patient)
            draws = {measure: scores.resample(own, weights=weights) for measure, own in terms.items()}
            performance += _performance(task, attribute, terms, draws)
            if attribute != "all":
                fairness += compare(task, decided, attribute, terms, draws, **options)
    return pd.DataFrame(performance), _adjusted(pd.DataFrame(fairness))


def _decisions(task, thresholds, inference):
    """By arm, which units are called positive; empty for tasks without a decision."""
    if task.kind != "classify":
        return {}
    if inference == "as_published":
        return {
            arm: (rows.score >= balanced_threshold(score=rows.score, label=rows.label)).to_numpy()
            for arm, rows in task.arms.items()
        }
    if task.name not in thresholds:
        raise ValueError(f"thresholds: none for task '{task.name}'")
    return {arm: (rows.score >= thresholds[task.name]).to_numpy() for arm, rows in task.arms.items()}


def _terms(task, decided, attribute, patient):
    """Every measure of performance, as `scores` has it, by name; its sources are the numbers of the arms."""
    who = {"patient": patient, "group": task.groups[attribute]}
    if task.kind != "classify":
        values = {
            column: {a: rows[column] for a, rows in enumerate(task.arms.values())} for column in COLUMNS[task.kind]
        }
        return {column: scores.mean_terms(value=value, **who) for column, value in values.items()}
    score = {a: rows["score"].to_numpy(float) for a, rows in enumerate(task.arms.values())}
    called = dict(enumerate(decided.values()))
    rates = {
        name: {a: np.where(task.label == y, decision, np.nan) for a, decision in called.items()}
        for name, y in (("tpr", 1), ("fpr", 0))
    }
    return {
        "auroc": scores.auroc_terms(score=score, label=task.label, **who),
        "auprc": scores.auprc_terms(score=score, label=task.label, **who),
        **{name: scores.row_terms(value=rate, **who) for name, rate in rates.items()},
        "ppr": scores.row_terms(value={a: decision * 1.0 for a, decision in called.items()}, **who),
        "calibration": scores.row_terms(value={a: s - task.label for a, s in score.items()}, **who),
    }


def _performance(task, attribute, terms, draws):
    """Rows of the performance table for one attribute."""
    groups, arms = task.groups[attribute], list(task.arms)
    original = arms.index(_ORIGINAL) if _ORIGINAL in arms else None
    for measure, own in terms.items():
        rated = scores.performance(own, draws[measure], original).reindex(columns=_RATED)
        for (a, group), row in rated.iterrows():
            source, strategy = arms[a]
            rows = groups == group
            if measure in COLUMNS[task.kind]:
                rows = rows & np.isfinite(task.arms[arms[a]][measure].to_numpy(float))
            yield {
                **{"task": task.name, "source": source, "strategy": strategy},
                **{"attribute": attribute, "group": group, "metric": measure, **row},
                "n": int(rows.sum()),
                "patients": np.unique(task.patient[rows]).size,
                "positives": int((task.label[rows] == 1).sum()) if task.kind == "classify" else np.nan,
                "missing": task.missing(attribute),
            }


def _randomised(task, decided, attribute, terms, draws, *, combine, min_cases, margins, resamples, seed, **_):
    """Rows of the fairness table for one attribute, by permutation and swap tests and intersection bounds."""
    found, arms = {}, list(task.arms)
    compared = _compared(task, attribute, terms, min_cases)
    how = {"resamples": resamples, "seed": seed}
    for arm in decided:
        found |= _of_rates(task, decided, attribute, arm, min_cases, how | {"combine": combine}, margins)
    for metric, (measure, ratio) in _GAPS[task.kind].items():
        own, drawn, same = terms[measure], draws[measure], {"ratio": ratio, "min_cases": min_cases, "seed": seed}
        gaps = scores.disparity(own, drawn, permutations=resamples, **same)
        same |= {"swaps": resamples, "margin": margins[metric]}
        for a, arm in enumerate(arms):
            found[arm, metric] = [gaps.loc[a], None, None]
        for part, reference, others in _references(arms):
            pair = scores.only(own, drawn, [reference, *others])
            for a, row in scores.shift(*pair, reference=reference, **same).iterrows():
                found[arms[a], metric][part] = row
    for (arm, metric), (gaps, against, standard) in found.items():
        row = _row(task, attribute, arm, metric, gaps, against, standard)
        yield row | compared | {"B": resamples if np.isfinite(row["value"]) else 0}


def _of_rates(task, decided, attribute, arm, min_cases, how, margins):
    """EODD, EOP and the gap in FPR of one arm: their disparity, and their shifts from original and standard."""
    given = {"label": task.label, "patient": task.patient, "group": task.groups[attribute]}
    kept, _ = counts.tabulate(**given, decision=decided[arm]).keep(min_cases)
    found = {(arm, metric): [row, None, None] for metric, row in counts.disparity(kept, **how).items()}
    for part, reference in ((1, _ORIGINAL), (2, (arm[0], "standard"))):
        if arm != reference and reference in decided and (part == 1 or arm[1] != "standard"):
            pair, _ = counts.tabulate(**given, decision=decided[arm], reference=decided[reference]).keep(min_cases)
            for metric, row in counts.shift(pair, margin=margins["eodd"], **how).items():
                found[arm, metric][part] = row | {"equivalent": row["margin_supported"] < margins[metric]}
    return found


def _bootstrapped(task, decided, attribute, terms, draws, *, combine, min_cases, one_sided, **_):
    """Rows of the fairness table for one attribute, by the paper's bootstrap."""
    arms, compared = list(task.arms), _compared(task, attribute, terms, min_cases)
    kept = [k for k, group in enumerate(next(iter(terms.values())).groups) if group in compared["groups"].split("; ")]
    all_draws = {m: np.concatenate([terms[m].value[None], draws[m]])[:, :, kept] for m in terms}
    for metric, function in metrics.FAIRNESS[task.kind].items():
        bias = function(all_draws, combine=combine) if kept else np.full((2, len(arms)), np.nan)
        for a, arm in enumerate(arms):
            against = {
                part: shift(bias[:, a], bias[:, reference], one_sided=one_sided)
                for part, reference, others in _references(arms)
                if a in others
            }
            row = _row(task, attribute, arm, metric, interval(bias[:, a]), against.get(1), against.get(2))
            yield row | compared | {"B": int(np.isfinite(bias[1:, a]).sum())}


def _references(arms):
    """What is compared with what: part of a row, number of the reference, numbers of the others."""
    original = [(1, arms.index(_ORIGINAL))] if _ORIGINAL in arms else []
    for part, reference in original:
        if others := [a for a in range(len(arms)) if a != reference]:
            yield part, reference, others
    for reference, (source, strategy) in enumerate(arms):
        others = [a for a, arm in enumerate(arms) if arm[0] == source and arm[1] != "standard"]
        if strategy == "standard" and others:
            yield 2, reference, others


def _compared(task, attribute, terms, min_cases):
    """Columns that say which groups are compared, and which are not."""
    cases = dict.fromkeys(next(iter(terms.values())).groups, np.inf)
    for measure in [measure for measure in terms if measure in ("auroc", *COLUMNS[task.kind])]:
        cases = {group: int(min(cases[group], n)) for group, n in scores.cases(terms[measure]).items()}
    kept = [group for group, n in cases.items() if n >= min_cases]
    reason = "" if len(kept) >= 2 else "fewer than two groups have enough cases: "
    return {
        "n_smallest": min((cases[group] for group in kept), default=np.nan),
        "groups": "; ".join(kept),
        "left_out": reason + "; ".join(f"{group} ({n})" for group, n in cases.items() if group not in kept),
        "missing": task.missing(attribute),
    }


def _row(task, attribute, arm, metric, gaps, against, standard):
    """One row of the fairness table from what the inferences call it."""
    row = {"task": task.name, "source": arm[0], "strategy": arm[1], "attribute": attribute, "metric": metric}
    for columns, found in ((_DISPARITY, gaps), (_SHIFT, against), (_SHIFT_STANDARD, standard)):
        row |= {column: np.nan if found is None else float(found.get(part, np.nan)) for column, part in columns.items()}
    return row if np.isfinite(row["shift"]) else row | {"equivalent": np.nan}


def _adjusted(fairness):
    """Add p adjusted by Benjamini and Hochberg (1995) over all rows of a metric."""
    adjusted = pd.Series(np.nan, fairness.index)
    for _, p in fairness["p"].dropna().groupby(fairness["metric"]) if len(fairness) else ():
        adjusted[p.index] = stats.false_discovery_control(p)
    fairness.insert(fairness.columns.get_loc("p") + 1, "p_adjusted", adjusted) if len(fairness) else None
    return fairness
