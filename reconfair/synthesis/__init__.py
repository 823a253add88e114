"""Chapter 08: synthetic patients. A generator draws images of the cells that are rare in training.

A **cell** is a combination of attributes and a label, such as women with the disease. One plain generator is trained;
every other one (`recipe`) is tuned from it for as long. Generators see training images of the diagnosis alone, and
their images train classifiers alone: readers named after the generator, such as ``fairgen``.
"""

import shutil
from collections.abc import Callable
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
from reconfair.params import GENERATORS, Network, ParamsError, Reader, Study
from reconfair.store import Growing, Product, Work
from reconfair.words import nearest

EPOCH = 100  # iterations of an epoch, after which cell weights are renewed
BATCH = 50  # images drawn at a time
JUDGED = "synthesis/judged"  # the job that judges, apart from the networks
GENERATOR = (
    "channels",
    "widths",
    "blocks",
    "attention",
    "patch",
    "batch_size",
    "lr",
    "ema",
    "seed",
)
ALIKE = ("task", "names", "size", "colours", "channels", "widths", "blocks", "attention", "patch", "answer")
SAMPLING = ("guidance", "steps", "as_published")  # with which images are drawn; training does not know them
DIFFUSION = ("diffusion", "balance", "preference")
NETWORKS = ("vit", "resnet")  # the other classifiers look at frozen features
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
    """Cells of the images that train the diagnosis; those without an attribute are left out.

    Raises
    ------
    ParamsError
        A cell has fewer than ``min_images`` images, and ``small_cells`` is ``refuse``.
    """
    settings, task = study.synthesis, study.cells[-1]
    cohort, rows = data.load(study).table, diagnosis.training_set(study, asked(study)).rows
    cohort = cohort.assign(**{task: labels(study)})
    rows = rows[cohort.iloc[rows][list(study.cells)].notna().all(axis=1)]
    some = cohort.iloc[rows].astype({task: int})
    levels = [sorted(some[word].unique()) for word in study.cells]
    table = pd.DataFrame(list(combinations(*levels)), columns=study.cells)
    table["codes"] = list(combinations(*(range(len(level)) for level in levels)))
    table.insert(0, "cell", [cell_name(study, *values) for values in combinations(*levels)])
    keys = some[list(study.cells)].merge(table.reset_index(), on=list(study.cells), how="left")["index"]
    keys = keys.to_numpy(copy=True)
    table["images"] = np.bincount(keys, minlength=len(table))
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
    table = table.loc[kept].assign(images=[int((keys == cell).sum()) for cell in kept])
    table.insert(len(table.columns) - 1, "patients", some.groupby(keys).patient_id.nunique()[kept])
    table = table.reset_index(drop=True)
    return Cells(table.assign(note=table.note.str.removesuffix("; ")), rows, np.searchsorted(kept, keys))


def cell_name(study: Study, *values) -> str:
    """Name of the cell of these groups and, last, this label: ``female, grade 1``, or the class: ``female, mel``."""
    *groups, label = values
    tasks = asked(study).tasks
    named = tasks[label].removeprefix(f"{study.cells[-1]}: ") if len(tasks) > 1 else f"{study.cells[-1]} {label}"
    return ", ".join(map(str, (*groups, named)))


def recipe(study: Study, name: str) -> dict:
    """How a generator is tuned.

    Returns
    -------
    dict
        ``sampling``; ``gradient_norms``; ``diversity``, a strength; ``preference``, who compares; ``fair``, whether
        the loss is weighted as in FairDiffusion; ``as_published``; ``lr``, the learning rate.
    """
    settings = study.synthesis
    plain = {"sampling": "natural", "gradient_norms": False, "diversity": 0.0, "preference": "none", "fair": False}
    published = {"as_published": settings.as_published, "lr": settings.tuning_lr or settings.lr}
    if name == "fairgen":
        gradients = settings.gradient_norms and not settings.as_published
        keys = ("sampling", "diversity", "preference", "beta")
        return plain | {key: getattr(settings, key) for key in keys} | {"gradient_norms": gradients} | published
    others = {"cbrs": {"sampling": "cbrs"}, "sqrs": {"sampling": "sqrs"}, "fairdiffusion": {"fair": True}}
    others |= {"cbdm": {"diversity": settings.diversity or 1.0}, "plain": {}}
    return plain | others[name] | published


