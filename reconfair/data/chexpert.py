"""CheXpert (Stanford; Irvin et al. 2019): frontal radiographs, findings by report, race from the demographics.

The folder holds ``CHEXPERT DEMO.xlsx`` and ``CheXpert-v1.0-small/`` or ``CheXpert-v1.0/`` with
``train.csv`` and ``train/`` (of the full release, the ``train`` folders of all its batches together).
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.entries import MISSING, Sheet, folded
from reconfair.params import About

SEX = {"Female": "female", "Male": "male"}
LABELS = {"1": 1.0, "0": 0.0, "-1": None, "": None}  # -1: uncertain
# Read from the top: 'Native Hawaiian or Other Pacific Islander' is not Other.
RACES = {
    "unknown|refused": None,
    "pacific islander": "Native Hawaiian/Pacific Islander",
    "american indian|native american": "American Indian/Alaska Native",
    "asian": "Asian",
    "black": "Black",
    "white": "White",
    "other": "Other",
}
TASKS = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation")
TASKS += ("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture")
NEEDED = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"]


def read_entries(path, dataset) -> Sheet:
    """The published table, in order of patient and study, with the parts of ``Path``."""
    sheet = Sheet.open(path)
    sheet.need([*NEEDED, *dataset.about.tasks])
    sheet.distinct()
    folder = f"CheXpert-{dataset.release}/train"
    pattern = rf"^{folder}/(?P<patient>patient\d+)/study(?P<study>\d+)/(?P<view>view\d+_\w+)\.jpg$"
    places = sheet.table.Path.str.strip().str.extract(pattern)
    other = {"v1.0": "v1.0-small", "v1.0-small": "v1.0"}[dataset.release]
    why = f"is no path such as '{folder}/patient00001/study1/view1_frontal.jpg'; or set dataset.release: {other}"
    sheet.refuse("Path", places.patient.isna(), why)
    sheet.check()
    sheet.table = sheet.table.join(places).astype({"study": int}).sort_values(["patient", "study", "view"])
    return sheet


def findings(sheet: Sheet, tasks: list[str], blank: str) -> pd.DataFrame:
    """Labels by finding: 1, 0, or missing where uncertain or, unless `blank` is zero, not mentioned."""
    labels = {task: sheet.coded(task, LABELS, missing=()) for task in [*tasks, "No Finding"]}
    labels = pd.DataFrame(labels).astype(float)
    labels[labels["No Finding"] == 1] = 0.0
    return labels[tasks].mask(sheet.table[tasks].apply(folded).eq("") & (blank == "zero"), 0.0)


def read_races(path) -> pd.Series:
    """Race by patient, one of the six groups of the paper's table 5, missing where unknown."""
    sheet = Sheet.open(path)
    sheet.need(["PATIENT", "PRIMARY_RACE"])
    words, patient = folded(sheet.table.PRIMARY_RACE), sheet.names("PATIENT")
    race = pd.Series(np.nan, words.index, dtype="str")
    strange = ~words.isin([*MISSING, "0"])
    for pattern, group in RACES.items():
        hit = strange & words.str.contains(rf"\b(?:{pattern})\b")  # Caucasian holds 'asian'
        strange &= ~hit
        race[hit] = group
    sheet.refuse("PRIMARY_RACE", strange, f"is none of the known groups, named by {', '.join(RACES)}")
    sheet.check()
    return race.groupby(patient).first()


class CheXpert(params.Scans):
    """Chest radiographs of Stanford, with race from the demographics published later."""

    name: Literal["chexpert"]
    release: Literal["v1.0-small", "v1.0"] = "v1.0-small"  # 390 pixels wide, or as the machine made them
    blank: Literal["nan", "zero"] = "nan"  # a finding that the report does not mention: unknown, or absent
    unknown_race: Literal["keep", "drop"] = "keep"  # keep: such patients leave the analyses of race alone
    about: ClassVar[About] = About(
        "xray",
        "image",
        dict.fromkeys(TASKS, "classify"),
        ("sex", "age_group", "race"),
        "chexpert",
        ("CheXpert-v1.0-small/train.csv", "CHEXPERT DEMO.xlsx"),
        "CheXpert and its demographics (Stanford AIMI), aimi.stanford.edu/datasets/chexpert-chest-x-rays",
    )

    def metadata(self) -> list[Path]:
        """Return ``train.csv`` of the release, and the demographics."""
        return super().metadata(f"CheXpert-{self.release}/train.csv", "CHEXPERT DEMO.xlsx")

    def read_table(self) -> pd.DataFrame:
        """One row per frontal radiograph of ``train.csv``; ``view`` is AP or PA.

        Age and sex are constants of a patient: the first known. A finding is 0 where No Finding is 1, as in
        TorchXRayVision; what the report does not mention is unknown, or 0 with ``blank: zero``.
        """
        train, demographics = self.metadata()
        sheet = read_entries(train, self)
        raw = sheet.table
        known = {"sex": sheet.coded("Sex", SEX), "age": sheet.years("Age", {"0": None})}
        rows = pd.DataFrame(
            {
                "image_id": raw.patient + "_study" + raw.study.astype("str") + "_" + raw["view"],
                "patient_id": raw.patient,
                **{name: values.groupby(raw.patient).transform("first") for name, values in known.items()},
                "race": raw.patient.str.casefold().map(read_races(demographics).rename(index=str.casefold)),
                **findings(sheet, list(self.about.tasks), self.blank),
                "view": sheet.groups("AP/PA"),
                "path": f"{self.find()}/" + raw.Path.str.strip(),
            }
        ).astype({"sex": "str"})
        if rows.race.isna().all():
            raise ValueError(f"{demographics}: it knows the race of no patient of {train}; is it CheXpert's own?")
        frontal = sheet.coded("Frontal/Lateral", {"Frontal": True, "Lateral": False}).eq(True)
        sheet.check()
        rows = rows[frontal & (rows.race.notna() | (self.unknown_race == "keep"))]
        rows.attrs["notes"] = sheet.notes
        return rows

    def read_image(self, row) -> tuple[np.ndarray, None]:
        """Radiograph within [0, 1], (size, size); no masks are published."""
        return files.picture(row.path, self.size)
