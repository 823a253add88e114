"""Attributes of the user's own: groups of numbers, and those that a phantom cohort draws."""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Discriminator, Field, Tag

from reconfair import tables
from reconfair.params import COHORT, Section

# Columns of the tables that a study writes, and words that stand there for something of ours. Tasks and columns that
# are carried along have other names. A task may be called label: so is that of the shortest params file.
RESERVED = {*COHORT, *(column for name in ("cohort", "quality", "predictions") for column in tables.SCHEMAS[name])}
RESERVED |= {"all", "image", "images", "findings", "evaluated", "lost", "reason", "index"}
RESERVED |= {"fold", "group", "attribute", "metric", "class", "decision", "original_image_id", "original_patient_id"}
RESERVED -= {"label"}


def _rising(cuts):
    if isinstance(cuts, tuple) and any(low >= high for low, high in pairwise(cuts)):
        raise ValueError(f"cuts {list(cuts)} must rise, such as {sorted(set(cuts))}")
    return cuts


# median, none (kept whole: groups at the median, and the slope over the number), or the upper ends of the groups
Cuts = Annotated[
    Literal["median", "none"] | Annotated[tuple[float, ...], Field(min_length=1, max_length=9)], AfterValidator(_rising)
]


class Numbers(Section):
    """Normal numbers, cut into groups."""

    mean: float
    sd: Annotated[float, Field(gt=0)]
    cuts: Cuts = "median"


def _whole(shares):
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares must add up to 1, not {sum(shares.values()):g}")
    return shares


Shares = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[float, Field(gt=0, le=1)]],
    Field(min_length=2),
    AfterValidator(_whole),
]


def _kind(given) -> str:
    return "(numbers)" if isinstance(given, Numbers) or (isinstance(given, dict) and "mean" in given) else "(shares)"


Drawn = Annotated[Annotated[Numbers, Tag("(numbers)")] | Annotated[Shares, Tag("(shares)")], Discriminator(_kind)]


def cut(values: pd.Series, cuts, patient: pd.Series) -> pd.Series:
    """Groups of numbers; the end of a group belongs to it, as in "up to 25". A missing number has none.

    Parameters
    ----------
    values : Series of float
    cuts : {"median", "none"} or tuple of float
        The upper ends of all groups but the last; the median is that over patients.
    patient : Series of str

    Returns
    -------
    Series of str

    Examples
    --------
    >>> patient = pd.Series(["a", "b", "c", "d"])
    >>> cut(pd.Series([17.0, 25.0, 31.5, np.nan]), (18.5, 25.0), patient).tolist()
    ['up to 18.5', '18.5 to 25', 'above 25', nan]
    >>> cut(pd.Series([17.0, 25.0, 31.5, np.nan]), "median", patient).tolist()
    ['up to 25', 'up to 25', 'above 25', nan]
    """
    ends = (values.groupby(patient).first().median(),) if isinstance(cuts, str) else cuts
    names = groups([_short(end, values) for end in ends] if isinstance(cuts, str) else ends)
    place = np.searchsorted(np.asarray(ends, float), values.fillna(0), side="left")
    return pd.Series(np.array(names)[place], values.index, dtype="str").where(values.notna())


def _short(end: float, values: pd.Series) -> float:
    """An end of a group with as few digits as leave every number on its side.

    Examples
    --------
    >>> _short(25.123456, pd.Series([20.0, 30.0])), _short(41239.5, pd.Series([41239.0, 41240.0]))
    (25.12, 41239.5)
    """
    for digits in range(4, 17):
        short = float(f"{end:.{digits}g}")
        if ((values <= short) == (values <= end)).all():
            return short
    return end


def together(groups: pd.Series, numbers: pd.Series) -> str:
    """Say that all numbers are in one group, and what would part them; empty where they are in several.

    Examples
    --------
    >>> together(pd.Series(["up to 9"] * 2), pd.Series([3.0, 5.0]))
    "all numbers (3 to 5) are in the group 'up to 9'; expected an end of a group between them, such as cuts: [4]"
    >>> together(pd.Series(["up to 5"] * 2), pd.Series([5.0, 5.0]))
    'all numbers are 5, so that they make no groups; expected different ones'
    """
    low, high = numbers.min(), numbers.max()
    if groups.nunique() != 1:
        return ""
    if low == high:
        return f"all numbers are {low:g}, so that they make no groups; expected different ones"
    (only,) = groups.dropna().unique()
    middle = (f"{(low + high) / 2:.{digits}g}" for digits in (2, 4, 12))
    end = next((end for end in middle if low <= float(end) < high), low)  # of few digits
    expected = f"expected an end of a group between them, such as cuts: [{end}]"
    return f"all numbers ({low:g} to {high:g}) are in the group '{only}'; {expected}"


def groups(ends) -> list[str]:
    """Names of the groups that end at `ends`, and of the last.

    Examples
    --------
    >>> groups((18.5, 25, 30))
    ['up to 18.5', '18.5 to 25', '25 to 30', 'above 30']
    >>> groups((1234567, 1234568))
    ['up to 1234567', '1234567 to 1234568', 'above 1234568']
    """
    ends = [f"{end:.12g}" for end in ends]
    between = [f"{low} to {high}" for low, high in pairwise(ends)]
    return [f"up to {ends[0]}", *between, f"above {ends[-1]}"]
