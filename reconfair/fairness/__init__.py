"""Who is served worse, and whether a source changes that: `assess` turns predictions into tables.

The room imports NumPy, SciPy and pandas only and nothing else of the package, so that it can be used
on anyone's predictions. Estimates and limits of groups are in `cells`, gaps and their shifts in
`gaps`, the paper's bootstrap in `resampling`, sample sizes in `planning`; each says what its numbers
are good for.
"""

import numpy as np
import pandas as pd
from scipy import stats

from . import slopes
from .checks import joined, numbers_of, task_of, tasks_of, traits_of
from .classes import ClassPanel
from .resampling import cohorts
from .rows import CHANGES, MEASURES, Panel, bootstrapped, closed_form
from .threshold import decisions

__all__ = ["INFERENCES", "MARGINS", "PRIMARY", "assess"]

INFERENCES = ("closed_form", "bootstrap", "as_published")
# Measures whose changes in the groups are the primary result, with limits that hold for all of them at once.
PRIMARY = ("tpr", "fpr", "dice")
# Changes that would not matter: of rates and scores (0 to 1) and of decibels; of SER a ratio.
MARGINS = dict.fromkeys(("eodd", "eop", "fpr_gap", "demographic_parity", "calibration_gap"), 0.05)
MARGINS |= dict.fromkeys(("eodd_worst", "accuracy_gap", "kappa_gap", "nar", "essp", "accuracy", "kappa"), 0.05)
MARGINS |= dict.fromkeys(("auroc_gap", "auprc_gap", "delta_dice", "ssim_gap"), 0.02) | {"ser": 1.1, "psnr_gap": 0.5}
MARGINS |= dict.fromkeys(("tpr", "fpr", "ppr", "calibration"), 0.05)
MARGINS |= dict.fromkeys(("auroc", "auprc", "dice", "ssim"), 0.02) | {"psnr": 0.5}

_TESTED = ("p", "p_unequal", "p_unequal_standard", "p_shift")
# of the table ``fairness``
_COLUMNS = [
    "task", "source", "strategy", "reader", "attribute", "metric", "value", "low", "high", "se", "expected",
    "p", "p_adjusted", "sd_between", "worst", "best", "shift", "shift_low", "shift_high", "shift_percent",
    "shift_se", "p_shift", "p_shift_adjusted", "verdict", "p_unequal", "p_unequal_adjusted", "p_swap",
    "gamma", "bound", "margin", "no_change", "shift_standard", "shift_standard_low", "shift_standard_high",
    "p_shift_standard", "verdict_standard", "p_unequal_standard", "p_unequal_standard_adjusted",
    "p_swap_standard", "gamma_standard", "bound_standard", "no_change_standard", "groups", "left_out",
    "n_smallest", "missing", "note",
]  # fmt: skip


