"""Chapter 03: reconstruction. From the noisy image back to the original.

A reconstructor is a file of this folder with a class ``Reconstructor(settings, size)``, a settings class here, and a
line in `MODELS` and in `reconstructor`. The class is a `training.Module` that keeps its ``settings`` and has, besides
the steps of a Lightning module, ``objective(batch)``, the loss that it minimises and the reconstruction this is a loss
of, and ``reconstruct(noisy, seeds)``. A class of the user's own has its settings class within it, as ``Settings``.
Reconstructions that were made elsewhere (`given`) are read, and not trained.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from reconfair import data, noise, params, quality, store, tables
from reconfair.keyed import seed_of
from reconfair.params import ParamsError, Source, Study, Training
from reconfair.recon import given
from reconfair.store import Product, Work


class UNet(Training):
    """U-Net of Ronneberger et al. (2015), mean squared error."""

    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0)] = 1e-3
    channels: Annotated[int, Field(ge=1)] = 64  # of the first level, doubling at each
    depth: Annotated[int, Field(ge=1, le=6)] = 4  # number of halvings
    patch: Literal[1, 2, 4] = 1  # pixels a side that enter the first level together; 2 costs a quarter


class Pix2Pix(Training):
    """Conditional GAN of Isola et al. (2017): U-Net generator, 70x70 PatchGAN."""

    epochs: Annotated[int, Field(ge=1)] = 200  # the second half with a falling learning rate
    batch_size: Annotated[int, Field(ge=2)] = 32
    lr: Annotated[float, Field(gt=0)] = 2e-4
    channels: Annotated[int, Field(ge=1)] = 64  # of the first level, at most eight times as many below
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5  # in the coarsest levels of the decoder, in training
    l1: Annotated[float, Field(ge=0)] = 100  # weight of the mean absolute error beside the adversary's loss


class SDE(Training):
    """Mean-reverting stochastic differential equation of Luo et al. (2023); epochs left out: the paper's."""

    epochs: Annotated[int, Field(ge=1)] = 300  # of the paper, by MRI
    batch_size: Annotated[int, Field(ge=1)] = 8
    lr: Annotated[float, Field(gt=0)] = 1e-4
    channels: Annotated[int, Field(ge=8)] = 64
    depth: Annotated[int, Field(ge=2, le=6)] = 4  # number of levels
    patch: Literal[1, 2, 4] = 1  # pixels a side that enter the first level together; 2 costs a quarter
    steps: Annotated[int, Field(ge=10)] = 100  # of the forward equation
    lam: Annotated[float, Field(gt=0)] = 10 / 255  # standard deviation of its noise in the end
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the average of weights that is kept
    sampler: Literal["reverse_sde", "posterior", "few_step"] = "reverse_sde"
    evaluations: Annotated[int, Field(ge=2)] = 10  # of the network, by the sampler few_step
    samples: Annotated[int, Field(ge=1)] = 1  # whose mean is the reconstruction
    SAMPLING: ClassVar = ("sampler", "evaluations", "samples")  # a trained network can be used with any of these

    @property
    def looks(self) -> int:
        """How often the network looks at an image until it is reconstructed."""
        return self.samples * (self.evaluations if self.sampler == "few_step" else self.steps)


MODELS = {"unet": UNet, "pix2pix": Pix2Pix, "sde": SDE}
params.MODELS |= MODELS
params.GIVEN |= {"given": given.Given}


def reconstructor(word: str) -> type:
    """Return the class of a model: one of the package, or one of the user's own, such as ``my_models.py:Restormer``."""
    from reconfair.recon import pix2pix, sde, unet

    if params.is_external(word):
        return params.external(word)
    return {"unet": unet, "pix2pix": pix2pix, "sde": sde}[word].Reconstructor


def code(study: Study, model: str) -> list[str]:
    """The modules that define a model."""
    word = study.reconstruction.places[model]
    if params.is_external(word):
        return [str(params.file_of(word))]
    return [f"{__name__}.{word}"] + ([f"{__name__}.scorenet"] if word == "sde" else [])


@store.once
def weights(study: Study, source: Source) -> Product:
    """A trained reconstructor, before any fine-tuning.

    Raises
    ------
    ParamsError
        The images of this model were made elsewhere, so that nothing is trained.
    """
    if source.model not in study.trained:
        trained = ", ".join(study.trained) or "no model"
        raise ParamsError(f"reconstruction.{source.model}: its images were made elsewhere; trained here: {trained}")
    settings = _settings(study, source.model, sampling=False)
    return Product(
        chapter="03",
        run=study.name,
        folder=store.outputs() / study.name / study.fold / "sources" / str(source),
        name="weights",
        write=partial(_train, study, source),
        parameters=settings,
        code=("reconfair.training", __name__, *code(study, source.model), "reconfair.keyed"),
        needs=(data.product(study), noise.product(study)),
        job=study.job(str(source)),
        work=partial(training_work, study, source, settings["epochs"]),
        command=study.command,
    )


