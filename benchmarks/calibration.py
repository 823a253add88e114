"""Do limits, tests and claims keep what they promise? A simulation study.

    python benchmarks/calibration.py --quick    # within a minute: prints the kept values and reruns 30 studies
    python benchmarks/calibration.py            # up to 2,000 studies a scenario; killed and started again, it goes on
    python benchmarks/calibration.py --minutes 30 --only S     # that long, scenarios whose name begins so
    python benchmarks/calibration.py --markdown    # writes the table of docs/results.md from what is kept

The truth of every scenario is known. Rates: one image a patient, decisions that turn one way or both ways
(A, B, J, N, S, R); clusters: 1 to 60 images a patient (D, E, Q); Dice, SER and PSNR: paired values of patients
(M, H, L; G: rare large losses); AUROC: binormal scores (U), and the same cross-fitted, in three folds whose scores
have scales, shifts and thresholds of their own (X); and cohorts of two or six groups in CheXpert's proportions with
1 to 5 images a patient (names that begin with the number of groups). Groups with fewer than 20 patients of either
label are left out, and the truth is that of the groups kept. Seeds depend on the scenario and the number of
the chunk alone. Every chunk of studies is a line of results/calibration.csv, as soon as it is finished.

Printed last are lines NAME=VALUE, each with its scenario, Monte-Carlo error and number of studies:

- ``coverage_shift_worst, coverage_change_worst, coverage_eodd_worst``: the 95 % limits hold the true shift of the gap,
  the changes of all groups at once, the true gap of the source; the lowest of all scenarios and metrics
  (changes: SER with 20 patients a group apart, printed as ``coverage_change_ser_20``).
- ``coverage_shift_rare, coverage_change_rare, false_equivalence_rare``: the same of Dice where one patient in 15 loses
  much (G1 to G5, up to 200 patients a group). No limits by t can hold there, since many samples of 20 or 30 patients
  hold one such patient or none. With 400 (G6) they hold, and count with the others.
- ``false_equivalence_worst``: the bound on unequal change lies below the true one.
- ``wrong_sign_worst``: the limits of the shift exclude 0 on the wrong side.
- ``size_disparity_worst, size_unequal_worst``: p <= 0.05 although groups are equal, or changed equally (SER apart).
- ``interval_length_ratio``: mean length of the shift's limits against the engine that was replaced
  (results/calibration_before.csv), where sources are loosely paired; the largest of four.
- ``power_shift_verdict, power_unequal``: the limits of the shift exclude 0; p_unequal <= 0.05; the
  lowest of some scenarios, which follow.
- ``type1_swap_K``: p_swap <= 0.05 with interchangeable sources; ``type1_permutation_K``: p of EODD <= 0.05 with
  none (the name is that of the test it replaced); ``coverage_shift_K, coverage_eodd_K``; ``false_equivalence``;
  ``type1_paper_2``: the paper's paired bootstrap rejects, interchangeable sources without disparity: pooled over the
  cohorts of K groups.
"""

import argparse
import os
import time
import zlib
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before NumPy: one thread

import numpy as np
import pandas as pd
from scipy.stats import norm

from reconfair.fairness import gaps, resampling
from reconfair.fairness.cells import Groups
from reconfair.fairness.metrics import eodd
from reconfair.fairness.simulation import simulate

RESULTS = Path(__file__).parent / "results" / "calibration.csv"
BEFORE = RESULTS.with_name("calibration_before.csv")
PAGE = RESULTS.parents[2] / "docs" / "results.md"
CHUNK, STUDIES, SEED, FEWEST = 50, 2000, 20260727, 20
LABELS = {"eodd": (0, 1), "worst_case": (0, 1), "eop": (0,), "fpr_gap": (1,)}
PROPORTIONS = np.array([36110, 9634, 6936, 3093, 861, 176]) / 56810


# --- scenarios: by name, a function of a generator that draws one study ---