def assess(
    predictions,
    cohort,
    *,
    quality=None,
    attributes=("sex", "age_group", "race"),
    thresholds,
    inference="closed_form",
    eodd="mean",
    primary=PRIMARY,
    min_cases=20,
    margins=None,
    ordinal=(),
    whole=(),
    resamples=1000,
    seed=0,
    watch=iter,
):
    """Performance by group, disparity between groups, and how both change from a reference.

    An arm is a source as one strategy reconstructs it and one reader sees it. Its reference is the original
    with strategy "standard" and the same reader (of image quality: the noisy image). Its unmitigated
    counterpart, for columns ``..._standard``, is the standard strategy of the same source and reader, or,
    where the strategy is standard, the standard reader of the same source.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per unit, task, source, strategy and reader: ``unit, patient_id, task, kind`` ("classify"
        or "segment"), ``source, strategy`` ("standard" where nothing mitigates), ``reader`` ("standard"
        where the column is absent), ``label`` (0, 1, NaN unknown), ``score`` (0 to 1; classify), ``dice``
        (0 to 1; segment; NaN where truth and prediction are empty). A task ``dx`` of several classes has a task
        ``dx: <class>`` for each, with ``class``, ``score`` (the scores of all classes sum to 1), ``label`` (whether
        it is of that class) and ``decision`` (1 of the class that it is given to, else 0): these decisions are
        judged, not those of a threshold, and the task as a whole is judged as ``dx``. A column ``fold`` names the
        models that made a row, where patients were tested in turn by models that never saw them (cross-fitting):
        AUROC and AUPRC compare scores of one fold alone, and rates pool the decisions. Limits are given these trained
        models; what another training would change is not in them.
    cohort : pandas.DataFrame
        One row per image with ``patient_id`` and the attributes, constants of a patient.
    quality : pandas.DataFrame, optional
        ``image_id, patient_id, source, strategy, psnr`` (dB), ``ssim``; becomes task "image".
    attributes : sequence of str
        Columns of the cohort; ``"sex*age_group"`` compares the intersections of both.
    thresholds : dict
        By task a score, or a dict of scores by reader; a score at or above it is called positive. Choose it on
        other patients. Of predictions with folds, such a dict for each fold.
    inference : {"closed_form", "bootstrap", "as_published"}
        Limits of the groups and of every difference between them, without resampling; or the paper's
        bootstrap of patients; or that of its code: images are resampled, p is one-sided, and each source has
        its own balanced threshold, chosen on the scores that are judged.
    eodd : {"mean", "worst_case"}
    primary : sequence of str
        Measures of the primary family, see ``change_low``.
    min_cases : int
        Patients with the labels that a metric needs (segment, image: with a value) without which a group is
        left out of it; at least 2.
    margins : dict of float, optional
        Changes that would not matter, where they are not those of `MARGINS`.
    ordinal : sequence of str
        Tasks whose classes are in order: they are judged by kappa with quadratic weights as well.
    whole : sequence of str
        Attributes whose numbers, in the column ``<attribute>_value`` of the cohort, are kept whole: beside the rows of
        their groups ``fairness`` has rows of metric ``tpr_slope, fpr_slope, dice_slope``, see `slopes`.
    resamples, seed : int
        Of ``p_swap``, of AUPRC and of the bootstraps.
    watch : callable
        Takes the list of what is judged and yields its items, such as ``tqdm.tqdm``, which shows the time left.

    Returns
    -------
    performance : pandas.DataFrame
        By ``task, source, strategy, reader, attribute, group`` ("all" for everyone) and ``metric``:

        - ``value`` with 95 % limits ``low, high`` and ``se``; of rates also ``pooled, pooled_low,
          pooled_high``, where small groups borrow from the others (empirical Bayes);
        - ``change`` from the reference; ``change_low, change_high`` hold with 95 % confidence for all
          changes of a family at once: the primary measures of an attribute over groups, tasks and arms, or
          the same of one other measure; ``change_bound``, the one-sided bound of such a family on the
          harmful side; ``margin``; ``kept`` (1, 0), whether the change is within the margin; ``verdict``:
          "worse", "better" or "changed" where the limits exclude 0, else "kept", "not shown", "not judged";
        - ``change_standard`` with ``_low, _high``, the same from the unmitigated counterpart;
        - ``compared`` (1, 0), whether the group has `min_cases`; ``n`` units, ``patients``, ``positives``,
          ``missing`` for want of label or attribute; ``note``, why a row cannot be judged.
    fairness : pandas.DataFrame
        By ``task, source, strategy, reader, attribute, metric``:

        - ``value`` with 95 % limits ``low, high``; ``expected``, its mean if groups did not differ; ``p``
          and ``p_adjusted`` of equal groups; ``sd_between`` groups, noise subtracted; the ``worst`` and
          the ``best`` group;
        - ``shift`` from the reference with ``shift_low, shift_high``, ``shift_percent`` of the
          reference's value; ``p_unequal`` and ``p_unequal_adjusted``, whether groups changed unequally;
          ``p_swap``, whether the sources are interchangeable (drawn, at least 1 / (resamples + 1)); ``gamma``,
          the range of changes, its upper ``bound``, the ``margin`` and ``no_change`` (1, 0);
        - ``verdict``: "grew" or "fell" where the limits of the shift exclude 0 and ``p_unequal_adjusted``
          is at most 0.05 / number of attributes; "unequal" where only the latter holds; else "no change",
          "not shown", "not judged";
        - the same from the unmitigated counterpart, ``..._standard``;
        - ``groups`` compared, those ``left_out`` with patients of the rarer label, ``n_smallest`` of the
          compared ones, ``missing``, ``note``; ``se, shift_se, p_shift`` of the bootstraps.

        p-values are adjusted by Benjamini and Hochberg (1995) over all rows of an attribute and metric.
        NaN where there is nothing to compare, or where an inference does not know a column.

    Raises
    ------
    ValueError
        Naming the row, patient, unit, column, task or argument that is not as described.
    """
    if inference not in INFERENCES:
        raise ValueError(f"inference must be one of {', '.join(INFERENCES)}, not {inference!r}")
    for measure in primary:
        if measure not in MEASURES:
            raise ValueError(f"primary: measure must be one of {', '.join(MEASURES)}, not {measure!r}")
    margins = MARGINS | (margins or {})
    if margins["ser"] <= 1:
        raise ValueError(f"margins: ser is a ratio above 1, such as 1.1, not {margins['ser']}")
    traits, blocks, fairness = traits_of(cohort, attributes), [], []
    how = {"combine": eodd, "min_cases": max(min_cases, 2), "resamples": resamples, "seed": seed}
    numbers = numbers_of(cohort, whole)
    tasks = {name: task_of(name, rows, traits) for name, rows in tasks_of(predictions, quality).items()}
    every, by_image, judged = (tasks | joined(tasks, predictions, ordinal)).values(), inference == "as_published", None
    for task, attribute in watch([(each, attribute) for each in every for attribute in each.groups]):
        if task is not judged:  # one set of decisions and resamples for all its attributes
            judged, decided = task, decisions(task, thresholds, published=by_image)[1]
            patient = np.unique(task.patient, return_inverse=True)[1] if not by_image else np.arange(task.patient.size)
            drawn = resamples if inference != "closed_form" or task.kind in ("classify", "classes") else 0  # for AUPRC
            weights = cohorts(patient.max() + 1, resamples=drawn, rng=np.random.default_rng(seed))
        panel = (ClassPanel if task.classes else Panel)(task, decided, attribute, patient)
        rows_of = closed_form if inference == "closed_form" else bootstrapped
        some, gaps = rows_of(panel, weights, one_sided=by_image, **how)
        blocks += some
        fairness += gaps
        if attribute in whole:
            fairness += slopes.rows_of(task, decided, numbers[attribute], attribute, panel.references)
    return _performance(blocks, primary, margins), _fairness(fairness, margins, inference, resamples)


