"""Does mitigation work where it can, and fail where it must? An experiment whose answer is known.

    python benchmarks/experiment.py [--models unet] [--seeds 5]     # killed and started again, it goes on

Two studies of chest phantoms in which women's consolidations are mottled where men's are dense, and hardly a
woman is among the images that train the reconstruction; the diagnosis knows both. In params/scarce_6e2.yaml the
noisy image still shows them: a network trained on noisy images finds them (the row ``informed``), and a
reconstruction that had seen all women may keep more of them (``plenty``: the same study without scarcity). In
params/erased_4e1.yaml the noise hides what is mottled from either.

Each strategy is tried with several lambda on the first seed. The one chosen cuts the disparity that the reconstruction
brought most, among those that cost at most 1 dB PSNR and 0.01 AUROC, or among all where each costs more. Reconstruction
and fine-tuning are then trained anew with other seeds, at the chosen lambda. The same on small real sets
(``RECONFAIR_DATA``), where nobody knows the answer, and a choice made on so few patients is hardly more than chance.
All rows go to results/mitigation.csv, which appendix A2 shows; results/mitigation_times.csv says at what times of an
SDE its disparity arises, and results/mitigation_path.csv what becomes of it on the way to a sample.

One process uses one core. Several may run side by side, each for other ``--models`` or ``--scenarios``.
"""

import os

os.environ["RECONFAIR_PROGRESS"] = os.devnull

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from tqdm import tqdm

from reconfair import data, diagnosis, judge, mitigation, noise, params, recon, training
from reconfair.fairness import assess
from reconfair.params import NOISY, ORIGINAL, Source
from reconfair.recon.sde import generators_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mitigation.csv"
TIMES = RESULTS.with_name("mitigation_times.csv")
ALONG_PATH = RESULTS.with_name("mitigation_path.csv")
KEYS = ["scenario", "model", "seed", "source", "strategy", "task", "attribute"]
SWEEP = {"reweight": (0, 0.5, 1), "dro": (0.01, 0.05, 0.2), "eodd": (0.1, 0.3, 1), "adv": (0.03, 0.3)}
PACE = {"unet": 0.5, "pix2pix": 0.3, "sde": 0.5}  # lr_factor: plain fine-tuning neither stands still nor does harm
WATCHED = {  # whose disparity, and in what
    "scarce_6e2": [("consolidation", "sex")],
    "erased_4e1": [("consolidation", "sex")],
    "nih_1e4_small": [("Abnormal", "sex"), ("Abnormal", "age_group")],
    "lgg_x8_small_64px": [("tumour", "sex"), ("tumour", "age_group")],
    "lgg_x8_small": [("tumour", "sex"), ("tumour", "age_group")],
}
TUMOUR = ["diagnosis.tasks=[tumour]", "mitigation.epochs=1"]  # neither grade nor type, which nothing there can tell
ONE_SPLIT = [
    "dataset.folds=null",
    "dataset.training=null",
]  # and random weights, as when this was measured
FINDINGS = "{architecture: resnet18, pretrained: false, size: 0, epochs: 10, lr: 3.0e-4, value_range: null}"
OUTLINES = "{encoder: resnet18, decoder: [64, 48, 32, 16, 16], pretrained: false, epochs: 6, batch_size: 16}"
TUMOUR += [*ONE_SPLIT, f"diagnosis.segment={OUTLINES}"]
REAL = {  # half their epochs
    "nih_1e4_small": ["mitigation.epochs=2", "dataset.label=nih_one", *ONE_SPLIT, f"diagnosis.classify={FINDINGS}"],
    "lgg_x8_small_64px": ["dataset.size=64", "dataset.label=lgg_64", *TUMOUR],
    "lgg_x8_small": ["dataset.label=lgg_tumour", *TUMOUR],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["unet", "pix2pix", "sde"])
    parser.add_argument("--scenarios", nargs="*", default=list(WATCHED))
    parser.add_argument("--seeds", type=int, default=5, help="held out, beside the one on which lambda is chosen")
    arguments = parser.parse_args()
    for scenario in arguments.scenarios:
        for model in arguments.models:
            strategies = ["reweight@0", *best_of(scenario, model), "thresholds"]
            for seed in range(1, arguments.seeds + 1):
                tried(scenario, model, seed, strategies)
            if scenario not in REAL:
                tried(scenario, model, 0, [], plenty=True)
                keep(informed(scenario))
            if (scenario, model) == ("scarce_6e2", "sde"):
                over_time(scenario).to_csv(TIMES, index=False)
                along_path(scenario, strategies).to_csv(ALONG_PATH, index=False)


def begun(scenario: str, model: str, *changes: str) -> params.Study:
    """A study whose cohort, noise and frozen networks are ready."""
    precision = "32-true" if model == "sde" else "bf16-mixed"  # which of them is the faster on a CPU
    own = [f"reconstruction.models=[{model}]", f"mitigation.models=[{model}]", f"compute.precision={precision}"]
    own += REAL.get(scenario, [f"mitigation.lr_factor={PACE[model]}"])
    file = ROOT / "params" / f"{scenario.removesuffix('_64px')}.yaml"
    study = params.load(file, ["compute.workers=1", *own, *changes])
    with FileLock(RESULTS.with_suffix(".lock")):  # what others share is made by the first
        data.prepare(study), noise.prepare(study)
        for network in study.networks:
            diagnosis.train(study, network)
        for source in (ORIGINAL, NOISY):
            diagnosis.predict(study, source)
    return study


