"""Chapter 08: synthetic patients. A generator draws images of the cells that are rare in training.

A **cell** is a combination of attributes and a label, such as women with the disease. One plain generator is trained;
every other one (`recipe`) is tuned from it for as long. Generators see training images of the diagnosis alone, and
their images train classifiers alone: readers named after the generator, such as ``fairgen``.
"""

import shutil
from functools import partial
from hashlib import sha256
from itertools import product as combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, judge, store, tables
from reconfair.keyed import generator as draws_of
from reconfair.keyed import seed_of
from reconfair.params import GENERATORS, Network, ParamsError, Reader, Source, Study
from reconfair.store import Growing, Product, Work
from reconfair.words import nearest

EPOCH = 100  # iterations of an epoch, after which cell weights are renewed
BATCH = 50  # images drawn at a time
NETWORK = ("channels", "widths", "blocks", "attention", "patch", "batch_size", "lr", "ema", "guidance", "steps", "seed")
DIFFUSION = ("diffusion", "balance", "preference")
PUBLISHED_GUIDANCE = 7.5


class Cells(NamedTuple):
    """The cells of a study and the training images in them.

    Attributes
    ----------
    table : DataFrame
        One row per cell: ``cell`` (its name), each attribute, the task, ``images`` and ``patients``; ``codes``, the
        number of each group and of the label; ``note``.
    rows : ndarray of int
        Rows of the cohort that train and have a cell.
    of : ndarray of int
        The cell of each of them.
    """

    table: pd.DataFrame
    rows: np.ndarray
    of: np.ndarray


def cells(study: Study) -> Cells:
    """Cells of the diagnosis training images; images without an attribute or a label are left out.

    Raises
    ------
    ParamsError
        A cell has fewer than ``min_images`` images, and ``small_cells`` is ``refuse``.
    """
    settings, task = study.synthesis, study.cells[-1]
    cohort = data.load(study).table
    rows = data.rows(cohort, "diag")
    rows = rows[cohort.iloc[rows][list(study.cells)].notna().all(axis=1)]
    some = cohort.iloc[rows].astype({task: int})
    levels = [sorted(some[word].unique()) for word in study.cells]
    table = pd.DataFrame(list(combinations(*levels)), columns=study.cells)
    table["codes"] = list(combinations(*(range(len(level)) for level in levels)))
    table.insert(0, "cell", [", ".join(map(str, values)) for values in combinations(*levels)])
    keys = some[list(study.cells)].merge(table.reset_index(), on=list(study.cells), how="left")["index"]
    keys = keys.to_numpy(copy=True)
    table["images"] = np.bincount(keys, minlength=len(table))
    table["patients"] = some.groupby(keys).patient_id.nunique().reindex(table.index, fill_value=0).to_numpy()
    table["note"], small = "", table.index[table.images < settings.min_images]
    if len(small) and settings.small_cells == "refuse":
        few = "; ".join(f"'{row.cell}' ({row.images})" for row in table.loc[small].itertuples())
        raise ParamsError(
            f"synthesis.cells: fewer than {settings.min_images} training images in {few}. Name fewer attributes, lower "
            "synthesis.min_images, or set synthesis.small_cells: merge"
        )
    for cell in small:
        alike = table[(table[task] == table.at[cell, task]) & ~table.index.isin(small)]
        if alike.empty:
            raise ParamsError(
                f"synthesis.cells: no cell of {task} {table.at[cell, task]} has {settings.min_images} training images; "
                "lower synthesis.min_images"
            )
        target = alike.images.idxmax()
        keys[keys == cell] = target
        table.loc[target, "note"] += f"with {table.at[cell, 'images']} of {table.at[cell, 'cell']}; "
    kept = table.index.difference(small)
    table = table.loc[kept].assign(images=[int((keys == cell).sum()) for cell in kept]).reset_index(drop=True)
    return Cells(table.assign(note=table.note.str.removesuffix("; ")), rows, np.searchsorted(kept, keys))


