"""Do fairer readers work where they can, and fail where they must? Experiments whose answer is known.

    python benchmarks/readers.py [--quick] [--scenarios decoy contrast ...]     # killed and started again, it goes on

Scenarios, with three held-out seeds each; strengths are chosen on seed 0:

decoy     Four women in five have a bright spot in the scalp, and 98 % of the women are hidden from the diagnosis (95 %
          with the seed that chooses strengths, where ten women are left to learn from). The network takes the spot for
          a tumour. The gap between men and women lies outside the tumour: the crop around the truth must close it, a
          cascade and oversampling must close part of it.
remaining As decoy, with 97 % and 95 % of the women hidden: how many must remain for oversampling to teach?
contrast  Women's tumours are faint. The gap lies inside the tumour: the crop must not help.
null      Attributes mean nothing. 300 cohorts of fresh patients are read by networks that were trained once for each
          seed; no strategy may be called better more often than by chance.
xray      An attribute that leaks (sex, made to go with the finding by `amplify`) and one that carries disease (age).
          FairREAD must lower the worst-case EODD at little cost of AUROC, and a probe must find sex less well.
costs     Seconds of an epoch, relative to plain training of the same backbone.
real      The same strategies on Sunnybrook, LGG and NIH (RECONFAIR_DATA), where nobody knows the answer; with
          intervals.

A finished unit (a scenario and a seed) adds its lines to results/readers.csv at once, and is not computed again. With
``--quick`` sizes are tiny, nothing is kept, and the numbers only show that the code runs. Ends with NAME=VALUE lines.
"""

import os

