"""What decisions are worth to each group: net benefit at the threshold, and whether scores are risks.

References
----------
Vickers, Elkin. Decision curve analysis. Medical Decision Making 2006 (net benefit).
Van Calster, McLernon, van Smeden, Wynants, Steyerberg. Calibration: the Achilles heel of predictive
analytics. BMC Medicine 2019 (slope and intercept).
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from .checks import task_of, tasks_of, traits_of
from .rows import Panel
from .threshold import decisions

EVENTS = 10  # positives and negatives without which a slope is not fitted


def decision_view(predictions, cohort, *, attributes=("sex", "age_group", "race"), thresholds):
    """Net benefit, calibration slope and intercept of every group, with 95 % limits by patient.

    Parameters
    ----------
    predictions, cohort, attributes, thresholds
        As in `reconfair.fairness.assess`; tasks of other kinds than "classify" are left out. Scores are
        read as risks, so the threshold t is the risk from which one would act.

    Returns
    -------
    pandas.DataFrame
        By ``task, source, strategy, reader, attribute, group`` and ``metric`` a ``value`` with ``low, high``:

        - ``net_benefit``, true positives minus t / (1 - t) times false positives, per unit, and
          ``net_benefit_all`` of calling everyone positive (calling nobody has 0);
        - ``slope`` of the label's log odds on the score's: 1 is right, below 1 scores are too extreme;
        - ``intercept``, with that slope held at 1: 0 is right, above 0 risk is underestimated.

        NaN with fewer than 10 positives or negatives for slope and intercept, or fewer than two patients.
    """
    traits, rows = traits_of(cohort, attributes), []
    for name, some in tasks_of(predictions, None).items():
        task = task_of(name, some, traits)
        if task.kind != "classify":
            continue
        cut, called = decisions(task, thresholds)
        if not cut:  # a class among several: no threshold is used
            continue
        for attribute in task.groups:
            panel = Panel(task, called, attribute, np.unique(task.patient, return_inverse=True)[1])
            for arm in task.arms:
                at = np.broadcast_to(cut[arm], panel.rows.shape)[panel.rows]  # of each unit: folds have thresholds
                for metric, value, half in _measures(panel, arm, at):
                    keys = panel.keys(arm) | {"group": panel.names, "metric": metric}
                    rows.append(pd.DataFrame(keys | {"value": value, "low": value - half, "high": value + half}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def calibration_slope(score, label, patient, *, slope=None):
    """Logistic regression of the label on the log odds of the score.

    Parameters
    ----------
    score, label, patient : array_like, shape (n,)
        Scores in [0, 1], labels 0 or 1.
    slope : float, optional
        Held at this value; left out, it is fitted.

    Returns
    -------
    estimate, se : numpy.ndarray, shape (2,) or (1,)
        Intercept and, where fitted, slope; standard errors robust to clusters of a patient's units.

    Examples
    --------
    >>> calibration_slope([0.2, 0.2, 0.2, 0.2, 0.2], [0, 0, 0, 0, 1], range(5), slope=1.0)[0].round(6) + 0
    array([0.])
    """
    odds, label = special.logit(np.clip(np.asarray(score, float), 1e-6, 1 - 1e-6)), np.asarray(label, float)
    design = np.ones((odds.size, 1)) if slope is not None else np.column_stack([np.ones(odds.size), odds])
    if slope is None and np.ptp(odds) < 1e-9:
        return np.full(2, np.nan), np.full(2, np.nan)  # one score for all has no slope
    offset, estimate = 0.0 if slope is None else slope * odds, np.zeros(design.shape[1])
    for _ in range(50):
        risk = special.expit(design @ estimate + offset)
        information = design.T @ (design * (risk * (1 - risk))[:, None]) + 1e-9 * np.eye(estimate.size)
        step = np.linalg.solve(information, design.T @ (label - risk))
        estimate = estimate + step * min(1, 5 / np.abs(step).max(initial=1e-12))
        if np.abs(step).max() < 1e-9:
            break
    code = np.unique(patient, return_inverse=True)[1]
    by_patient = np.stack([np.bincount(code, column) for column in (design * (label - risk)[:, None]).T])
    inverse = np.linalg.inv(information)
    variance = inverse @ (by_patient @ by_patient.T) @ inverse * by_patient.shape[1] / max(by_patient.shape[1] - 1, 1)
    return estimate, np.sqrt(np.diag(variance))


def _measures(panel, arm, cut):
    """Name, value and half length of the interval of every measure by group."""
    score, label, called = panel.column(arm, "score"), panel.label, panel.called[arm]
    with np.errstate(divide="ignore"):
        worth = np.where(label == 1, 1.0, -cut / (1 - cut))
    for name, positive in (("net_benefit", called), ("net_benefit_all", np.ones(called.size, bool))):
        cells = panel.units.mean(np.where(positive, worth, 0.0)).cells
        yield name, cells.value, cells.value - cells.limits(stats.norm.ppf(0.975))[0]
    for name, slope in (("slope", None), ("intercept", 1.0)):
        value, half = np.full((2, len(panel.names)), np.nan)
        for g in range(len(panel.names)):
            rows = panel.of_row == g
            if min((label[rows] == y).sum() for y in (0, 1)) >= EVENTS:
                estimate, se = calibration_slope(score[rows], label[rows], panel.units.patient[rows], slope=slope)
                value[g], half[g] = estimate[-1], stats.norm.ppf(0.975) * se[-1]
        yield name, value, half
