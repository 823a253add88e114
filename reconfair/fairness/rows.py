"""Rows of the tables `performance` and `fairness`, for one task and one attribute, by each inference."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import gaps, metrics, resampling
from .cells import Groups, pooled
from .checks import in_order

CHANGES = ("change", "change_standard")  # from the reference, from the unmitigated counterpart


class About(NamedTuple):
    """What is settled about a measure of performance."""

    kind: str
    good: int  # 1: more is better, -1: less is better, 0: neither
    labels: tuple = ()  # those that patients must carry to count; none: whoever has a value


MEASURES = {
    "auroc": About("classify", 1, (1, 0)),
    "auprc": About("classify", 1, (1, 0)),
    "tpr": About("classify", 1, (1,)),
    "fpr": About("classify", -1, (0,)),
    "ppr": About("classify", 0),
    "calibration": About("classify", 0),
    "accuracy": About("classes", 1),
    "kappa": About("classes", 1),
    "dice": About("segment", 1),
    "psnr": About("image", 1),
    "ssim": About("image", 1),
}
# By kind and gap: the measures whose ranges it combines.
GAPS = {
    "classify": {
        "eodd": ("tpr", "fpr"),
        "eop": ("tpr",),
        "auroc_gap": ("auroc",),
        "fpr_gap": ("fpr",),
        "auprc_gap": ("auprc",),
        "demographic_parity": ("ppr",),
        "calibration_gap": ("calibration",),
    },
    "classes": {
        "eodd": ("tpr", "fpr"),
        "eodd_worst": ("tpr", "fpr"),
        "eop": ("tpr",),
        "demographic_parity": ("ppr",),
        "auroc_gap": ("auroc",),
        "accuracy_gap": ("accuracy",),
        "kappa_gap": ("kappa",),
        "nar": ("accuracy",),
        "essp": ("accuracy",),
    },
    "segment": {"ser": ("dice",), "delta_dice": ("dice",)},
    "image": {"psnr_gap": ("psnr",), "ssim_gap": ("ssim",)},
}
RATES = ("tpr", "fpr", "ppr", "accuracy")
PARTIAL = ("auroc", "auprc", "kappa")  # need more than some cases of each label
_DRAWN = ("nar", "essp", "auprc_gap")  # by resamples in every inference
_WORDS = {1: "positives", 0: "negatives"}


class Panel:
    """One task seen by the groups of one attribute: measures of every arm and their paired changes.

    Parameters
    ----------
    task : checks.Task
    decided : dict of numpy.ndarray of bool, shape (n,)
        By arm, which units are called positive.
    attribute : str
    patient : numpy.ndarray of int, shape (n,)
        Number of the patient of each unit, or of the unit where units are resampled.
    """

    def __init__(self, task, decided, attribute, patient):
        group, names = pd.factorize(np.where(pd.isna(task.groups[attribute]), None, task.groups[attribute]))
        self.task, self.attribute, self.names = task, attribute, in_order(names.astype(str).tolist())
        rank = np.array([self.names.index(name) for name in names.astype(str)], int)
        self.rows = group >= 0
        group, patient = rank[group[self.rows]] if len(names) else group[:0], patient[self.rows]
        self.patients, first, code = np.unique(patient, return_index=True, return_inverse=True)
        order = np.argsort(group[first], kind="stable")  # patients of a group stand together
        self.patients, seat = self.patients[order], np.argsort(order)
        self.units = Groups(seat[code], group[first][order], self.names)
        self.people = Groups(np.arange(order.size), self.units.group, self.names)
        self.label = task.label[self.rows] if task.kind in ("classify", "classes") else None
        self.fold = None if task.fold is None else task.fold[self.rows]
        self.called = {arm: called[self.rows] for arm, called in decided.items()}
        self.missing = task.unlabelled + int((~self.rows).sum())  # units without label or attribute
        self.measures = [name for name, about in MEASURES.items() if about.kind == task.kind]
        self.gaps = GAPS[task.kind]
        # Measures whose ranges a gap combines; SER is the range of the logarithm of the error.
        self.ranges = {metric: ("error",) if metric == "ser" else names for metric, names in self.gaps.items()}
        self.rare = task.kind == "classify"  # there are positives and negatives
        self.of_class = self.rare and "decision" in next(iter(task.arms.values()))
        self.counted = task.kind not in ("classify", "classes")  # units without a value do not count
        self.measure, self.change, self.values = cache(self._measure), cache(self._change), cache(self._values)
        self.of_row, self.cases = self.units.group[self.units.patient], cache(self._cases)

    def column(self, arm, name):
        """Score or value of each unit, (n,)."""
        return self.task.arms[arm][name].to_numpy(float)[self.rows]

    def of(self, name):
        """Which units a measure counts, (n,)."""
        labels = MEASURES[name].labels
        return np.isin(self.label, labels) if labels else np.ones(self.label.size, bool)

    def _cases(self, name):
        """Patients of each group that count for a measure, of the rarer label where it needs both, (K,)."""
        if self.counted:
            return self.units.sums(self.valid(name) * 1.0).astype(int)
        labels, rows = MEASURES[name].labels or ((0, 1),), self._comparable(name)
        carry = [self.units.by_patient(rows=rows & np.isin(self.label, y)) > 0 for y in labels]
        return np.min([self.units.sums(some * 1.0) for some in carry], axis=0).astype(int)

    def _comparable(self, name):
        """Units that a measure can rank: with folds, those whose fold has both labels in their group, (n,)."""
        if self.fold is None or name not in ("auroc", "auprc"):
            return np.ones(self.label.size, bool)
        inside = np.unique(
            np.stack([self.of_row, np.unique(self.fold, return_inverse=True)[1]]), axis=1, return_inverse=True
        )[1]
        both = [np.bincount(inside, self.label == y) > 0 for y in (0, 1)]
        return (both[0] & both[1])[inside]

    def undefined(self, name, g):
        """Why a measure of group g has no value, in words."""
        if self.fold is not None and name in ("auroc", "auprc") and all(self.cases(rate)[g] for rate in ("tpr", "fpr")):
            return "no fold has positives and negatives"
        return f"0 {self.lacking(name, g)}"

    def valid(self, name):
        """Which patients have a value in every arm, (P,)."""
        return np.all([np.isfinite(self.values(arm, name)) for arm in self.task.arms], axis=0)

    def lacking(self, name, g):
        """What group g has too few of, in words."""
        labels = MEASURES[name].labels
        if not labels:
            return "patients"
        rows = self.of_row == g
        return _WORDS[min(labels, key=lambda y: np.unique(self.units.patient[rows & (self.label == y)]).size)]

    def _values(self, arm, name):
        """Mean over each patient's units, (P,)."""
        return resampling.patient_means(self.column(arm, name)[:, None], self.units.patient, self.patients.size)[:, 0]

    def _measure(self, arm, name):
        """A measure of the groups; ``error`` is the logarithm of 1 - Dice."""
        if name in RATES:
            return self.units.rate(self.called[arm], self.of(name))
        if name == "auroc":
            return self.units.auroc(self.column(arm, "score"), self.label, self.fold)
        if name == "calibration":
            return self.units.mean(self.column(arm, "score") - self.label, reach=1.0)
        if name == "error":
            return self.people.log_error(self.values(arm, "dice"), self.valid("dice"))
        bounded = name != "psnr"
        return self.people.mean(self.values(arm, name), self.valid(name), log=bounded, reach=1.0 * bounded)

    def _change(self, arm, reference, name):
        """Paired change of a measure, cells."""
        if name in RATES:
            return self.units.rate_change(self.called[arm], self.called[reference], self.of(name))
        if name == "auroc":
            return self.units.auroc_change(self.measure(arm, name), self.measure(reference, name))
        # Of one source, values without any difference are those of the same images; of two, others could differ.
        reach = 1.0 * (arm[0] != reference[0] and name not in ("psnr", "ssim"))
        if name == "calibration":
            change = self.column(arm, "score") - self.column(reference, "score")
            return self.units.mean(change, reach=reach).cells
        if name == "error":
            one, other = (self.values(each, "dice") for each in (arm, reference))
            return self.people.log_error(one, self.valid("dice"), other, reach=reach).cells
        return self.people.mean(
            self.values(arm, name) - self.values(reference, name), self.valid(name), reach=reach
        ).cells

    def same(self, arm, name, g, change):
        """Whether no decision or value of group g differs from the reference's."""
        column = {"calibration": "score"}.get(name, name)
        if name in RATES or column not in self.task.arms[arm]:
            return name in RATES and change.first.value[g] == 0
        rows, other = self.of_row == g, self.references(arm)["change"]
        return np.array_equal(self.column(arm, column)[rows], self.column(other, column)[rows], equal_nan=True)

    def silent(self, arm, names, kept):
        """Why an arm says nothing of a gap between the groups `kept`, in words; empty where it does."""
        if names == ("error",):
            perfect = [self.names[g] for g in kept if self.measure(arm, "dice").cells.value[g] > 1 - 1e-12]
            why = f"cannot be judged: the mean error of {', '.join(perfect)} is 0, and the ratio divides by it"
            return why if perfect else ""
        rates = any(name in RATES for name in names)
        if not rates or not self.of_class or self.called[arm].any() or not self.called[arm].size:
            return ""
        cases = np.unique(self.units.patient[self.label == 1]).size
        return f"cannot be judged: the class is never predicted ({cases} patients are of it)"

    def gap(self, arm, metric, names, kept, combine, swapped):
        """Columns of one gap by one arm."""
        column = gap_of(self, arm, metric, kept, combine)
        # What is favourable: a low error, a high TPR, a low FPR; neither of calls and calibration.
        measured = self.ranges[metric]
        good = [-1 if name == "error" else MEASURES[name].good for name in measured]
        value = np.full(len(self.names), np.nan)
        sides = zip(good, measured, strict=True)
        value[kept] = sum(sign * self.measure(arm, name).cells.value[kept] for sign, name in sides)
        column |= self.extremes(value) if any(good) else {"worst": "", "best": ""}
        for change, other in self.references(arm).items():
            if self.silent(other, measured, kept):  # where the reference says nothing, nothing is a change
                continue
            moved = shift_of(self, arm, other, metric, kept, combine)
            moved["p_swap"] = _p_swap(self.task.kind, swapped[change][arm], metric, kept, combine)
            column |= shift_columns(change, moved, 1 if metric == "ser" else column["value"] - moved["shift"])
        return column

    def drawn(self, names, weights):
        """Measures of all arms in resamples of patients, the estimate first: (1 + B, A, K) by name."""
        units, arms = self.units, list(self.task.arms)
        weights, drawn = weights[:, self.patients], {}
        for name in names:
            how, label = "patient_mean" if self.task.kind != "classify" else "mean", None
            if name in RATES:
                values = [np.where(self.of(name), self.called[arm], np.nan) for arm in arms]
            elif name in ("auroc", "auprc"):
                how, label, values = name, self.label, [self.column(arm, "score") for arm in arms]
            elif name == "calibration":
                values = [self.column(arm, "score") - self.label for arm in arms]
            else:
                values = [self.column(arm, name) for arm in arms]
            given = {"patient": units.patient, "group": units.group, "groups": len(self.names), "label": label}
            given["fold"] = self.fold
            drawn[name] = resampling.draws(how, np.stack(values, axis=1), weights, **given)
        return drawn

    def overall(self, kept, weights):
        """Measures of everyone in resamples, where a gap needs them."""
        return {}

    def references(self, arm):
        """By kind of change the arm it is counted from."""
        source, strategy, reader = arm
        start = ("noisy" if self.task.kind == "image" else "original", "standard", reader)
        plain = (source, "standard", reader if strategy != "standard" else "standard")
        pairs = zip(CHANGES, (start, plain), strict=True)
        return {change: other for change, other in pairs if other != arm and other in self.task.arms}

    def keys(self, arm):
        """First columns of a row."""
        names = ("task", "source", "strategy", "reader", "attribute")
        return dict(zip(names, (self.task.name, *arm, self.attribute), strict=True))

    def compared(self, cases, min_cases):
        """Columns that say which groups are compared, and which are not."""
        kept = cases >= min_cases
        return {
            "groups": "; ".join(np.array(self.names, object)[kept]),
            "left_out": "; ".join(f"{self.names[k]} ({cases[k]})" for k in np.flatnonzero(~kept)),
            "n_smallest": float(cases[kept].min()) if kept.any() else np.nan,
            "missing": self.missing,
            "note": "" if kept.sum() >= 2 else "fewer than two groups have enough cases",
        }

    def extremes(self, value):
        """Names of the groups with the lowest and the highest value; NaN is left out."""
        return {"worst": self.names[np.nanargmin(value)], "best": self.names[np.nanargmax(value)]}


