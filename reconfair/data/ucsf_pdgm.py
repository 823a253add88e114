"""UCSF-PDGM (Calabrese et al. 2022): FLAIR volumes before operation, tumour masks, grade, histology.

The folder holds ``UCSF-PDGM-metadata_v*.csv`` and, there or one folder below, ``UCSF-PDGM-0004_nifti/``
with ``UCSF-PDGM-0004_FLAIR.nii.gz`` and ``UCSF-PDGM-0004_tumor_segmentation.nii.gz``, and so on.
"""

from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from reconfair import params
from reconfair.data import files
from reconfair.data.lgg import MRI_TASKS
from reconfair.entries import MISSING, Sheet, folded
from reconfair.params import About

SLICES = 155  # of every volume, from the feet to the head
EVALUATED = (60, 130)  # where tumours are; training sees every slice that shows brain
SEX = {"F": "female", "Female": "female", "M": "male", "Male": "male"}
DIAGNOSES = ("glioblastoma", "astrocytoma", "oligodendroglioma")  # as the published ones begin
GRADE, DIAGNOSIS = "WHO CNS Grade", "Final pathologic diagnosis (WHO 2021)"


def read_clinical(path) -> Sheet:
    """Attributes and labels by patient, from any version of the metadata, as the sheet's table."""
    sheet = Sheet.open(path)
    sheet.need(["ID", "Sex", "Age at MRI", GRADE, DIAGNOSIS])
    sheet.distinct()
    sheet.keep(~sheet.table.ID.str.contains(r"_FU\d+d$"), "they are follow-up scans")
    patient, diagnosis = sheet.names("ID"), folded(sheet.table[DIAGNOSIS])
    number = patient.str.extract(r"(?i)^UCSF-PDGM-(\d+)$")[0]
    sheet.refuse("ID", number.isna(), "is no patient such as UCSF-PDGM-004")
    strange = ~diagnosis.str.startswith(DIAGNOSES) & ~diagnosis.isin(MISSING)
    sheet.refuse(DIAGNOSIS, strange, f"begins with none of {', '.join(DIAGNOSES)}")
    known = {
        "patient_id": "UCSF-PDGM-" + number.str.zfill(4),  # as the folders are named
        "sex": sheet.coded("Sex", SEX),
        "age": sheet.years("Age at MRI", {"0": None}),
        "race": pd.Series(np.nan, number.index, dtype="str"),
        "grade": sheet.coded(GRADE, {"2": 0.0, "3": 0.0, "4": 1.0}),
        "diagnosis": diagnosis.str.partition(",")[0].map({name: 1.0 * k for k, name in enumerate(DIAGNOSES)}),
        "type": diagnosis.str.startswith("glioblastoma").astype(float).mask(diagnosis.isin(MISSING)),
    }
    sheet.refuse("ID", known["patient_id"].duplicated(), "has two rows that differ; one is expected")
    sheet.check()
    sheet.table = pd.DataFrame(known).astype({"sex": "str", "grade": float})
    return sheet


class UCSFPDGM(params.Scans):
    """UCSF-PDGM as published on The Cancer Imaging Archive."""

    name: Literal["ucsf_pdgm"]
    about: ClassVar[About] = About(
        "mri",
        "patient",
        MRI_TASKS,
        ("sex", "age_group"),
        "ucsf_pdgm",
        ("UCSF-PDGM-metadata*.csv",),
        "UCSF-PDGM (The Cancer Imaging Archive), cancerimagingarchive.net/collection/ucsf-pdgm",
        classes={"diagnosis": DIAGNOSES},
        further={"diagnosis": "classify"},
    )

    def read_table(self) -> pd.DataFrame:
        """One row per slice; grade 4 against 2 and 3, glioblastoma against the others, and all three; no race."""
        root, (path,) = self.find(), self.metadata()
        sheet = read_clinical(path)
        folders = [*root.glob("UCSF-PDGM-*_nifti"), *root.glob("*/UCSF-PDGM-*_nifti")]
        if not folders:
            raise ValueError(f"{root}: no folder UCSF-PDGM-*_nifti was found there or one folder below")
        clinical = sheet.table
        stem = f"{min(folders).parent}/" + clinical.patient_id + "_nifti/" + clinical.patient_id
        clinical = clinical.assign(path=stem + "_FLAIR.nii.gz", mask_path=stem + "_tumor_segmentation.nii.gz")
        rows = clinical.loc[clinical.index.repeat(SLICES)].assign(slice=np.tile(np.arange(SLICES), len(clinical)))
        rows["image_id"] = rows.patient_id + "_" + rows.slice.astype("str").str.zfill(3)
        rows = rows.assign(evaluated=rows.slice.between(*EVALUATED)).reset_index(drop=True)
        rows.attrs["notes"] = sheet.notes
        return rows

    def read_image(self, row) -> tuple[np.ndarray, np.ndarray] | None:
        """FLAIR slice within [0, 1], scaled by its volume, and its tumour mask: (size, size); None without brain."""
        picture, outline = files.picture(row.path, self.size, number=row.slice, mask_path=row.mask_path)
        return (picture, outline) if np.ptp(picture) > 0 else None
