"""Sunnybrook Cardiac Data (Radau et al. 2009): cine MR of the heart, short axis, with masks of the left ventricle."""

from typing import Literal

from reconfair.data.table import Ages, Labels, Mask, Races, Sexes, Table
from reconfair.params import About

PATHOLOGY = {"Normal": 0, "Hypertrophy": 1, "Heart failure without infarct": 2, "Heart failure with infarct": 3}


class Sunnybrook(Table):
    """Slices as PNG files, listed in ``metadata.csv`` with a row for each; a patient has several slices and frames.

    A table with these columns. The four pathologies are a task of several classes, which is studied only where
    ``diagnosis.tasks`` names it: a class has 9 to 12 patients.
    """

    name: Literal["sunnybrook"]
    file: str = "metadata.csv"
    image: str = "image"
    patient: str = "PatientID"
    sex: Sexes | None = Sexes(column="Gender")
    age: Ages | None = Ages(column="Age")
    race: Races | None = None
    tasks: dict[str, Labels] = {"pathology": Labels(column="Pathology", values=PATHOLOGY)}
    mask: Mask | None = Mask(column="mask", task="ventricle")

    @property
    def about(self) -> About:
        """What is known of these scans."""
        where = "Sunnybrook Cardiac Data as PNG slices, with metadata.csv (cardiacatlas.org, docs/your-scans.md)"
        known = super().about
        further = {task: kind for task, kind in known.tasks.items() if task == "pathology"}
        tasks = {task: kind for task, kind in known.tasks.items() if task not in further}
        return known._replace(tasks=tasks, further=further, folder="sunnybrook", where=where)