def closed_form(panel, weights, *, combine, min_cases, resamples, seed, one_sided):
    """Blocks of performance and rows of fairness from limits of the groups.

    Returns
    -------
    blocks : list of dict
        By arm and measure: columns of its groups (``table``), ``cells`` of the changes, and which groups are ``named``.
    rows : list of dict
    """
    task = panel.task
    drawn = panel.drawn(["auprc"], weights) if task.kind == "classify" else {}
    blocks = [_block(panel, arm, name, drawn, min_cases) for arm in task.arms for name in panel.measures]
    if panel.attribute == "all":
        return blocks, []
    swapped = {change: _swap(panel, change, resamples, seed) for change in CHANGES} if panel.names else {}
    rows = []
    for a, arm in enumerate(task.arms):
        for metric, names in panel.gaps.items():
            cases = np.min([panel.cases(name) for name in names], axis=0)
            kept = np.flatnonzero(cases >= min_cases)
            row = panel.keys(arm) | {"metric": metric} | panel.compared(cases, min_cases)
            if why := panel.silent(arm, panel.ranges[metric], kept):
                row["note"] = why
            elif kept.size >= 2 and metric in _DRAWN:
                some = drawn if metric == "auprc_gap" else panel.drawn(["accuracy"], weights)
                some = {name: values[:, :, kept] for name, values in some.items()} | panel.overall(kept, weights)
                row |= _paper_gap(panel, a, metric, some, combine, False)
                row |= {"p_shift": np.nan, "p_shift_standard": np.nan, "note": "not calibrated"}
            elif kept.size >= 2:
                row |= panel.gap(arm, metric, names, kept, combine, swapped)
            rows.append(row)
    return blocks, rows