def recipe(study: Study, name: str) -> dict:
    """How a generator is tuned.

    Returns
    -------
    dict
        ``sampling``; ``gradient_norms``; ``diversity``, a strength; ``preference``, who compares; ``fair``, whether
        the loss is weighted as in FairDiffusion; ``as_published``.
    """
    settings = study.synthesis
    plain = {"sampling": "natural", "gradient_norms": False, "diversity": 0.0, "preference": "none", "fair": False}
    published = {"as_published": settings.as_published}
    if name == "fairgen":
        gradients = settings.gradient_norms and not settings.as_published
        keys = ("sampling", "diversity", "preference", "beta")
        return plain | {key: getattr(settings, key) for key in keys} | {"gradient_norms": gradients} | published
    others = {"cbrs": {"sampling": "cbrs"}, "sqrs": {"sampling": "sqrs"}, "fairdiffusion": {"fair": True}}
    others |= {"cbdm": {"diversity": settings.diversity or 1.0}, "plain": {}}
    return plain | others[name] | published


# --- products ---


def _folder(study: Study, *names: str) -> Path:
    return store.outputs().joinpath(study.label, "synthesis", *names)


def _code(*modules: str) -> tuple[str, ...]:
    names = ("reconfair.training", "reconfair.recon.scorenet", "reconfair.recon.sde", __name__)
    return (*names, *(f"{__name__}.{module}" for module in modules), "reconfair.keyed")


def weights(study: Study, name: str = "base") -> Product:
    """A trained generator: ``base``, from which the others are tuned, or one of ``study.synthesis.generators``."""
    settings, base = study.synthesis, name == "base"
    if not base and name not in settings.generators:
        raise ParamsError(f"synthesis: there is no generator '{name}'; {nearest(name, settings.generators)}")
    keys = {key: settings.model_dump(mode="json")[key] for key in NETWORK}
    keys |= {"cells": study.cells, "min_images": settings.min_images, "small_cells": settings.small_cells}
    keys |= {"iterations": settings.iterations if base else settings.tuning} | ({} if base else recipe(study, name))
    keys |= {"start": _digest(settings.start)} if base and settings.start else {}
    needs = (data.product(study),) if base else (data.product(study), weights(study))
    if not base and recipe(study, name)["preference"] != "none":
        needs += (pairs(study),)
        keys |= {"ratings": _digest(settings.ratings)} if settings.preference == "csv" else {}
    return Product(
        chapter="08",
        run=study.label,
        folder=_folder(study, name),
        name="weights",
        write=partial(_train, study, name),
        parameters=keys,
        code=_code(*DIFFUSION),
        needs=needs,
        job=f"synthesis/{name}",
        work=partial(_training_work, study, keys["iterations"]),
        command=study.command,
    )


def examiner(study: Study) -> Product:
    """A classifier of the asked task, trained on half of the training patients, that rates and measures images."""
    network = asked(study)
    standard = diagnosis.weights(study, Reader(network))
    return Product(
        chapter="08",
        run=study.label,
        folder=_folder(study, "examiner"),
        name="weights",
        write=partial(_train_examiner, study),
        parameters=study.diagnosis.settings(network) | {"half": study.synthesis.seed},
        code=(*standard.code, *_code("classifiers")),
        needs=(data.product(study),),
        job="synthesis/examiner",
        work=standard.work,
        command=study.command,
    )


def pairs(study: Study) -> Product:
    """Pairs of samples of one cell by the base generator and, of the simulated physician, which is better."""
    settings, people = study.synthesis, study.synthesis.preference == "csv"
    law = settings.preference == "oracle" and study.dataset.name == "phantom_mri"
    return Product(
        chapter="08",
        run=study.label,
        folder=_folder(study, "pairs"),
        name="pairs",
        write=partial(_write_pairs, study),
        parameters={"pairs": settings.pairs, "kappa": settings.kappa, "preference": settings.preference},
        code=_code("preference", "distance"),
        needs=(data.product(study), weights(study), *([] if people or law else [examiner(study)])),
        job="synthesis/pairs",
        work=partial(_sampling_work, study, 2 * settings.pairs),
        command=study.command,
    )


