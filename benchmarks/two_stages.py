"""Does the decision rule choose the right stage? Systems whose best cell is known.

    python benchmarks/two_stages.py [--quick] [--scenarios null rare ...]     # killed and started again, it goes on
    python benchmarks/two_stages.py --markdown        # writes the table of docs/results.md from what is kept

Chest phantoms with one task (consolidation) and one attribute (sex):

null      Attributes mean nothing. No cell may be called better.
rare      95 % of the women are hidden from the diagnosis, which takes breasts for consolidations. The reader's
          strategies can repair that.
scarce    Women's consolidations are mottled, men's are dense. 85 % of the women are hidden from the reconstruction. Its
          own strategies can repair that.
both      As scarce, and 75 % of the women are hidden from the diagnosis as well: the stages interact.
erased    Women's consolidations are invisible. Nothing can repair that.

Each scenario is trained once per seed: the U-Net and its strategies, the readers, and the two placebos. The frozen
networks read one pool of 10,000 fresh patients. Cohorts of 1,200 patients are drawn from it without replacement: half
of a cohort validates, the other half is the test. The package's own rule chooses a cell on validation and looks at test
once (`two_stages.decide`). The truth of a cell is its value among the patients of the pool outside the cohort. So
truth and cohort are independent, and the error of the truth itself widens what the limits must hold by 4 %. The best
cell has the least true EODD among those whose true AUROC is within the rule's tolerance of the best; placebos do not
count. The Monte-Carlo errors hold for these trained networks; the table by seed shows how much a training changes.

A finished unit (a scenario and a seed) adds its lines to results/two_stages.csv at once, and is not computed again. All
scenarios of a seed come before the next seed. A unit takes about 14 minutes on one core, and a full run three
and a half hours. With ``--quick`` sizes are tiny, nothing is kept, and the numbers only show that the code runs.

Ends with lines NAME=VALUE, each share with its Monte-Carlo error:

rule_right_scarce, rule_right_rare, rule_right_both    cohorts in which the rule's cell is within 0.01 true EODD of the
                                                       best (aim: at least 0.8)
rule_gap_scarce, ... standard_gap_..., best_gap_...     true EODD of the cells that the rule chose, of the standard cell
                                                       and of the best one, means over seeds
null_winners, erased_winners                           cohorts in which a cell is called better (null: at most 0.07)
interaction_coverage                                   cohorts in which the limits hold all true interactions of the
                                                       groups' TPR and FPR at once (at least 0.93)
trainings, cohorts                                     how many of each
"""

import os

os.environ.setdefault("RECONFAIR_PROGRESS", os.devnull)

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from readers import kept, unit

from reconfair import diagnosis, judge, noise, params, recon, store, training, truth, two_stages
from reconfair.data import splits
from reconfair.diagnosis import groupwise
from reconfair.fairness import grid
from reconfair.fairness.metrics import auroc, eodd
from reconfair.keyed import generator
from reconfair.params import ORIGINAL, Reader

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "two_stages.csv"
PAGE = ROOT / "docs" / "results.md"
AIMS = {  # what is said of each line, and what it should be
    "rule_right_scarce": ("the rule's cell is within 0.01 EODD of the best, `scarce`", "at least 0.8"),
    "rule_right_rare": ("the same, `rare`", "at least 0.8"),
    "rule_right_both": ("the same, `both`", "at least 0.8"),
    "null_winners": ("a cell is called better, `null`", "at most 0.07"),
    "erased_winners": ("the same, `erased`", ""),
    "interaction_coverage": ("limits hold all true interactions of TPR and FPR", "at least 0.93"),
}
REPAIRABLE = ("scarce", "rare", "both")
SEEDS, WITHIN, TASK = (1, 2, 3), 0.01, "consolidation"  # seed 0 served to choose sizes and strengths
PLAIN = {"contrast": {"sex": {"female": 1, "male": 1}}}
MOTTLED = PLAIN | {"texture": {"sex": {"female": 1}}}
DIALS = {
    "null": {},
    "rare": PLAIN | {"rare": {"sex": {"female": 0.95}}},
    "scarce": MOTTLED | {"scarce": {"sex": {"female": 0.85}}},
    "both": MOTTLED | {"scarce": {"sex": {"female": 0.85}}, "rare": {"sex": {"female": 0.75}}},
    "erased": {"contrast": {"sex": {"female": -1, "male": 1}}},
}
FULL = {"patients": 3000, "unet": 6, "reader": 12, "tuning": 8, "pool": 10_000, "cohorts": 100, "size": 1200}
FULL |= {"resamples": 1000, "seeds": SEEDS}
QUICK = {"patients": 240, "unet": 1, "reader": 1, "tuning": 1, "pool": 400, "cohorts": 3, "size": 200}
QUICK |= {"resamples": 99, "seeds": SEEDS[:1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs, and nothing else")
    parser.add_argument("--scenarios", nargs="*", default=list(DIALS), choices=list(DIALS))
    parser.add_argument("--markdown", action="store_true", help="write the table of docs/results.md; run nothing")
    arguments = parser.parse_args()
    if arguments.markdown:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), kept(RESULTS)), encoding="utf-8")
        return
    if not arguments.quick:
        run(arguments.scenarios, FULL, RESULTS)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECONFAIR_OUTPUTS"] = folder
        run(arguments.scenarios, QUICK, Path(folder) / "two_stages.csv")
    print("quick run: tiny cohorts and one epoch; these numbers say that the code runs, and nothing about the rule")


