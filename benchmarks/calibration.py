"""Do p-values and intervals for EODD and its shift keep what they promise? A simulation study.

    python benchmarks/calibration.py --quick    # within a minute, 30 studies a scenario: that it runs, no more
    python benchmarks/calibration.py            # 2,000 studies a scenario; killed and started again, it goes on

Patients of two or six unequal groups (CheXpert's proportions) have 1 to 5 images, labels and scores
of two sources (`reconfair.fairness.simulation`) that become decisions with given TPR and FPR, so the
truth is known in closed form. Groups with fewer than 20 patients of either label are left out, and
the truth is that of the groups kept. EODD is the mean of the two gaps; 299 resamples and 199
permutations a study. Every chunk of studies is a line of results/calibration.csv.

A table has all scenarios, another the aims: each pooled over studies, with its Monte-Carlo standard
error and the worst scenario. Last come the pooled shares as lines NAME=VALUE:

- ``type1_swap_K``: the swap test rejects (p <= 0.05); K groups, interchangeable sources.
- ``type1_permutation_K``: the permutation test of EODD rejects; K groups, none in the source.
- ``coverage_shift_K``, ``coverage_eodd_K``: the 95 % interval of the shift, of the source's EODD,
  holds the truth; all scenarios of K groups.
- ``false_equivalence``: "no change" is claimed for a margin that is just the true shift, the hardest
  margin; all scenarios with a shift.
- ``type1_paper_2``: the paper's paired bootstrap rejects; two groups, interchangeable, no disparity.
"""

import argparse
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed, parallel_config
from scipy.stats import norm
from tqdm import tqdm

from reconfair.fairness import resampling
from reconfair.fairness.counts import bootstrap, disparity, shift, tabulate
from reconfair.fairness.metrics import eodd
from reconfair.fairness.simulation import simulate

RESULTS = Path(__file__).parent / "results" / "calibration.csv"
CHUNK, SEED = 50, 2026
SHARE = {2: [0.55, 0.45], 6: np.array([36110, 9634, 6936, 3093, 861, 176]) / 56810}
LARGE, SMALL = 6667, 500  # patients


@dataclass(frozen=True)
class Scenario:
    """True TPR and FPR of the original and the source, (2, K), and the cohort they are seen in."""

    original: np.ndarray
    source: np.ndarray
    prevalence: float = 0.2
    patients: int = LARGE
    uneven: bool = False  # prevalence differs by group
    validated: bool = False  # the threshold is chosen on validation patients, a quarter as many


def rates(groups, worse=None, by=0.0, everywhere=0.0):
    """TPR 0.8 and FPR 0.2; in one group, or by steps over all, worse by `by` and two thirds of it."""
    steps = np.linspace(0, 1, groups) if worse == "steps" else np.arange(groups) == worse
    return np.array([0.8 - everywhere - by * steps, 0.2 + everywhere + by * 2 / 3 * steps])