def bootstrapped(panel, weights, *, combine, min_cases, one_sided, **_):
    """Blocks of performance and rows of fairness by the paper's bootstrap; see `closed_form`."""
    task, drawn = panel.task, panel.drawn(panel.measures, weights)
    blocks = [_block(panel, arm, name, drawn, min_cases) for arm in task.arms for name in panel.measures]
    if panel.attribute == "all":
        return blocks, []
    shared, rows = np.min([panel.cases(name) for name in panel.measures if name not in PARTIAL], axis=0), []
    for metric, names in panel.gaps.items():
        cases = np.min([shared, *(panel.cases(name) for name in names)], axis=0)
        kept = np.flatnonzero(cases >= min_cases)
        some = {name: values[..., kept] for name, values in drawn.items()}
        some |= panel.overall(kept, weights) if metric in _DRAWN else {}
        for a, arm in enumerate(task.arms):
            row = panel.keys(arm) | {"metric": metric} | panel.compared(cases, min_cases)
            why = panel.silent(arm, panel.ranges[metric], kept)
            row |= {"note": why} if why else {}
            enough = kept.size >= 2 and not why
            rows.append(row | (_paper_gap(panel, a, metric, some, combine, one_sided) if enough else {}))
    return blocks, rows


def _block(panel, arm, name, drawn, min_cases):
    """Values of the groups by one arm and measure, and the cells of their changes."""
    cases, group, size, everyone = panel.cases(name), panel.of_row, len(panel.names), panel.attribute == "all"
    counted = np.ones(group.size, bool)
    if panel.counted:  # whoever lacks a value in another arm counts in none
        counted = np.isfinite(panel.column(arm, name)) & panel.valid(name)[panel.units.patient]
    table, cells = {"group": panel.names}, {}
    if name in drawn:
        table |= _percentiles(panel, arm, drawn[name])
    else:
        measure = panel.measure(arm, name).cells
        low, high = measure.limits(1.959964)
        low = np.maximum(low, 0) if name == "dice" else low
        table |= {"value": measure.value, "low": low, "high": high, "se": measure.se}
        cells = {change: panel.change(arm, other, name) for change, other in panel.references(arm).items()}
        if name in RATES and not everyone and size > 1:
            table |= dict(zip(("pooled", "pooled_low", "pooled_high"), pooled(measure), strict=True))
    table |= {
        "compared": np.full(cases.size, np.nan) if everyone else (cases >= min_cases) * 1.0,
        "n": np.bincount(group[counted], minlength=size),
        "patients": panel.units.sums((panel.units.by_patient(counted) > 0) * 1.0).astype(int),
        "positives": np.bincount(group, panel.label == 1, size) if panel.rare else [np.nan] * size,
        "missing": [panel.missing] * size,
    }
    table |= {key: [value] * size for key, value in (panel.keys(arm) | {"metric": name}).items()}
    table["note"] = [_note(panel, arm, name, g, table, cases, min_cases, cells.get("change")) for g in range(size)]
    named = cases >= (1 if everyone else min_cases)
    return {"table": table, "cells": cells, "named": named, "metric": name, "attribute": panel.attribute}