def run(scenarios, sizes: dict, results: Path) -> None:
    """Compute what is missing, unit by unit, then summarise all that the file has."""
    for seed in sizes["seeds"]:
        for scenario in scenarios:
            unit(
                results,
                scenario,
                seed,
                lambda scenario=scenario, seed=seed: measured(study(scenario, seed, sizes), sizes),
            )
    print(by_seed(kept(results)).round(3).to_string())
    for name, (value, error) in summary(kept(results)).items():
        print(f"{name}={value:.3f}, error {error:.3f}" if np.isfinite(error) else f"{name}={value:.0f}")


def study(scenario: str, seed: int, sizes: dict) -> params.Study:
    """A study of one scenario, trained with one seed."""
    dataset = {"name": "phantom_xray", "label": f"two_stages_{scenario}_{seed}", "size": 64, "seed": seed}
    dataset |= {"patients": sizes["patients"], "split": [0.75, 0.2, 0.05], "training": "shared"}
    dataset |= {"null": scenario == "null", "dials": DIALS[scenario]}
    classify = {"architecture": "test_resnet", "pretrained": False, "size": 32, "value_range": [-2, 2.5]}
    classify |= {"epochs": sizes["reader"], "batch_size": 32, "lr": 1e-3, "weight_decay": 1e-4}
    unet = {"channels": 16, "depth": 2, "patch": 2, "epochs": sizes["unet"], "lr": 2e-3}
    tuning = {"strategies": ["reweight", "reweight+eodd"], "epochs": sizes["tuning"], "lr_factor": 1}
    return params.study(
        dataset=dataset,
        noise={"kind": "sinogram", "photons": 600},
        reconstruction={"models": ["unet"], "unet": unet, "seed": seed},
        diagnosis={"tasks": [TASK], "classify": classify, "seed": seed},
        fairness={"attributes": ["sex"], "resamples": sizes["resamples"], "min_cases": 5},
        mitigation=tuning | {"attributes": ["sex"], "temperature": 0.1, "seed": seed},
        readers={"strategies": ["oversample@0.5"], "thresholds": "min_gap", "attributes": ["sex"], "seed": seed},
        two_stages={},
        compute={"workers": 1, "device": "cpu"},
    )


def measured(chosen: params.Study, sizes: dict) -> list[dict]:
    """Truth of every cell, and what the rule does with each cohort of fresh patients."""
    people, scores = read(chosen, *pool(chosen, sizes["pool"]))
    cuts = judge.thresholds(chosen, two_stages.columns(chosen))[TASK]
    rules = [look(chosen, people, scores, cuts, cohort, sizes["size"]) for cohort in range(sizes["cohorts"])]
    taken = pd.Series([rule["chosen"] for rule in rules]).value_counts(normalize=True)
    rows = []
    for cell, row in true_cells(people, scores, cuts).iterrows():
        name = ", ".join(cell)
        rows += [{"reader": name, "metric": metric, "value": row[metric]} for metric in ("eodd", "auroc")]
        rows.append({"reader": name, "metric": "chosen", "value": taken.get(cell, 0.0)})
    for metric in ("right", "winner", "covered", "shrinkage"):
        rows.append({"reader": "rule", "metric": metric, "value": np.mean([rule[metric] for rule in rules])})
    trained = len({row for row, _ in scores} - {"original"}) + len(
        {name.removesuffix("+thresholds") for _, name in scores}
    )
    counted = {"cohorts": len(rules), "trainings": trained}
    return rows + [{"reader": "rule", "metric": metric, "value": value} for metric, value in counted.items()]


