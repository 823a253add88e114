"""ChestX-ray14 (NIH Clinical Center; Wang et al. 2017): frontal radiographs with findings by report."""

import numpy as np
import pandas as pd
from PIL import Image

from reconfair.data import files

SEX = {"F": "female", "M": "male"}
NEEDED = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]


def table(dataset) -> pd.DataFrame:
    """One row per radiograph; ``Abnormal`` is any finding at all.

    Age and sex are constants of a patient: those of the first study. Race is not published.
    """
    folder = dataset.find()
    raw = read_entries(folder / dataset.about.metadata)
    findings = raw["Finding Labels"].str.get_dummies("|").astype(float)
    findings[raw["Finding Labels"].isna()] = np.nan
    labels = {task: findings.get(task, pd.Series(0.0, raw.index)) for task in dataset.about.tasks if task != "Abnormal"}
    first = raw.groupby("Patient ID")[["Patient Age", "Patient Gender"]].transform("first")
    where = {path.name: str(path) for path in folder.glob("images*/**/*.png")}
    absent = raw["Image Index"][~raw["Image Index"].isin(where)]
    if len(absent):
        raise ValueError(f"{folder}: image '{absent.iloc[0]}' and {len(absent) - 1} others are not there")
    return pd.DataFrame(
        {
            "image_id": raw["Image Index"].str.removesuffix(".png"),
            "patient_id": raw["Patient ID"].astype(str),
            "sex": first["Patient Gender"].map(SEX),
            "age": pd.to_numeric(first["Patient Age"].astype(str).str.strip("Y")).astype(float),
            "race": pd.Series(np.nan, raw.index, dtype="str"),
            "Abnormal": 1 - findings.get("No Finding", pd.Series(0.0, raw.index)),
            **labels,
            "view": raw.get("View Position"),
            "path": raw["Image Index"].map(where),
        }
    )


def read_entries(path) -> pd.DataFrame:
    """The published table, in order of patient and follow-up."""
    raw = pd.read_csv(path)
    missing = [column for column in NEEDED if column not in raw]
    if missing:
        raise ValueError(f"{path}: column '{missing[0]}' is missing; it has {', '.join(raw.columns)}")
    return raw.sort_values(["Patient ID", "Image Index"], ignore_index=True)


def image(row, dataset) -> tuple[np.ndarray, None]:
    """Radiograph within [0, 1], (size, size); no masks are published. A few files are RGBA."""
    picture = files.read(row.path)
    if picture.ndim == 3:
        picture = np.asarray(Image.fromarray(picture).convert("L"))
    return files.scaled(picture, dataset.size), None
