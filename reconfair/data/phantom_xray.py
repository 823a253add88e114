"""Frontal chest radiographs with five findings: one to three images a patient."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import map_coordinates

from reconfair.data.phantom import (
    Phantom,
    Recorded,
    axes,
    blend,
    dial,
    edge,
    ellipse,
    normal,
    observed,
    patients,
    texture,
    truth,
    uniform,
)
from reconfair.keyed import generator
from reconfair.params import About

# The share of images with each finding.
PREVALENCE = {"effusion": 0.35, "cardiomegaly": 0.30, "consolidation": 0.25, "pneumothorax": 0.20, "nodule": 0.25}

VIEW = 330.0  # mm across the image
SEPARATION = 2.6  # d' between the extents of a finding when absent and present: AUROC 0.97 at best
MOTTLE = 26.0  # mm, wavelength of a consolidation that is mottled and not dense
WITHIN_PATIENT = 0.7  # correlation of a finding's score between images of a patient


def _heart(row, x, y, enlargement):
    """Signed distance to heart and great vessels; two thirds of the heart lie to the patient's left."""
    half = 265 / 2 * (row.z_heart + 0.05 * row.z_contrast * enlargement)
    heart = ellipse(x - 0.36 * half, y - 55, 1.1 * half, 0.76 * half, 0.5)
    knob = ellipse(x - 17, y + 42, 17, 19)  # of the aorta
    vessels = abs(x - 2) - 22 - 0.0012 * np.clip(-y - 40, 0, None) ** 2
    return blend(blend(heart, knob, 5.0), vessels, 5.0)


def _trunk(row, x, y, dome, rng):
    """Soft tissue of the trunk with shoulders and neck, and the air around it; breasts, liver and bowel."""
    u = abs(x)
    trunk = np.maximum(-160 + 0.45 * (u - 45) - y, u - 158 - 1.2 * np.clip(-y - 50, 0, None))
    density = edge(blend(trunk, u - 44, 8.0), 5.0) * (0.72 + 0.04 * row.z_habitus - 0.18 * (u / 160) ** 2)
    # The shadow of the breasts ends in a crescent over the lower lungs.
    density += 0.22 * row.z_breast * edge(ellipse(u - 80, y - 42, 55, 55), 6.0) * np.clip((y + 20) / 90, 0, 1)
    # Below the diaphragm; the stomach's bubble of gas lies on the patient's left.
    gas = ellipse(x - 62 - 8 * rng.random(), y - 122 - 6 * row.z_breath, 10 + 22 * rng.random(), 5 + 11 * rng.random())
    return density + (0.5 * edge(dome - y, 3.0) * edge(u - 128, 40.0) - 0.45 * edge(gas, 5.0))


def _middle(x, y, heart):
    """Heart, great vessels and spine, and the windpipe's air."""
    spine = edge(abs(x) - 17, 5.0) * (0.12 + 0.03 * np.cos(2 * np.pi * y / 25))
    trachea = edge(ellipse(x + 1, y + 100, 8, 75), 4.0)
    return (
        0.14 * edge(heart, 4.0) * edge(-y - 115, 40.0)
        + 0.42 * edge(-y - 95, 70.0) * np.sqrt(np.clip(-heart / 45, 0, 1))
        + spine
        - 0.16 * trachea
    )


def _vessels(x, y, pixel, rng):
    """Vessels that fan out from each hilum: the zero lines of a random field in log-polar coordinates."""
    angles, radii = np.linspace(-np.pi, 3 * np.pi, 360), np.linspace(0, 6, 64)
    polar = texture(rng, 7 * angles[None], 3 * radii[:, None], 6.0)
    r, turn = np.hypot(abs(x) - 22, y - 2) + 1, np.arctan2(y - 2, abs(x) - 22) + 2 * np.pi * (x < 0)
    wave = map_coordinates(polar, [np.log(r) * 63 / 6, (turn + np.pi) * 359 / (4 * np.pi)], order=1)
    half = np.clip(2.6 - r / 45, 0.5, None)  # mm; vessels thin out towards the wall
    drawn = np.hypot(half, 0.6 * pixel)
    return 0.17 * half / drawn * np.exp(-((wave * r / 6 / drawn) ** 2) - r / 90) + 0.12 * np.exp(-((r / 24) ** 2))


