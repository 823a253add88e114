"""LGG MRI Segmentation (TCGA-LGG; Buda et al. 2019): FLAIR slices, tumour masks, grade, histology."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.entries import Sheet
from reconfair.params import About

MRI_TASKS = {"grade": "classify", "type": "classify", "tumour": "segment"}
FLAIR = 1  # channel of the published TIFF files
SEX = {"1": "female", "2": "male", "f": "female", "female": "female", "m": "male", "male": "male"}
RACE = {"2": "Black", "3": "White", "black": "Black", "black or african american": "Black", "white": "White"}
GRADE = {"1": 0.0, "2": 1.0, "g2": 0.0, "g3": 1.0}
TYPE = {"1": 1.0, "2": 0.0, "3": 0.0, "astrocytoma": 1.0, "oligoastrocytoma": 0.0, "oligodendroglioma": 0.0}
HISTOLOGY = ("astrocytoma", "oligoastrocytoma", "oligodendroglioma")
NEEDED = ["Patient", "gender", "age_at_initial_pathologic", "race", "neoplasm_histologic_grade", "histological_type"]


def read_clinical(path: Path) -> Sheet:
    """Attributes and labels by patient, decoded from the numbers or words of ``data.csv``, as the sheet's table."""
    sheet = Sheet.open(path)
    sheet.need(NEEDED)
    sheet.distinct()
    patient = sheet.names("Patient").str.upper().str.replace("-", "_")  # as the folders are named
    sheet.refuse("Patient", patient.duplicated(), "has two rows that differ; one is expected")
    known = {
        "patient": patient,
        "sex": sheet.coded("gender", SEX),
        "age": sheet.years("age_at_initial_pathologic"),
        "race": sheet.coded("race", RACE),
        "grade": sheet.coded("neoplasm_histologic_grade", GRADE),
        "type": sheet.coded("histological_type", TYPE),
        "histology": sheet.coded("histological_type", dict(zip(TYPE, (0.0, 1.0, 2.0) * 2, strict=True))),
    }
    sheet.check()
    sheet.table = pd.DataFrame(known).astype(
        {"sex": "str", "race": "str", "grade": float, "type": float, "histology": float}
    )
    return sheet


class LGG(params.Scans):
    """TCGA-LGG as published on Kaggle."""

    name: Literal["lgg"]
    about: ClassVar[About] = About(
        "mri",
        "patient",
        MRI_TASKS,
        ("sex", "age_group", "race"),
        "lgg",
        ("kaggle_3m/data.csv",),
        "LGG MRI Segmentation (TCGA-LGG, Buda et al.), kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
        classes={"histology": HISTOLOGY},
        further={"histology": "classify"},
    )

    def read_table(self) -> pd.DataFrame:
        """One row per slice; grade 3 against 2, astrocytoma against the other histologies, and all three of them.

        Patients without clinical values keep their slices (they train and test the segmenter), with
        attributes and labels missing.
        """
        root = self.find() / "kaggle_3m"
        sheet = read_clinical(root / "data.csv")
        slices = [
            {
                "patient": "_".join(folder.name.split("_")[:3]),
                "path": str(path),
                "mask_path": f"{path.with_suffix('')}_mask.tif",
            }
            for folder in sorted(root.glob("TCGA_*"))
            for path in sorted(folder.glob("*.tif"), key=lambda path: path.stem.rsplit("_")[-1].zfill(4))
            if not path.stem.endswith("_mask")
        ]
        if not slices:
            raise ValueError(f"{root}: no folder TCGA_*/ with slices was found there")
        table = pd.DataFrame(slices).merge(sheet.table, on="patient", how="left")
        lacking = table.patient[~table.patient.isin(sheet.table.patient)].nunique()
        sheet.notes += [f"{lacking} patients have slices and no row in data.csv"] if lacking else []
        table["image_id"] = [Path(path).stem for path in table.path]
        table["site"] = table.patient.str.split("_").str[1]  # the hospital, in TCGA's codes
        table = table.rename(columns={"patient": "patient_id"})
        table.attrs["notes"] = sheet.notes
        return table

    def read_image(self, row) -> tuple[np.ndarray, np.ndarray]:
        """FLAIR slice within [0, 1] and its tumour mask, both (size, size)."""
        return files.picture(row.path, self.size, channel=FLAIR, mask_path=row.mask_path)