def samples(study: Study, name: str) -> Product:
    """Synthetic images of a generator, and their table."""
    settings, further = study.synthesis, name == "sd"
    parameters = {
        key: getattr(settings, key) for key in ("amount", "judged", "guidance", "steps", "as_published", "seed")
    }
    parameters |= {"diffusers": settings.diffusers, "cells": study.cells} if further else {}
    return Product(
        chapter="08",
        run=study.label,
        folder=_folder(study, name),
        name="samples",
        write=partial(_write_samples, study, name),
        parameters=parameters,
        code=_code("further") if further else _code(),
        needs=(data.product(study),) if further else (data.product(study), weights(study, name)),
        job=f"synthesis/{name}",
        work=partial(_sampling_work, study, 0),
        command=study.command,
    )


def reader_weights(study: Study, reader: Reader) -> Product:
    """A classifier that was trained with real images and those of the generator that the strategy names."""
    settings, keys = study.synthesis, ("inverse_performance", "as_published")
    standard = diagnosis.weights(study, Reader(reader.network))
    return Product(
        chapter="08",
        run=study.label,
        folder=store.outputs() / study.label / "readers" / str(reader),
        name="weights",
        write=partial(_train_reader, study, reader),
        parameters=standard.parameters | {key: getattr(settings, key) for key in keys} | {"cells": study.cells},
        code=(*standard.code, *_code("classifiers", "balance")),
        needs=(data.product(study), samples(study, reader.strategy)),
        job=f"readers/{reader}",
        work=standard.work,
        command=study.command,
    )


def predictions(study: Study, source: Source, strategy: str) -> Product:
    """What the readers of one generator say of the val and test images of a source; these are real images alone."""
    return diagnosis.product(study, source, strategy=strategy)


def judged(study: Study) -> Product:
    """The tables of the standard readers and those trained with synthetic images, on originals and every source."""
    read = [predictions(study, source, name) for source in study.sources for name in readers(study)]
    every = ("standard", *readers(study))
    return judge.judged(study, "08", "synthesis", judge.predictions(study) + read, judge.qualities(study), every)


def product(study: Study) -> Product:
    """The table ``synthesis``: the generators' images measured, and classifiers trained with them."""
    settings, trained = study.synthesis, answered(study)
    return Product(
        chapter="08",
        run=study.label,
        folder=_folder(study, "judged"),
        name="synthesis",
        write=partial(_judge, study),
        parameters={key: getattr(settings, key) for key in ("classifiers", "draws", "seed")}
        | {"attributes": study.attributes(), "min_cases": study.fairness.min_cases},
        code=(*_code("distance", "classifiers", "balance", "preference"), "reconfair.fairness.metrics"),
        needs=(data.product(study), examiner(study), *trained, *(samples(study, name) for name in settings.generators)),
        work=partial(Work, "judge synthesis", len(trained), 1.0),
        command=study.command,
    )


def answered(study: Study) -> list[Product]:
    """What each kind of classifier answers, trained with the images of each generator and with none."""
    settings, examined = study.synthesis, examiner(study)
    made = []
    for name in ("standard", *settings.generators):
        for kind in settings.classifiers:
            keys = {key: getattr(settings, key) for key in ("inverse_performance", "as_published", "vit", "resnet")}
            trained = [samples(study, name)] if name != "standard" else []
            made.append(
                Product(
                    chapter="08",
                    run=study.label,
                    folder=_folder(study, name, kind),
                    name="answers",
                    write=partial(_answer, study, name, kind),
                    parameters=examined.parameters | keys | {"cells": study.cells},
                    code=(*examined.code, *_code("distance", "preference")),
                    needs=(data.product(study), examined, *trained),
                    job=f"synthesis/{name}/{kind}" if kind in ("vit", "resnet") else "",
                    work=examined.work if kind in ("vit", "resnet") else partial(Work, f"fit {kind}", 1, 2.0),
                    command=study.command,
                )
            )
    return made


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    if study.synthesis is None:
        return []
    made = [weights(study)]
    if study.synthesis.preference != "none":
        made.append(pairs(study))
    made += [examiner(study), *(weights(study, name) for name in readers(study) if name != "sd")]
    for name in readers(study):
        made += [
            samples(study, name),
            *(reader_weights(study, Reader(network, name)) for network in study.networks_of(name)),
        ]
        made += [predictions(study, source, name) for source in study.sources]
    return list(dict.fromkeys([*made, *answered(study), product(study), judged(study)]))