def _bones(x, y, lungs, pixel):
    """Ribs, clavicles and the heads of the arms."""
    u = abs(x)
    back = y + 128 + 6 * np.sin(np.clip((u - 15) / 30, 0, np.pi)) - 0.0052 * np.clip(u - 20, 0, None) ** 2
    front = y + 128 - 0.8 * (130 - u)
    cage = edge(ellipse(u - 58, y - 26, 77, 156, -0.12), 4.0) * edge(12 - u, 6.0)
    ribs = 0.075 * _band(back, 23, 5.5, pixel) + 0.035 * edge(50 - u, 30.0) * _band(front, 31, 7, pixel)
    clavicle = edge(abs(y + 98 + 0.2 * (u - 20) - 5 * np.sin(u / 26)) - 5.5, max(pixel, 1.5))
    clavicle *= edge(14 - u, 4.0) * edge(u - 138, 8.0)
    arm = edge(ellipse(u - 163, y + 88, 22, 28), 6.0)
    return cage * (0.35 + 0.65 * lungs) * ribs + 0.13 * clavicle + 0.12 * arm


def _band(v, spacing, half, pixel):
    """Ribs at regular spacing: a tube, dense at its rim."""
    d = abs((v / spacing + 0.5) % 1 - 0.5) * spacing
    return edge(d - half, max(pixel, 1.5)) * (0.7 + 0.6 * (d / half) ** 2)


def _findings(row, x, y, extent, lungs, wall, marks, field, pixel):
    """Density added by the findings, and the lung markings they leave."""
    side = {finding: np.where(getattr(row, f"z_{finding}_at") < 0.5, -1, 1) for finding in PREVALENCE}
    place = {finding: 2 * getattr(row, f"z_{finding}_at") % 1 for finding in PREVALENCE}
    dense = np.zeros_like(lungs)
    # Effusion: fluid fills the angle between wall and diaphragm, and climbs the wall as a meniscus.
    s, amount = side["effusion"], extent["effusion"]
    level = 126 - 30 * amount - 0.0045 * np.clip(s * x - 50, 0, None) ** 2
    dense += 0.6 * edge(level - y, 10.0) * (s * x > 0) * lungs * min(amount, 1)
    # Consolidation: a cloudy patch, with vessels lost in it.
    s, amount = side["consolidation"], min(extent["consolidation"], 2.5)
    cx, cy = s * (55 + 20 * place["consolidation"]), 60 - 110 * place["consolidation"]
    cloud = np.exp(-((np.hypot(x - cx, (y - cy) * 0.9) / (16 + 8 * amount)) ** 2))
    filled = np.clip(1 + 0.3 * field(22), 0, None)
    mottled = row.z_texture * (0.8 * field(MOTTLE) - filled) if row.z_texture else 0  # and no denser on average
    dense += 0.17 * amount * cloud * (filled + mottled) * lungs
    # Nodule: a small faint disc, easily taken for a vessel or lost behind a rib.
    s, amount = side["nodule"], extent["nodule"]
    cx, cy = s * (45 + 40 * place["nodule"]), -60 + 130 * (7 * place["nodule"] % 1)
    dense += 0.17 * min(amount, 2) * edge(np.hypot(x - cx, y - cy) - 5 - 2.5 * min(amount, 2), 3.0) * lungs
    # Pneumothorax: air without markings outside a thin pleural line, widest at the apex.
    s, amount = side["pneumothorax"], extent["pneumothorax"]
    line = wall + (5 + 9 * amount) * np.clip(0.9 - (y + 100) / 190, 0, 1) * min(amount, 1)
    free = edge(-line, 2.0) * (s * x > 0) * min(amount, 1) * lungs
    pleura = np.exp(-((line / max(pixel, 1.2)) ** 2)) * (s * x > 0) * min(amount, 1) * lungs
    dense += 0.08 * pleura - 0.08 * free
    return row.z_contrast * dense, marks * (1 - row.z_contrast * free)