def tried(scenario: str, model: str, seed: int, strategies: list[str], plenty: bool = False) -> pd.DataFrame:
    """Run one model with some strategies, and keep a row of each."""
    changes = [f"reconstruction.seed={seed}", f"mitigation.seed={seed}", f"mitigation.strategies={strategies}"]
    changes += ["dataset.label=plenty", "dataset.dials.scarce={}"] if plenty else []
    study = begun(scenario, model, *changes)
    recon.train(study, model), recon.reconstruct(study, model), diagnosis.predict(study, model)
    for source in tqdm(study.mitigated, f"{study.name} {model}"):
        mitigation.mitigate(study, source)
    with FileLock(RESULTS.with_suffix(".lock")):  # the other models of this seed are judged under the same name
        rows = measured(*judge.judge(study, mitigation.judged(study)), WATCHED[scenario])
    scenario = f"plenty_{study.noise.level}" if plenty else scenario
    return keep(rows.assign(scenario=scenario, model=model, seed=seed))


def informed(scenario: str) -> pd.DataFrame:
    """What a diagnosis reads in the noisy images that was trained on them: how much they still hold."""
    study = begun(scenario, "unet")
    (network,), cohort, noisy = study.networks, data.load(study), noise.load(study)
    labels = cohort.table[list(network.tasks)].to_numpy(np.float32)
    diag, val, test = (data.rows(cohort.table, split) for split in ("diag", "val", "test"))
    module = diagnosis.build(study, network)
    batches = training.loader((noisy, labels), diag, module.settings["batch_size"])
    checks = training.loader((noisy, labels), val, module.settings["batch_size"], shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        training.fit(module, batches, checks, Path(folder), module.settings["epochs"], study.compute, "informed")
        module = training.load(Path(folder) / "best.ckpt", module)
    answers = training.apply(module.diagnose, noisy, test, study.compute, "informed")
    said = np.concatenate([answer for _, answer in answers])
    rows = read(study, {"informed": said}, "noisy", WATCHED[scenario])
    return rows.assign(scenario=scenario, model="none", seed=0)


def over_time(scenario: str) -> pd.DataFrame:
    """Disparity of what a standard SDE takes the original for, by time: the more x_t shows, the less is guessed."""
    study = begun(scenario, "sde")
    recon.train(study, "sde")
    module, (network,) = recon.load(study, "sde"), study.networks
    frozen, cohort, noisy = diagnosis.load(study, network), data.load(study), noise.load(study)
    test, said = data.rows(cohort.table, "test"), {}

    def guess(t, draw, mu, originals):
        mean, sd = module.schedule.marginal(t, torch.from_numpy(originals)[:, None], mu)
        x_t = mean + sd * torch.randn(mu.shape, generator=draw)
        return frozen.diagnose(module.schedule.x0_hat(t, x_t, mu, module.noise_hat(x_t, mu, t)).clamp(0, 1))

    for t in (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        guessed = partial(guess, t, torch.Generator().manual_seed(t))
        originals = cohort.images[test].astype(np.float32)
        answers = training.apply(guessed, noisy, test, study.compute, f"time {t}", originals)
        said[f"{t}"] = np.concatenate([answer for _, answer in answers])
    rows = read(study, said, "sde", WATCHED[scenario])
    shows = module.schedule.decay(rows.strategy.astype(int).tolist())[0].flatten().numpy()
    return rows.rename(columns={"strategy": "t"}).assign(shows=shows.round(4)).dropna(axis=1).sort_values("shows")


def along_path(scenario: str, strategies: list[str]) -> pd.DataFrame:
    """Disparity of what an SDE guesses on its own way to a sample, and of means of samples, before and after EODD."""
    strategy = next(strategy for strategy in strategies if strategy.startswith("eodd"))
    changes = ["reconstruction.seed=1", "mitigation.seed=1", f"mitigation.strategies=[{strategy}]"]
    study = begun(scenario, "sde", *changes)
    (network,), cohort, noisy = study.networks, data.load(study), noise.load(study)
    frozen, test = diagnosis.load(study, network), data.rows(cohort.table, "test")
    seeds, said = recon.sampling_seeds(study, cohort.table.image_id.iloc[test]), {}
    for arm in ("standard", strategy):
        source = Source("sde", arm)
        trained = recon.weights(study, source) if arm == "standard" else mitigation.weights(study, source)
        module = recon.load(study, "sde", trained)
        shares, _ = module.schedule.decay(module.schedule.strides(module.evaluations)[0])
        stages = [f"{share:.3f}" for share in shares.flatten().tolist()] + ["1 sample", "2 samples", "4 samples"]
        answers = training.apply(partial(on_the_way, module, frozen), noisy, test, study.compute, arm, seeds)
        read_off = np.concatenate([answer for _, answer in answers])
        said |= {f"{arm}/{stage}": read_off[:, [k]] for k, stage in enumerate(stages)}
    rows = read(study, said, "sde", WATCHED[scenario]).dropna(axis=1)
    rows[["strategy", "stage"]] = rows.strategy.str.split("/", expand=True)
    return rows


def on_the_way(module, frozen, mu: torch.Tensor, seeds) -> torch.Tensor:
    """What a frozen network reads in each guess of an SDE, in the sample they lead to, and in means of 2 and 4.

    From noisy images (n, 1, s, s) and their n seeds to probabilities (n, evaluations + 3).
    """
    draws = generators_of(seeds)
    guesses, *others = ([x0_hat for _, _, x0_hat in module.path(mu, draws)] for _ in range(4))
    ends = torch.stack([guesses[-1], *(other[-1] for other in others)])
    return torch.cat([frozen.diagnose(x) for x in (*guesses, ends[:2].mean(0), ends.mean(0))], 1)


def read(study, said: dict[str, np.ndarray], source: str, watched) -> pd.DataFrame:
    """Rows of `measured` for what the one network of a study said of the test images on several occasions."""
    (network,), table = study.networks, data.load(study).table
    test = table.iloc[data.rows(table, "test")]
    parts = [diagnosis.units(study, network, test, answer).assign(strategy=name) for name, answer in said.items()]
    original = diagnosis.predict(study, "original").query("split == 'test'")
    predictions = pd.concat([original, pd.concat(parts).assign(source=source, reader="standard")])
    quality = judge.collect("quality", judge.qualities(study)).query("split == 'test'")
    how = {"quality": quality, "attributes": study.attributes(), "thresholds": diagnosis.thresholds(study)}
    rows = measured(*assess(predictions, table, **how), watched)
    return rows[rows.source == source].query("strategy != 'standard'")


def keep(rows: pd.DataFrame) -> pd.DataFrame:
    """Put rows into the results, in place of those of the same run."""
    with FileLock(RESULTS.with_suffix(".lock")):
        both = pd.concat([pd.read_csv(RESULTS), rows]) if RESULTS.exists() else rows
        both.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable").to_csv(RESULTS, index=False)
    return rows


def measured(performance: pd.DataFrame, fairness: pd.DataFrame, watched: list[tuple[str, str]]) -> pd.DataFrame:
    """Disparity (EODD, or of Dice) with its shifts against originals and the standard model, performance and PSNR."""
    arm = ["source", "strategy"]
    shifts = [f"shift{of}{end}" for of in ("", "_standard") for end in ("", "_low", "_high")]
    found = fairness[fairness.metric.isin(["eodd", "delta_dice"])].set_index(["task", "attribute"])
    rows = found.loc[watched].reset_index().rename(columns={"value": "disparity"})
    told = performance[performance.metric.isin(["auroc", "dice", "psnr"])].set_index([*arm, "task"])
    everyone = told[told.attribute == "all"].value
    psnr = everyone.xs("image", level="task").rename("psnr")
    rows = rows.join(everyone.rename("performance"), on=[*arm, "task"]).join(psnr, on=arm)
    columns = [*arm, "task", "attribute", "disparity", *shifts, "performance", "psnr"]
    groups = performance[(performance.attribute == "sex") & performance.metric.isin(["auroc", "dice", "tpr", "fpr"])]
    names = groups.metric.replace({"auroc": "performance", "dice": "performance"}) + "_" + groups.group
    wide = groups.assign(name=names).pivot_table("value", [*arm, "task"], "name")
    return rows[columns].join(wide, on=[*arm, "task"]).round(4)


def best_of(scenario: str, model: str) -> list[str]:
    """Every strategy at its best strength on the first seed; what is combined takes the best reweighting."""
    alone = swept(scenario, model, tuple(SWEEP))
    return alone + swept(scenario, model, ("eodd", "adv"), f"{alone[0]}+")


def swept(scenario: str, model: str, parts: tuple[str, ...], before: str = "") -> list[str]:
    """The best strength of each part on the first seed, alone or behind what it is combined with."""
    rows = tried(scenario, model, 0, [f"{before}{part}@{k}" for part in parts for k in SWEEP[part]])
    return [chosen(rows, f"{before}{part}@") for part in parts]


def chosen(rows: pd.DataFrame, beginning: str) -> str:
    """The strategy, of those beginning so, that leaves the least disparity at no more than 1 dB and 0.01 AUROC."""
    costs = ["disparity", "psnr", "performance"]
    arms = rows[~rows.source.isin(["original", "noisy"])].groupby("strategy")[costs].mean()
    own = arms[arms.index.str.startswith(beginning) & (arms.index != "reweight@0")]
    cheap = own[(own.psnr >= arms.psnr["standard"] - 1) & (own.performance >= arms.performance["standard"] - 0.01)]
    return (cheap if len(cheap) else own).disparity.idxmin()


if __name__ == "__main__":
    main()
