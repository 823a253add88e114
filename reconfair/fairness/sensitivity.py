"""What if attributes are missing for a reason, labels are wrong, groups differ in case mix, or patients were sampled?

Each function answers one of these questions beside the tables of `reconfair.fairness.assess`; none
replaces them.

References
----------
Rogan, Gladen. Estimating prevalence from the results of a screening test. Am J Epidemiol 1978.
Manski. Partial identification of probability distributions. 2003 (bounds without assumptions).
"""

import numpy as np
import pandas as pd

from . import assess, gaps
from .checks import task_of, tasks_of, traits_of
from .rows import Panel
from .threshold import decisions

_GAPS = {"eodd": ("tpr", "fpr"), "eop": ("tpr",), "fpr_gap": ("fpr",), "demographic_parity": ("ppr",)}


def missing_attribute(predictions, cohort, attribute, **options):
    """Gaps if every patient without the attribute were of one group, for each group in turn.

    Parameters
    ----------
    predictions, cohort : pandas.DataFrame
    attribute : str
        One column of the cohort.
    **options
        Of `reconfair.fairness.assess`.

    Returns
    -------
    pandas.DataFrame
        Rows of ``fairness`` with a column ``assumed``: the group, or "left out" as in the main analysis.
    """
    tables, given = [], cohort[attribute].astype(object)
    for group in [None, *sorted(given.dropna().unique(), key=str)]:
        column = given.where(given.notna(), group)
        _, fairness = assess(predictions, cohort.assign(**{attribute: column}), attributes=[attribute], **options)
        tables.append(fairness.assign(assumed="left out" if group is None else group))
    return pd.concat(tables, ignore_index=True)


def label_errors(performance, flipped):
    """TPR and FPR of groups if a share of the labels is wrong, and the gaps that follow.

    Labels are taken to be flipped at random, as often in each direction and in each group, whatever the
    decision; then TPR and FPR on the labels given are mixtures of the true ones.

    Parameters
    ----------
    performance : pandas.DataFrame
        As `reconfair.fairness.assess` makes it.
    flipped : float
        Share of wrong labels, from 0 to below 0.5.

    Returns
    -------
    pandas.DataFrame
        By ``task, source, strategy, reader, attribute, group``: ``tpr, fpr`` as given, ``tpr_true, fpr_true``
        (NaN where fewer cases carry a label than errors alone would leave), and the ``eodd_true`` of
        the groups that are compared.

    Raises
    ------
    ValueError
        `flipped` is not such a share.

    Examples
    --------
    >>> keys = {"task": "t", "source": "original", "strategy": "standard", "reader": "standard", "attribute": "sex"}
    >>> rows = [{**keys, "group": "f", "metric": m, "value": v, "n": 100, "positives": 50, "compared": 1}
    ...         for m, v in (("tpr", 0.8), ("fpr", 0.2))]
    >>> label_errors(pd.DataFrame(rows), 0.1)[["tpr_true", "fpr_true"]].round(3).to_numpy().tolist()
    [[0.875, 0.125]]
    """
    if not 0 <= flipped < 0.5:
        raise ValueError(f"flipped is {flipped}, expected a share from 0 to below 0.5")
    keys = ["task", "source", "strategy", "reader", "attribute", "group"]
    rows = performance[performance["metric"].isin(["tpr", "fpr"])]
    table = rows.pivot_table("value", keys, "metric", sort=False)
    sizes = rows.groupby(keys, sort=False).agg({"n": "max", "positives": "max", "compared": "min"})
    table = table.join(sizes).reset_index()
    share = table["positives"] / table["n"]
    true = (share - flipped) / (1 - 2 * flipped)
    right, wrong = (1 - flipped) * true / share, flipped * true / (1 - share)  # truly positive of either label
    known = true.between(0, 1, inclusive="neither") & (right > wrong)
    apart = (table["tpr"] - table["fpr"]) / (right - wrong)
    table["tpr_true"] = (table["tpr"] + (1 - right) * apart).where(known)
    table["fpr_true"] = (table["fpr"] - wrong * apart).where(known)
    compared = table[table["compared"] == 1]
    true_rates = compared.groupby(keys[:-1], sort=False)[["tpr_true", "fpr_true"]]
    eodd = true_rates.agg(lambda values: np.ptp(values.to_numpy())).mean(axis=1).rename("eodd_true").reset_index()
    return table.merge(eodd, "left", keys[:-1]).drop(columns=["n", "positives"])