# --- products ---


def _product(study: Study, place: str, name: str, write, modules=(), needs=(), code=(), job=None, **others) -> Product:
    """A product of this chapter in the folder `place` of the dataset; `modules` of this room compute it."""
    code = (*code, "reconfair.training", "reconfair.recon.scorenet", "reconfair.recon.sde", __name__)
    return Product(
        chapter="08",
        run=study.label,
        folder=store.outputs().joinpath(study.label, *place.split("/")),
        name=name,
        write=write,
        code=(*code, *(f"{__name__}.{module}" for module in modules), "reconfair.keyed"),
        needs=(data.product(study), *needs),
        job=place if job is None else job,
        command=study.command,
        **others,
    )


def weights(study: Study, name: str = "base") -> Product:
    """A trained generator: ``base``, from which the others are tuned, or one of ``study.synthesis.generators``."""
    settings, base = study.synthesis, name == "base"
    if not base and name not in settings.generators:
        raise ParamsError(f"synthesis: there is no generator '{name}'; {nearest(name, settings.generators)}")
    iterations = settings.iterations if base else settings.tuning
    keys = {key: settings.model_dump(mode="json")[key] for key in GENERATOR} | {"iterations": iterations}
    keys |= _cells_of(study)
    keys |= {} if base else recipe(study, name)
    keys |= {"start": _digest(settings.start)} if base and settings.start else {}
    needs = [] if base else [weights(study)]
    if not base and recipe(study, name)["preference"] != "none":
        needs.append(pairs(study))
        keys |= {"ratings": _digest(settings.ratings)} if settings.preference == "csv" else {}
    work = partial(_work, study, "train generator", iterations * settings.batch_size)
    write = partial(_train, study, name)
    code = ("reconfair.diagnosis",)  # says which images a network trains with
    return _product(study, f"synthesis/{name}", "weights", write, DIFFUSION, needs, code, parameters=keys, work=work)


def _cells_of(study: Study) -> dict:
    """Settings on which the cells depend."""
    settings = study.synthesis
    merged = {"min_images": settings.min_images} if settings.small_cells == "merge" else {}
    outlined = {"outlined": study.diagnosis.classify.outlined}
    return {"cells": study.cells, "small_cells": settings.small_cells, **merged, **outlined}


def examiner(study: Study) -> Product:
    """A classifier of the asked task, trained on half of the training patients, that rates and measures images."""
    network = asked(study)
    standard = diagnosis.weights(study, Reader(network))
    return _product(
        study,
        "synthesis/examiner",
        "weights",
        partial(_train_classifier, study, None),
        ("classifiers",),
        code=standard.code,
        parameters=study.diagnosis.settings(network) | {"half": study.synthesis.seed},
        work=standard.work,
    )


def pairs(study: Study) -> Product:
    """Pairs of samples of one cell by the base generator and, of the simulated physician, which is better."""
    settings, people = study.synthesis, study.synthesis.preference == "csv"
    law = settings.preference == "oracle" and study.dataset.name == "phantom_mri"
    keys = ("pairs", "preference") if people else ("pairs", "preference", "kappa")
    return _product(
        study,
        "synthesis/pairs",
        "pairs",
        partial(_write_pairs, study),
        ("preference", "distance"),
        [weights(study)] + ([] if people or law else [examiner(study)]),
        parameters={key: getattr(settings, key) for key in (*keys, *SAMPLING)},
        work=partial(_work, study, "sample generator", 2 * settings.pairs),
    )


def samples(study: Study, name: str) -> Product:
    """Synthetic images of a generator, and their table."""
    settings, further = study.synthesis, name == "sd"
    keys = ("amount", "judged", *SAMPLING, "seed")
    return _product(
        study,
        f"synthesis/{name}",
        "samples",
        partial(_write_samples, study, name),
        ("further",) if further else (),
        [] if further else [weights(study, name)],
        parameters={key: getattr(settings, key) for key in keys}
        | ({"diffusers": _state_of(settings.diffusers)} | _cells_of(study) if further else {}),
        work=partial(_work, study, "sample generator"),
    )


