"""Finished runs of invented predictions, without images: a cohort and the tables of chapter 06, stamped as done."""

import numpy as np
import pandas as pd
import yaml
from scipy.stats import norm

from reconfair import judge, params, store, tables
from reconfair.fairness import assess

RACES = {"White": 0.55, "Other": 0.2, "Asian": 0.12, "Black": 0.1, "Native Hawaiian/Pacific Islander": 0.03}


def finish(study, patients=300, strategies=("reweight",), harm=0.0, resamples=99) -> None:
    """Leave a run as chapter 06 does; `harm` is what reconstructions take from the separation in women."""
    flow, rng = store.flow(study), np.random.default_rng(len(study.name))
    people = pd.DataFrame({"patient_id": [f"p{k:04d}" for k in range(patients)], "split": "test"})
    people = people.assign(image_id=people.patient_id, age=rng.integers(20, 90, patients).astype(float))
    people["sex"] = rng.choice(["female", "male"], patients)
    people["age_group"] = np.where(people.age <= people.age.median(), "younger", "older")
    people["race"] = rng.choice(list(RACES), patients, p=list(RACES.values()))
    people["race_merged"] = people.race.replace("Native Hawaiian/Pacific Islander", "Other")
    if "race" not in study.dataset.about.attributes:
        people[["race", "race_merged"]] = None
    arms = [(source, "standard") for source in ("original", "noisy", *study.reconstruction.models)]
    arms += [(model, strategy) for model in study.reconstruction.models for strategy in strategies]
    rows, quality, women = [], [], people.sex.to_numpy() == "female"
    for k, (task, kind) in enumerate(study.tasks.items()):
        label, shared = (rng.random(patients) < 0.4).astype(float), rng.normal(size=patients)
        for source, strategy in arms:
            lost = {"original": 0, "noisy": 0.8}.get(source, 0.05) + harm * women * (
                source not in ("original", "noisy")
            )
            value = (1.8 - 0.08 * k - lost) * label + 0.9 * shared + 0.4 * rng.normal(size=patients)
            known = {
                "unit": people.patient_id,
                "patient_id": people.patient_id,
                "split": "test",
                "task": task,
                "kind": kind,
            }
            row = pd.DataFrame(known).assign(source=source, strategy=strategy, label=np.nan, score=np.nan, dice=np.nan)
            made = (
                {"label": label, "score": norm.cdf(value)}
                if kind == "classify"
                else {"dice": norm.cdf(0.5 - lost + 0.3 * shared)}
            )
            rows.append(row.assign(**made))
    for source, strategy in arms[1:]:
        psnr = {"noisy": 22, "unet": 31, "pix2pix": 29, "sde": 28}[source] + rng.normal(size=patients)
        rated = people[["image_id", "patient_id", "split"]].assign(source=source, strategy=strategy, psnr=psnr)
        quality.append(rated.assign(ssim=psnr / 40))
    found = assess(
        pd.concat(rows),
        people,
        quality=pd.concat(quality),
        attributes=study.attributes(),
        thresholds=dict.fromkeys(study.tasks, 0.7),
        resamples=resamples,
        min_cases=study.fairness.min_cases,
        inference=study.fairness.inference,
    )
    folder = flow["mitigation"].folder
    folder.mkdir(parents=True)
    for name, table in zip(("performance", "fairness"), found, strict=True):
        tables.write(judge._ordered(table, study), name, folder)
    tables.write(people, "cohort", flow["cohort"].folder)
    flow["mitigation"].mark([folder / "performance.parquet", folder / "fairness.parquet"], 0)
    flow["cohort"].mark([flow["cohort"].folder / "cohort.parquet"], 0)
    np.save(flow["cohort"].folder / "images.npy", images := rng.random((patients, 8, 8)).astype(np.float16))
    for source, strategy in dict.fromkeys(
        [*arms[:2], *((m, "standard") for m in study.reconstruction.models), *study.mitigated]
    ):
        key = store.variant(source, strategy)
        own = flow[{"original": "original/predictions", "noisy": "noisy"}.get(key, f"{key}/model")].folder
        own.mkdir(parents=True, exist_ok=True)
        np.save(own / f"{'noisy' if key == 'noisy' else 'reconstructed'}.npy", images)
        for name, table in (("predictions", pd.concat(rows)), ("quality", pd.concat(quality))):
            tables.write(table[(table.source == source) & (table.strategy == strategy)], name, own)
    (folder.parent / "study.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))


def mri(acceleration=8, **sections):
    """A study of invented brain scans."""
    return params.study(
        dataset={"name": "phantom_mri"}, noise={"kind": "kspace", "acceleration": acceleration}, **sections
    )


def chexpert(photons=1e4, **sections):
    """A study under the paper's name, so that published values stand beside the invented ones."""
    return params.study(dataset={"name": "chexpert"}, noise={"kind": "sinogram", "photons": photons}, **sections)