def rates():
    """One image a patient: positives and negatives by group, TPR, FPR, their changes, and two-way flips."""

    def six(n, prevalence):
        size = np.round(PROPORTIONS * n)
        return [max(round(one * prevalence), 1) for one in size], [round(one * (1 - prevalence)) for one in size]

    def two(n, prevalence):
        return [int(share * n * prevalence) for share in (0.55, 0.45)], [
            int(share * n * (1 - prevalence)) for share in (0.55, 0.45)
        ]

    none = 0.0
    unequal = [300, 150, 80, 60, 50, 40]
    large, wide = six(20000, 0.2), two(2000, 0.2)
    third = np.arange(6) == 3
    return {
        "J1": ([100] * 2, [150] * 2, 0.8, 0.15, [0, -0.08], [0, 0.06], 0),
        "J2": ([40] * 2, [60] * 2, 0.8, 0.15, [0, -0.08], [0, 0.06], 0),
        "J3": ([200, 60], [200, 60], 0.8, 0.15, [0, -0.05], [0, 0.05], 0),
        "J4": ([40] * 2, [60] * 2, [0.75, 0.8], [0.2, 0.15], [0, -0.1], [0, 0.1], 0),
        "J5": ([80, 50, 40], [120, 80, 60], 0.8, 0.15, [0, 0, -0.1], [0, 0, 0.08], 0),
        "J6": (unequal, unequal, 0.8, 0.15, [0] * 5 + [-0.1], [0] * 5 + [0.1], 0),
        "J7": ([800] * 2, [3200] * 2, 0.8, 0.2, [0, -0.02], [0, 0.01], 0),
        "J8": ([100] * 2, [150] * 2, 0.8, 0.15, [0, -0.06], [0, 0.06], 0.05),
        "J9": ([100] * 2, [150] * 2, 0.8, 0.15, [0, -0.06], [0, 0.06], 0.10),
        "A1": ([1000, 20], [1000, 40], [0.7, 0.93], 0.2, none, none, 0.05),
        "A2": ([1000, 40], [1000, 40], [0.7, 0.95], 0.2, none, none, 0.05),
        "A3": ([1000, 30], [1000, 30], 0.8, [0.2, 0.03], none, none, 0.04),
        "A4": ([1000, 20], [1000, 20], 0.8, [0.02, 0.08], none, none, 0.03),
        "A5": ([1000, 20], [1000, 20], [0.7, 0.93], [0.25, 0.06], none, none, 0.05),
        "A6": ([600, 200, 100, 60, 30, 20], [600] * 6, [0.75] * 4 + [0.95, 0.75], 0.2, none, none, 0.05),
        "B1": ([1000, 60], [200, 200], 0.85, 0.1, [0, -0.05], none, 0),
        "B2": ([1000, 100], [200, 200], 0.85, 0.1, [0, -0.05], none, 0),
        "B3": ([1000, 30], [200, 200], 0.85, 0.1, [0, -0.05], none, 0),
        "B4": ([60, 60], [200, 200], 0.85, 0.1, [0, -0.05], none, 0),
        "B5": ([1000, 200], [200, 200], 0.85, 0.1, [0, -0.05], none, 0),
        "B6": ([1000, 50], [200, 200], 0.85, 0.1, [0, -0.10], none, 0),
        "B7": ([1000, 200], [200, 200], 0.85, 0.1, [0, -0.02], none, 0),
        "B8": ([400, 60], [400, 60], 0.85, 0.15, [0, -0.05], [0, -0.05], 0),
        "S1": (*two(2000, 0.05), 0.8, 0.2, none, none, 0.1),
        "S2": (*six(2000, 0.2), 0.8, 0.2, none, none, 0.1),
        "S3": (*two(20000, 0.05), 0.8, 0.2, none, none, 0.1),
        "S4": (*six(20000, 0.05), 0.8, 0.2, none, none, 0.1),
        "S5": (*large, 0.8, 0.2, none, none, 0.1),
        "S6": (*large, [0.8, 0.75, 0.85, 0.8, 0.72, 0.8], [0.2, 0.25, 0.15, 0.2, 0.27, 0.2], none, none, 0.1),
        "S7": (*large, 0.8, 0.2, -0.1, 0.1, 0.05),
        "S8": (*wide, 0.8, 0.2, -0.1, 0.1, 0.05),
        "S9": (*wide, [0.85, 0.75], [0.15, 0.25], [0, -0.05], [0, 0.05], 0.05),
        "S10": (*two(20000, 0.2), [0.85, 0.75], [0.15, 0.25], [0, -0.03], [0, 0.03], 0.05),
        "S11": (*large, 0.8, 0.2, -0.1 * third, 0.1 * third, 0.1),
        "S12": (*large, [0.8, 0.68] + [0.8] * 4, [0.2, 0.32] + [0.2] * 4, [0, 0.12, 0, -0.12, 0, 0],
                [0, -0.12, 0, 0.12, 0, 0], 0.05),
        "S13": ([20] * 2, [20] * 2, 0.8, 0.2, none, none, 0.1),
        "S14": ([20] * 4, [20] * 4, 0.8, 0.2, none, none, 0.1),
        "S15": ([20] * 4, [20] * 4, 0.97, 0.03, none, none, 0.02),
        "S16": ([300, 30], [300, 30], 0.8, 0.2, none, none, 0),
        "S17": ([400] * 2, [400] * 2, [0.86, 0.74], [0.14, 0.26], [0, 0.12], [0, -0.12], 0.05),
        "S18": ([400] * 2, [400] * 2, [0.75, 0.85], [0.25, 0.15], [0, -0.30], [0, 0.30], 0.03),
        "N1": ([100] * 2, [150] * 2, 0.8, 0.15, -0.08, 0.06, 0),
        "N2": ([40] * 2, [60] * 2, 0.8, 0.15, -0.08, 0.06, 0),
        "N3": ([1000, 30], [1000, 30], 0.8, 0.15, -0.05, 0.05, 0),
        "R0": ([100, 40], [150, 60], 0.8, 0.15, none, none, 0),  # discordance 0, 2, 5, 10 %
        "R2": ([100, 40], [150, 60], 0.8, 0.15, none, none, 0.02),
        "R5": ([100, 40], [150, 60], 0.8, 0.15, none, none, 0.05),
        "R10": ([100, 40], [150, 60], 0.8, 0.15, none, none, 0.10),
        "R99": ([300, 40], [300, 40], 0.99, 0.01, none, none, 0.005),  # rates of .01 and .99
        "R99b": ([300, 60], [300, 60], 0.99, 0.01, [0, -0.05], [0, 0.05], 0.005),
        "R20": ([20] * 6, [20] * 6, [0.9] * 5 + [0.7], 0.2, none, none, 0.05),
        "Rgap2": ([1000, 200], [1000, 200], [0.9, 0.8], [0.1, 0.2], none, none, 0.02),  # a gap kept
        "Rgap10": ([1000, 200], [1000, 200], [0.9, 0.8], [0.1, 0.2], none, none, 0.10),
        "Rboth": ([400, 100], [400, 100], [0.9, 0.8], [0.1, 0.2], -0.08, 0.08, 0.02),
    }  # fmt: skip