def pool(chosen: params.Study, patients: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Fresh patients with their originals and noisy images; scenarios whose patients look alike share them."""
    dials = chosen.dataset.dials.model_copy(update={"rare": {}, "scarce": {}})
    dataset = chosen.dataset.model_copy(update={"patients": patients, "seed": 10_000, "dials": dials})
    table = splits.derive(dataset.read_table()).reset_index(drop=True)
    name = hashlib.sha256(dataset.model_dump_json(exclude={"label"}).encode()).hexdigest()[:12]
    place = store.outputs() / "two_stages_pool" / f"{name}.npy"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        images, _ = truth.drawn(dataset, table, chosen.compute.workers)
        both = np.stack([images, noise.degrade(images, table.image_id, chosen.noise)])
        np.save(place.with_suffix(".part.npy"), both.astype(np.float16))
        place.with_suffix(".part.npy").replace(place)
    return table, *np.load(place, mmap_mode="r")


def read(chosen: params.Study, table: pd.DataFrame, originals, noisy) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of all cells and of the originals, a column each, (images, cells); the networks are trained on demand."""
    (network,), scores, every = chosen.networks, {}, np.arange(len(table))
    for name in two_stages.columns(chosen):
        store.make(diagnosis.weights(chosen, Reader(network, name)))
    for row in [ORIGINAL, *two_stages.rows(chosen)[2:]]:
        images = originals
        if row != ORIGINAL:
            trained = two_stages.cell(chosen, row, "standard").needs[0].needs[0]  # of the images of the cell
            store.make(trained)
            module = training.placed(recon.load(chosen, row.model, trained), chosen.compute)
            batches = training.apply(
                lambda noisy, module=module: module.reconstruct(noisy, None), noisy, every, chosen.compute, str(row)
            )
            images = np.concatenate([training.narrow(x_hat).astype(np.float16) for _, x_hat in batches])
        for name in two_stages.columns(chosen):
            word = row.strategy if row != ORIGINAL else "original"
            if not name.endswith("+thresholds"):
                scores[word, name] = diagnosis.read(chosen, Reader(network, name), images, every, "pool", table)[0][
                    :, 0
                ]
                continue
            before = table.assign(score=scores[word, name.removesuffix("+thresholds")], task=TASK, kind="classify")
            scores[word, name] = groupwise.elsewhere(chosen, name, before, table).score.to_numpy()
    return table, pd.DataFrame(scores)


def look(chosen, people: pd.DataFrame, scores: pd.DataFrame, cuts: dict, cohort: int, size: int) -> dict:
    """What the rule does with one cohort, and whether its limits hold."""
    everyone = people.patient_id.unique()
    who = generator(chosen.dataset.seed, "cohort", cohort).choice(everyone, size, replace=False)
    parts = {split: people.patient_id.isin(some) for split, some in zip(("val", "test"), np.split(who, 2), strict=True)}
    judged = {split: judged_cohort(chosen, people[rows], scores[rows], cuts) for split, rows in parts.items()}
    rest = ~(parts["val"] | parts["test"])
    (decision,) = two_stages.decide(chosen, judged["val"].cells, judged["test"].cells).itertuples()
    cell, cells = (decision.row, decision.reader), true_cells(people[rest], scores[rest], cuts)
    return {
        "chosen": cell,
        "right": cells.eodd[cell] <= best(cells, chosen.two_stages.tolerance) + WITHIN,
        "winner": decision.verdict == "better",
        "covered": holds(judged["test"].effects, true_rates(people[rest], scores[rest], cuts)),
        "shrinkage": decision.shrinkage,
    }


def judged_cohort(chosen, people: pd.DataFrame, scores: pd.DataFrame, cuts: dict) -> grid.Grid:
    """The package's grid of some patients."""
    about = {"source": "unet", "task": TASK, "kind": "classify"}
    base = pd.DataFrame({"unit": people.image_id, "patient_id": people.patient_id, "label": people[TASK]}).assign(
        **about
    )
    cells = [
        base.assign(strategy=row, reader=name, score=scores[row, name]) for row, name in scores if row != "original"
    ]
    how = chosen.fairness.model_dump(include={"eodd", "min_cases", "resamples", "seed"})
    return grid.grid(pd.concat(cells), people, attributes=("sex",), thresholds={TASK: cuts}, **how)


def true_rates(people: pd.DataFrame, scores: pd.DataFrame, cuts: dict) -> pd.DataFrame:
    """TPR and FPR of women and men: a row for each measure and group, a column for each cell."""
    called = pd.DataFrame({cell: scores[cell] >= cuts[cell[1]] for cell in scores})
    kind = people[TASK].map({1: "tpr", 0: "fpr"}).rename("metric")
    return called.groupby([kind, people.sex.rename("group")]).mean()


def true_cells(people: pd.DataFrame, scores: pd.DataFrame, cuts: dict) -> pd.DataFrame:
    """True EODD and AUROC of every cell."""
    rates = true_rates(people, scores, cuts)
    gap = eodd(tpr=rates.loc["tpr"].T.to_numpy(), fpr=rates.loc["fpr"].T.to_numpy())
    area = [float(auroc(score=scores[cell], label=people[TASK])[0, 0]) for cell in scores]
    return pd.DataFrame({"eodd": gap, "auroc": area}, index=scores.columns)


def best(cells: pd.DataFrame, tolerance: float) -> float:
    """Least true EODD among the cells that perform nearly as well as the best; originals and placebos do not count."""
    names = cells.index.get_level_values(0), cells.index.get_level_values(1)
    some = cells[~names[0].isin(["original", two_stages.PLACEBO]) & (names[1] != two_stages.PLACEBO)]
    return float(some.eodd[some.auroc >= some.auroc.max() - tolerance].min())


def holds(effects: pd.DataFrame, rates: pd.DataFrame) -> bool:
    """Whether the limits hold every true interaction of the groups' rates at once."""
    some = effects[effects.effect == "interaction"]
    standard = rates["standard", "standard"]
    for row in some.itertuples():
        corners = rates[row.row, row.reader] - rates["standard", row.reader] - rates[row.row, "standard"] + standard
        if not row.low <= corners[row.metric, row.group] <= row.high:
            return False
    return True


def written(page: str, rows: pd.DataFrame) -> str:
    """A page whose table, between two comments, is that of the kept units; one column for each seed."""
    first, last = "<!-- two stages: written by benchmarks/two_stages.py --markdown -->", "<!-- end of two stages -->"
    one, every = {seed: summary(rows[rows.seed == seed]) for seed in sorted(set(rows.seed))}, summary(rows)
    lines = ["| share of cohorts | aim | measured | " + " | ".join(f"seed {seed}" for seed in one) + " |"]
    lines += ["|" + "---|" * (3 + len(one))]
    for name, (what, aim) in AIMS.items():
        value, error = every.get(name, (np.nan, np.nan))
        cells = [f"{seed[name][0]:.2f}" if name in seed else "" for seed in one.values()]
        measured = f"{value:.2f} (error {error:.2f})" if np.isfinite(value) else "not yet"
        lines.append(" | ".join([f"| {what}", aim, measured, *cells]) + " |")
    lines += ["", "| true EODD, mean of the seeds | standard cell | the rule's cell | best cell |", "|---|---|---|---|"]
    for name in REPAIRABLE:
        if f"rule_gap_{name}" in every:
            values = [f"{every[f'{kind}_gap_{name}'][0]:.3f}" for kind in ("standard", "rule", "best")]
            lines.append(f"| `{name}` | {' | '.join(values)} |")
    count = f"{every['cohorts'][0]:.0f} cohorts, {every['trainings'][0]:.0f} trained networks."
    head, rest = page.split(first)
    return "\n".join([head + first, "", *lines, "", count, "", last + rest.split(last)[1]])


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """What the rule did, by scenario and seed."""
    return rows[rows.reader == "rule"].pivot_table("value", ["scenario", "seed"], "metric", sort=False)


def gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """True EODD of the standard cell, of the cells that the rule chose, and of the best one, by scenario and seed."""
    cells = rows[rows.metric.isin(["eodd", "auroc", "chosen"])]
    cells = cells.pivot_table("value", ["scenario", "seed", "reader"], "metric", sort=False)
    values = {}
    for key, some in cells.groupby(level=["scenario", "seed"], sort=False):
        some = some.set_index(pd.MultiIndex.from_tuples([tuple(name.split(", ")) for *_, name in some.index]))
        least = best(some, params.TwoStages().tolerance)
        rule = np.average(some.eodd, weights=some.chosen)
        values[key] = {"standard": some.eodd["standard", "standard"], "rule": rule, "best": least}
    return pd.DataFrame(values).T


def summary(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """By name, the value over all cohorts and its Monte-Carlo error; a number that was counted has none."""
    table = by_seed(rows)

    def share(metric: str, scenario: str = "") -> tuple[float, float]:
        some = table.xs(scenario, drop_level=False) if scenario else table
        value, n = np.average(some[metric], weights=some.cohorts), some.cohorts.sum()
        return float(value), float(np.sqrt(value * (1 - value) / n))

    there = table.index.get_level_values(0)
    lines = {f"rule_right_{name}": share("right", name) for name in REPAIRABLE if name in there}
    for name in REPAIRABLE:
        if name in there and "chosen" in set(rows.metric):
            mean = gaps(rows[rows.scenario == name]).mean()
            lines |= {f"{kind}_gap_{name}": (float(mean[kind]), np.nan) for kind in mean.index}
    lines |= {f"{name}_winners": share("winner", name) for name in ("null", "erased") if name in there}
    lines["interaction_coverage"] = share("covered")
    return lines | {name: (float(table[name].sum()), np.nan) for name in ("trainings", "cohorts")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