def _note(panel, arm, name, g, table, cases, min_cases, change):
    """Why group g cannot be judged, or what else is to be known about its row."""
    notes, (value, low, high) = [], (table[column][g] for column in ("value", "low", "high"))
    if not np.isfinite(value):
        notes.append(f"cannot be judged ({panel.undefined(name, g)})")
    elif panel.attribute != "all" and cases[g] < min_cases:
        lacking = panel.lacking(name, g)
        some = f"{cases[g]} patient{'' if cases[g] == 1 else 's'}" + f" with {lacking}" * (lacking != "patients")
        notes.append(f"too few to compare ({some}, {min_cases} needed)")
    rates = name in RATES and panel.rare and table["n"][g]
    if rates and (called := panel.measure(arm, "ppr").cells.value[g]) in (0, 1):
        notes.append("all called positive" if called else "none called positive")
    if name == "auroc" and low <= 0.5:
        notes.append("not distinguishable from chance" if high >= 0.5 else "below chance")
    if change is not None and change.value[g] == 0 and panel.same(arm, name, g, change):
        notes.append("no decision differed" if name in RATES else "no value differed")
    if name == "auprc":
        notes.append("not calibrated")
    if name == "dice" and (left := (~panel.valid(name) & (panel.units.group == g)).sum()):
        notes.append(f"left out of all sources, because one has no value: {left} of its patients")
    if panel.task.kind == "image" and (left := np.isnan(panel.column(arm, name))[panel.of_row == g].sum()):
        notes.append(f"{left} images are left out of all sources, because one has an infinite value or none")
    return "; ".join(notes)