os.environ.setdefault("RECONFAIR_PROGRESS", os.devnull)

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from reconfair import data, diagnosis, fair_diagnosis, judge, params, store, training, truth
from reconfair.data import splits
from reconfair.diagnosis import groupwise, strategies
from reconfair.fairness import assess, fate, medians
from reconfair.fairness.metrics import auroc
from reconfair.keyed import seed_of
from reconfair.params import Reader

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "readers.csv"
SEEDS = (0, 1, 2, 3)  # the first chooses strengths, the others are held out
DECOY = 0.8  # of the women
CONTRAST = {"contrast": {"sex": {"female": -0.5}}}
SEGMENTERS = {  # sweeps of seed 0; of each line one strength is chosen
    "decoy": [("crop",), ("cascade",), ("oversample@0.5", "oversample@1"), ("reweight",), ("dro@0.01", "dro@0.1")],
    "contrast": [("crop",)],
    "null": [("crop",), ("cascade",), ("oversample@1",), ("reweight",), ("dro@0.01",)],
}
CLASSIFIERS = [
    ("fcro@1", "fcro@3"),
    ("adversary@0.1", "adversary@0.5"),
    ("fairread@0.1", "fairread@0.5", "fairread@1"),
]
COHORTS, SIZE = 300, 200  # of fresh patients under the null
FULL = {"patients": 800, "epochs": 10, "fresh": 2000, "xrays": 6000, "x_epochs": 12}
FULL |= {"cohorts": COHORTS, "seeds": SEEDS, "n": SIZE, "hidden": (0.95, 0.98, 0.98, 0.98)}  # the last: by seed
FULL |= {"remaining": (0.97, 0.95)}  # shares that are hidden
QUICK = {"patients": 80, "epochs": 1, "fresh": 80, "xrays": 200, "x_epochs": 1, "cohorts": 6, "seeds": (0, 1), "n": 40}
QUICK |= {"hidden": (0.8, 0.8), "remaining": (0.7,)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs, and nothing else")
    every = ["decoy", "remaining", "contrast", "null", "xray", "costs", "real"]
    parser.add_argument("--scenarios", nargs="*", default=every, choices=every)
    arguments = parser.parse_args()
    if not arguments.quick:
        run(arguments.scenarios, FULL, RESULTS)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECONFAIR_OUTPUTS"] = folder
        run([name for name in arguments.scenarios if name != "real"], QUICK, Path(folder) / "readers.csv")
    print("quick run: tiny cohorts and one epoch; these numbers say that the code runs, and nothing about any strategy")


def run(scenarios, sizes, results: Path) -> None:
    """Compute what is missing, unit by unit, then summarise all that the file has."""
    units = {"decoy": segmented, "contrast": segmented, "null": false_gains, "xray": classified}
    units |= {"remaining": remaining}
    for scenario in scenarios:
        if scenario == "costs":
            unit(results, "costs", 0, partial(costs, sizes))
        elif scenario == "real":
            for name in ("sunnybrook", "lgg", "nih"):
                unit(results, name, 0, partial(real, name))
        else:
            for seed in sizes["seeds"]:
                unit(
                    results,
                    scenario,
                    seed,
                    lambda scenario=scenario, seed=seed: units[scenario](scenario, seed, sizes, results),
                )
    if results.exists():
        summary(kept(results))


def kept(results: Path) -> pd.DataFrame:
    """The lines of a file of results. The scenario ``null`` is a word there, and no missing value."""
    return pd.read_csv(results, keep_default_na=False, na_values=[""])


def unit(results: Path, scenario: str, seed: int, compute) -> None:
    """Compute the rows of a unit unless they are there, and append them."""
    done = kept(results) if results.exists() else pd.DataFrame(columns=["scenario", "seed"])
    if ((done.scenario == scenario) & (done.seed == seed)).any():
        return
    start = time.monotonic()
    rows = compute()
    if rows is None:
        print(f"{scenario}: skipped, its data are not there (RECONFAIR_DATA)", flush=True)
        return
    table = pd.DataFrame(rows).assign(scenario=scenario, seed=seed, seconds=round(time.monotonic() - start))
    columns = ["scenario", "seed", "reader", "metric", "value", "low", "high", "note", "seconds"]
    results.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(results.with_suffix(".lock")):
        table.reindex(columns=columns).round(5).to_csv(results, mode="a", header=not results.exists(), index=False)
    print(f"{scenario}, seed {seed}: done in {store.clock(time.monotonic() - start)}", flush=True)


def chosen(results: Path, scenario: str, sweeps, seed: int, metric: str, suffix: str = "") -> list[str]:
    """All strengths on seed 0; on others, of each sweep the one that had the smallest gap there.

    Where AUROC was measured, strengths that cost more than 0.01 of it come last. The suffix ``+thresholds`` asks for
    the gap with thresholds by group.
    """
    if seed == 0:
        return [strategy for sweep in sweeps for strategy in sweep]
    rows = (
        kept(results)
        .query("scenario == @scenario and seed == 0")
        .pivot(index="reader", columns="metric", values="value")
    )
    cost = rows.auroc["oversample@0"] - rows.auroc if "auroc" in rows else 0 * rows[metric]
    rule = lambda strategy: (cost[strategy] > 0.01, abs(rows[metric][strategy + suffix]))  # noqa: E731
    return [min(sweep, key=rule) for sweep in sweeps]


# --- segmentation ---


def brains(scenario: str, seed: int, sizes: dict, names: list[str]):
    """A study of brain phantoms, originals alone."""
    dials = {"contrast": CONTRAST}.get(scenario, {})
    if scenario == "decoy":
        dials = {"decoy": {"sex": {"female": DECOY}}, "rare": {"sex": {"female": sizes["hidden"][seed]}}}
    dataset = {"name": "phantom_mri", "label": f"readers_{scenario}_{seed}", "size": 64, "patients": sizes["patients"]}
    dataset |= {"slices": 2, "seed": seed, "dials": dials, "null": scenario == "null"}
    segment = {"encoder": "resnet18", "decoder": [64, 48, 32, 16, 16], "pretrained": False, "batch_size": 16}
    if scenario == "null":  # false alarms need no large network, but many trainings
        segment |= {"encoder": "tu-test_resnet", "decoder": [32, 32, 16, 16, 8], "lr": 3e-3}
    return params.study(
        dataset=dataset,
        noise="none",
        diagnosis={"tasks": ["tumour"], "segment": segment | {"epochs": sizes["epochs"]}, "seed": seed},
        readers={"strategies": names, "attributes": ["sex"], "seed": seed},
        fairness={"attributes": ["sex"]},
    )


def ready(study) -> None:
    """Train every reader, however long that takes."""
    for network in study.networks:
        diagnosis.train(study, network)
    fair_diagnosis.train(study)


def fresh(study, patients: int, readers) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What readers say of patients whom nobody has seen: rows of predictions, and the cohort."""
    ready(study)
    dataset = study.dataset.model_copy(update={"patients": patients, "seed": seed_of(study.dataset.seed, "fresh")})
    table = splits.derive(dataset.read_table()).assign(split="test").reset_index(drop=True)
    images, masks = truth.drawn(dataset, table, study.compute.workers)
    parts, rows = [], np.arange(len(table))
    for name in readers:
        for network in study.networks_of(name):
            answers, _ = diagnosis.read(study, Reader(network, name), images, rows, "fresh patients", table, masks)
            parts.append(diagnosis.units(study, network, table, answers, masks).assign(reader=name))
    return pd.concat(parts, ignore_index=True).assign(source="original", strategy="standard"), table


def segmented(scenario: str, seed: int, sizes: dict, results: Path) -> list[dict]:
    """Gap of median Dice between men and women on fresh patients, for every reader."""
    names = chosen(results, scenario, SEGMENTERS[scenario], seed, "gap")
    study = brains(scenario, seed, sizes, names)
    rows = gaps_of(study, sizes)
    return rows + [
        {"reader": row.reader, "metric": "minority_share", "value": row.minority_share}
        for row in strategies.doses(study).itertuples()
    ]


def gaps_of(study, sizes: dict) -> list[dict]:
    """Median Dice of men and women on fresh patients, and their gap with limits, of every reader."""
    predictions, table = fresh(study, sizes["fresh"], study.reader_names)
    groups = table.drop_duplicates("patient_id").set_index("patient_id")[["sex"]]
    found = medians.compare(predictions, groups, resamples=200, spacing=study.dataset.spacing)
    rows = []
    for name in study.reader_names:
        some = found[(found.reader == name) & (found.attribute == "sex")].set_index(["metric", "group"])
        male, female = (some.value["dice_median", sex] for sex in ("male", "female"))
        gap = found[(found.reader == name) & (found.metric == "fairness_gap")].iloc[0]
        sign = 1 if "male" in gap.note else -1  # the reference is the larger group
        limits = sorted([sign * gap.low, sign * gap.high])
        rows.append({"reader": name, "metric": "gap", "value": male - female, "low": limits[0], "high": limits[1]})
        rows += [
            {"reader": name, "metric": f"dice_{sex}", "value": v} for sex, v in (("male", male), ("female", female))
        ]
    return rows


def remaining(scenario: str, seed: int, sizes: dict, results: Path) -> list[dict]:
    """Gap of plain training and of oversampling where more women remain in training than in the scenario ``decoy``."""
    if seed == 0:
        return [{"reader": "all", "metric": "skipped", "value": 0.0, "note": "nothing to choose"}]
    (name,) = chosen(results, "decoy", [("oversample@0.5", "oversample@1")], seed, "gap")
    rows = []
    for hidden in sizes["remaining"]:
        study = brains("decoy", seed, sizes | {"hidden": {seed: hidden}}, [name])
        study = study.model_copy(
            update={"dataset": study.dataset.model_copy(update={"label": f"readers_remaining_{seed}_{hidden}"})}
        )
        found = gaps_of(study, sizes)
        table = data.load(study).table.iloc[data.rows(data.load(study).table, "diag")]
        women = table.patient_id[table.sex == "female"].nunique()
        rows += [row | {"metric": f"gap {hidden}", "note": f"{women} women"} for row in found if row["metric"] == "gap"]
    return rows


def false_gains(scenario: str, seed: int, sizes: dict, results: Path) -> list[dict]:
    """In how many cohorts of fresh patients any strategy is called better, though nothing differs between groups."""
    study = brains(scenario, seed, sizes, [strategy for (strategy,) in SEGMENTERS["null"]])
    n, cohorts = sizes["n"], sizes["cohorts"] // (len(sizes["seeds"]) - 1)
    if seed == 0:
        return [{"reader": "all", "metric": "skipped", "value": 0.0, "note": "nothing to choose"}]
    predictions, table = fresh(study, max(n * 10, sizes["fresh"]), study.reader_names)
    people, draw, gains = table.patient_id.unique(), np.random.default_rng(seed), []
    for _ in range(cohorts):
        who = draw.choice(people, n, replace=False)
        some, cohort = predictions[predictions.patient_id.isin(who)], table[table.patient_id.isin(who)]
        _, gaps = assess(some, cohort, attributes=["sex"], thresholds={}, min_cases=10, resamples=99)
        gains.append(bool(((gaps.verdict_standard == "fell") & (gaps.reader != "standard")).any()))
    note = f"{sum(gains)} of {len(gains)} cohorts"
    return [{"reader": "all", "metric": "false_gains", "value": float(np.mean(gains)), "note": note}]


# --- classification ---


def chests(seed: int, sizes: dict, names: list[str]):
    """A study of chest phantoms in which sex goes with the finding in training, and age carries it."""
    dials = {"prevalence": {"age_group": {"older": 0.15}}}
    dataset = {"name": "phantom_xray", "label": f"readers_xray_{seed}", "size": 64, "patients": sizes["xrays"]}
    dataset |= {"dials": dials, "seed": seed, "split": [0.7, 0.15, 0.15]}
    classify = {"architecture": "test_resnet", "pretrained": False, "size": 0, "epochs": sizes["x_epochs"]}
    classify |= {"batch_size": 32, "lr": 1e-3, "value_range": [-1, 1]}
    fair = {"epochs": 2 * sizes["x_epochs"], "refusion_epochs": sizes["x_epochs"], "patience": sizes["x_epochs"]}
    # In so few steps (some 500), a network with the published weights of 80 and 125 learns to be orthogonal and nothing
    # else; and an adversary that learns ten times more slowly than the rest is always behind.
    fair |= {"lr": 1e-3, "adversary_lr": 1e-3, "column": 24.0, "row": 37.5}
    return params.study(
        dataset=dataset,
        noise="none",
        diagnosis={"tasks": ["consolidation"], "classify": classify, "seed": seed},
        readers={"strategies": names, "attributes": ["sex", "age_group"], "amplify": 0.3, "seed": seed}
        | {"thresholds": "min_gap", "fairread": fair | {"batch_size": 64, "refusion_batch_size": 64}},
        fairness={"min_cases": 5},
    )


def classified(scenario: str, seed: int, sizes: dict, results: Path) -> list[dict]:
    """Worst-case EODD, AUROC, and what a fresh probe finds of sex, on fresh patients."""
    study = chests(seed, sizes, chosen(results, scenario, CLASSIFIERS, seed, "eodd_worst_case", "+thresholds"))
    whole = [name for name in study.reader_names if not name.endswith("+thresholds") and name != "standard"]
    predictions, table = fresh(study, sizes["fresh"], whole)
    group, parts = (
        groupwise.groups(table.drop_duplicates("patient_id").set_index("patient_id"), groupwise.zeros(study)),
        [],
    )
    for name in whole:
        some = predictions[predictions.reader == name]
        moved = groupwise.elsewhere(study, f"{name}+thresholds", some, table).assign(raw_score=some.score)
        parts += [some, moved.assign(reader=f"{name}+thresholds")]
    readers = [name for name in whole for name in (name, f"{name}+thresholds")]
    found = fate.compare(
        pd.concat(parts), group, judge.thresholds(study, readers), base=fair_diagnosis.baseline(study), resamples=200
    )
    found = found[(found.group == "all") & found.metric.isin(["eodd_worst_case", "auroc", "accuracy", "fate_eo"])]
    rows = found[found.task != "average"][["reader", "metric", "value", "low", "high", "note"]].to_dict("records")
    return rows + [row for name in whole for row in probed(study, name)]


def probed(study, name: str) -> list[dict]:
    """AUROC with which a linear probe of a reader's features finds the attributes: fitted to validation images, tested
    on test images."""
    (network,), cohort = study.networks_of(name), data.load(study)
    frozen = training.placed(diagnosis.load(study, network, name), study.compute)
    parts = {}
    for use in ("val", "test"):
        rows = data.rows(cohort.table, use)
        looked = training.apply(frozen.features, cohort.images, rows, study.compute, f"probe {name}")
        parts[use] = np.concatenate([values for _, values in looked]), cohort.table.iloc[rows]
    (z, known), (tested, asked) = parts["val"], parts["test"]
    mean, deviation = z.mean(0), z.std(0) + 1e-6
    z, tested = (np.c_[(values - mean) / deviation, np.ones(len(values))] for values in (z, tested))
    found = []
    for metric, column, group in (("probe_auroc", "sex", "male"), ("probe_auroc_age", "age_group", "older")):
        member = (known[column] == group).to_numpy(float)
        ridge = np.linalg.solve(z.T @ z + 10 * np.eye(z.shape[1]), z.T @ (member - member.mean()))
        value = auroc(score=tested @ ridge, label=(asked[column] == group).to_numpy(float))[0, 0]
        found.append({"reader": name, "metric": metric, "value": float(value)})
    return found


# --- costs and real scans ---


def costs(sizes: dict) -> list[dict]:
    """Seconds of a training's epoch relative to plain training on the same images: the median of three epochs."""
    mri = brains("contrast", 9, sizes | {"epochs": 4}, ["dro", "reweight"])
    (tumour,) = mri.networks
    rows = []
    plain = epoch_seconds(mri, Reader(tumour))
    for name in ("dro", "reweight"):
        rows.append({"reader": name, "metric": "cost", "value": epoch_seconds(mri, Reader(tumour, name)) / plain})
    chest = chests(9, sizes | {"x_epochs": 4, "xrays": min(sizes["xrays"], 2000)}, ["fcro", "adversary", "fairread"])
    chest = chest.model_copy(update={"readers": chest.readers.model_copy(update={"amplify": 0.0})})
    (network,) = chest.networks_of("fcro")
    same = {"batch_size": 64, "epochs": 4, "architecture": "resnet18"}
    classify = chest.diagnosis.classify.model_copy(update=same)
    chest = chest.model_copy(update={"diagnosis": chest.diagnosis.model_copy(update={"classify": classify})})
    fair = chest.readers.fairread.model_copy(update={"epochs": 4, "refusion_epochs": 4, "patience": 9})
    chest = chest.model_copy(update={"readers": chest.readers.model_copy(update={"fairread": fair})})
    plain = epoch_seconds(chest, Reader(chest.networks[0]))
    for name in ("fcro", "fairread", "adversary"):
        rows.append({"reader": name, "metric": "cost", "value": epoch_seconds(chest, Reader(network, name)) / plain})
    return rows


def epoch_seconds(study, reader: Reader) -> float:
    """Median time between the ends of a training's epochs, the first left out."""
    ends, keep = [], training.Keep.on_train_epoch_end

    def noted(self, trainer, module):
        keep(self, trainer, module)
        ends.append(time.monotonic())

    product = diagnosis.weights(study, reader)
    for need in store.missing(product)[:-1]:
        store.make(need)
    training.Keep.on_train_epoch_end = noted
    try:
        with tempfile.TemporaryDirectory() as folder:
            product.write(Path(folder))
    finally:
        training.Keep.on_train_epoch_end = keep
    return float(np.median(np.diff(ends)))


def real(name: str) -> list[dict] | None:
    """The strategies on real scans: gap and performance on test patients with intervals. None: no data."""
    segment = {"encoder": "tu-test_resnet", "decoder": [32, 32, 16, 16, 8], "pretrained": False, "lr": 3e-3}
    segment |= {"epochs": 20, "batch_size": 16}
    strategies = ["oversample", "reweight", "dro", "crop", "cascade"]
    sections = {
        "sunnybrook": {
            "dataset": {"name": "table", "label": "readers_sunnybrook", "size": 64, "file": "metadata.csv"},
            "diagnosis": {"segment": segment},
            "readers": {"strategies": strategies, "attributes": ["sex"]},
        },
        "lgg": {
            "dataset": {"name": "lgg", "label": "readers_lgg", "size": 64},
            "diagnosis": {"tasks": ["tumour"], "segment": segment},
            "readers": {"strategies": strategies, "attributes": ["sex"]},
        },
        "nih": {
            "dataset": {"name": "nih", "label": "readers_nih", "size": 64},
            "diagnosis": {
                "tasks": ["Effusion"],
                "classify": {"architecture": "tf_efficientnet_lite0", "pretrained": True, "size": 160},  # extra weights
            },
            "readers": {"strategies": ["oversample", "fcro", "adversary", "fairread"], "attributes": ["sex"]},
        },
    }[name]
    folder = os.environ.get("RECONFAIR_DATA", "")
    if not folder or not (Path(folder) / name).is_dir():
        return None
    if name == "sunnybrook":
        sections["dataset"] |= _sunnybrook(Path(folder) / name)
    if name == "nih":
        trained = {"linear_probe": True, "epochs": 4, "batch_size": 16, "lr": 1e-4, "value_range": None}
        sections["diagnosis"]["classify"] |= trained
        fair = {"epochs": 8, "refusion_epochs": 6, "batch_size": 32, "refusion_batch_size": 32, "lr": 3e-4}
        fair |= {"adversary_lr": 3e-4, "column": 24.0, "row": 37.5}
        sections["readers"] |= {"thresholds": "min_gap", "fairread": fair}
    sections["dataset"] |= {"split": [0.45, 0.15, 0.4]}  # so that all groups of so few patients are judged
    study = params.study(**sections, noise="none", fairness={"min_cases": 3})
    ready(study)
    found = fair_diagnosis.measured(study)
    shown = ["fairness_gap", "ser_median", "dice_median", "eodd_worst_case", "auroc", "fate_eo"]
    whose = found.attribute.isin(["sex", "age_group", "all"]) | found.metric.eq("auroc")
    found = found[found.metric.isin(shown) & whose]
    rows = []
    for row in found.itertuples():
        rows.append({"reader": row.reader, "metric": f"{row.metric} {row.group}", "value": row.value})
        rows[-1] |= {"low": row.low, "high": row.high, "note": row.note}
        if np.isfinite(row.change):
            change = {"value": row.change, "low": row.change_low, "high": row.change_high, "note": row.note}
            rows.append({"reader": row.reader, "metric": f"{row.metric} {row.group} change"} | change)
    return rows


def _sunnybrook(folder: Path) -> dict:
    """How the table of Sunnybrook is read: its columns are named in its first line."""
    columns = pd.read_csv(folder / "metadata.csv", nrows=1).columns
    by = {column.lower(): column for column in columns}
    image = next(by[name] for name in ("image", "path", "filename", "file", "image_path") if name in by)
    mask = next(by[name] for name in ("mask", "mask_path", "maskfile", "mask_file") if name in by)
    return {
        "root": str(folder),
        "image": image,
        "patient": by["patientid"],
        "sex": by["gender"],
        "age": by["age"],
        "race": None,
        "tasks": {},
        "mask": {"column": mask, "task": "ventricle", "blank": "background"},
    }


# --- summary ---


def summary(rows: pd.DataFrame) -> None:
    """Print what the file says, over the held-out seeds, as NAME=VALUE lines."""

    def by_seed(scenario: str, metric: str) -> pd.DataFrame:
        some = rows[(rows.scenario == scenario) & (rows.metric == metric) & (rows.seed > 0)]
        table = some.assign(reader=some.reader.str.replace(r"@[\d.]+", "", regex=True))
        return table.pivot_table("value", "seed", "reader")

    def left(scenario: str, reader: str, base: str = "standard", metric: str = "gap") -> float:
        table = by_seed(scenario, metric)
        # Its size: a gap that runs the other way afterwards is no smaller for that.
        return float(abs(table[reader].mean() / table[base].mean())) if {reader, base} <= {*table} else np.nan

    lines = {
        f"{name.replace('crop', 'crop_truth')}_gap_left": left("decoy", name)
        for name in ("crop", "cascade", "oversample")
    }
    lines |= {f"{name}_gap_left": left("decoy", name) for name in ("reweight", "dro")}
    for metric in sorted(set(rows.metric[rows.scenario == "remaining"]) - {"skipped"}):
        lines[f"oversample_{metric.replace(' ', '_left_')}"] = left("remaining", "oversample", metric=metric)
    lines["crop_control_gap_left"] = left("contrast", "crop")
    gains = rows[(rows.scenario == "null") & (rows.metric == "false_gains")]
    lines["null_false_gains"] = float(gains.value.mean()) if len(gains) else np.nan
    # Plain training, `oversample@0`, is `oversample` here: there is no other strength of it among the classifiers.
    # FairREAD has thresholds by group, as its paper has; each part of it stands beside it.
    parts = {"fairread": "fairread+thresholds", "fairread_without_thresholds": "fairread", "fcro": "fcro"}
    parts |= {"adversary": "adversary", "plain_thresholds": "oversample+thresholds"}
    base, metric = "oversample", "eodd_worst_case"
    lines |= {f"{word}_deo_left": left("xray", name, base, metric) for word, name in parts.items()}
    scores = by_seed("xray", "auroc")
    if {"fairread", base} <= {*scores}:
        lines["fairread_auc_cost"] = float((scores[base] - scores.fairread).mean())
    for metric in ("probe_auroc", "probe_auroc_age"):
        probes = by_seed("xray", metric)
        for name in ("fairread", "fcro", "adversary"):
            if {name, base} <= {*probes}:
                word = metric.replace("_auroc", "_auroc_drop") + f"_{name}" * (name != "fairread")
                lines[word] = float((probes[base] - probes[name]).mean())
    cost = rows[rows.metric == "cost"].set_index("reader").value
    if len(cost):
        lines["readers_cost"] = float(max(cost["dro"], cost["reweight"]))
        lines["fairread_cost"] = float(cost["fcro"])
        lines["fairread_second_cost"] = float(cost["fairread"])
    for name, value in lines.items():
        if np.isfinite(value):
            print(f"{name}={value:.3f}")


if __name__ == "__main__":
    main()
