"""Chapter 03: reconstruction. From the noisy image back to the original.

A reconstructor is a module of this folder with one class, ``Reconstructor(settings, size)``: a Lightning
module with ``objective(batch)``, the loss that it minimises and the reconstruction this is a loss of,
and ``reconstruct(noisy, seeds)``. Here are the three things done with each: ``train``, ``reconstruct``,
and the rating that ``reconstruct`` writes beside its images.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from reconfair import data, noise, quality, store, tables
from reconfair.params import Study


def train(study: Study, model: str) -> Path:
    """Train reconstructor `model` unless its weights are fresh; return its folder."""
    return store.make(store.flow(study)[f"{model}/model"], partial(_train, study, model))


def reconstruct(study: Study, model: str, strategy: str = "standard") -> np.ndarray:
    """Reconstruct and rate the val and test images unless that is fresh, and open them.

    Returns
    -------
    ndarray
        (n, size, size) float16 within [0, 1]; rows as in ``data.rows(table, "eval")``.
    """
    key = store.variant(model, strategy)
    folder = store.make(store.flow(study)[f"{key}/reconstructed"], partial(_reconstruct, study, model, strategy))
    return np.load(folder / "reconstructed.npy", mmap_mode="r")


def build(study: Study, model: str):
    """Return an untrained reconstructor; its first weights depend on the seed alone."""
    import torch

    from reconfair.keyed import seed_of

    settings = study.reconstruction.settings(model)
    torch.manual_seed(seed_of(settings["seed"], "weights", model))
    return import_module(f"reconfair.recon.{model}").Reconstructor(settings, study.dataset.size)


def load(study: Study, model: str, strategy: str = "standard"):
    """Return the trained reconstructor, frozen."""
    from reconfair import training

    path = store.flow(study)[f"{store.variant(model, strategy)}/model"].folder / "best.ckpt"
    return training.load(path, build(study, model))


def sampling_seeds(study: Study, image_ids) -> list[int]:
    """Return one seed per image for reconstructors that draw; all of them draw alike, to be compared."""
    from reconfair.keyed import seed_of

    return [seed_of(study.reconstruction.seed, "sample", image_id) for image_id in image_ids]


def fit(study: Study, module, part: Path, what: str, epochs: int, weights=None, penalties=None) -> None:
    """Train `module` on the reconstruction split; `weights` draw its images unequally, `penalties` add to its loss."""
    from reconfair import training

    cohort, noisy = data.load(study), noise.load(study)
    rows, val = data.rows(cohort.table, "recon"), data.rows(cohort.table, "val")
    batch_size, seed = module.settings["batch_size"], module.settings["seed"]
    pairs = (noisy, cohort.images, *(penalties.beside if penalties else ()))
    training.fit(
        module,
        training.loader(pairs, rows, batch_size, seed, weights),
        training.loader(pairs, val, batch_size, shuffle=False),
        part,
        epochs,
        study.compute,
        what,
        penalties,
    )


def _train(study: Study, model: str, part: Path) -> None:
    module = build(study, model)
    fit(study, module, part, model, module.settings["epochs"])


def _reconstruct(study: Study, model: str, strategy: str, part: Path) -> None:
    from reconfair import training

    cohort, noisy, key = data.load(study), noise.load(study), store.variant(model, strategy)
    rows = data.rows(cohort.table, "eval")
    module = training.placed(load(study, model, strategy), study.compute)
    images = store.Growing(part / "reconstructed.npy", (len(rows), *noisy.shape[1:]), np.float16)
    left = rows[store.resume(training.BATCH, images) :]
    seeds, what = sampling_seeds(study, cohort.table.image_id.iloc[left]), f"{key} reconstructs"
    for _, x_hat in training.apply(module.reconstruct, noisy, left, study.compute, what, seeds):
        images.append(x_hat[:, 0])
    images = np.load(part / "reconstructed.npy", mmap_mode="r")
    rated = quality.rate(cohort.table.iloc[rows], _Rows(cohort.images, rows), images, model, strategy)
    tables.write(rated, "quality", part)


class _Rows:
    """Some rows of a memory-mapped array, read one by one."""

    def __init__(self, array, rows):
        self.array, self.rows = array, rows

    def __getitem__(self, at: int):
        return self.array[self.rows[at]]
