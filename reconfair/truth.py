"""The true disparity of a frozen model: its fairness metrics on a phantom population."""

from functools import partial

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, noise, recon, store, training
from reconfair.data import splits
from reconfair.diagnosis import groupwise
from reconfair.fairness import assess
from reconfair.keyed import seed_of
from reconfair.params import ParamsError, Reader, Study

CHUNK = 256  # patients drawn, degraded and diagnosed at a time, so that memory does not grow


def true_disparity(
    study: Study, source: str = "original", patients: int = 20_000, reader: str = "standard"
) -> pd.DataFrame:
    """Fairness of the study's frozen models on a fresh draw of its phantom population.

    Parameters
    ----------
    study : Study
        Of a phantom dataset, run up to chapter 04.
    source : str
        What the models look at: ``original``, ``noisy`` or a reconstructor.
    patients : int
        Size of the fresh draw; none of them was seen in training.
    reader : str
        The strategy of the readers.

    Returns
    -------
    DataFrame
        Rows of the ``fairness`` table for `source`; ``value`` is the truth, its interval the error of
        a finite draw.

    Raises
    ------
    ParamsError
        The dataset is no phantom, so that no truth is known.
    """
    if not hasattr(study.dataset, "dials"):
        raise ParamsError(f"dataset.name: the truth is known of phantoms only, not of {study.dataset.name}")
    fresh = study.dataset.model_copy(update={"patients": patients, "seed": seed_of(study.dataset.seed, "fresh")})
    table = splits.derive(fresh.read_table()).assign(split="test")
    model = None if source in ("original", "noisy") else recon.load(study, source)
    everyone = table.patient_id.unique()
    parts = []
    for some in store.progress(np.array_split(everyone, -(-len(everyone) // CHUNK)), "fresh patients"):
        chunk = table[table.patient_id.isin(some)].reset_index(drop=True)
        images, masks = drawn(fresh, chunk, study.compute.workers)
        seen = images if source == "original" else noise.degrade(images, chunk.image_id, study.noise)
        if model is not None:
            seeds = recon.sampling_seeds(study, chunk.image_id)
            batches = training.apply(model.reconstruct, seen, np.arange(len(seen)), study.compute, "models", seeds)
            seen = np.concatenate([images for _, images in batches])[:, 0]
        for network in study.networks_of(reader):
            who, rows = Reader(network, reader), np.arange(len(seen))
            answers, _ = diagnosis.read(study, who, seen, rows, "models", chunk, masks)
            parts.append(diagnosis.units(study, network, chunk, answers, masks))
    predictions = pd.concat(parts, ignore_index=True).assign(source=source, strategy="standard", reader=reader)
    if reader.endswith("+thresholds"):
        predictions = groupwise.elsewhere(study, reader, predictions, table)
    how = {"thresholds": diagnosis.thresholds(study, reader), "eodd": study.fairness.eodd}
    return assess(predictions, table, attributes=study.attributes(), min_cases=2, resamples=99, **how)[1]


def drawn(dataset, table: pd.DataFrame, workers: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw the images of some rows, and their masks: (n, size, size)."""
    pieces = [table.iloc[start : start + data.CHUNK] for start in range(0, len(table), data.CHUNK)]
    parts = list(store.parallel(partial(data.images_of, dataset=dataset), pieces, "images", workers))
    images = np.concatenate([images for images, *_ in parts])
    return images, None if parts[0][1] is None else np.concatenate([masks for _, masks, *_ in parts])