def weighted(predictions, cohort, attribute, *, thresholds, weight=None, strata=(), min_cases=20):
    """Gaps of rates with sampling weights, or standardised to one case mix.

    Parameters
    ----------
    predictions, cohort : pandas.DataFrame
    attribute : str
    thresholds : dict
        As in `reconfair.fairness.assess`.
    weight : str, optional
        Column of the cohort: how many patients of the population each patient stands for.
    strata : sequence of str
        Columns of the cohort, such as a finding or an age band. Within each label every group gets the
        shares of strata of all groups together, so that groups no longer differ in them.
    min_cases : int

    Returns
    -------
    pandas.DataFrame
        By ``task, source, strategy, reader, attribute, metric``: ``value, low, high`` as they are, and
        ``value_weighted, low_weighted, high_weighted``; units ``without`` a counterpart, because
        their stratum lacks patients of another group, which are left out of the latter.

    Raises
    ------
    ValueError
        A column is missing from the cohort, or a weight is not positive.
    """
    for column in [*strata, *([weight] if weight else [])]:
        if column not in cohort:
            raise ValueError(f"cohort: column '{column}' is missing; it has {', '.join(map(str, cohort.columns))}")
    people = cohort.drop_duplicates("patient_id").set_index("patient_id")
    if weight and not (people[weight] > 0).all():
        raise ValueError(f"cohort: {weight} of patient {(people[weight] > 0).idxmin()!r} is not positive")
    traits, rows = traits_of(cohort, [attribute]), []
    for name, some in tasks_of(predictions, None).items():
        task = task_of(name, some, traits)
        if task.kind != "classify":
            continue
        panel = Panel(task, decisions(task, thresholds)[1], attribute, np.unique(task.patient, return_inverse=True)[1])
        seen = people.loc[task.patient[panel.rows]]
        sampled = seen[weight].to_numpy(float) if weight else np.ones(len(seen))
        stratum = seen.groupby(list(strata), dropna=False).ngroup().to_numpy() if strata else np.zeros(len(seen), int)
        for metric, names in _GAPS.items():
            cases = np.min([panel.cases(one) for one in names], axis=0)
            kept = np.flatnonzero(cases >= max(min_cases, 2))
            scaled = [sampled * _standard(panel, panel.of(one), stratum, sampled, kept) for one in names]
            pairs, compared = list(zip(map(panel.of, names), scaled, strict=True)), np.isin(panel.of_row, kept)
            without = sum(int((rows_of & (w == 0) & compared).sum()) for rows_of, w in pairs)
            pairs = [(rows_of & (w > 0), w) for rows_of, w in pairs]
            for arm in task.arms:
                row = panel.keys(arm) | {"metric": metric}
                row |= {f"{name}{end}": np.nan for end in ("", "_weighted") for name in ("value", "low", "high")}
                both = {"": [panel.measure(arm, one).cells[kept] for one in names]} if kept.size >= 2 else {}
                if both and all(w.any() for w in scaled):  # some stratum is common to all groups
                    both["_weighted"] = [panel.units.rate(panel.called[arm], *pair).cells[kept] for pair in pairs]
                for end, cells in both.items():
                    gap = gaps.disparity(cells)
                    row |= {f"{name}{end}": gap[name] for name in ("value", "low", "high")}
                rows.append(row | {"without": without})
    return pd.DataFrame(rows)


def _standard(panel, rows, stratum, sampled, kept):
    """Weights that give every compared group the strata of all of them, 0 where a group lacks the stratum."""
    rows = rows & np.isin(panel.of_row, kept)
    weights = np.zeros(rows.size)
    table = pd.DataFrame({"group": panel.of_row[rows], "stratum": stratum[rows], "weight": sampled[rows]})
    shares = table.pivot_table("weight", "stratum", "group", "sum", fill_value=0)
    shares = shares[(shares > 0).all(axis=1)]
    common = shares.sum(axis=1) / shares.to_numpy().sum()
    factor = (1 / (shares / shares.sum())).mul(common, axis=0).stack().rename("factor")
    weights[rows] = table.join(factor, on=["stratum", "group"])["factor"].fillna(0).to_numpy()
    return weights