def clusters():
    """Several images a patient; random effects of patients on labels, decisions and flips."""
    two = {"share": [0.85, 0.15], "prev": 0.3}
    few = {"fixed": [50, 50], "prev": 0.4}
    lost = {"dt": [0, -0.1], "df": [0, 0.1]}
    return {
        "D0": {**two, "patients": 600, "icc": 0.3, "images": 5},
        "D1": {**two, "patients": 600, "icc": [0.05, 0.6], "images": 5},
        "D2": {**two, "patients": 600, "icc": [0.6, 0.05], "images": 5},
        "D3": {"share": [0.8, 0.2], "prev": 0.3, "patients": 300, "icc": [0.05, 0.6], "images": 15},
        "D4": {**two, "patients": 600, "icc": 0.3, "images": [2, 8]},
        "D5": {"share": [0.55, 0.2, 0.1, 0.07, 0.05, 0.03], "prev": 0.2, "patients": 3000, "icc": 0.3, "images": 4},
        "E1": {**few, "icc": 0.1, "images": 60, "t": [0.85, 0.65]},
        "E2": {**few, "icc": 0.1, "images": 30, "t": [0.85, 0.65]},
        "E3": {**few, "icc": 0.1, "images": 60},
        "E4": {"fixed": [40, 20], "prev": 0.4, "icc": 0.2, "images": 60},
        "E5": {"fixed": [60, 25], "prev": 0.4, "icc": 0.3, "images": 10, "t": 0.85, "f": 0.15, "dt": [0, -0.05],
               "df": [0, 0.05], "base": 1e-4},
        "E6": {"fixed": [60, 25], "prev": 0.4, "icc": 0.3, "images": 10, "t": 0.95, "f": 0.05, "base": 0.01},
        "E7": {"fixed": [300, 60], "prev": 0.4, "icc": 0.3, "images": 3, "t": 0.85, "f": 0.15, "dt": -0.1, "df": 0.1},
        "E8": {"fixed": [300, 60], "prev": 0.4, "icc": 0.3, "images": 3, "t": 0.85, "f": 0.15, **lost},
        "E9": {"fixed": [300, 60], "prev": 0.4, "icc": 0.3, "images": 3, "t": [0.85, 0.7], "f": [0.15, 0.3], **lost},
        "E10": {"share": [0.2, 0.15, 0.12, 0.1, 0.1, 0.08, 0.06, 0.05, 0.05, 0.04, 0.03, 0.02], "prev": 0.4,
                "patients": 1500, "icc": 0.3, "images": 3},
        "Q10": {**few, "icc": 0.2, "images": 10},
        "Q30": {"fixed": [60, 30], "prev": 0.4, "icc": 0.2, "images": 30, "dt": -0.08, "df": 0.08, "base": 0.02},
    }  # fmt: skip


