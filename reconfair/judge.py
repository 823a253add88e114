"""Chapter 05: from the stored predictions of a study to its performance and fairness tables.

The statistics are in `reconfair.fairness`, which knows nothing of studies and files.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from reconfair import diagnosis, store, tables
from reconfair.fairness import assess
from reconfair.params import Study


def judge(study: Study, mitigated: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assess the test split unless that is fresh, and read the tables ``performance`` and ``fairness``.

    Parameters
    ----------
    study : Study
    mitigated : bool
        With the fine-tuned reconstructors beside the standard ones.
    """
    product = store.flow(study)["mitigation" if mitigated else "fairness"]
    folder = store.make(product, partial(_write, study, mitigated))
    return tables.read("performance", folder), tables.read("fairness", folder)


def sources(study: Study, mitigated: bool = False) -> list[str]:
    """Folders of everything that was looked at: original, noisy, reconstructions, fine-tuned ones."""
    tuned = [store.variant(model, strategy) for model, strategy in study.mitigated] if mitigated else []
    return ["original", "noisy", *study.reconstruction.models, *tuned]


def collect(study: Study, name: str, mitigated: bool = False) -> pd.DataFrame:
    """Rows of ``predictions`` or ``quality`` of every source; an original has no quality to rate."""
    flow, made = store.flow(study), {"original": "original/predictions", "noisy": "noisy"}
    keys = [source for source in sources(study, mitigated) if name == "predictions" or source != "original"]
    return tables.read(name, *(flow[made.get(key, f"{key}/model")].folder for key in keys))


def _write(study: Study, mitigated: bool, part: Path) -> None:
    settings = study.fairness
    predictions, quality = (collect(study, name, mitigated) for name in ("predictions", "quality"))
    performance, fairness = assess(
        predictions[predictions.split == "test"],
        tables.read("cohort", store.flow(study)["cohort"].folder),
        quality=quality[quality.split == "test"],
        attributes=study.attributes(),
        thresholds=diagnosis.thresholds(study),
        eodd=settings.eodd,
        min_cases=settings.min_cases,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    tables.write(_ordered(performance, study), "performance", part)
    tables.write(_ordered(fairness, study), "fairness", part)


def _ordered(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows in the order of tasks, then original, noisy, reconstructors, each followed by its strategies."""
    order = {word: at for at, word in enumerate([*study.tasks, "image", "original", "noisy"])}
    order |= {model: len(order) + at for at, model in enumerate(study.reconstruction.models)}
    order |= {"standard": 0} | {strategy: 1 + at for at, strategy in enumerate(study.mitigation.strategies)}
    return table.sort_values(["task", "source", "strategy"], key=lambda words: words.map(order), kind="stable")