class PhantomXray(Phantom):
    """Settings of the simulated cohort, and its patients and images."""

    name: Literal["phantom_xray"]
    about: ClassVar[About] = Recorded(About("xray", "image", dict.fromkeys(PREVALENCE, "classify")))

    def read_table(self) -> pd.DataFrame:
        """Draw the cohort, one row per image.

        Returns
        -------
        pandas.DataFrame
            ``image_id, patient_id, sex, age, race``; one column per finding as observed (1.0 or 0.0); and
            the latent columns ``z_*`` from which `read_image` draws.
        """
        who = patients(self, female=0.44, age=(61, 17))  # as among inpatients: more men, median about 62
        n, most = len(who), 3
        number = 1 + np.searchsorted((0.7, 0.9), uniform(self, "images", n))  # 1.4 images a patient
        shift, flip = (dial(self, who, name)[:, None] for name in ("prevalence", "label_noise"))
        who["z_contrast"] = np.exp(0.12 * normal(self, "contrast", n)) * dial(self, who, "contrast")
        who["z_texture"] = dial(self, who, "texture")
        who["z_size"] = 1.0 - 0.07 * who.z_female + 0.03 * normal(self, "chest", n)  # women's chests are smaller
        who["z_habitus"] = normal(self, "habitus", n)  # thin or stout
        who["z_breast"] = who.z_female * (0.5 + 0.6 * uniform(self, "breast", n))
        # The heart widens by about 1 % of the chest a decade, and bones lose mineral.
        who["z_heart"] = 0.43 + 0.001 * (who.z_age - 60) + 0.015 * normal(self, "heart", n)
        who["z_bone"] = 1.15 - 0.007 * (who.z_age - 40) + 0.1 * normal(self, "bone", n)
        taken = np.arange(most) < number[:, None]  # draw for every possible image, keep those taken
        patient, index = np.nonzero(taken)
        rows = who.iloc[patient].reset_index(drop=True)
        rows.insert(0, "image_id", rows.patient_id + "-" + index.astype(str))
        rows["z_breath"] = normal(self, "breath", n, most)[taken]  # how deeply the patient breathed in
        rows["z_tilt"] = 0.02 * normal(self, "tilt", n, most)[taken]
        rows["z_shift"] = 4 * normal(self, "shift", n, most)[taken]  # mm
        for finding, prevalence in PREVALENCE.items():
            patient_score, image_score = normal(self, f"patient {finding}", n, 1), normal(self, finding, n, most)
            score = np.sqrt(WITHIN_PATIENT) * patient_score + np.sqrt(1 - WITHIN_PATIENT) * image_score
            true = truth(score, prevalence + shift)
            extent = normal(self, f"extent {finding}", n, most) + SEPARATION * true
            rows.insert(5, finding, observed(self, finding, true, flip)[taken])
            rows[f"z_{finding}"] = extent[taken]
            rows[f"z_{finding}_at"] = np.repeat(uniform(self, f"at {finding}", n), number)  # side and place
        return rows

    def read_image(self, row: NamedTuple) -> tuple[np.ndarray, None]:
        """Draw one radiograph, the patient's right on the left, bone white.

        Parameters
        ----------
        row : namedtuple
            One row of ``read_table().itertuples()``.

        Returns
        -------
        image : numpy.ndarray, float32, shape (size, size)
            In [0, 1].
        mask : None
            The findings are labels of the image.
        """
        axis_x, axis_y, pixel = axes(self.size, VIEW)
        rng = generator(self.seed, "phantom_xray", row.image_id)
        field = partial(texture, rng, axis_x, axis_y)
        x, y = axis_x + row.z_tilt * axis_y, axis_y - row.z_tilt * axis_x
        x, y, pixel = (x + row.z_shift) / row.z_size, y / row.z_size, pixel / row.z_size  # mm in a standard chest
        # How much of a finding is there, 0 and more; images labelled without it show little or nothing.
        extent = {finding: np.log1p(np.exp(3 * (getattr(row, f"z_{finding}") - 1.3))) / 3 for finding in PREVALENCE}
        # Height of the diaphragm: higher on the patient's right, over the liver, and after a shallow breath.
        dome = 86 + 6 * row.z_breath + 5 * np.tanh(x / 15) + 0.0055 * (abs(x) - 55) ** 2
        dome = dome + 2e-5 * np.clip(abs(x) - 85, 0, None) ** 3.5
        heart = _heart(row, x, y, extent["cardiomegaly"])
        wall = ellipse(abs(x) - 58, y - 26, 71 + 2 * row.z_habitus, 150, -0.12)
        lungs = edge(np.maximum(np.maximum(wall, -heart), y - dome), max(pixel, 2.0))
        marks = lungs * _vessels(x, y, pixel, rng)
        dense, marks = _findings(row, x, y, extent, lungs, wall, marks, field, pixel)
        density = _trunk(row, x, y, dome, rng) + _middle(x, y, heart)
        density += row.z_bone * _bones(x, y, lungs, pixel) + marks + dense
        density -= lungs * (0.34 + 0.14 * np.sqrt(np.clip(-wall / 50, 0, 1)))  # air, deepest amid the lung
        density += 0.015 * field(80) + 0.006 * field(10)
        picture = 0.95 * (1 - np.exp(-1.7 * np.clip(density, 0, None)))  # film: the log of dose, saturating
        picture += 0.008 * rng.standard_normal(picture.shape)
        return np.clip(picture, 0, 1).astype(np.float32), None