def readers(study: Study) -> tuple[str, ...]:
    """Strategies of the readers that are trained with synthetic images: the generators' names."""
    return study.synthesis.generators if study.synthesis else ()


def asked(study: Study) -> Network:
    """The network of the asked task, for that task alone; one of several classes is as the study has it."""
    [network, *_] = study.networks_of("fairgen")
    several = study.cells[-1] not in network.tasks
    return network if several else Network(study.cells[-1], "classify", (study.cells[-1],))


diagnosis.TRAINERS |= dict.fromkeys((*GENERATORS, "sd"), reader_weights)


def check(study: Study) -> list[str]:
    """Name what would stop chapter 08 later: a network that does not fit the images, an absent file or package."""
    if study.synthesis is None:
        return []
    settings, mistakes = study.synthesis, []
    if study.dataset.folds:
        mistakes.append("synthesis: generators are not trained by folds; set dataset.folds: 0, or leave synthesis out")
    multiple = settings.patch * 2 ** (len(settings.widths) - 1)
    if study.dataset.size % multiple:
        near = max(round(study.dataset.size / multiple), 1) * multiple
        mistakes.append(f"synthesis.widths: images need a multiple of {multiple} pixels, such as {near}")
    if not study.networks_of("fairgen"):
        mistakes.append(f"synthesis.cells: the network of '{study.cells[-1]}' is given, and cannot be trained")
    for key, kind in (("start", "file"), ("ratings", "folder"), ("diffusers", "folder")):
        path = Path(getattr(settings, key)).expanduser()
        if getattr(settings, key) and not (path.is_file() if kind == "file" else path.is_dir()):
            there = [other.name for other in path.parent.glob("*")]
            mistakes.append(f"synthesis.{key}: there is no {kind} {path}; {nearest(path.name, there, 'there is')}")
    if "xgboost" in settings.classifiers or settings.diffusers:
        from importlib.util import find_spec

        wanted = {"xgboost": "xgboost" in settings.classifiers, "diffusers": bool(settings.diffusers)}
        absent = [name for name, needed in wanted.items() if needed and find_spec(name) is None]
        mistakes += [f"synthesis: {name} is not installed; pip install 'reconfair[{name}]'" for name in absent]
    return mistakes


def _digest(place: str) -> str:
    """Hash of a file, or of the CSV files of a folder; empty where there is none."""
    path = Path(place).expanduser()
    paths = sorted(path.glob("*.csv")) if path.is_dir() else [path] if path.is_file() else []
    return sha256(b"".join(each.read_bytes() for each in paths)).hexdigest()[:16] if paths else ""


# --- generators ---


def build(study: Study, name: str = "base", table: pd.DataFrame | None = None):
    """Return an untrained generator, whose first weights depend on the seed alone."""
    import torch

    from reconfair.synthesis.diffusion import Generator

    settings = study.synthesis.model_dump()
    table = cells(study).table if table is None else table
    codes = np.array(table.codes.tolist())
    chosen = {key: list(value) if isinstance(value := settings[key], tuple) else value for key in NETWORK}
    chosen |= {"guidance": PUBLISHED_GUIDANCE} if study.synthesis.as_published else {}
    chosen |= {"cells": codes.tolist(), "names": table.cell.tolist(), "factors": (codes.max(0) + 1).tolist()}
    colours = 3 if data.load(study).images.ndim == 4 else 1
    chosen |= {"colours": colours} | ({} if name == "base" else recipe(study, name))
    torch.manual_seed(seed_of(chosen["seed"], "weights", "generator"))
    return Generator(chosen, study.dataset.size)


def load(study: Study, name: str = "base"):
    """Return a trained generator, frozen."""
    from reconfair import training

    folder = store.ready(weights(study, name))
    return training.load(folder / "best.ckpt", build(study, name))