def _performance(blocks, primary, margins):
    """Rows of all measures, with limits of the changes that hold for each family at once."""
    for change in CHANGES:
        families = {}
        for block in blocks:
            measure = block["metric"]
            family = block["attribute"], "primary" if measure in primary else measure
            cells = block["cells"].get(change)
            if cells is not None:
                families.setdefault(family, []).append((block, cells))
        for members in families.values():
            tests = max(1, sum((np.isfinite(cells.value) & block["named"]).sum() for block, cells in members))
            two_sided, one_sided = (1 + 0.95 ** (1 / tests)) / 2, 0.95 ** (1 / tests)
            for block, cells in members:
                most = np.inf if block["metric"] == "psnr" else 2.0 if block["metric"] in ("ssim", "kappa") else 1.0
                low, high = np.clip(cells.limits(stats.norm.ppf(two_sided)), -most, most)  # no change is larger
                columns = {change: cells.value, f"{change}_low": low, f"{change}_high": high}
                if change == "change":
                    low, high = np.clip(cells.limits(stats.norm.ppf(one_sided)), -most, most)
                    columns["change_bound"] = {1: low, -1: high}.get(MEASURES[block["metric"]].good, low * np.nan)
                block["table"] |= columns | {"judged": [True] * cells.value.size}
    return _judged(_stacked([block["table"] for block in blocks]), margins)