def reader_weights(study: Study, reader: Reader) -> Product:
    """A classifier that was trained with real images and those of the generator that the strategy names."""
    settings, standard = study.synthesis, diagnosis.weights(study, Reader(reader.network))
    keys = {"inverse_performance": settings.inverse_performance, "as_published": settings.as_published}
    return _product(
        study,
        f"readers/{reader}",
        "weights",
        partial(_train_classifier, study, reader),
        ("classifiers", "balance"),
        [samples(study, reader.strategy)],
        code=standard.code,
        parameters=standard.parameters | keys | {"cells": study.cells},
        work=standard.work,
    )


def judged(study: Study) -> Product:
    """The tables of the standard readers and those trained with synthetic images, on originals and every source."""
    names = study.synthesis.generators
    read = [diagnosis.product(study, source, strategy=name) for source in study.sources for name in names]
    read, rated = judge.predictions(study) + read, judge.qualities(study)
    return judge.judged(study, "08", "synthesis", read, rated, ("standard", *names))


def product(study: Study) -> Product:
    """The table ``synthesis``: the generators' images measured, and classifiers trained with them."""
    from reconfair.synthesis import distance

    settings, trained = study.synthesis, answered(study).values()
    keys = {key: getattr(settings, key) for key in ("classifiers", "draws", "seed")}
    keys |= {"imagenet": True} if distance.has_imagenet() else {}
    return _product(
        study,
        JUDGED,
        "synthesis",
        partial(_judge, study),
        ("distance", "classifiers", "balance", "preference"),
        [examiner(study), *trained, *(samples(study, name) for name in settings.generators)],
        code=judge.STATISTICS,
        job=JUDGED,
        parameters=keys | {"attributes": study.attributes(), "min_cases": study.fairness.min_cases},
        work=partial(Work, "judge synthesis", len(trained), 1.0),
    )


def answered(study: Study) -> dict[tuple[str, str], Product]:
    """Answers by generator and kind of classifier; of the generator ``standard``, trained with real images alone."""
    settings, examined, made = study.synthesis, examiner(study), {}
    keys = {key: getattr(settings, key) for key in ("inverse_performance", "as_published")}
    for name in ("standard", *settings.generators):
        for kind in settings.classifiers:
            needs = [samples(study, name)] if name != "standard" else []
            trains = kind in NETWORKS and not same_as_reader(study, kind)
            if kind in NETWORKS and not trains:
                needs = [diagnosis.weights(study, Reader(asked(study), name))]
            changed = {"changed": architecture(study, kind)} if kind in NETWORKS else {}
            made[name, kind] = _product(
                study,
                f"synthesis/{name}/{kind}",
                "answers",
                partial(_answer, study, name, kind),
                ("distance", "preference"),
                [examined, *needs],
                code=examined.code,
                job=None if trains else JUDGED,
                parameters=examined.parameters | keys | changed | {"cells": study.cells},
                work=examined.work if trains else partial(Work, f"fit {kind}", 1, 2.0),
            )
    return made


def same_as_reader(study: Study, classifier: str) -> bool:
    """Whether a classifier is the reader of the asked task, which was trained with the same images already."""
    return not architecture(study, classifier) and asked(study) in study.networks


def architecture(study: Study, classifier: str) -> dict:
    """Settings of a classifier in which it differs from the study's own."""
    settings, usual = study.synthesis, study.diagnosis.classify
    pretrained = usual.pretrained is True if settings.pretrained is None else settings.pretrained
    chosen = {"architecture": getattr(settings, classifier), "size": 0, "value_range": None, "pretrained": pretrained}
    chosen |= {"linear_probe": usual.linear_probe and pretrained, "epochs": settings.epochs or usual.epochs}
    return {} if chosen["architecture"] == usual.architecture else chosen


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    if study.synthesis is None:
        return []
    names, made = study.synthesis.generators, [weights(study)]
    if study.synthesis.preference != "none":
        made.append(pairs(study))
    made += [examiner(study), *(weights(study, name) for name in names if name != "sd")]
    for name in names:
        made += [samples(study, name), *(reader_weights(study, Reader(net, name)) for net in study.networks_of(name))]
        made += [diagnosis.product(study, source, strategy=name) for source in study.sources]
    return list(dict.fromkeys([*made, *answered(study).values(), product(study), judged(study)]))


