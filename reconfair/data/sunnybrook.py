"""Sunnybrook Cardiac Data (Radau et al. 2009): cine MR of the heart, short axis, with masks of the left ventricle."""

from typing import Literal

from reconfair.data.table import Ages, Labels, Mask, Races, Sexes, Table
from reconfair.params import About


class Sunnybrook(Table):
    """Slices as PNG files, listed in ``metadata.csv`` with a row for each; a patient has several slices and frames.

    A table with these columns; ``Pathology`` (four of them) is carried along.
    """

    name: Literal["sunnybrook"]
    file: str = "metadata.csv"
    image: str = "image"
    patient: str = "PatientID"
    sex: Sexes | None = Sexes(column="Gender")
    age: Ages | None = Ages(column="Age")
    race: Races | None = None
    tasks: dict[str, Labels] = {}
    mask: Mask | None = Mask(column="mask", task="ventricle")
    keep: tuple[str, ...] = ("Pathology",)

    @property
    def about(self) -> About:
        """What is known of these scans."""
        where = "Sunnybrook Cardiac Data as PNG slices, with metadata.csv (cardiacatlas.org, docs/your-scans.md)"
        return super().about._replace(folder="sunnybrook", where=where)
