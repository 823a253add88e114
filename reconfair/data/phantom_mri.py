"""Brain-like FLAIR slices with a tumour: a few axial slices a patient."""

from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

from reconfair.data.lgg import MRI_TASKS
from reconfair.data.phantom import (
    Phantom,
    Recorded,
    axes,
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

ENTITIES = ("low sharp", "high sharp", "low ragged", "high ragged")  # grade and type together
SPACING = 11.0  # mm between slices
VIEW = 230.0  # mm across the image
SEPARATION = 2.3  # d' between the latent cues of label 0 and 1: the best classifier reaches AUROC 0.95
FAT, BONE, MARROW, FLUID, GREY, WHITE = 0.72, 0.05, 0.24, 0.06, 0.50, 0.37  # signal on FLAIR, where fluid is dark


def _skull(head, field, pixel):
    """Air, scalp, bone with marrow, and fluid, from outside in."""
    scalp = edge(head, pixel) * (FAT + 0.05 * field(30)) * (1 - 0.35 * edge(-head - 1.5, 1.5))
    bone = edge(head + 5.5, max(pixel, 1.0))
    marrow = np.exp(-(((head + 8.5) / 1.3) ** 2)) * (MARROW - BONE)
    return scalp + bone * (BONE + marrow * (1 + 0.3 * field(20)) - scalp)


def _brain(row, x, y, brain, field, pixel):
    """White matter, the folded cortical ribbon, deep nuclei and ventricles."""
    age = np.clip(row.z_brain_age, 15, 95)
    high = np.clip(row.z_level / 33, 0, 1)
    white = WHITE + 0.012 * field(22) + 0.01 * field(8)
    # Folds: the zero lines of a random field are a labyrinth, as sulci are; they end at a varying depth.
    wavelength = 25.0
    sulcus = abs(field(wavelength)) * wavelength / 7
    floor = 17 + 5 * field(40)
    sulcus = sulcus + np.clip(-brain - floor, 0, None)
    # The fissure between the hemispheres is deep in front and behind, and complete above the ventricles.
    fissure = np.hypot(np.clip(abs(x) - 0.3, 0, None), np.clip(-abs(y + 3) + 28 - 30 * high, 0, None))
    sulcus = np.minimum(sulcus, fissure)
    ribbon = edge(np.minimum(sulcus - 1, -brain) - 3.4, max(pixel, 1.2))
    tissue = white + ribbon * (GREY + 0.02 * field(10) - white)
    tissue = _deep(x, y, tissue, high, pixel)
    gap = 0.1 + 0.012 * (age - 20)  # sulci widen with age
    tissue += edge(sulcus - gap, max(pixel, 1.0)) * 0.85 * (FLUID - tissue)
    ventricle = _ventricles(x, y, age, high)
    # White matter beside the ventricles brightens with age, first as caps and then as patches.
    near = np.exp(-((np.clip(ventricle, 0, None) / 6) ** 2)) + 0.6 * np.exp(
        -((np.clip(ventricle - 8, 0, None) / 9) ** 2)
    )
    patch = edge(3.3 - 0.024 * age - 1.2 * field(16), 1.0)
    tissue += 0.24 * patch * near * (1 - ribbon)
    return tissue + edge(ventricle, max(pixel, 1.0)) * (FLUID - tissue)


def _deep(x, y, tissue, high, pixel):
    """Caudate, lentiform nucleus and thalamus, which are grey and fade out above."""
    for a, b, cx, cy, angle in ((5, 10, 16, -20, 0.3), (7, 15, 28, -5, -0.3), (9, 13, 11, 9, -0.5)):
        nucleus = edge(ellipse(abs(x) - cx, y - cy, a, b, angle), 2 * pixel)
        tissue = tissue + (1 - high) * 0.8 * nucleus * (GREY - 0.01 - tissue)
    return tissue


def _ventricles(x, y, age, high):
    """Signed distance to the lateral and third ventricles, which widen with age."""
    wide = 3.0 + 0.075 * (age - 20)
    # Below, frontal horns and atria diverge around the thalami; above, they join into two long bodies.
    bend = 6 + 0.7 * wide + (0.016 - 0.009 * high) * (y - 2 + 4 * high) ** 2
    width = wide * (1 - ((y - 2) / 36) ** 2 + 0.010 * y) * (1 - (1 - high) * np.exp(-(((y - 3) / 13) ** 2)))
    roof = (2 + wide) * np.clip(high - 0.55, 0, None)  # passed in the highest slice
    third = ellipse(x, y - 4, 0.4 * wide, 12) + 8 * high
    return np.minimum(0.8 * (abs(abs(x) - bend) - width) + roof, third)


def _tumour(row, x, y, brain, field, pixel):
    """Where the tumour displaces tissue, its mask, and its signal relative to white matter."""
    if not row.z_tumour:
        nothing = np.zeros_like(brain)
        return nothing, nothing.astype(bool), nothing
    severity, infiltration = 1 / (1 + np.exp(-1.5 * np.array([row.z_severity, row.z_margin])))
    reach = 18 + 30 * row.z_depth
    cx, cy = reach * np.cos(row.z_turn), 1.2 * reach * np.sin(row.z_turn)
    radius = np.sqrt(row.z_radius**2 - row.z_offset**2)
    # Type: a circumscribed tumour has a sharp round edge, an infiltrating one a ragged and gradual edge.
    rough = 1 + (0.05 + 0.12 * infiltration) * np.clip(field(20), -2, 2)
    q = np.hypot(x - cx, y - cy) / radius * rough
    soft = max(pixel, 1.0 + 0.8 * infiltration * radius)
    inside = edge((q - 1) * radius, soft) * edge(brain, pixel)
    # Grade: necrosis darkens the core and texture becomes uneven as severity grows.
    core = edge((q - 0.7 * severity) * radius, max(pixel, 4.0))
    uneven = 1 + 0.3 * severity * field(9)
    signal = inside * uneven * (1 - 1.2 * core * severity)
    return inside, (q < 1) & (brain < 0), signal


def _decoy(row, x, y, half, brain, pixel, seed):
    """Coverage and signal of a bright spot in the scalp, which is like a tumour and never within the brain.

    Its random numbers are its own, so that everything else in the image is as it would be without it.
    """
    rng = generator(seed, "decoy", row.image_id)
    ray = np.hypot(np.cos(row.z_decoy_turn) / row.z_breadth, np.sin(row.z_decoy_turn))
    reach = half / ray - 4.0
    cx, cy = reach * np.cos(row.z_decoy_turn), reach * np.sin(row.z_decoy_turn)
    uneven = 1 + 0.15 * np.clip(texture(rng, x[:1] * 1.0, y[:, :1] * 1.0, 9.0), -2, 2)
    inside = edge(np.hypot(x - cx, y - cy) - 14.0, max(pixel, 2.0)) * (1 - edge(brain - 1.0, pixel))
    return inside, (WHITE + 0.30) * uneven


class PhantomMRI(Phantom):
    """Settings of the simulated cohort, and its patients and images."""

    name: Literal["phantom_mri"]
    about: ClassVar[About] = Recorded(
        About("mri", "patient", MRI_TASKS, classes={"entity": ENTITIES}, further={"entity": "classify"})
    )

    @property
    def spacing(self) -> float:
        """mm per pixel."""
        return VIEW / self.size

    def read_table(self) -> pd.DataFrame:
        """Draw the cohort, one row per slice.

        Returns
        -------
        pandas.DataFrame
            ``image_id, patient_id, sex, age, race``; ``grade`` and ``type`` of the patient as observed
            (1.0 or 0.0); ``entity``, both together as a number from 0 to 3; and the latent columns ``z_*`` from which
            `read_image` draws (lengths in mm).
        """
        who = patients(self, female=0.42, age=(57, 15))  # glioma: more men, a median in the late fifties
        n, shift = len(who), dial(self, who, "prevalence")
        flip, contrast = dial(self, who, "label_noise"), dial(self, who, "contrast")
        for label, cue, prevalence in (("grade", "z_severity", 0.5), ("type", "z_margin", 0.45)):
            true = truth(normal(self, label, n), prevalence + shift)
            who[label] = observed(self, label, true, flip)
            who[cue] = normal(self, cue, n) + SEPARATION * (true - 0.5)
        who["entity"] = who.grade + 2 * who.type
        who["z_contrast"] = 0.30 * np.exp(0.15 * normal(self, "contrast", n)) * contrast
        who["z_radius"] = 14 + 13 * uniform(self, "radius", n)
        who["z_turn"] = 2 * np.pi * uniform(self, "turn", n)  # where about the centre of the brain
        # Infiltrating tumours lie deeper, circumscribed ones nearer to the cortex.
        who["z_depth"] = ndtr(normal(self, "depth", n) - 0.7 * who.z_margin)  # 0: deep, 1: at the cortex
        # Brains of one age differ: some look ten years younger than they are.
        who["z_brain_age"] = who.z_age + 8 * normal(self, "brain age", n)
        # Male heads are about 4 % larger; individuals differ by as much.
        who["z_head"] = 1.02 - 0.04 * who.z_female + 0.025 * normal(self, "head", n)
        who["z_breadth"] = 0.82 + 0.03 * normal(self, "breadth", n)
        if self.dials.decoy:
            who["z_decoy"] = 1.0 * (uniform(self, "decoy", n) < dial(self, who, "decoy"))
            who["z_decoy_turn"] = 2 * np.pi * uniform(self, "decoy turn", n)
        who["z_tilt"] = 0.05 * normal(self, "tilt", n)
        rows = who.loc[who.index.repeat(self.slices)].reset_index(drop=True)
        index = np.tile(np.arange(self.slices), n)
        centre = np.repeat(SPACING * (0.4 + 2.2 * uniform(self, "level", n)), self.slices)
        rows.insert(0, "image_id", rows.patient_id + "-" + index.astype(str))
        # Above the basal ganglia; fewer than four slices are the middle ones of four.
        rows["z_level"] = SPACING * (index + (4 - self.slices) / 2)
        rows["z_offset"] = rows.z_level - centre  # from the centre of the tumour
        rows["z_tumour"] = 1.0 * (abs(rows.z_offset) < 0.85 * rows.z_radius)
        return rows

    def read_image(self, row: NamedTuple) -> tuple[np.ndarray, np.ndarray]:
        """Draw one slice, seen from below with the forehead up.

        Parameters
        ----------
        row : namedtuple
            One row of ``read_table().itertuples()``.

        Returns
        -------
        image : numpy.ndarray, float32, shape (size, size)
            In [0, 1].
        mask : numpy.ndarray, bool, shape (size, size)
            The tumour with its oedema; empty where ``row.z_tumour`` is 0.
        """
        axis_x, axis_y, pixel = axes(self.size, VIEW)
        rng = generator(self.seed, "phantom_mri", row.image_id)
        field = partial(texture, rng, axis_x, axis_y)
        x = axis_x * np.cos(row.z_tilt) + axis_y * np.sin(row.z_tilt)
        y = axis_y * np.cos(row.z_tilt) - axis_x * np.sin(row.z_tilt)
        half = 93 * row.z_head * np.sqrt(1 - (row.z_level / 95) ** 2)  # mm; the head narrows towards the vertex
        head = ellipse(x * (1 - 0.0008 * y), y, row.z_breadth * half, half)  # and towards the forehead
        brain = head + 12.5 + 0.02 * (row.z_brain_age - 20)  # the fluid around the brain widens with age
        tissue = _brain(row, x, y, brain, field, pixel)
        tumour, mask, signal = _tumour(row, x, y, brain, field, pixel)
        tissue += 0.7 * tumour * (WHITE + 0.03 - tissue)  # it displaces what was there
        tissue += row.z_contrast * signal
        slice_ = _skull(head, field, pixel)
        slice_ += edge(brain, pixel) * (tissue - slice_)
        if getattr(row, "z_decoy", 0):
            spot, bright = _decoy(row, axis_x, axis_y, half, brain, pixel, self.seed)
            slice_ += spot * (bright - slice_)
        slice_ *= 1 + 0.05 * field(250)  # the coil's sensitivity
        noise = 0.012 * rng.standard_normal((2, self.size, self.size))  # Rician, as magnitude images have
        return np.clip(np.hypot(slice_ + noise[0], noise[1]), 0, 1).astype(np.float32), mask
