"""Exhibits of chapter 09: the grid of both stages."""

import pandas as pd

from reconfair import figures, two_stages
from reconfair.report.exhibits import exhibit
from reconfair.words import name, number

QUESTION = "Where should a hospital intervene?"
NO_GRID = "No grid of both stages was made."


def widest(runs) -> pd.DataFrame | None:
    """Test cells of the task and attribute whose standard system has the largest gap; None without a grid.

    Gaps are compared relative to what is expected of equal groups, because EODD and SER have different units.
    """
    results = None if runs.study is None else two_stages.made(runs.study)
    if results is None or results.grid.empty:
        return None
    cells = results.grid[results.grid.split == "test"]
    standard = cells[(cells["row"] == "standard") & (cells.reader == "standard")]
    chosen = standard.loc[(standard.gap / standard.expected).fillna(0).idxmax()]
    return cells[(cells.task == chosen.task) & (cells.attribute == chosen.attribute)]


@exhibit(QUESTION)
def grid_cells(runs):
    """Gap and performance of every strategy of the reconstruction (rows), read by every reader (columns).

    The task and attribute are those whose standard system has the largest gap, relative to what is expected of equal
    groups; the others are in the tables of the export. *Replicate*: the standard training once more, with another seed.
    A gain that is smaller than its distance to the standard is no gain.
    """
    cells = widest(runs)
    return NO_GRID if cells is None else figures.grid_cells(cells)


@exhibit(QUESTION)
def grid_front(runs):
    """Gap against performance of every cell, with 95 % intervals. Cells that another one beats are pale.

    The task and attribute are the same. The front of one sample is uncertain: chapter 09 prints in which share of
    resamples each cell lies on it.
    """
    cells = widest(runs)
    return NO_GRID if cells is None else figures.grid_front(cells)


@exhibit(QUESTION)
def grid_decisions(runs):
    """Cells that the rule chose on validation patients, and their results on test patients, with 95 % intervals.

    Shrinkage: how much larger the gap is on test than on validation. Better: the interval of the change lies below 0,
    and no placebo and no threshold by group does as well. With one training, no interval contains its luck. With
    several, the last column says which share of the variance lies between trainings; the rest lies between patients.
    """
    results = None if runs.study is None else two_stages.made(runs.study)
    if results is None or results.decisions.empty:
        return NO_GRID
    rows = {}
    for chosen in results.decisions.itertuples():
        ends = number(chosen.gap_change_low, sign=True), number(chosen.gap_change_high, sign=True)
        changed = f"{number(chosen.gap_change, sign=True)} ({' to '.join(ends)})"
        rows[chosen.task, name(chosen.attribute)] = {
            "reconstruction": name(chosen.row),
            "reader": name(chosen.reader),
            "gap": number(chosen.gap),
            "change of the gap": "" if chosen.verdict == "standard" else changed,
            "shrinkage": number(chosen.shrinkage, sign=True),
            "verdict": chosen.verdict,
            "trainings": two_stages.trainings(chosen),
        }
    return pd.DataFrame(rows).T.rename_axis(index=["task", "attribute"])