def _stacked(tables):
    """Rows of all blocks, a missing column as NaN; one frame for all is much faster than one for each."""
    needed = [name for change in CHANGES for name in (change, f"{change}_low", f"{change}_high")]
    needed += ["change_bound", "pooled", "pooled_low", "pooled_high", "se", "judged"]
    columns = dict.fromkeys([*tables[0], *needed])
    missing = [[np.nan] * len(table["group"]) for table in tables]
    stacked = {
        column: [value for table, nothing in zip(tables, missing, strict=True) for value in table.get(column, nothing)]
        for column in columns
    }
    return pd.DataFrame(stacked).astype({"note": object})


def _judged(table, margins):
    """Add margin, whether it is kept, and the verdict."""
    margin = table["metric"].map(margins)
    good = table["metric"].map({name: measure.good for name, measure in MEASURES.items()})
    bound, low, high = table["change_bound"], table["change_low"], table["change_high"]
    kept = np.where(good == 0, (low > -margin) & (high < margin), good * bound > -margin)
    judged = (table["judged"] == True) & low.notna() & (table["compared"] != 0)  # noqa: E712
    rose = np.select([low > 0, high < 0], [1, -1], 0)
    words = [~judged, (rose != 0) & (good == 0), rose * good > 0, rose * good < 0, kept]
    verdict = np.select(words, ["not judged", "changed", "better", "worse", "kept"], "not shown")
    keys = ["task", "source", "strategy", "reader", "attribute", "group", "metric"]
    changes = ["change", "change_low", "change_high", "change_bound", "margin", "kept", "verdict"]
    first = [*keys, "value", "low", "high", "se", "pooled", "pooled_low", "pooled_high", *changes]
    table = table.assign(margin=margin, kept=np.where(low.notna() & judged, kept, np.nan), verdict=verdict)
    return table[[*first, *(column for column in table if column not in (*first, "judged"))]]


def _fairness(rows, margins, inference, resamples):
    """Rows of all gaps, with adjusted p-values and verdicts."""
    table = pd.DataFrame(rows, columns=_COLUMNS)
    if not len(table):
        return table
    for test in _TESTED:
        for _, p in table[test].dropna().groupby([table["attribute"], table["metric"]]):
            table.loc[p.index, f"{test}_adjusted"] = stats.false_discovery_control(p)
    table[["worst", "best"]] = table[["worst", "best"]].astype(object).fillna("")
    margin = table["metric"].map(margins)
    table["margin"] = np.where(table["metric"] == "ser", margin - 1, margin)
    level = 0.05 / table["attribute"].nunique()  # so that one null table in twenty claims anything of a metric
    for kind in ("", "_standard"):
        low, high, bound = (table[name] for name in (f"shift{kind}_low", f"shift{kind}_high", f"bound{kind}"))
        unequal, judged = table[f"p_unequal{kind}_adjusted"] <= level, table[f"p_unequal{kind}"].notna()
        none = bound < table["margin"]
        words = [~judged, unequal & (low > 0), unequal & (high < 0), unequal, none]
        table[f"verdict{kind}"] = np.select(words, ["not judged", "grew", "fell", "unequal", "no change"], "not shown")
        table[f"no_change{kind}"] = np.where(judged, none, np.nan)
    if inference != "closed_form":
        floor = (1 if inference == "as_published" else 2) / (resamples + 1)
        tests = table["p_shift"].notna().groupby([table["attribute"], table["metric"]]).transform("sum")
        least = [
            f"p_shift is at least {floor:.2g}, adjusted {min(1, floor * n):.2g} if no other is small" for n in tests
        ]
        table["note"] = np.where(table["p_shift"].notna(), least, table["note"])
    return table
