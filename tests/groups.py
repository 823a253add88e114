"""Rows, patients and groups as the engine of fairness has them, and a small study with several images a patient."""

import numpy as np

from reconfair.fairness.cells import Groups


def units(group, patient=None):
    """Rows with groups 0, 1, ... and, where not given, one row a patient."""
    group = np.asarray(group)
    patient = np.arange(group.size) if patient is None else np.asarray(patient)
    of = np.zeros(patient.max() + 1, int)
    of[patient] = group
    return Groups(patient, of, list(range(group.max() + 1)))


def clustered(seed=3):
    """Labels, patients, groups and decisions of two sources, 1 to 5 images a patient."""
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1, 2], [60, 40, 30])
    patient = np.repeat(np.arange(130), rng.integers(1, 6, 130))
    g = group[patient]
    effect = rng.normal(size=130)[patient]
    label = (rng.random(patient.size) < 0.4).astype(int)
    before = effect + 1.2 * label + 0.3 * g * label + rng.normal(size=patient.size) > 0.8
    after = np.where(rng.random(patient.size) < 0.08 + 0.04 * g, ~before, before)
    return label, patient, g, before, after