def gap_of(panel, arm, metric, kept, combine="mean"):
    """A gap between the groups `kept` by one arm: value, limits, test and mean if groups were equal.

    Returns
    -------
    dict of float
        As of `gaps.disparity`; SER is a ratio, its ``sd_between`` is NaN.
    """
    after = [panel.measure(arm, name) for name in panel.ranges[metric]]
    cells = [one.cells[kept] for one in after]
    column = gaps.disparity(cells, correlation_of(panel, after, kept), combine=combine)
    if metric == "ser":
        column |= {name: np.exp(column[name]) for name in ("value", "low", "high", "expected")} | {"sd_between": np.nan}
    return column


def shift_of(panel, arm, other, metric, kept, combine="mean"):
    """Shift of such a gap from another arm, paired by patient.

    Returns
    -------
    dict of float
        As of `gaps.shift`; of SER, relative to the other arm.
    """
    names = panel.ranges[metric]
    after, before = ([panel.measure(one, name) for name in names] for one in (arm, other))
    changed = [panel.change(arm, other, name)[kept] for name in names]
    between = [new.residual - old.residual for new, old in zip(after, before, strict=True)]
    correlations = [correlation_of(panel, some, kept) for some in (before, after, between)] if len(names) == 2 else None
    cells = [[one.cells[kept] for one in some] for some in (before, after)]
    shift = gaps.shift(*cells, changed, correlations, combine=combine)
    ratios = {name: np.expm1(value) for name, value in shift.items() if name != "p_unequal"}
    return shift | ratios if metric == "ser" else shift