def asked(study: Study) -> Network:
    """The network of the asked task, for that task alone; one of several classes is as the study has it."""
    [network, *_] = study.networks_of("fairgen")
    several = study.cells[-1] not in network.tasks
    return network if several else Network(study.cells[-1], "classify", (study.cells[-1],))


def labels(study: Study) -> np.ndarray:
    """Label of each image in the asked task: 0 or 1, or the number of its class; missing where it is not known."""
    known = data.load(study).table[list(asked(study).tasks)].to_numpy(float)
    several = known.shape[1] > 1
    return np.where(np.isnan(known).any(1), np.nan, known.argmax(1) if several else known[:, 0])


diagnosis.TRAINERS |= dict.fromkeys((*GENERATORS, "sd"), reader_weights)


def check(study: Study) -> list[str]:
    """Name what would stop chapter 08 later: a network that does not fit the images, an absent file or package."""
    if study.synthesis is None:
        return []
    settings, mistakes = study.synthesis, []
    if study.dataset.folds:
        mistakes.append("synthesis: generators are not trained by folds; leave out dataset.folds, or synthesis")
    multiple = settings.patch * 2 ** (len(settings.widths) - 1)
    if study.dataset.size % multiple:
        near = max(round(study.dataset.size / multiple), 1) * multiple
        mistakes.append(f"synthesis.widths: images need a multiple of {multiple} pixels, such as {near}")
    levels = [study.dataset.size // settings.patch // 2**level for level in range(len(settings.widths))]
    if "attention" in settings.model_fields_set and (absent := {*settings.attention} - {*levels}):
        mistakes.append(
            f"synthesis.attention: no level has {min(absent)} pixels a side; valid here: {', '.join(map(str, levels))}"
        )
    weighs = settings.as_published or settings.inverse_performance != "none"
    if weighs and study.networks_of("fairgen") and not diagnosis.settings_of(study, asked(study))["epochs"]:
        mistakes.append(
            "synthesis.inverse_performance: weights are renewed after each epoch, and diagnosis.classify.epochs is 0; "
            "write inverse_performance: none" + ", and as_published: false" * settings.as_published
        )
    for kind in [kind for kind in NETWORKS if kind in settings.classifiers]:
        changed = architecture(study, kind)
        if changed and study.networks_of("fairgen"):
            mistakes += _unbuilt(diagnosis.settings_of(study, asked(study)) | changed, f"synthesis.{kind}")
        if not (changed.get("epochs", 1) or changed["linear_probe"]):
            mistakes.append(
                f"synthesis.epochs: missing; {kind} has no linear probe without ImageNet weights, and "
                "diagnosis.classify.epochs is 0"
            )
    if not study.networks_of("fairgen"):
        mistakes.append(f"synthesis.cells: the network of '{study.cells[-1]}' is given, and cannot be trained")
    for key, kind in (("start", "file"), ("ratings", "folder"), ("diffusers", "folder")):
        path = Path(getattr(settings, key)).expanduser()
        if getattr(settings, key) and not (path.is_file() if kind == "file" else path.is_dir()):
            there = [other.name for other in path.parent.glob("[!.]*") if other != path]
            lacks = f"{path} is no {kind}" if path.exists() else f"there is no {kind} {path}"
            mistakes.append(f"synthesis.{key}: {lacks}; {nearest(path.name, there, 'there is')}")
        elif key == "start" and settings.start:
            ours = {key: settings.model_dump(mode="json")[key] for key in GENERATOR if key in ALIKE}
            try:
                _require_alike(
                    path, _settings_in(path)[0], ours | {"task": study.cells[-1], "size": study.dataset.size}
                )
            except ParamsError as error:
                mistakes.append(str(error))
    if "xgboost" in settings.classifiers or settings.diffusers:
        from importlib.util import find_spec

        wanted = {"xgboost": "xgboost" in settings.classifiers, "diffusers": bool(settings.diffusers)}
        absent = [name for name, needed in wanted.items() if needed and find_spec(name) is None]
        mistakes += [f"synthesis: {name} is not installed; pip install 'reconfair[{name}]'" for name in absent]
    return mistakes


def _unbuilt(settings: dict, key: str) -> list[str]:
    """Say why a classifier with these settings cannot be built."""
    import torch

    try:
        with torch.device("meta"):
            diagnosis.diagnoser("classify")(settings | {"pretrained": False})
    except ValueError as error:
        return [str(error).replace("diagnosis.classify.architecture", key).replace("diagnosis.classify.size", key)]
    return []


def check_weights(study: Study) -> list[str]:
    """Name the published weights that ViT and ResNet of chapter 08 start from and that cannot be had."""
    if study.synthesis is None or not study.networks_of("fairgen"):
        return []
    settings = diagnosis.settings_of(study, asked(study))
    changes = [architecture(study, kind) for kind in NETWORKS if kind in study.synthesis.classifiers]
    return diagnosis.unloadable([("classify", settings | changed) for changed in changes if changed])


def _state_of(folder: str) -> list:
    """Names, sizes and times of the files of a folder, which can be too large to be read for a fingerprint."""
    path = Path(folder).expanduser()
    return [
        [str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in store.files_in(path)
    ]


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
    keys = (*GENERATOR, "guidance", "steps")
    chosen = {key: list(value) if isinstance(value := settings[key], tuple) else value for key in keys}
    chosen |= {"guidance": PUBLISHED_GUIDANCE} if study.synthesis.as_published else {}
    chosen |= {"cells": codes.tolist(), "names": table.cell.tolist(), "factors": (codes.max(0) + 1).tolist()}
    chosen |= {"task": study.cells[-1], "size": study.dataset.size}
    colours = 3 if data.load(study).images.ndim == 4 else 1
    chosen |= {"colours": colours, "answer": "velocity"} | ({} if name == "base" else recipe(study, name))
    torch.manual_seed(seed_of(chosen["seed"], "weights", "generator"))
    return Generator(chosen, study.dataset.size)


def load(study: Study, name: str = "base"):
    """Return a trained generator, frozen."""
    from reconfair import training

    folder = store.ready(weights(study, name))
    return training.load(folder / "best.ckpt", build(study, name))


def _work(study: Study, kind: str, images: float = 0) -> Work:
    """What it takes to train a generator with so many images, or to draw them; 0: all that are drawn of a generator."""
    from reconfair import training
    from reconfair.synthesis.diffusion import Generator

    settings, size, trains = study.synthesis, study.dataset.size, kind == "train generator"
    if not images:
        real = data.sizes(study)["diag"]
        images = (real if settings.amount == "balance" else settings.amount * real) + 4 * settings.judged
    keys = {key: settings.model_dump(mode="json")[key] for key in (*GENERATOR, "guidance", "steps")}
    unknown = {"cells": [(0, 0)], "factors": [1, 1], "colours": 1}  # which the cost does not depend on
    amount = images if trains else images * 2 * settings.steps  # two evaluations a step
    build_one = partial(Generator, keys | unknown, size)
    work = training.work(kind, build_one, keys, size, amount, study.compute, trains=trains)
    return work if trains else work._replace(disk=2 * images * size**2 / 1e6)


def _train(study: Study, name: str, folder: Path) -> None:
    from reconfair import training
    from reconfair.synthesis.balance import Balanced

    known, images, settings = cells(study), data.load(study).images, study.synthesis
    epochs, epoch = rhythm(settings.iterations if name == "base" else settings.tuning)
    module, seen = build(study, name, known.table), digests(images[known.rows])
    if name != "base":
        module.load_state_dict(load(study).state_dict())
        module.requires_grad_(True).average.requires_grad_(False)
        if recipe(study, name)["preference"] != "none":
            module.pairs = compared(study, load(study).average)
    elif settings.start:
        hidden = np.flatnonzero(data.load(study).table.split.isin(["val", "test"]))
        seen |= _start(module, Path(settings.start).expanduser(), digests(images[hidden]))
    seen |= set(_settings_in(store.ready(weights(study)) / "best.ckpt")[0]["seen"]) if name != "base" else set()
    module.settings = {**module.settings, "epochs": epochs, "seen": sorted(seen)}
    sampling, seed = module.settings.get("sampling", "natural"), seed_of(settings.seed, name)
    batches = Balanced(known.rows, known.of, settings.batch_size, epoch, seed, sampling, module.norms)
    of, few = np.full(len(images), -1), known.rows[: settings.batch_size]
    of[known.rows] = known.of
    train = training.loader((images, of), known.rows, settings.batch_size, batches=batches)
    val = training.loader((images, of), few, len(few), shuffle=False)
    training.fit(module, train, val, folder, module.settings["epochs"], study.compute, f"generator {name}")


def rhythm(iterations: int) -> tuple[int, int]:
    """Epochs of a training and the batches of each, at most 100; their product is `iterations` or barely more.

    Examples
    --------
    >>> rhythm(2000), rhythm(160), rhythm(101)
    ((20, 100), (2, 80), (2, 51))
    """
    epochs = -(-iterations // EPOCH)
    return epochs, -(-iterations // epochs)


def digests(images: np.ndarray) -> set[str]:
    """Hash of the pixels of each image, by which a generator knows what it was trained with."""
    return {sha256(np.ascontiguousarray(image)).hexdigest()[:16] for image in images}


def _start(module, path: Path, hidden: set[str]) -> set[str]:
    """Start from the weights of a generator that was trained elsewhere, of the same cells and size.

    Returns
    -------
    set of str
        `digests` of the images that it was trained with; none may be `hidden`.
    """
    theirs, state = _settings_in(path)
    _require_alike(path, theirs, module.settings)
    if known := hidden & set(theirs["seen"]):
        raise ParamsError(
            f"synthesis.start: {path} was trained with {len(known)} images that are in val or test here; start from a "
            "generator of other patients, or of the same split"
        )
    module.load_state_dict(state)
    return set(theirs["seen"])


def _require_alike(path: Path, theirs: dict, ours: dict) -> None:
    """Refuse a generator that differs in one of these settings of ours, or does not say what it was trained with."""
    if differs := [key for key in ALIKE if key in ours and theirs.get(key) != ours[key]]:
        key = differs[0]
        raise ParamsError(
            f"synthesis.start: {path} is a generator of another study: its {key} are {theirs.get(key)}, here "
            f"{ours[key]}"
        )
    if "seen" not in theirs:
        raise ParamsError(f"synthesis.start: {path} does not say which images it was trained with; train it again")


def _settings_in(path: Path) -> tuple[dict, dict]:
    """Settings and weights of a generator, from its file."""
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return dict(stored["settings"]), stored["state_dict"]
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParamsError(f"synthesis.start: {path} holds no generator ({reason})") from None


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
    both = np.repeat(cell, 2)
    _fill(study, folder / "pairs.npy", len(both), lambda done: draw(study, "base", both[done:], "pair", done))
    mark = sha256(np.load(folder / "pairs.npy", mmap_mode="r")).hexdigest()[:8]  # ratings are of what was seen
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

    (listed, _), oracle = listed_pairs(study), study.synthesis.preference == "oracle"
    folder = pairs(study).folder if oracle else Path(study.synthesis.ratings).expanduser()
    files = sorted(folder.glob("ratings.csv" if oracle else "*.csv"))
    if not files:
        raise ParamsError(f"synthesis.ratings: {folder} holds no CSV file; make one with `reconfair rate`")
    return pd.concat(preference.read_raters(files, listed).values(), ignore_index=True)


def compared(study: Study, reference):
    """The pairs of which one image was preferred, to tune with."""
    from reconfair.synthesis import preference

    _, images = listed_pairs(study)
    decided = preference.preferred(ratings(study))
    if decided.empty:
        raise ParamsError("synthesis.ratings: no pair was decided, so there is nothing to learn from; rate more pairs")
    number = pd.Series(range(len(table := cells(study).table)), table.cell)
    winners, losers = (images[side.astype(int)] for side in (decided.winner, decided.loser))
    return preference.Pairs(winners, losers, number[decided.cell].to_numpy(), reference)


def preferred(study: Study) -> np.ndarray:
    """Whether fairgen has moved towards the preferred image of each pair it learned from, (pairs,): 1, 0 or 0.5."""
    from reconfair import training

    training.limit_threads(study.compute)
    tuned = training.placed(load(study, "fairgen"), study.compute)
    return compared(study, load(study).average).to(training.device_of(study.compute)).preferred(tuned).cpu().numpy()


# --- samples ---


def plan(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """How many images of each cell train a classifier (``used``), and how many are drawn (``drawn``)."""
    amount = study.synthesis.amount
    each = table.images.max() - table.images
    if amount != "balance":
        each = pd.Series(round(amount * table.images.sum() / len(table)), table.index)
        if each.max() == 0:
            least = (np.floor(50 * len(table) / table.images.sum()) + 1) / 100  # half an image is rounded down
            raise ParamsError(f"synthesis.amount: {amount:g} adds no image to any cell; {least:g} or more does")
    return table.assign(used=each, drawn=np.maximum(each, study.synthesis.judged))


def require_space(folder: Path, images: int, row_bytes: int) -> None:
    """Refuse to draw images for which the disk has no room."""
    needed, free = images * row_bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise ParamsError(
            f"{folder}: {images} synthetic images need {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free; set "
            "RECONFAIR_OUTPUTS to another disk, or a smaller synthesis.amount"
        )


def _fill(study: Study, path: Path, number: int, batches: Callable) -> None:
    """Fill a file with so many images, going on where a kill left off; ``batches(done)`` draws those that are left."""
    images = Growing(path, (number, *data.load(study).images.shape[1:]), np.float16)
    done = store.resume(BATCH, images)
    require_space(path.parent, number - done, images.row_bytes)
    for some in batches(done):
        images.append(some)


def _write_samples(study: Study, name: str, folder: Path) -> None:
    planned = plan(study, cells(study).table)
    cell = np.repeat(planned.index, planned.drawn)
    within = np.concatenate([np.arange(number) for number in planned.drawn])
    order = np.lexsort([cell, within])  # one image of each cell after the other: any part of them is balanced
    cell, within = cell[order], within[order]
    if name == "sd":
        from reconfair.synthesis import further

        words = planned.cell.to_numpy()[cell]
        _fill(study, folder / "synthetic.npy", len(cell), lambda done: further.draw(study, words[done:], done))
    else:  # all generators start from the same noise
        _fill(study, folder / "synthetic.npy", len(cell), lambda done: draw(study, name, cell[done:], "sample", done))
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
    rows = diagnosis.training_set(study, asked(study)).rows
    return _divided(study, rows, "halves", 1 / 2)


def _divided(study: Study, rows: np.ndarray, key: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a share of their patients, drawn at random, and those of the others."""
    patient = data.load(study).table.patient_id.iloc[rows]
    patients = np.array(sorted(patient.unique()))
    some = draws_of(study.synthesis.seed, key).permutation(patients)[: int(len(patients) * share)]
    inside = patient.isin(some).to_numpy()
    return rows[inside], rows[~inside]


def load_examiner(study: Study):
    """The examiner, frozen."""
    from reconfair import training

    folder = store.ready(examiner(study))
    return training.load(folder / "best.ckpt", diagnosis.build(study, asked(study)))


def _train_classifier(study: Study, reader: Reader | None, folder: Path) -> None:
    """Train a reader with synthetic images; None: the examiner, with half of the real ones."""
    from reconfair.synthesis import classifiers

    if reader is None:  # its preferences train generators, which no validation patient may reach
        few, rows = _divided(study, halves(study)[0], "examiner", 1 / 5)
        classifiers.train(study, asked(study), folder, rows=rows, val=few if len(few) else rows)
        return
    classifiers.train(study, reader.network, folder, synthetic(study, reader.strategy))
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