@store.once
def product(study: Study, source: Source, trained: Product | None = None) -> Product:
    """Reconstructions of val and test images by `trained` weights (by default the standard ones), and their quality.

    Those of a model that is not trained here are read from files.
    """
    if source.model not in study.trained:
        return given.product(study, source)
    trained = trained or weights(study, source)
    every, settings = (_settings(study, source.model, sampling) for sampling in (True, False))
    return Product(
        chapter=trained.chapter,
        run=study.name,
        folder=trained.folder,
        name="reconstructed",
        write=partial(_reconstruct, study, source, trained),
        parameters={key: every[key] for key in every.keys() - settings.keys()},
        code=("reconfair.quality",),
        needs=(trained, noise.product(study)),
        job=trained.job,
        work=partial(_work, study, source),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    made = []
    for fold in study.folds:
        for source in map(Source, study.models):
            made += [weights(fold, source)] if source.model in study.trained else []
            made.append(product(fold, source))
    return made


def check(study: Study) -> list[str]:
    """Name each model that cannot be built for images of this size, unless it was trained already."""
    mistakes = []
    for model in study.trained:
        try:
            lacking = [trained for fold in study.folds if not (trained := weights(fold, Source(model))).fresh]
            if lacking:
                lacking[0].work()
        except Exception as error:  # a model of the user's own may fail in any way
            mistakes.append(f"reconstruction.{model}: {error} (dataset.size: {study.dataset.size})")
    return mistakes


def train(study: Study, model: str) -> Path:
    """Train reconstructor `model` unless its weights are fresh; return its folder."""
    return store.make(weights(study, Source(model)))


def reconstruct(study: Study, model: str) -> np.ndarray:
    """Reconstruct and rate the val and test images unless that is fresh, and open them.

    Returns
    -------
    ndarray
        (n, size, size), of colour (n, 3, size, size), float16 within [0, 1]; rows as in ``data.rows(table, "eval")``.
    """
    return np.load(store.make(product(study, Source(model))) / "reconstructed.npy", mmap_mode="r")


def build(study: Study, model: str):
    """Return an untrained reconstructor; its first weights depend on the seed alone."""
    import torch

    settings = _settings(study, model)
    torch.manual_seed(seed_of(settings["seed"], "weights", model))
    return reconstructor(study.reconstruction.places[model])(settings, study.dataset.size)


def load(study: Study, model: str, trained: Product | None = None):
    """Return the reconstructor with `trained` weights (by default the standard ones), frozen."""
    from reconfair import training

    folder = store.ready(trained or weights(study, Source(model)))
    return training.load(folder / "best.ckpt", build(study, model))


def sampling_seeds(study: Study, image_ids) -> list[int]:
    """Return one seed per image for reconstructors that draw; all of them draw alike, to be compared."""
    return [seed_of(study.reconstruction.seed, "sample", image_id) for image_id in image_ids]


def fit(study: Study, module, folder: Path, what: str, epochs: int, shares=None, penalties=None) -> None:
    """Train `module` on the reconstruction split; `shares` draw its images unequally, `penalties` add to its loss."""
    from reconfair import training

    cohort, noisy = data.load(study), noise.load(study)
    rows, val = data.rows(cohort.table, "recon"), data.rows(cohort.table, "val")
    there, val = data.there(noisy, rows), val[data.there(noisy, val)]  # given images may be lacking
    rows, shares = rows[there], None if shares is None else np.asarray(shares)[there]
    batch_size, seed = module.settings["batch_size"], module.settings["seed"]
    pairs = (noisy, cohort.images, *(penalties.extras if penalties else ()))
    training.fit(
        module,
        training.loader(pairs, rows, batch_size, seed, shares),
        training.loader(pairs, val, batch_size, shuffle=False),
        folder,
        epochs,
        study.compute,
        what,
        penalties,
    )


def _settings(study: Study, model: str, sampling: bool = True) -> dict:
    """All that a model depends on; of colour images, how many channels they have."""
    return study.reconstruction.settings(model, sampling) | study.dataset.inputs


def training_work(study: Study, source: Source, epochs: int) -> Work:
    """What it takes to train or fine-tune a reconstructor."""
    from reconfair import training

    settings, images = _settings(study, source.model), data.sizes(study)["recon"] * epochs
    module = partial(build, study, source.model)
    return training.work(f"train {source}", module, settings, study.dataset.size, images, study.compute, trains=True)


def _work(study: Study, source: Source) -> Work:
    """What it takes to reconstruct the val and test images."""
    from reconfair import training

    settings, images, size = _settings(study, source.model), data.sizes(study)["eval"], study.dataset.size
    looks = getattr(getattr(study.reconstruction, source.model), "looks", 1)  # of the network at an image
    module = partial(build, study, source.model)
    work = training.work(f"apply {source.model}", module, settings, size, images * looks, study.compute)
    return work._replace(disk=2 * images * np.prod(study.dataset.shape) / 1e6)


def _train(study: Study, source: Source, folder: Path) -> None:
    module = build(study, source.model)
    fit(study, module, folder, source.model, module.settings["epochs"])


def _reconstruct(study: Study, source: Source, trained: Product, folder: Path) -> None:
    from reconfair import training

    cohort, noisy = data.load(study), noise.load(study)
    rows = data.rows(cohort.table, "eval")
    module = training.placed(load(study, source.model, trained), study.compute)
    images = store.Growing(folder / "reconstructed.npy", (len(rows), *noisy.shape[1:]), np.float16)
    left = rows[store.resume(training.BATCH, images) :]
    seeds, what = sampling_seeds(study, cohort.table.image_id.iloc[left]), f"{source} reconstructs"
    for batch, x_hat in training.apply(module.reconstruct, noisy, left, study.compute, what, seeds):
        x_hat[~data.there(noisy, batch)] = np.nan  # where a given image is lacking, so is its reconstruction
        images.append(training.narrow(x_hat))
    images = np.load(folder / "reconstructed.npy", mmap_mode="r")
    tables.write(quality.rate(cohort.table.iloc[rows], cohort.images, images, *source, rows=rows), "quality", folder)