def shift_columns(change, moved, whole):
    """Columns of a shift: from the reference, with percent of its value `whole`, or from the unmitigated counterpart.

    Parameters
    ----------
    change : str
        Of `CHANGES`.
    moved : dict of float
        As of `gaps.shift`.
    whole : float

    Returns
    -------
    dict of float
    """
    if change == "change":
        return moved | {"shift_percent": 100 * (moved["shift"] / whole if whole else np.nan)}
    names = {name: name.replace("shift", "shift_standard") for name in moved if name.startswith("shift")}
    return {names.get(name, f"{name}_standard"): value for name, value in moved.items()}


def correlation_of(panel, measures, kept):
    """Correlation of the errors of two measures by group; None of one measure."""
    if len(measures) == 1:
        return None
    return panel.units.correlation(*(getattr(measure, "residual", measure) for measure in measures))[kept]


def _swap(panel, change, resamples, seed):
    """Values of the groups after exchanging arm and reference within patients at random.

    Returns
    -------
    dict of dict of pair of numpy.ndarray, shape (1 + B, K)
        By arm and measure, of the arm and of its reference, as they are first.
    """
    pairs = {arm: others[change] for arm in panel.task.arms if change in (others := panel.references(arm))}
    names = [name for name in panel.measures if name != "auprc"]
    if not pairs:
        return {}
    both = [(panel.measure(arm, name), panel.measure(other, name)) for arm, other in pairs.items() for name in names]
    parts = np.stack([one.parts(panel.units.group) - other.parts(panel.units.group) for one, other in both], axis=1)
    moved = resampling.exchanged(parts, panel.units.group, len(panel.names), resamples=resamples, seed=seed)
    swapped = {arm: {} for arm in pairs}
    for k, (arm, name) in enumerate((arm, name) for arm in pairs for name in names):
        middle = (both[k][0].cells.value + both[k][1].cells.value) / 2
        swapped[arm][name] = middle + moved[:, :, k] / 2, middle - moved[:, :, k] / 2
    return swapped


def _p_swap(kind, swapped, metric, kept, combine):
    """Share of exchanges that shift the gap as far as it is shifted."""
    sides = ({name: pair[side][:, kept] for name, pair in swapped.items()} for side in (0, 1))
    one, other = (metrics.FAIRNESS[kind][metric](side, combine=combine) for side in sides)
    moved = np.abs(one - other)
    return float((moved >= moved[0] - 1e-6).mean())  # sums of single precision; ties count


def _percentiles(panel, arm, drawn):
    """Value and change of every group with percentile limits."""
    arms = list(panel.task.arms)
    values = drawn[:, arms.index(arm)]
    columns = pd.DataFrame([resampling.interval(one) for one in values.T]).to_dict("list")
    for change, other in panel.references(arm).items():
        moved = [resampling.interval(one) for one in (values - drawn[:, arms.index(other)]).T]
        for name, column in (("value", change), ("low", f"{change}_low"), ("high", f"{change}_high")):
            columns[column] = [one[name] for one in moved]
    return columns


def _paper_gap(panel, a, metric, drawn, combine, one_sided):
    """Columns of one gap of arm a by the bootstrap."""
    arms = list(panel.task.arms)
    bias = metrics.FAIRNESS[panel.task.kind][metric](drawn, combine=combine)
    column = resampling.interval(bias[:, a])
    for change, other in panel.references(arms[a]).items():
        moved = resampling.shift(bias[:, a], bias[:, arms.index(other)], one_sided=one_sided)
        end = "" if change == "change" else "_standard"
        column |= {f"shift{end}": moved["value"], f"shift{end}_low": moved["low"], f"shift{end}_high": moved["high"]}
        column |= {f"p_shift{end}": moved["p"]}
        column |= {} if end else {"shift_percent": moved["percent"], "shift_se": moved["se"]}
    return column