def scenarios():
    """All scenarios by name: number of groups, what happens, and what is special about the cohort."""
    found = {}
    for k, size in product((2, 6), ({}, {"prevalence": 0.05}, {"patients": SMALL})):
        name = "".join(f"_{key}_{value}" for key, value in size.items())
        worse = 2 if k == 6 and "patients" not in size else 1  # a group large enough to be kept
        none, some, more = rates(k), rates(k, worse, 0.102), rates(k, worse, 0.162)
        found[f"{k}_none{name}"] = Scenario(none, none, **size)
        found[f"{k}_same{name}"] = Scenario(more, more, **size)
        found[f"{k}_more{name}"] = Scenario(some, more, **size)
        found[f"{k}_from_0_to_10{name}"] = Scenario(none, rates(k, worse, 0.12), **size)
    for k, special in product((2, 6), ("uneven", "validated")):
        found[f"{k}_none_{special}"] = Scenario(rates(k), rates(k), **{special: True})
        found[f"{k}_from_0_to_10_{special}"] = Scenario(rates(k), rates(k, 1, 0.12), **{special: True})
    for k in (2, 6):
        found[f"{k}_from_0_to_05"] = Scenario(rates(k), rates(k, k // 2, 0.06))
        found[f"{k}_all_worse"] = Scenario(rates(k), rates(k, everywhere=0.1))
    found["6_other_group"] = Scenario(rates(6, 2, 0.15), rates(6, 3, 0.15))
    found["6_from_10_to_0"] = Scenario(rates(6, 3, 0.12), rates(6))
    found["6_from_0_to_10_group_of_5_percent"] = Scenario(rates(6), rates(6, 3, 0.12))
    found["6_from_0_to_10_group_of_2_percent"] = Scenario(rates(6), rates(6, 4, 0.12))
    found["6_from_0_to_10_in_steps"] = Scenario(rates(6), rates(6, "steps", 0.15))
    return found


def draw(scenario, patients, seed):
    """Labels, patients, groups and scores of both sources, positive with the true rates at threshold 0."""
    groups = scenario.original.shape[1]
    uneven = np.linspace(0.6, 1.4, groups) if scenario.uneven else np.ones(groups)
    share, prevalence = dict(enumerate(SHARE[groups])), dict(enumerate(scenario.prevalence * uneven))
    frame = simulate(patients=patients, share=share, prevalence=prevalence, separation=0, seed=seed)
    cell = 1 - frame["label"].astype(int), frame["group"].astype(int)
    for column, rate in (("score", scenario.original), ("score_source", scenario.source)):
        frame[column] = norm.ppf(frame[column]) + norm.ppf(rate)[cell]
    return frame


def threshold(frame):
    """Threshold at which sensitivity and specificity of the original come closest."""
    scores = np.sort(frame["score"])
    below = [np.searchsorted(np.sort(own), scores) / own.size for _, own in frame.groupby("label")["score"]]
    return scores[np.abs(below[0] + below[1] - 1).argmin()]


def study(scenario, seed):
    """One simulated study: what was rejected, covered and claimed."""
    seeds = seed.spawn(5)
    frame = draw(scenario, scenario.patients, seeds[0])
    cut = threshold(draw(scenario, scenario.patients // 4, seeds[1])) if scenario.validated else 0
    counts, _ = tabulate(
        label=frame["label"],
        patient=frame["patient_id"],
        group=frame["group"],
        decision=frame["score_source"] >= cut,
        reference=frame["score"] >= cut,
    ).keep(20)
    if len(counts.names) < 2:
        return {"studies": 0}
    kept = np.array(counts.names, int)
    now, before = (
        eodd(tpr=tpr, fpr=fpr)
        for tpr, fpr in (norm.cdf(norm.ppf(rate[:, kept]) - cut) for rate in (scenario.source, scenario.original))
    )
    one = disparity(counts, metrics=["eodd"], resamples=199, seed=seeds[2])["eodd"]
    two = shift(counts, metrics=["eodd"], resamples=299, seed=seeds[3])["eodd"]
    drawn = bootstrap(counts, resamples=299, seed=seeds[4])
    paper = resampling.shift(*(eodd(tpr=drawn[:, arm, 0], fpr=drawn[:, arm, 1]) for arm in (0, 1)))
    return {
        "studies": 1,
        "groups_kept": kept.size,
        "shift": now - before,
        "swap": two["p"] <= 0.05,
        "interaction": two["p_interaction"] <= 0.05,
        "paper": paper["p"] <= 0.05,
        "permutation": one["p"] <= 0.05,
        "max_t": one["p_max_t"] <= 0.05,
        "covers_shift": two["low"] - 1e-9 <= now - before <= two["high"] + 1e-9,
        "covers_paper": paper["low"] - 1e-9 <= now - before <= paper["high"] + 1e-9,
        "covers_eodd": one["low"] - 1e-9 <= now <= one["high"] + 1e-9,
        "length_shift": two["high"] - two["low"],
        "length_eodd": one["high"] - one["low"],
        "detectable": two["detectable"],
        "equivalent": two["equivalent"],
        "false_equivalence": two["margin_supported"] < abs(now - before) - 1e-9,
    }


def chunk(name, number, size):
    """Sums over some studies of a scenario; their seeds depend on nothing but its name and their numbers."""
    seeds = np.random.SeedSequence([SEED, zlib.crc32(name.encode()), number]).spawn(size)
    sums = pd.DataFrame([study(scenarios()[name], seed) for seed in seeds]).astype(float).sum()
    return {"scenario": name, "chunk": number, **sums}


def run(todo, store=None):
    """Run chunks of scenarios on all cores; each is appended to the store as soon as it is done."""
    with parallel_config("loky", n_jobs=cpu_count(), inner_max_num_threads=1):
        done = Parallel(return_as="generator_unordered")(delayed(chunk)(*one) for one in todo)
        for sums in tqdm(done, total=len(todo), unit="chunk", smoothing=0.02):
            if store:
                pd.DataFrame([sums]).to_csv(store, mode="a", header=not store.exists(), index=False)
            yield sums


def load(store):
    """Chunks stored so far; a line that an interruption cut short is removed from the store."""
    text = store.read_text() if store.exists() else ""
    if not (whole := text[: text.rfind("\n") + 1]):
        store.unlink(missing_ok=True)
        return []
    if whole != text:
        store.with_suffix(".tmp").write_text(whole)
        store.with_suffix(".tmp").replace(store)
    return pd.read_csv(store).to_dict("records")


def summary(chunks):
    """By scenario the studies, and shares or means over them."""
    sums, known = pd.DataFrame(chunks).drop(columns="chunk").groupby("scenario").sum(), list(scenarios())
    return (
        sums.div(sums["studies"], axis=0)
        .assign(studies=sums["studies"])
        .loc[lambda table: sorted(table.index, key=known.index)]
    )


def verdict(table):
    """Pooled share of each aim, its Monte-Carlo standard error, and the worst scenario."""
    known = [scenarios()[name] for name in table.index]
    groups = np.array([scenario.original.shape[1] for scenario in known])
    same = np.array([np.array_equal(scenario.original, scenario.source) for scenario in known])
    none = np.array([not np.ptp(scenario.source, axis=1).any() for scenario in known])

    def pool(column, chosen):
        share, studies = table.loc[chosen, column], table.loc[chosen, "studies"]
        pooled = np.average(share, weights=studies)
        worst = share.idxmin() if column.startswith("covers") else share.idxmax()
        error = np.sqrt(pooled * (1 - pooled) / studies.sum())
        return {"pooled": pooled, "se": error, "worst": share[worst], "in": worst, "studies": int(studies.sum())}

    aims = {}
    for k in (2, 6):
        aims[f"type1_swap_{k}"] = pool("swap", (groups == k) & same)
        aims[f"type1_permutation_{k}"] = pool("permutation", (groups == k) & none)
        aims[f"coverage_shift_{k}"] = pool("covers_shift", groups == k)
        aims[f"coverage_eodd_{k}"] = pool("covers_eodd", groups == k)
    aims["false_equivalence"] = pool("false_equivalence", table["shift"].abs() > 1e-9)
    aims["type1_paper_2"] = pool("paper", (groups == 2) & same & none)
    return pd.DataFrame(aims).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2050, help="studies per scenario; a few compare nothing")
    parser.add_argument("--quick", action="store_true", help="30 studies per scenario, not stored")
    arguments = parser.parse_args()
    if arguments.quick:
        chunks = list(run([(name, 0, 30) for name in scenarios()]))
    else:
        RESULTS.parent.mkdir(exist_ok=True)
        chunks = load(RESULTS)
        done = {(one["scenario"], one["chunk"]) for one in chunks}
        every = [(name, number) for number in range(-(-arguments.studies // CHUNK)) for name in scenarios()]
        chunks += run([(*one, CHUNK) for one in every if one not in done], RESULTS)
    table = summary(chunks)
    aims = verdict(table)
    print(table.round(3).to_string(), aims.to_string(float_format="{:.4f}".format), sep="\n\n", end="\n\n")
    for aim, share in aims["pooled"].items():
        print(f"{aim}={share:.4f}")


if __name__ == "__main__":
    main()
