"""LGG MRI Segmentation (TCGA-LGG; Buda et al. 2019): FLAIR slices, tumour masks, grade, histology."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.params import About

MRI_TASKS = {"grade": "classify", "type": "classify", "tumour": "segment"}
FLAIR = 1  # channel of the published TIFF files
SEX = {1: "female", 2: "male"}
RACE = {2: "Black", 3: "White"}
NEEDED = ["Patient", "gender", "age_at_initial_pathologic", "race", "neoplasm_histologic_grade", "histological_type"]


def read_clinical(path: Path) -> pd.DataFrame:
    """Attributes and labels by patient, decoded from the numbers of ``data.csv``."""
    raw = pd.read_csv(path)
    files.need(raw, NEEDED, path)
    raw = raw.set_index("Patient")
    histology = raw.histological_type
    return pd.DataFrame(
        {
            "sex": raw.gender.map(SEX),
            "age": raw.age_at_initial_pathologic.astype(float),
            "race": raw.race.map(RACE),
            "grade": raw.neoplasm_histologic_grade.map({1: 0.0, 2: 1.0}),
            "type": (histology == 1).astype(float).where(histology.notna()),
        }
    )


def _mask_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}_mask.tif")


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
    )

    def read_table(self) -> pd.DataFrame:
        """One row per slice; grade 3 against 2, astrocytoma against the other histologies.

        Patients without clinical values keep their slices (they train and test the segmenter), with
        attributes and labels missing.
        """
        root = self.find() / "kaggle_3m"
        clinical = read_clinical(root / "data.csv")
        slices = [
            {"patient": "_".join(folder.name.split("_")[:3]), "path": str(path), "mask_path": str(_mask_of(path))}
            for folder in sorted(root.glob("TCGA_*"))
            for path in sorted(folder.glob("*.tif"), key=lambda path: path.stem.rsplit("_")[-1].zfill(4))
            if not path.stem.endswith("_mask")
        ]
        if not slices:
            raise ValueError(f"{root}: no folder TCGA_*/ with slices was found there")
        table = pd.DataFrame(slices).merge(clinical, left_on="patient", right_index=True, how="left")
        table["image_id"] = [Path(path).stem for path in table.path]
        table["site"] = table.patient.str.split("_").str[1]  # the hospital, in TCGA's codes
        return table.rename(columns={"patient": "patient_id"})

    def read_image(self, row) -> tuple[np.ndarray, np.ndarray]:
        """FLAIR slice within [0, 1] and its tumour mask, both (size, size)."""
        return files.picture(row.path, self.size, channel=FLAIR, mask_path=row.mask_path)
