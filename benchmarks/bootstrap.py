"""How fast is the inference? Against a pandas loop, against fairlearn, and over the whole grid of the paper.

    python benchmarks/bootstrap.py

Resampling: 1,000 paired resamples of the EODD of two sources, 20,000 images, six groups in CheXpert's
proportions, one image per patient; and the same with 1 to 5 images per patient ("clustered"). Ours draws with
two threads. The pandas loop draws patients, takes their rows and groups them; fairlearn's
`MetricFrame(n_boot=...)` draws rows, one frame per source. Both are timed on a few resamples and scaled to 1,000.
What is done once is left out on all sides: a frame with its index there, `tabulate` here, whose time is printed.

Grid: 45,000 images of 13,000 patients, 12 findings, 14 arms (original, noisy, three models with four
strategies), three attributes of 2, 2 and 6 groups, from arrays of scores in memory to the tables of `assess`:
every measure of every group with its changes, every gap with its shifts, tests and bounds, 1,000 draws where
draws remain (AUPRC and the exchange of sources). Two processes share the findings. `grid_cpu_seconds` is the
processor time of both; unlike `grid_seconds`, it hardly depends on what else the machine does. Peak memory is the
sum of all processes' own peaks, so shared pages count more than once.

Aims: `grid_seconds` at most 60 on two idle cores, `grid_peak_gb` at most 3, `bootstrap_vs_pandas` at least 1000.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before NumPy: one thread per process

import resource
from time import perf_counter, process_time

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, false_positive_rate, true_positive_rate
from joblib import Parallel, delayed

from reconfair.fairness import assess
from reconfair.fairness.metrics import eodd
from reconfair.fairness.resampling import bootstrap, tabulate
from reconfair.fairness.simulation import simulate

B = 1000
RACE = dict(zip("abcdef", np.array([176, 6936, 3093, 861, 9634, 36110]) / 56810, strict=True))
PREVALENCE = [0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3, 0.4, 0.5]
ARMS = [
    "original",
    "noisy",
    *(f"{m}_{s}" for m in ("unet", "gan", "sde") for s in ("standard", "reweight", "eodd", "adv")),
]


def seconds(function, *arguments, repeat=1):
    """Shortest time of a call."""
    times = []
    for _ in range(repeat):
        start = perf_counter()
        function(*arguments)
        times.append(perf_counter() - start)
    return min(times)


def ours(tabulated):
    """EODD of two sources in resamples of patients, (1 + B, 2)."""
    rates = bootstrap(tabulated, resamples=B)
    return eodd(tpr=rates[:, :, 0], fpr=rates[:, :, 1])


def pandas_loop(rows, resamples):
    """The same, one resample after the other, (resamples, 2)."""
    rng, patients, draws = np.random.default_rng(0), rows.index.unique(), []
    for _ in range(resamples):
        sample = rows.loc[rng.choice(patients, patients.size)]
        rates = sample.groupby(["label", "group"])[["decision", "reference"]].mean().unstack("group")
        draws.append([np.ptp(rates[source].to_numpy(), axis=1).mean() for source in ("decision", "reference")])
    return np.array(draws)


def fairlearn_frames(rows, resamples):
    """TPR and FPR of two sources by group in resamples of rows."""
    both = {"tpr": true_positive_rate, "fpr": false_positive_rate}
    given = {"y_true": rows["label"], "sensitive_features": rows["group"], "random_state": 0}
    for source in ("decision", "reference"):
        MetricFrame(metrics=both, y_pred=rows[source], n_boot=resamples, ci_quantiles=[0.025, 0.975], **given)


def resampling(images, few=20, fewer=4):
    """How many times as long pandas and fairlearn take."""
    table = simulate(patients=int(20_000 / np.mean(images)), share=RACE, images=images, seed=0)
    rows = table.rename(columns={"patient_id": "patient"})[["patient", "group", "label"]]
    rows = rows.assign(decision=table["score_source"] >= 0.75, reference=table["score"] >= 0.75)
    tabulated, indexed = tabulate(**rows), rows.set_index("patient")
    spread = [draws.std(axis=0) for draws in (ours(tabulated), pandas_loop(indexed, 200))]
    assert np.allclose(*spread, rtol=0.25), "the loop does not draw what the counts draw"
    here, once = seconds(ours, tabulated, repeat=100), seconds(lambda: tabulate(**rows), repeat=5)
    loop = seconds(pandas_loop, indexed, few, repeat=10) * B / few
    frames = (seconds(fairlearn_frames, rows, fewer + 1) - seconds(fairlearn_frames, rows, 1)) * B / fewer
    print(f"{len(rows)} images, {images[0]} to {images[1]} per patient: {1000 * here:.1f} ms", end=", ")
    print(f"once {1000 * once:.1f} ms to tabulate", end=", ")
    print(f"pandas {loop:.1f} s (scaled from {few} resamples), fairlearn {frames:.0f} s (scaled from {fewer})")
    return loop / here, frames / here


def cohort(patients=13_000, images=45_000):
    """Arrays in memory: patient of each image, groups by attribute; labels, scores by arm and threshold by finding."""
    rng = np.random.default_rng(0)
    patient = np.sort(np.concatenate([np.arange(patients), rng.integers(patients, size=images - patients)]))
    race = rng.choice([*RACE, None], patients, p=[0.87 * share for share in RACE.values()] + [0.13])
    groups = {
        "sex": rng.choice(["f", "m"], patients),
        "age_group": rng.choice(["old", "young"], patients),
        "race": race,
    }
    findings = []
    for prevalence in PREVALENCE:
        label = (rng.random(images) < rng.beta(2 * prevalence, 2 * (1 - prevalence), patients)[patient]).astype(float)
        shared = 1.5 * label + 0.6 * rng.normal(size=patients)[patient] + 0.7 * rng.normal(size=images)
        score = {arm: 1 / (1 + np.exp(0.75 - shared - 0.4 * rng.normal(size=images))) for arm in ARMS}
        label[rng.random(images) < 0.03] = np.nan
        findings.append((label, score, 0.5))
    return patient, {name: group[patient] for name, group in groups.items()}, findings


def process():
    """Number and peak memory in GB of this process."""
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def finding(patient, groups, label, score, threshold):
    """Number of adjusted p-values in the tables of one finding, and what it and its process needed."""
    begun = process_time()
    known = {
        "unit": np.arange(patient.size),
        "patient_id": patient,
        "task": "finding",
        "kind": "classify",
        "label": label,
    }
    rows = []
    for arm, values in score.items():
        source, _, strategy = arm.partition("_")
        rows.append(pd.DataFrame(known).assign(source=source, strategy=strategy or "standard", score=values))
    people = pd.DataFrame(groups).assign(patient_id=patient)
    options = {"attributes": list(groups), "thresholds": {"finding": threshold}, "resamples": B}
    _, fairness = assess(pd.concat(rows, ignore_index=True), people, **options)
    return int(fairness.filter(like="adjusted").notna().sum().sum()), *process(), process_time() - begun


def grid(patient, groups, findings):
    """Number of adjusted p-values of the whole grid, the peak memory in GB, and the processor time in seconds."""
    done = Parallel(n_jobs=2)(delayed(finding)(patient, groups, *one) for one in findings)
    peaks = pd.DataFrame([process(), *(one[1:3] for one in done)]).groupby(0)[1].max()
    return sum(one[0] for one in done), peaks.sum(), sum(one[3] for one in done)


def main():
    data = cohort()
    start = perf_counter()
    adjusted, peak, busy = grid(*data)
    took = perf_counter() - start
    print(f"grid: {took:.1f} s; {adjusted} adjusted p-values")
    for name, images in {"": (1, 1), "_clustered": (1, 5)}.items():
        pandas, fairlearn = resampling(images)
        print(f"bootstrap_vs_pandas{name}={pandas:.0f}\nbootstrap_vs_fairlearn{name}={fairlearn:.0f}")
    print(f"grid_seconds={took:.1f}\ngrid_cpu_seconds={busy:.1f}\ngrid_peak_gb={peak:.2f}")


if __name__ == "__main__":
    main()
