"""ChestX-ray14 (NIH Clinical Center; Wang et al. 2017): frontal radiographs with findings by report."""

from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.params import About

SEX = {"F": "female", "M": "male"}
NEEDED = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]


def read_entries(path) -> pd.DataFrame:
    """The published table, in order of patient and follow-up."""
    raw = pd.read_csv(path)
    files.need(raw, NEEDED, path)
    return raw.sort_values(["Patient ID", "Image Index"])


class NIH(params.Scans):
    """ChestX-ray14 as published."""

    name: Literal["nih"]
    about: ClassVar[About] = About(
        "xray",
        "image",
        dict.fromkeys(("Abnormal", "Effusion", "Infiltration", "Atelectasis", "Cardiomegaly"), "classify"),
        ("sex", "age_group"),
        "nih",
        ("Data_Entry_2017_v2020.csv",),
        "ChestX-ray14 (NIH Clinical Center), nihcc.app.box.com/v/ChestXray-NIHCC",
    )

    def read_table(self) -> pd.DataFrame:
        """One row per radiograph; ``Abnormal`` is any finding at all.

        Age and sex are constants of a patient: those of the first study. Race is not published.
        """
        folder, (path,) = self.find(), self.metadata()
        raw = read_entries(path)
        findings = raw["Finding Labels"].str.get_dummies("|").astype(float)
        findings[raw["Finding Labels"].isna()] = np.nan
        labels = {
            task: findings.get(task, pd.Series(0.0, raw.index)) for task in self.about.tasks if task != "Abnormal"
        }
        first = raw.groupby("Patient ID")[["Patient Age", "Patient Gender"]].transform("first")
        age = files.years(first["Patient Age"], path)
        where = {path.name: str(path) for path in folder.glob("images*/**/*.png")}
        absent = raw["Image Index"][~raw["Image Index"].isin(where)]
        if len(absent) and self.on_bad_image == "error":
            raise ValueError(f"{folder}: image '{absent.iloc[0]}' and {len(absent) - 1} others are not there")
        return pd.DataFrame(
            {
                "image_id": raw["Image Index"].str.removesuffix(".png"),
                "patient_id": raw["Patient ID"].astype(str),
                "sex": first["Patient Gender"].map(SEX),
                "age": age.where(age <= 120),  # a few are said to be 148 or 414
                "race": pd.Series(np.nan, raw.index, dtype="str"),
                "Abnormal": 1 - findings.get("No Finding", pd.Series(0.0, raw.index)),
                **labels,
                "view": raw.get("View Position"),
                "path": raw["Image Index"].map(where).fillna(f"{folder}/images/" + raw["Image Index"]),
            }
        )

    def read_image(self, row) -> tuple[np.ndarray, None]:
        """Radiograph within [0, 1], (size, size); no masks are published. A few files are RGBA."""
        return files.picture(row.path, self.size)