def means():
    """Dice and PSNR of patients: sizes of groups, and a law for the values of both sources."""
    six = [200, 100, 60, 40, 30, 25]
    return {
        "M1": ([40, 40], "normal", {"sd": 0.12, "change": [0, -0.02], "own": 0.01}),
        "M2": ([40, 25], "normal", {"sd": 0.12, "change": [0, -0.03], "own": 0.02}),
        "M3": ([60, 60], "normal", {"sd": 3, "change": [0, -0.4], "own": 0.3}),
        "M4": ([40] * 3, "normal", {"sd": 0.12, "change": [0, 0, -0.03], "own": 0.02}),
        "M5": ([40, 25], "normal", {"sd": 2.5, "change": [0, -0.5], "own": 0.4}),
        "M6": ([100, 25], "normal", {"sd": [1, 4], "change": 0, "own": 0.5}),
        "M7": (six, "normal", {"sd": 2.5, "change": 0, "own": 0.4}),
        "M8": (six, "normal", {"sd": 2.5, "change": -0.5, "own": 0.4}),
        "M9": ([60, 40], "normal", {"sd": 2.5, "gap": [1, 0], "change": [0, -1], "own": 0.4}),
        "H1": ([200, 25], "beta", {"sd": [0.05, 0.25]}),
        "H2": ([200, 25], "beta", {"sd": [0.25, 0.05]}),
        "H3": ([200, 40], "beta", {"sd": [0.08, 0.16]}),
        "H4": ([20, 20], "beta", {"sd": [0.2, 0.2], "mean": 0.9}),
        "H5": ([300, 100, 60, 40, 30, 25], "beta", {"sd": [0.1] * 6}),
        "G1": ([20, 20], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "G2": ([30, 30], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "G3": ([60, 60], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "G4": ([100, 100], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "G5": ([200, 200], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "G6": ([400, 400], "rare", {"share": [0, 1 / 15], "lost": 0.8}),
        "L1": ([100, 60], "logit", {"level": [2, 2], "loss": 0}),
        "L2": ([25, 20], "logit", {"level": [2, 2], "loss": 0}),
        "L3": ([100, 60], "logit", {"level": [2, 2], "loss": 0.8}),
        "L4": ([100, 60], "logit", {"level": [2.4, 1.6], "loss": 0}),
        "L5": ([100, 60], "logit", {"level": [2, 2], "loss": [0, 0.3]}),
        "L6": ([100, 60], "logit", {"level": [2, 2], "loss": [0.8, 1.1]}),
        "L7": ([25, 20], "logit", {"level": [2, 2], "loss": [0, 0.5]}),
        "L8": ([40, 25, 20], "logit", {"level": [2, 1.6, 2], "loss": [0, -0.4, 0.4]}),
        "L9": (six, "logit", {"level": [2] * 6, "loss": 0.8}),
        "L10": ([40, 40], "logit", {"level": [2, 2], "loss": [1.6, 1.9]}),
    }  # fmt: skip


def aurocs():
    """Binormal scores: positives and negatives by group, AUROC of both sources, their correlation, images a patient."""
    return {
        "U1": ([30] * 2, [100] * 2, 0.95, 0.95, 0.85, 1),
        "U2": ([20] * 2, [60] * 2, 0.99, 0.99, 0.85, 1),
        "U3": ([400, 20], [2000, 80], 0.95, 0.95, 0.85, 1),
        "U4": ([200, 40], [800, 100], 0.99, 0.99, 0.85, 1),
        "U5": ([60] * 3, [200] * 3, 0.85, 0.80, 0.85, 1),
        "U6": ([100, 40], [300, 100], 0.95, [0.95, 0.91], 0.85, 1),
        "U7": ([20] * 2, [20] * 2, 0.997, [0.997, 0.975], 0.85, 1),
        "U8": ([100, 40], [300, 100], [0.9, 0.8], [0.9, 0.8], 0.9, 1),
        "U9": ([120, 50], [360, 150], 0.85, 0.85, 0.85, 4),
        "U10": ([200, 80, 50, 40, 30, 25], [400, 200, 100, 80, 60, 50], 0.85, 0.85, 0.85, 1),
        "U11": ([60] * 2, [200] * 2, 0.9, [0.9, 0.88], 0.995, 1),
    }


def crossed():
    """Cross-fitted binormal scores, described as those of `aurocs`."""
    return {
        "X1": ([60, 40], [200, 120], 0.85, 0.85, 0.85, 1),
        "X2": ([60] * 3, [200] * 3, 0.85, [0.85, 0.85, 0.78], 0.85, 1),
        "X3": ([120, 50], [360, 150], [0.85, 0.75], [0.85, 0.75], 0.85, 4),
    }


def cohorts():
    """Two or six groups with 1 to 5 images a patient: TPR and FPR of original and source, patients, prevalence."""

    def level(groups, worse=None, by=0.0, everywhere=0.0):
        steps = np.linspace(0, 1, groups) if worse == "steps" else np.arange(groups) == worse
        return np.array([0.8 - everywhere - by * steps, 0.2 + everywhere + by * 2 / 3 * steps])

    found = {}
    for k in (2, 6):
        for size in ({}, {"prevalence": 0.05}, {"patients": 500}):
            name = "".join(f"_{key}_{value}" for key, value in size.items())
            worse = 2 if k == 6 and "patients" not in size else 1  # a group large enough to be kept
            none, some, more = level(k), level(k, worse, 0.102), level(k, worse, 0.162)
            found[f"{k}_none{name}"] = none, none, size
            found[f"{k}_same{name}"] = more, more, size
            found[f"{k}_more{name}"] = some, more, size
            found[f"{k}_from_0_to_10{name}"] = none, level(k, worse, 0.12), size
        for special in ("uneven", "validated"):
            found[f"{k}_none_{special}"] = level(k), level(k), {special: True}
            found[f"{k}_from_0_to_10_{special}"] = level(k), level(k, 1, 0.12), {special: True}
        found[f"{k}_from_0_to_05"] = level(k), level(k, k // 2, 0.06), {}
        found[f"{k}_all_worse"] = level(k), level(k, everywhere=0.1), {}
    found["6_other_group"] = level(6, 2, 0.15), level(6, 3, 0.15), {}
    found["6_from_10_to_0"] = level(6, 3, 0.12), level(6), {}
    found["6_from_0_to_10_group_of_5_percent"] = level(6), level(6, 3, 0.12), {}
    found["6_from_0_to_10_group_of_2_percent"] = level(6), level(6, 4, 0.12), {}
    found["6_from_0_to_10_in_steps"] = level(6), level(6, "steps", 0.15), {}
    return found


# --- one study: what is covered, rejected and claimed, by metric ---


def rate_study(rng, positives, negatives, tpr, fpr, d_tpr, d_fpr, flip):
    groups = len(positives)
    truth = [np.array([np.broadcast_to(one, groups) for one in both], float) for both in ((tpr, fpr), (d_tpr, d_fpr))]
    cells = [(y, g, n) for y, sizes in ((0, positives), (1, negatives)) for g, n in enumerate(sizes)]
    which, group, size = np.array(cells).T
    row, group = np.repeat(which, size), np.repeat(group, size)
    rate, change = truth[0][row, group], truth[1][row, group]
    before = rng.random(row.size) < rate
    up, down = flip / 2 + np.maximum(change, 0), flip / 2 + np.maximum(-change, 0)
    turned = rng.random(row.size) < np.where(before, down / np.maximum(rate, 1e-12), up / np.maximum(1 - rate, 1e-12))
    names = tuple(LABELS) if groups == 2 else ("eodd", "eop", "fpr_gap")
    return judged_rates(1 - row, np.arange(row.size), group, before, before ^ turned, truth[0], sum(truth), names)


def cluster_study(
    rng, *, images, icc, prev, patients=0, share=None, fixed=None, t=0.8, f=0.2, dt=0.0, df=0.0, base=0.03
):
    groups = len(fixed or share)
    images, icc, prev, t, f, dt, df = (
        np.broadcast_to(one, groups).astype(float) for one in (images, icc, prev, t, f, dt, df)
    )
    of = np.repeat(np.arange(groups), fixed) if fixed else rng.choice(groups, patients, p=share)
    patient = np.repeat(np.arange(of.size), 1 + rng.poisson(np.maximum(images[of] - 1, 1e-9)))

    def effect(mean, correlation):
        mean, spread = np.clip(mean, 1e-6, 1 - 1e-6), (1 - correlation) / correlation
        return rng.beta(mean * spread, (1 - mean) * spread)[patient]

    label = (rng.random(patient.size) < rng.beta(2 * prev[of], 2 * (1 - prev[of]))[patient]).astype(int)
    draw = rng.random(patient.size)
    before = np.where(label == 1, draw < effect(t[of], icc[of]), draw < effect(f[of], icc[of]))
    after, draw = before.copy(), rng.random(patient.size)
    for y, mean, change in ((1, t, dt), (0, f, df)):
        gain = effect(((base / 2 + np.maximum(change, 0)) / (1 - mean))[of], 0.3)
        loss = effect(((base / 2 + np.maximum(-change, 0)) / mean)[of], 0.3)
        after = np.where(label == y, np.where(before, draw >= loss, draw < gain), after)
    return judged_rates(label, patient, of[patient], before, after, np.array([t, f]), np.array([t + dt, f + df]))


def mean_study(rng, sizes, law, options):
    group = np.repeat(np.arange(len(sizes)), sizes)
    before, after, truth = LAWS[law](rng, group, len(sizes), **options)
    units = Groups(np.arange(group.size), group, list(range(len(sizes))))
    log = law != "normal"
    p, q, d = (
        units.mean(value, log=scale).cells for value, scale in ((before, log), (after, log), (after - before, False))
    )
    name = "delta_dice" if log else "psnr_gap"
    rows = {name: judged([p], [q], [d], truth[:1], truth[1:])}
    if log:
        p, q = (units.log_error(value).cells for value in (before, after))
        d = units.log_error(after, other=before).cells
        error = np.log(1 - truth)
        rows["ser"] = judged([p], [q], [d], error[:1], error[1:])
    return rows


def normal_values(rng, group, groups, sd, change, own, gap=0.0):
    sd, change, gap = (np.broadcast_to(one, groups).astype(float) for one in (sd, change, gap))
    shared = 0.7 + gap[group] + sd[group] * rng.normal(size=group.size)
    before, after = (shared + own * rng.normal(size=group.size) for _ in range(2))
    return before, after + change[group], np.array([0.7 + gap, 0.7 + gap + change])


def beta_values(rng, group, groups, sd, mean=0.85):
    size = mean * (1 - mean) / np.asarray(sd)[group] ** 2 - 1
    before = rng.beta(mean * size, (1 - mean) * size)
    after = before + 0.02 * before * (1 - before) * rng.normal(size=group.size)
    return before, after, np.full((2, groups), mean)


def rare_values(rng, group, groups, share, lost):
    """A few patients of a group lose much; everyone else keeps the Dice, but for a little noise."""
    share = np.broadcast_to(share, groups).astype(float)
    before = rng.beta(8, 2, group.size)
    after = before + 0.03 * before * (1 - before) * rng.normal(size=group.size)
    after = np.where(rng.random(group.size) < share[group], (1 - lost) * after, after)
    return before, after, 0.8 * np.array([np.ones(groups), 1 - share * lost])


def logit_values(rng, group, groups, level, loss, between=0.6, own=0.35, slices=3):
    level, loss = (np.broadcast_to(one, groups).astype(float) for one in (level, loss))
    patient = level[group] + between * rng.normal(size=group.size)
    shared = patient[:, None] + 0.5 * rng.normal(size=(group.size, slices))
    values = [
        1 / (1 + np.exp(-(shared - lost[group][:, None] + own * rng.normal(size=shared.shape))))
        for lost in (0 * loss, loss)
    ]
    z = norm.ppf((np.arange(20000) + 0.5) / 20000) * np.sqrt(between**2 + 0.25 + own**2)
    truth = [[(1 / (1 + np.exp(-(one + z)))).mean() for one in center] for center in (level, level - loss)]
    return values[0].mean(axis=1), values[1].mean(axis=1), np.array(truth)


LAWS = {"normal": normal_values, "beta": beta_values, "logit": logit_values, "rare": rare_values}


def auroc_study(rng, *given):
    label, patient, group, scores, truth, _ = binormal(rng, *given)
    units = grouped(patient, group, truth.shape[1])
    p, q = (units.auroc(score, label) for score in scores)
    return {"auroc_gap": judged([p.cells], [q.cells], [units.auroc_change(q, p)], truth[:1], truth[1:])}


def crossed_study(rng, *given):
    """Every patient is tested in one of three folds; its models have a scale, a shift, and a threshold that errs."""
    label, patient, group, scores, truth, apart = binormal(rng, *given)
    groups = truth.shape[1]
    patient = np.unique(patient, return_inverse=True)[1]
    fold = (rng.permutation(patient.max() + 1) % 3)[patient]
    units, cut = grouped(patient, group, groups), 0.9 + rng.normal(0, 0.2, 3)
    scaled = [np.exp(score * np.array([0.3, 0.5, 0.9])[fold] + np.array([-1, 0, 2])[fold]) for score in scores]
    p, q = (units.auroc(score, label, fold) for score in scaled)
    result = {"auroc_gap": judged([p.cells], [q.cells], [units.auroc_change(q, p)], truth[:1], truth[1:])}
    called = [score >= cut[fold] for score in scores]
    # The rates of these models: that of each fold counts as often as cases of the group are in it.
    shares = [[np.bincount(fold[(group == g) & (label == y)], minlength=3) for g in range(groups)] for y in (1, 0)]
    rates = [
        np.array([[np.average(norm.sf(cut - y * apart[k, g]), weights=shares[1 - y][g]) for g in range(groups)]
                  for y in (1, 0)])
        for k in (0, 1)
    ]  # fmt: skip
    return result | judged_rates(label, units.patient, group, *called, *rates, names=("eodd",))


def binormal(rng, positives, negatives, before, after, correlation, images):
    """Labels, patients and groups of rows, scores of both sources, true AUROC and distance of the means, (2, K)."""
    groups = len(positives)
    truth = np.array([np.broadcast_to(one, groups) for one in (before, after)], float)
    group = np.repeat(np.arange(groups), np.add(positives, negatives))
    label = np.concatenate([np.repeat([1, 0], pair) for pair in zip(positives, negatives, strict=True)])
    patient = np.arange(group.size)
    if images > 1:
        size = (np.add(positives, negatives) // images)[group]
        patient = np.unique(rng.integers(0, size) + 100000 * group, return_inverse=True)[1]
    clustered = 0.4 if images > 1 else 0.0
    noise = np.sqrt(clustered) * rng.normal(size=patient.max() + 1)[patient]
    noise = noise + np.sqrt(correlation - clustered) * rng.normal(size=group.size)
    apart = np.sqrt(2) * norm.ppf(truth)
    scores = [apart[k][group] * label + noise + np.sqrt(1 - correlation) * rng.normal(size=group.size) for k in (0, 1)]
    return label, patient, group, scores, truth, apart


def cohort_study(rng, original, source, options):
    """A cohort of `simulate`; also the swap test and the paper's bootstrap."""
    groups, patients = original.shape[1], options.get("patients", 6667)
    uneven = np.linspace(0.6, 1.4, groups) if "uneven" in options else np.ones(groups)
    prevalence = dict(enumerate(options.get("prevalence", 0.2) * uneven))
    share = dict(enumerate([0.55, 0.45] if groups == 2 else PROPORTIONS))

    def draw(size):
        frame = simulate(patients=size, share=share, prevalence=prevalence, separation=0, seed=rng)
        cell = 1 - frame["label"].astype(int), frame["group"].astype(int)
        for column, rate in (("score", original), ("score_source", source)):
            frame[column] = norm.ppf(frame[column]) + norm.ppf(rate)[cell]
        return frame

    cut = threshold(draw(patients // 4)) if "validated" in options else 0.0
    frame = draw(patients)
    truth = [norm.cdf(norm.ppf(rate) - cut) for rate in (original, source)]
    columns = (frame[name].to_numpy() for name in ("label", "patient_id", "group"))
    decisions = (frame[name].to_numpy() >= cut for name in ("score", "score_source"))
    return judged_rates(*columns, *decisions, *truth, names=["eodd"], extra=True)


def threshold(frame):
    """Threshold at which sensitivity and specificity of the original come closest."""
    scores = np.sort(frame["score"])
    below = [np.searchsorted(np.sort(own), scores) / own.size for _, own in frame.groupby("label")["score"]]
    return scores[np.abs(below[0] + below[1] - 1).argmin()]


def grouped(patient, group, groups):
    """Rows, patients and groups as the engine has them: patients of a group stand together."""
    patient = np.unique(patient, return_inverse=True)[1]
    of = np.empty(patient.max() + 1, int)
    of[patient] = group
    order = np.argsort(of, kind="stable")
    return Groups(np.argsort(order)[patient], of[order], list(range(groups)))


def judged_rates(label, patient, group, before, after, p, q, names=("eodd", "eop", "fpr_gap"), extra=False):
    """Judge TPR and FPR of the groups with enough patients of both labels; p and q are the truth, (2, K)."""
    group, label = np.asarray(group, int), np.asarray(label, int)
    carry = [[np.unique(patient[(label == y) & (group == g)]).size for g in range(p.shape[1])] for y in (1, 0)]
    kept = np.flatnonzero(np.min(carry, axis=0) >= FEWEST)
    if kept.size < 2:
        return {}
    rows = np.isin(group, kept)
    group, p, q = np.searchsorted(kept, group[rows]), p[:, kept], q[:, kept]
    label, before, after = label[rows], before[rows], after[rows]
    units = grouped(patient[rows], group, kept.size)
    old, new = ([units.rate(called, label == y) for y in (1, 0)] for called in (before, after))
    changed = [units.rate_change(after, before, label == y) for y in (1, 0)]
    pairs = [[one.residual for one in old], [one.residual for one in new]]
    pairs.append([b - a for a, b in zip(*pairs, strict=True)])
    correlations = [units.correlation(*pair) for pair in pairs]
    result = {}
    for name in names:
        at = LABELS[name]
        cells = [[some[k].cells for k in at] for some in (old, new)] + [[changed[k] for k in at]]
        combine = "worst_case" if name == "worst_case" else "mean"
        result[name] = judged(*cells, p[list(at)], q[list(at)], correlations if len(at) == 2 else None, combine)
    if extra:
        result["eodd"] |= swap_and_paper(units, label, before, after, old, new)
    return result


def swap_and_paper(units, label, before, after, old, new):
    """p of the exchange of sources and of the paper's bootstrap, each at 0.05."""
    parts = np.stack([b.parts(units.group) - a.parts(units.group) for a, b in zip(old, new, strict=True)], axis=1)
    seed = int(label.sum())
    moved = resampling.exchanged(parts, units.group, len(units.names), resamples=199, seed=seed)
    middle = np.stack([(a.cells.value + b.cells.value) / 2 for a, b in zip(old, new, strict=True)], axis=1)
    each = [eodd(tpr=rate[..., 0], fpr=rate[..., 1]) for rate in (middle + moved / 2, middle - moved / 2)]
    away = np.abs(each[0] - each[1])
    rows = {"label": label, "patient": units.patient, "group": units.group[units.patient]}
    drawn = resampling.bootstrap(
        resampling.tabulate(**rows, decision=after, reference=before), resamples=299, seed=seed
    )
    paper = resampling.shift(*(eodd(tpr=drawn[:, arm, 0], fpr=drawn[:, arm, 1]) for arm in (0, 1)))
    return {"swap": (away >= away[0] - 1e-6).mean() <= 0.05, "paper": paper["p"] <= 0.05}


def judged(before, after, change, p, q, correlations=None, combine="mean"):
    """What the engine says of one gap, against the truth p and q of the groups, (labels, K)."""
    within = None if correlations is None else correlations[1]
    gap = gaps.disparity(after, within, combine=combine)
    moved = gaps.shift(before, after, change, correlations, combine=combine)
    fold = np.max if combine == "worst_case" else np.mean
    now, shifted, unequal = (
        fold(np.ptp(q, axis=1)),
        fold(np.ptp(q, axis=1)) - fold(np.ptp(p, axis=1)),
        fold(np.ptp(q - p, axis=1)),
    )
    z, tiny = norm.ppf((1 + 0.95 ** (1 / q.size)) / 2), 1e-9
    limits = [cell.limits(z) for cell in change]
    grew, fell = moved["shift_low"] > 0, moved["shift_high"] < 0
    return {
        "true_gap": now,
        "true_shift": shifted,
        "true_unequal": unequal,
        "cover_gap": gap["low"] - tiny <= now <= gap["high"] + tiny,
        "reject_gap": gap["p"] <= 0.05,
        "cover_shift": moved["shift_low"] - tiny <= shifted <= moved["shift_high"] + tiny,
        "verdict": grew or fell,
        "wrong": (grew and shifted < -tiny) or (fell and shifted > tiny),
        "reject_unequal": moved["p_unequal"] <= 0.05,
        "false_equivalence": moved["bound"] < unequal - tiny,
        "cover_change": all(
            np.all((low - tiny <= d) & (d <= high + tiny)) for (low, high), d in zip(limits, q - p, strict=True)
        ),
        "length_gap": gap["high"] - gap["low"],
        "length_shift": moved["shift_high"] - moved["shift_low"],
        "groups": q.shape[1],
    }


FAMILIES = (
    (rates, rate_study),
    (clusters, cluster_study),
    (means, mean_study),
    (aurocs, auroc_study),
    (crossed, crossed_study),
    (cohorts, cohort_study),
)


def scenarios():
    """By name: how one study is drawn and judged."""
    return {name: (study, given) for make, study in FAMILIES for name, given in make().items()}


# --- many studies ---


def chunk(name, number, size, todo=None):
    """Sums over some studies of a scenario by metric; their seed depends on its name and the number alone."""
    study, given = (todo or scenarios())[name]
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), number])
    rows = []
    for _ in range(size):
        one = study(rng, **given) if isinstance(given, dict) else study(rng, *given)
        rows += [{"metric": metric, "studies": 1, **told} for metric, told in one.items()]
    if not rows:
        return []
    sums = pd.DataFrame(rows).set_index("metric").astype(float).groupby("metric", sort=False).sum()
    return [
        {"scenario": name, "metric": metric, "chunk": number, **row}
        for metric, row in sums.round(6).to_dict("index").items()
    ]


def run(studies, minutes, only):
    """Run what is not yet in the results, all scenarios in turn; each chunk is appended as soon as it is finished."""
    known, start = scenarios(), time.monotonic()
    finished = load()
    counts = finished.groupby(["scenario", "chunk"]).size().index if len(finished) else ()
    for number in range(-(-studies // CHUNK)):
        for name in known:
            if (name, number) in counts or not name.startswith(only):
                continue
            if time.monotonic() - start > 60 * minutes:
                return
            lines = pd.DataFrame(chunk(name, number, CHUNK, known), columns=COLUMNS)
            lines.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)


COLUMNS = [
    "scenario",
    "metric",
    "chunk",
    "studies",
    "true_gap",
    "true_shift",
    "true_unequal",
    "cover_gap",
    "reject_gap",
]
COLUMNS += ["cover_shift", "verdict", "wrong", "reject_unequal", "false_equivalence", "cover_change", "length_gap"]
COLUMNS += ["length_shift", "groups", "swap", "paper"]


def load():
    """Lines kept so far; one that an interruption cut short is removed."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    if whole := text[: text.rfind("\n") + 1]:
        if whole != text:
            RESULTS.with_suffix(".tmp").write_text(whole)
            RESULTS.with_suffix(".tmp").replace(RESULTS)
        return pd.read_csv(RESULTS)
    return pd.DataFrame(columns=COLUMNS)


def summary(lines):
    """By scenario and metric the studies, and shares or means over them."""
    sums = lines.drop(columns="chunk").groupby(["scenario", "metric"], sort=False).sum(min_count=1)
    return sums.div(sums["studies"], axis=0).assign(studies=sums["studies"])


def aims(table):
    """The printed lines: name, value, scenario, Monte-Carlo error, studies."""
    metric, name = table.index.get_level_values("metric"), table.index.get_level_values("scenario")
    cohort = name.str.contains("_")
    small, rare = (metric == "ser") & name.isin(["H4"]), name.isin(["G1", "G2", "G3", "G4", "G5"])
    nothing = np.nan, "no scenario yet", np.nan, 0

    def worst(column, rows, least):
        some = table.loc[rows & table[column].notna(), column]
        if some.empty:
            return nothing
        at = some.idxmin() if least else some.idxmax()
        return line(some[at], table.loc[at, "studies"], " ".join(at))

    def line(share, studies, where):
        return share, where, np.sqrt(max(share * (1 - share), 0) / studies), int(studies)

    def pooled(column, rows):
        some = table[rows & table[column].notna()]
        if some.empty:
            return nothing
        return line(np.average(some[column], weights=some["studies"]), some["studies"].sum(), f"{len(some)} scenarios")

    every = np.ones(len(table), bool)
    yield "coverage_shift_worst", worst("cover_shift", ~rare, True)
    yield "coverage_change_worst", worst("cover_change", ~small & ~rare, True)
    if small.any():
        yield "coverage_change_ser_20", worst("cover_change", small, True)
    if rare.any():
        yield "coverage_shift_rare", worst("cover_shift", rare, True)
        yield "coverage_change_rare", worst("cover_change", rare, True)
        yield "false_equivalence_rare", worst("false_equivalence", rare, False)
    yield "coverage_eodd_worst", worst("cover_gap", every, True)
    yield "false_equivalence_worst", worst("false_equivalence", (table["true_unequal"] > 1e-6) & ~rare, False)
    yield "wrong_sign_worst", worst("wrong", every, False)
    yield "size_disparity_worst", worst("reject_gap", table["true_gap"] < 1e-6, False)
    yield "size_unequal_worst", worst("reject_unequal", (table["true_unequal"] < 1e-6) & (metric != "ser"), False)
    yield "size_unequal_ser_worst", worst("reject_unequal", (table["true_unequal"] < 1e-6) & (metric == "ser"), False)
    before = pd.read_csv(BEFORE).set_index(["scenario", "metric"])
    loose = [at for at in (("S4", "eodd"), ("S9", "eodd"), ("S10", "eodd"), ("L4", "delta_dice")) if at in table.index]
    ratio = {at: table.loc[at, "length_shift"] / before.loc[at, "length_shift"] for at in loose}
    if ratio:
        longest = max(ratio, key=ratio.get)
        error = ratio[longest] * before.loc[longest, "se"] / before.loc[longest, "length_shift"]
        yield "interval_length_ratio", (ratio[longest], " ".join(longest), error, int(table.loc[longest, "studies"]))
    for aim, column, wanted in (
        ("power_shift_verdict", "verdict", (("S9", "eodd"), ("S10", "eodd"), ("S17", "eodd"))),
        (
            "power_unequal",
            "reject_unequal",
            (("J2", "eodd"), ("J6", "eodd"), ("S11", "eodd"), ("L6", "delta_dice"), ("L6", "ser")),
        ),
    ):
        some = table.index.isin(wanted)
        yield aim, worst(column, some, True)
        for at in table.index[some]:
            yield f"{aim}_{at[0]}_{at[1]}", line(table.loc[at, column], table.loc[at, "studies"], " ".join(at))
    same, none = table["true_unequal"] < 1e-9, table["true_gap"] < 1e-9
    still = same & ~name.str.contains("all_worse")
    for k in ("2", "6"):
        rows = cohort & name.str.startswith(k)
        yield f"type1_swap_{k}", pooled("swap", rows & still)
        yield f"type1_permutation_{k}", pooled("reject_gap", rows & none)
        yield f"coverage_shift_{k}", pooled("cover_shift", rows)
        yield f"coverage_eodd_{k}", pooled("cover_gap", rows)
    yield "false_equivalence", pooled("false_equivalence", cohort & (table["true_shift"].abs() > 1e-9))
    yield "type1_paper_2", pooled("paper", cohort & name.str.startswith("2") & still & none)


# What each printed line is about, its aim, and whether it is a lower (1) or an upper (-1) bound.
AIMS = {
    "coverage_shift_worst": ("limits hold the true shift of the gap", 0.93, 1),
    "coverage_shift_rare": ("the same, of Dice, where few patients lose much", 0.93, 1),
    "coverage_change_worst": ("limits hold the true changes of all groups", 0.92, 1),
    "coverage_change_ser_20": ("the same, of SER with 20 patients a group", 0.92, 1),
    "coverage_change_rare": ("the same, of Dice, where few patients lose much", 0.92, 1),
    "coverage_eodd_worst": ("limits hold the true gap", 0.93, 1),
    "false_equivalence_worst": ("a bound is below the true unequal change", 0.07, -1),
    "false_equivalence_rare": ("the same, of Dice, where few patients lose much", 0.07, -1),
    "wrong_sign_worst": ("a gap is said to grow or fall, with the wrong sign", 0.025, -1),
    "size_disparity_worst": ("equal groups are found to differ", 0.08, -1),
    "size_unequal_worst": ("equal changes are found unequal", 0.08, -1),
    "size_unequal_ser_worst": ("the same, of SER", 0.08, -1),
    "interval_length_ratio": ("length of the shift's limits against version 0.1.0", 1.4, -1),
}


def markdown(table):
    """The table of docs/results.md and the power, from the lines of `aims`."""
    columns = ["share of studies, worst scenario", "aim", "measured", "met", "scenario", "error", "studies"]
    lines, printed = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"], dict(aims(table))
    for name, (what, aim, side) in AIMS.items():
        value, where, error, studies = printed.get(name, (np.nan, "", np.nan, 0))
        if np.isfinite(value):
            over = side * (value - aim)
            met = "yes" if over >= 0 else "within two errors" if over >= -2 * error else "**no**"
            bound = "at least" if side > 0 else "at most"
            cells = what, f"{bound} {aim:g}", f"{value:.3f}", met, where.replace("_", " "), f"{error:.3f}", str(studies)
            lines.append(f"| {' | '.join(cells)} |")
    power = {"power_shift_verdict_": "a shift is found", "power_unequal_": "unequal change is found"}
    for start, what in power.items():
        some = {where: value for name, (value, where, *_) in printed.items() if name.startswith(start)}
        found = ", ".join(f"{value:.2f} in {where.replace('_', ' ')}" for where, value in some.items())
        lines += ["", f"Power, {what}: {found}."]
    return "\n".join(lines)


def written(page, table):
    """A page whose calibration table, between two comments, is that of the counts."""
    first, last = "<!-- calibration: written by benchmarks/calibration.py --markdown -->", "<!-- end of calibration -->"
    head, rest = page.split(first)
    return f"{head}{first}\n\n{markdown(table)}\n\n{last}{rest.split(last)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES, help="studies per scenario")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; a later call goes on")
    parser.add_argument("--only", default="", help="scenarios whose name begins so")
    parser.add_argument("--quick", action="store_true", help="rerun 30 studies, stored nowhere; print the kept values")
    parser.add_argument("--markdown", action="store_true", help="write the table of docs/results.md; run nothing")
    arguments = parser.parse_args()
    if arguments.markdown:
        PAGE.write_text(written(PAGE.read_text(), summary(load())))
        return
    if arguments.quick:
        some = [line for name in ("J1", "S9", "D1") for line in chunk(name, 10**6, 10)]
        print(summary(pd.DataFrame(some)).round(3).to_string(), end="\n\n")
    else:
        run(arguments.studies, arguments.minutes, arguments.only)
    table = summary(load())
    print(table.round(3).to_string(), end="\n\n")
    for aim, (value, where, error, studies) in aims(table):
        print(f"{aim}={value:.4f}  {where}; Monte-Carlo error {error:.4f}; {studies} studies")


if __name__ == "__main__":
    main()
