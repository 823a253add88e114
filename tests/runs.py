"""Finished runs of invented predictions, without images: a cohort and the tables of chapter 06, stamped as done."""

from dataclasses import replace

import numpy as np
import pandas as pd
import yaml
from scipy.stats import norm

from reconfair import data, diagnosis, judge, mitigation, noise, params, recon, store, tables
from reconfair.fairness import assess
from reconfair.params import NOISY, ORIGINAL, Source

RACES = {"White": 0.55, "Other": 0.2, "Asian": 0.12, "Black": 0.1, "Native Hawaiian/Pacific Islander": 0.03}


def finish(study, patients=300, strategies=("reweight",), harm=0.0, resamples=99) -> None:
    """Leave a run as chapter 06 does; `harm` is what reconstructions take from the separation in women."""
    rng = np.random.default_rng(len(study.name))
    people = cohort(study, patients, rng)
    arms = list(study.sources) + [Source(model, strategy) for model in study.models for strategy in strategies]
    rows, quality, women = [], [], people.sex.to_numpy() == "female"
    for k, (task, kind) in enumerate(study.tasks.items()):
        label, shared = (rng.random(patients) < 0.4).astype(float), rng.normal(size=patients)
        known = people.assign(unit=people.patient_id, task=task, kind=kind, reader="standard")
        known = known[["unit", "patient_id", "split", "task", "kind", "reader"]]
        for source in arms:
            lost = {"original": 0, "noisy": 0.8}.get(source.model, 0.05 + harm * women)
            value = (1.8 - 0.08 * k - lost) * label + 0.9 * shared + 0.4 * rng.normal(size=patients)
            columns = {"label": np.nan, "score": np.nan, "dice": norm.cdf(0.5 - lost + 0.3 * shared)}
            if kind == "classify":
                columns = {"label": label, "score": norm.cdf(value), "dice": np.nan}
            rows.append(known.assign(source=source.model, strategy=source.strategy, **columns))
    for source in arms[1:]:
        psnr = {"noisy": 22, "unet": 31, "pix2pix": 29, "sde": 28}[source.model] + rng.normal(size=patients)
        rated = people[["image_id", "patient_id", "split"]].assign(source=source.model, strategy=source.strategy)
        quality.append(rated.assign(psnr=psnr, ssim=psnr / 40))
    both = {"predictions": pd.concat(rows), "quality": pd.concat(quality) if quality else None}
    settings = study.fairness.model_dump(exclude={"attributes", "resamples"})
    settings |= {"attributes": study.attributes(), "thresholds": dict.fromkeys(study.tasks, 0.7)}
    judged = assess(both["predictions"], people, quality=both["quality"], resamples=resamples, **settings)
    judged = {
        name: judge.ordered(table, study) for name, table in zip(("performance", "fairness"), judged, strict=True)
    }
    images = rng.random((patients, 8, 8)).astype(np.float16)
    leave(data.product(study), {"cohort": people, "images": images})
    if NOISY in study.sources:
        leave(noise.product(study), {"noisy": images, "quality": of(both["quality"], NOISY)})
    for source in [*study.sources, *study.mitigated]:
        strategy = source.strategy != "standard"
        predicted = mitigation.predictions(study, source) if strategy else diagnosis.product(study, source)
        if source not in (ORIGINAL, NOISY) and source.strategy != "thresholds":
            made = mitigation.images(study, source) if strategy else recon.product(study, source)
            leave(made, {"reconstructed": images, "quality": of(both["quality"], source)})
        leave(predicted, {"predictions": of(both["predictions"], source)})
    leave(mitigation.judged(study), judged)
    (store.outputs() / study.name / "run.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))


def cohort(study, patients, rng) -> pd.DataFrame:
    """Invented people, all of the test split."""
    people = pd.DataFrame({"patient_id": [f"p{k:04d}" for k in range(patients)], "split": "test"})
    people = people.assign(image_id=people.patient_id, age=rng.integers(20, 90, patients).astype(float))
    people["sex"] = rng.choice(["female", "male"], patients)
    people["age_group"] = np.where(people.age <= people.age.median(), "younger", "older")
    people["race"] = rng.choice(list(RACES), patients, p=list(RACES.values()))
    people["race_merged"] = people.race.replace("Native Hawaiian/Pacific Islander", "Other")
    if "race" not in study.dataset.about.attributes:
        people[["race", "race_merged"]] = None
    return people


def of(table: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Rows of a source; those of a strategy that was not invented are the standard ones."""
    rows = table[(table.source == source.model) & (table.strategy == source.strategy)]
    return rows if len(rows) else table[(table.source == source.model) & (table.strategy == "standard")]


def leave(product, files: dict) -> None:
    """Write tables and arrays into the folder of a product, and stamp it as done."""
    product.folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files.items():
        if isinstance(content, pd.DataFrame):
            tables.write(content, name, product.folder)
        else:
            np.save(product.folder / f"{name}.npy", content)
        written.append(product.folder / f"{name}{'.parquet' if isinstance(content, pd.DataFrame) else '.npy'}")
    replace(product, work=None).mark(written, 0)  # how much work it would be takes networks to tell


def mri(acceleration=8, dataset=None, **sections):
    """A study of invented brain scans."""
    dataset = {"name": "phantom_mri"} | (dataset or {})
    return params.study(dataset=dataset, noise={"kind": "kspace", "acceleration": acceleration}, **sections)


def chexpert(photons=1e4, **sections):
    """A study under the paper's name, so that published values stand beside the invented ones."""
    return params.study(dataset={"name": "chexpert"}, noise={"kind": "sinogram", "photons": photons}, **sections)
