"""Attributes that are kept whole: how a rate changes along a number such as the body mass index.

The slope is that of a straight line through decisions (0 or 1), or through Dice, against the number: a difference in
the rate for each standard deviation of it. Limits rest on what each patient adds to the slope, divided by one minus the
patient's leverage (HC3), so that neither equal variances nor a right line are assumed, and images of a patient may
resemble each other. Such limits are too narrow where few patients differ from all the others, and have no width where
none does, so that they are widened there: others could differ, those farthest from the mean above all.

References
----------
MacKinnon, White. Some heteroskedasticity-consistent covariance matrix estimators. Journal of Econometrics 1985.
"""

import numpy as np
from scipy import stats

MEASURES = {"classify": ("tpr", "fpr"), "segment": ("dice",)}
FEW = 20  # patients who differ from all the others, without which limits are widened
_LABEL = {"tpr": 1, "fpr": 0}


def slope(number, value, patient, within=None):
    """Slope of a value over a number, for each unit of the number.

    Parameters
    ----------
    number, value : numpy.ndarray, shape (n,)
        Rows where either is NaN do not count.
    patient : numpy.ndarray, shape (n,)
    within : pair of float, optional
        The least and the largest value that can be, such as 0 and 1 of decisions: limits are widened where few patients
        differ, and lie within the slopes that can be.

    Returns
    -------
    dict of float
        ``value`` with 95 % limits ``low, high``, ``p`` that it is 0, and ``patients``; NaN where fewer than three
        patients, or equal numbers, leave none.

    Examples
    --------
    >>> answer = slope(np.arange(10.0), np.arange(10.0) * 2 + np.tile([0, 1], 5), np.arange(10))
    >>> {name: round(float(number), 2) for name, number in answer.items() if name != "p"}
    {'value': 2.03, 'low': 1.87, 'high': 2.19, 'patients': 10.0}
    """
    known = np.isfinite(number) & np.isfinite(value)
    number, value = number[known], value[known]
    _, patient = np.unique(patient[known], return_inverse=True)
    patients = patient.max(initial=-1) + 1
    apart = number - number.mean() if number.size else number
    square = (apart**2).sum()
    if patients < 3 or square <= 1e-12:
        return dict.fromkeys(("value", "low", "high", "p"), np.nan) | {"patients": patients}
    line = (apart * value).sum() / square
    residual = value - value.mean() - line * apart
    leverage = np.bincount(patient, 1 / number.size + apart**2 / square)
    added = np.bincount(patient, apart * residual) / square / np.maximum(1 - leverage, 0.05)
    variance, most, df = (added**2).sum(), np.inf, patients - 2
    if within is not None:
        levels, level, count = np.unique(value, return_inverse=True, return_counts=True)
        usual, differing = levels[count.argmax()], np.unique(patient[level != count.argmax()]).size
        # One patient moves the slope by at most `largest`. Where all are alike, twice that has limits as wide as if the
        # share that could differ, about -ln(a) / n (see `cells.Groups`), were at the end of the numbers.
        largest = max(usual - within[0], within[1] - usual) * np.abs(np.bincount(patient, apart)).max() / square
        variance = variance + largest**2 * (differing < min(FEW, patients / 2)) if differing else (2 * largest) ** 2
        most = (within[1] - within[0]) * np.abs(apart).sum() / 2 / square
    error = np.sqrt(variance)
    half = stats.t.ppf(0.975, df) * error
    p = 2 * stats.t.sf(abs(line) / error, df) if error > 0 else np.nan
    low, high = max(line - half, -most), min(line + half, most)
    return {"value": line, "low": low, "high": high, "p": float(p), "patients": patients}


def rows_of(task, decided, numbers, attribute, references):
    """Rows of ``fairness`` for an attribute that is kept whole: ``tpr_slope, fpr_slope`` or ``dice_slope``.

    Parameters
    ----------
    task : checks.Task
    decided : dict of numpy.ndarray of bool
        By arm, which units are called positive.
    numbers : pandas.Series
        By patient.
    attribute : str
    references : callable
        By arm the arms that its changes are counted from, as `rows.Panel.references`.

    Returns
    -------
    list of dict
        ``value, low, high, p``: per standard deviation of the number over the patients of the task, which ``note``
        gives; ``shift`` from the reference with limits, that of the paired differences.
    """
    number = numbers.loc[task.patient].to_numpy(float)
    spread = np.nanstd(numbers.loc[np.unique(task.patient)].to_numpy(float), ddof=1)
    measures, values, rows = MEASURES.get(task.kind, ()), {}, []
    for arm in task.arms:
        dice = {"dice": task.arms[arm]["dice"].to_numpy(float)} if "dice" in measures else {}
        values[arm] = dice or {name: np.where(task.label == _LABEL[name], decided[arm], np.nan) for name in measures}
    for arm in task.arms:
        for measure in measures:
            answer = slope(number / spread, values[arm][measure], task.patient, within=(0, 1))
            row = dict(zip(("task", "source", "strategy", "reader"), (task.name, *arm), strict=True))
            row |= {"attribute": attribute, "metric": f"{measure}_slope", "groups": "", "left_out": ""}
            row |= {name: answer[name] for name in ("value", "low", "high", "p")}
            row |= {"n_smallest": float(answer["patients"]), "missing": int(np.isnan(number).sum()) + task.unlabelled}
            row["note"] = f"per standard deviation, {spread:.3g} of {attribute}"
            for change, other in references(arm).items():
                difference = values[arm][measure] - values[other][measure]
                moved = slope(number / spread, difference, task.patient, within=(-1, 1))
                end = "" if change == "change" else "_standard"
                names = {"value": f"shift{end}", "low": f"shift{end}_low", "high": f"shift{end}_high"}
                row |= {column: moved[name] for name, column in names.items()}
                if change == "change" and not np.nan_to_num(difference).any():
                    row["note"] += f"; no {'value' if measure == 'dice' else 'decision'} differed"
            rows.append(row)
    return rows
