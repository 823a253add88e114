"""ChestX-ray14 (NIH Clinical Center; Wang et al. 2017): frontal radiographs with findings by report."""

from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.entries import Sheet, folded
from reconfair.params import About

SEX = {"F": "female", "Female": "female", "M": "male", "Male": "male"}
FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia")
FINDINGS += ("Infiltration", "Mass", "No Finding", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax")
NEEDED = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]


def read_findings(sheet: Sheet) -> pd.DataFrame:
    """1.0 or 0.0 for each finding of each report; missing where a report has no entry."""
    entries = folded(sheet.table["Finding Labels"])
    words = entries.str.split(r"\s*\|\s*", regex=True)
    known = {finding.casefold() for finding in FINDINGS}
    strange = words.map(lambda several: bool(set(several) - known)) & (entries != "")
    sheet.refuse("Finding Labels", strange, f"holds a finding that is none of {', '.join(FINDINGS)}")
    both = words.map(lambda several: len(several) > 1 and "no finding" in several)
    sheet.refuse("Finding Labels", both, "says No Finding and names one; expected either")
    marks = {finding: words.map(lambda several, f=finding: f.casefold() in several) for finding in FINDINGS}
    return pd.DataFrame(marks).astype(float).mask(entries == "")


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
        sheet = Sheet.open(path)
        sheet.need(NEEDED)
        sheet.distinct()
        sheet.table = sheet.table.sort_values("Image Index")  # of one patient by follow-up
        patient, images = sheet.names("Patient ID"), sheet.table["Image Index"].str.strip()
        sheet.refuse("Image Index", images.duplicated(), "occurs more than once; every row needs an image of its own")
        findings = read_findings(sheet)
        known = {"sex": sheet.coded("Patient Gender", SEX), "age": sheet.years("Patient Age", {"0": None}, oldest=999)}
        beyond = known["age"] > 120  # a few are said to be 148 or 414
        known["age"] = known["age"].mask(beyond)
        sheet.notes += [f"{path.name}: {beyond.sum()} ages above 120 count as unknown"] if beyond.any() else []
        there = sorted(folder.glob("images*/**/*.png"))
        where = {path.name: str(path) for path in there}
        names = pd.Series([path.name for path in there], dtype="str")
        if twice := set(names[names.duplicated()]) & set(images):
            sheet.mistakes.append(f"{folder}: {min(twice)} lies in several folders; expected one file of each name")
        sheet.check()
        rows = pd.DataFrame(
            {
                "image_id": images.str.removesuffix(".png"),
                "patient_id": patient,
                **{name: values.groupby(patient).transform("first") for name, values in known.items()},
                "race": pd.Series(np.nan, images.index, dtype="str"),
                "Abnormal": 1 - findings["No Finding"],
                **{task: findings[task] for task in self.about.tasks if task != "Abnormal"},
                "view": sheet.groups("View Position") if "View Position" in sheet.table else np.nan,
                "path": images.map(where).fillna(f"{folder}/images/" + images),
            }
        )
        rows.attrs["notes"] = sheet.notes
        return rows.astype({"sex": "str"})

    def read_image(self, row) -> tuple[np.ndarray, None]:
        """Radiograph within [0, 1], (size, size); no masks are published. A few files are RGBA."""
        return files.picture(row.path, self.size)
