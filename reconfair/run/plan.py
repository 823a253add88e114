"""``reconfair plan``: how many patients of each group a claim needs, from stated rates or from a study's tables."""

from functools import partial

import matplotlib.pyplot as plt
import pandas as pd

from reconfair import data, diagnosis, judge, store
from reconfair.fairness import planning
from reconfair.params import Study, one_of


def by_group(text: str) -> float | dict[str, float]:
    """A number for all groups, or one for each, such as ``female=0.7,male=0.8``.

    Examples
    --------
    >>> by_group("0.8"), by_group("f=0.7,m=0.8")
    (0.8, {'f': 0.7, 'm': 0.8})
    """
    try:
        if "=" not in text:
            return float(text)
        return {group: float(value) for group, value in (item.split("=") for item in text.split(","))}
    except ValueError:
        raise ValueError(f"expected a number, or one for each group such as f=0.7,m=0.8, not '{text}'") from None


def from_study(study: Study, *, task: str, attribute: str, source: str) -> pd.DataFrame:
    """Rates, discordance and images a patient of each group, as a finished study has them."""
    classified = [name for name, kind in study.tasks.items() if kind == "classify"]
    one_of(task, classified, "--task: classified task")
    one_of(attribute, study.attributes(), "--attribute: attribute of this study")
    one_of(source, [str(one) for one in study.sources[1:]], "--source: source")
    rows = judge.collect("predictions", judge.predictions(study))
    thresholds = diagnosis.thresholds(study)
    how = {"task": task, "attribute": attribute, "source": source, "thresholds": thresholds}
    return planning.measured(rows[rows.split == "test"], data.load(study).table, **how)


def report(
    expected: pd.DataFrame, *, aim: str, size: float, power: float, studies: int, min_cases: int, name: str
) -> list[str]:
    """Simulate, draw the power against the number of patients, and say what is needed.

    Returns
    -------
    list of str
        Lines: what was expected of each group, the table of power, the advice, and where the picture is.
    """
    watch = partial(store.progress, what="simulated studies")
    how = {"aim": aim, "size": size, "power": power, "studies": studies, "min_cases": min_cases}
    table = planning.plan(expected, **how, watch=watch)
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    axis.errorbar(table.patients, table.power, 1.96 * table.error, fmt="o-", color="#0072B2", capsize=2)
    axis.axhline(power, color="grey", lw=0.8)
    axis.set(xscale="log", xlabel="patients of each group", ylabel="power", ylim=(-0.03, 1.03))
    path = store.outputs() / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    lines = ["expected of each group:", *expected.round(3).to_string().splitlines(), ""]
    lines += table.round(3).to_string(index=False).splitlines()
    return [*lines, "", planning.advice(table, aim=aim, size=size, power=power), f"picture: {path}"]