def _training_work(study: Study, iterations: int) -> Work:
    """What it takes to train a generator."""
    from reconfair import training

    settings = study.synthesis
    images = iterations * settings.batch_size
    build_one = partial(_costs, study)
    keys = {key: settings.model_dump(mode="json")[key] for key in NETWORK}
    return training.work("train generator", build_one, keys, study.dataset.size, images, study.compute, trains=True)


def _sampling_work(study: Study, images: int) -> Work:
    """What it takes to draw images: two evaluations a step."""
    from reconfair import training

    settings, size = study.synthesis, study.dataset.size
    real = data.sizes(study)["diag"]
    images = images or (real if settings.amount == "balance" else settings.amount * real) + 4 * settings.judged
    keys = {key: settings.model_dump(mode="json")[key] for key in NETWORK}
    amount = images * 2 * settings.steps
    work = training.work("sample generator", partial(_costs, study), keys, size, amount, study.compute)
    return work._replace(disk=2 * images * size**2 / 1e6)


def _costs(study: Study):
    """A generator of the right cost; its cells may not be known yet."""
    from reconfair.synthesis.diffusion import Generator

    settings = study.synthesis.model_dump()
    chosen = {key: settings[key] for key in NETWORK} | {"cells": [(0, 0)], "factors": [1, 1], "colours": 1}
    return Generator(chosen, study.dataset.size)


def _train(study: Study, name: str, folder: Path) -> None:
    import torch

    from reconfair import training
    from reconfair.synthesis.balance import Balanced

    known, images, settings = cells(study), data.load(study).images, study.synthesis
    iterations = settings.iterations if name == "base" else settings.tuning
    module = build(study, name, known.table)
    if name != "base":
        module.load_state_dict(load(study).state_dict())
        module.requires_grad_(True).average.requires_grad_(False)
        if recipe(study, name)["preference"] != "none":
            module.pairs = compared(study, load(study).average)
    elif settings.start:
        _start(module, Path(settings.start).expanduser())
    module.settings = {**module.settings, "epochs": -(-iterations // EPOCH)}
    epoch = min(EPOCH, iterations)
    batches = Balanced(
        known.rows,
        known.of,
        settings.batch_size,
        epoch,
        seed_of(settings.seed, name),
        module.settings.get("sampling", "natural"),
        module.norms,
    )
    of = np.full(len(images), -1)
    of[known.rows] = known.of
    train = torch.utils.data.DataLoader(
        training.Rows(images, of), sampler=batches, batch_size=None, generator=torch.Generator()
    )
    few = known.rows[: settings.batch_size]
    val = training.loader((images, of), few, len(few), shuffle=False)
    training.fit(module, train, val, folder, module.settings["epochs"], study.compute, f"generator {name}")


def _start(module, path: Path) -> None:
    """Start from the weights of a generator that was trained elsewhere, of the same cells and size."""
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        theirs = stored["settings"]
    except Exception as error:
        raise ParamsError(f"synthesis.start: {path} holds no generator ({str(error).splitlines()[0]})") from None
    for key in ("names", "colours", "channels", "widths", "blocks", "attention", "patch"):
        if theirs.get(key) != module.settings[key]:
            raise ParamsError(
                f"synthesis.start: {path} is a generator of another study: its {key} are {theirs.get(key)}, here "
                f"{module.settings[key]}"
            )
    module.load_state_dict(stored["state_dict"])


def draw(study: Study, name: str, cell: np.ndarray, key: str, first: int = 0, module=None):
    """Yield images in batches, float32 of shape (n, s, s) or (n, 3, s, s), of some cells.

    Parameters
    ----------
    study : Study
    name : str
        Of a generator.
    cell : ndarray of int
    key : str
        With the number of an image, counted from `first`, it fixes the noise that the image starts from.
    first : int
    module : Generator, optional
        If it is loaded already.
    """
    import torch

    from reconfair import training

    training.limit_threads(study.compute)
    module = training.placed(module or load(study, name), study.compute)
    for start in store.progress(range(0, len(cell), BATCH), f"{name} draws"):
        numbers = range(start, min(start + BATCH, len(cell)))
        seeds = [seed_of(study.synthesis.seed, "synthetic", key, first + number) for number in numbers]
        with torch.inference_mode():
            drawn = module.sample(torch.as_tensor(cell[numbers.start : numbers.stop]), seeds).float().cpu().numpy()
        yield drawn[:, 0] if drawn.shape[1] == 1 else drawn


# --- pairs ---


def _write_pairs(study: Study, folder: Path) -> None:
    from reconfair.synthesis import distance, preference

    settings, table = study.synthesis, cells(study).table
    cell = np.arange(settings.pairs) % len(table)
    images = Growing(folder / "pairs.npy", (2 * settings.pairs, *data.load(study).images.shape[1:]), np.float16)
    both = np.repeat(cell, 2)
    done = store.resume(BATCH, images)
    require_space(folder, 2 * settings.pairs - done, images.row_bytes)
    for some in draw(study, "base", both[done:], "pair", done):
        images.append(some)
    mark = weights(study).fingerprint[:8]
    listed = pd.DataFrame({"pair_id": [f"{mark}-{number:05d}" for number in range(settings.pairs)]})
    names = [f"{number:05d}" for number in range(2 * settings.pairs)]
    listed = listed.assign(cell=table.cell.to_numpy()[cell], left=names[::2], right=names[1::2])
    listed.to_csv(folder / "pairs.csv", index=False)
    if settings.preference == "oracle":
        scores = distance.physician(study)(np.load(folder / "pairs.npy", mmap_mode="r"), both).reshape(-1, 2)
        choice = preference.choose(scores, settings.kappa, seed_of(settings.seed, "oracle"))
        rated = listed.assign(choice=choice, rater="oracle", seconds=0.0)
        rated.assign(score_left=scores[:, 0], score_right=scores[:, 1]).to_csv(folder / "ratings.csv", index=False)


def listed_pairs(study: Study) -> tuple[pd.DataFrame, np.ndarray]:
    """The pairs of a study, with text columns ``pair_id, cell, left, right``, and their images."""
    folder = store.ready(pairs(study))
    return pd.read_csv(folder / "pairs.csv", dtype="str"), np.load(folder / "pairs.npy", mmap_mode="r")


def ratings(study: Study) -> pd.DataFrame:
    """All ratings of the pairs: those of the simulated physician, or those in the folder that the params name.

    Raises
    ------
    ParamsError
        There is no file, a row is broken, or the ratings are those of another study.
    """
    from reconfair.synthesis import preference

    listed, _ = listed_pairs(study)
    folder = (
        pairs(study).folder if study.synthesis.preference == "oracle" else Path(study.synthesis.ratings).expanduser()
    )
    files = (
        [pairs(study).folder / "ratings.csv"]
        if study.synthesis.preference == "oracle"
        else sorted(folder.glob("*.csv"))
    )
    if not files:
        raise ParamsError(f"synthesis.ratings: {folder} holds no CSV file; make one with `reconfair rate`")
    return pd.concat([preference.read_ratings(path, listed) for path in files], ignore_index=True)


def compared(study: Study, reference):
    """The pairs of which one image was preferred, to tune with."""
    from reconfair.synthesis import preference

    _, images = listed_pairs(study)
    decided = preference.preferred(ratings(study))
    if decided.empty:
        raise ParamsError("synthesis.ratings: no pair was decided, so there is nothing to learn from; rate more pairs")
    number = pd.Series(range(len(table := cells(study).table)), table.cell)
    return preference.Pairs(
        images[decided.winner.astype(int)],
        images[decided.loser.astype(int)],
        number[decided.cell].to_numpy(),
        reference,
    )


# --- samples ---


def plan(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """How many images of each cell train a classifier (``used``), and how many are drawn (``drawn``)."""
    amount = study.synthesis.amount
    each = table.images.max() - table.images
    if amount != "balance":
        each = pd.Series(round(amount * table.images.sum() / len(table)), table.index)
    return table.assign(used=each, drawn=np.maximum(each, study.synthesis.judged))


def require_space(folder: Path, images: int, row_bytes: int) -> None:
    """Refuse to draw images for which the disk has no room."""
    needed, free = images * row_bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise ParamsError(
            f"{folder}: {images} synthetic images need {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free; set "
            "RECONFAIR_OUTPUTS to another disk, or a smaller synthesis.amount"
        )


def _write_samples(study: Study, name: str, folder: Path) -> None:
    planned = plan(study, cells(study).table)
    cell = np.repeat(planned.index, planned.drawn)
    within = np.concatenate([np.arange(number) for number in planned.drawn])
    order = np.lexsort([cell, within])  # one image of each cell after the other: any part of them is balanced
    cell, within = cell[order], within[order]
    images = Growing(folder / "synthetic.npy", (len(cell), *data.load(study).images.shape[1:]), np.float16)
    done = store.resume(BATCH, images)
    require_space(folder, len(cell) - done, images.row_bytes)
    if name == "sd":
        from reconfair.synthesis import further

        batches = further.draw(study, planned.cell.to_numpy()[cell[done:]], images.shape[1:], done)
    else:
        batches = draw(study, name, cell[done:], "sample", done)  # all generators start from the same noise
    for some in batches:
        images.append(some)
    table = planned.loc[cell, ["cell", *study.cells]].reset_index(drop=True)
    table = table.assign(image_id=[f"{name}-{number:06d}" for number in range(len(cell))], generator=name)
    table = table.assign(split="train", synthetic=True, used=within < planned.used.to_numpy()[cell])
    table.to_parquet(folder / "synthetic.parquet", index=False)


def synthetic(study: Study, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Table and images of a generator's samples.

    Returns
    -------
    table : DataFrame
        ``image_id, cell``, the attributes, the task, ``generator``; ``split`` is ``train`` and ``synthetic`` is true;
        ``used`` are those that train a classifier at the study's ``amount``.
    images : ndarray
        As those of the cohort, memory-mapped.

    Raises
    ------
    ValueError
        A synthetic image is in another split than train.
    """
    folder = store.ready(samples(study, name))
    table = pd.read_parquet(folder / "synthetic.parquet")
    if not (table.synthetic.all() and table.split.eq("train").all()):
        raise ValueError(f"{folder}: a synthetic image is outside the split train; remove the folder and run again")
    return table, np.load(folder / "synthetic.npy", mmap_mode="r")


# --- classifiers and tables ---


def halves(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training images of two halves of the patients: one trains the examiner, the other measures."""
    table = data.load(study).table
    rows = data.rows(table, "diag")
    rows = rows[table.iloc[rows][study.cells[-1]].notna()]
    patients = np.array(sorted(table.patient_id.iloc[rows].unique()))
    mine = set(draws_of(study.synthesis.seed, "halves").permutation(patients)[: len(patients) // 2])
    inside = table.patient_id.iloc[rows].isin(mine).to_numpy()
    return rows[inside], rows[~inside]


def _train_examiner(study: Study, folder: Path) -> None:
    from reconfair.synthesis import classifiers

    classifiers.train(study, asked(study), halves(study)[0], folder)


def load_examiner(study: Study):
    """The examiner, frozen."""
    from reconfair import training

    folder = store.ready(examiner(study))
    return training.load(folder / "best.ckpt", diagnosis.build(study, asked(study)))


def _train_reader(study: Study, reader: Reader, folder: Path) -> None:
    from reconfair.synthesis import classifiers

    table = data.load(study).table
    rows = data.rows(table, "diag")
    classifiers.train(study, reader.network, rows, folder, synthetic(study, reader.strategy))
    diagnosis.write_threshold(study, reader, folder)


def _answer(study: Study, name: str, kind: str, folder: Path) -> None:
    from reconfair.synthesis import classifiers

    classifiers.answer(study, name, kind, folder)


def _judge(study: Study, folder: Path) -> None:
    from reconfair.synthesis import classifiers, distance

    parts = [distance.judge(study), classifiers.judge(study)]
    tables.write(pd.concat(parts, ignore_index=True), "synthesis", folder)


def judge_all(study: Study) -> pd.DataFrame:
    """The table ``synthesis``, made where it is not fresh."""
    return tables.read("synthesis", store.make(product(study)))
