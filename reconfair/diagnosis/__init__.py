"""Chapter 04: diagnosis. Readers: networks that are trained on originals, then frozen, and look at every source.

A kind of network is a file of this folder with one class, ``Diagnoser(settings)``: a `training.Module` whose
``diagnose(images)`` takes images within [0, 1] of any size. It owns its input adapter. A model of the user's own
(`given`) is not trained.
"""

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reconfair import data, noise, recon, store, tables
from reconfair.diagnosis import given, outlines
from reconfair.fairness.threshold import balanced_threshold
from reconfair.params import NOISY, ORIGINAL, Network, Reader, Source, Study
from reconfair.store import Product, Work

# Of strategies whose readers a room above trains: a function from the study and a reader to the product of its weights.
TRAINERS: dict[str, Callable[[Study, Reader], Product]] = {}


class TrainingSet(NamedTuple):
    """What a reader learns from. To train with further images, give `fit` one that holds them too.

    Attributes
    ----------
    images : ndarray
        (n, s, s) within [0, 1].
    target : ndarray
        Labels (n, tasks), 1, 0 or missing, or masks (n, s, s) of one region.
    rows, val : ndarray of int
        The images to train on, and those that choose the epoch.
    table : DataFrame
        (n rows) who they are.
    """

    images: np.ndarray
    target: np.ndarray
    rows: np.ndarray
    val: np.ndarray
    table: pd.DataFrame


@store.once
def weights(study: Study, reader: Reader) -> Product:
    """A trained reader and its thresholds; all noise levels of a dataset share it.

    Of a model of the user's own it is the thresholds alone. Thresholds by group train nothing: ``fcro+thresholds`` has
    the weights of ``fcro``.
    """
    if reader.strategy in TRAINERS:
        return TRAINERS[reader.strategy](study, reader)
    reader = reader._replace(strategy=reader.strategy.removesuffix("+thresholds"))
    if reader.strategy != "standard":
        from reconfair.diagnosis import strategies

        return strategies.weights(study, reader)
    settings, network = settings_of(study, reader.network), reader.network
    code = ["reconfair.training", __name__, "reconfair.fairness.threshold", "reconfair.keyed"]
    code += [f"{__name__}.{file}" for file in ("networks", "linear", "outlines", network.kind)]
    if network.model:
        python, settings["files"] = given.files(network.model)
        code += [f"{__name__}.given", *python]
    return Product(
        chapter="04",
        run=study.label,
        folder=store.outputs() / study.label / study.fold / "readers" / str(reader),
        name="weights",
        write=partial(write_threshold, study, reader) if network.model else partial(_train, study, reader),
        parameters=settings,
        code=tuple(code),
        needs=(data.product(study),),
        job=study.job(f"readers/{reader}"),
        work=partial(_training_work, study, reader),
        command=study.command,
    )


@store.once
def product(study: Study, source: Source, images: Product | None = None, strategy: str = "standard") -> Product:
    """What the readers of one strategy say of the val and test images of a source; see `images_of`."""
    if strategy.endswith("+thresholds"):
        from reconfair.diagnosis import groupwise

        return groupwise.product(study, source, images, strategy)
    images = images or images_of(study, source)
    shared = images.run == study.label  # a dataset's originals and noisy images serve all its runs
    folder = images.folder
    if shared:
        place = Path("originals") if source == ORIGINAL else folder.relative_to(store.outputs() / study.label)
        folder = store.outputs() / study.label / study.fold / place
    folder = folder if strategy == "standard" else folder / "readers" / strategy
    readers, stages = [Reader(network, strategy) for network in study.networks_of(strategy)], (strategy,)
    if "cascade" in strategy:  # which has two networks
        from reconfair.diagnosis import crop

        stages = crop.stages(strategy)
    trained = dict.fromkeys(weights(study, Reader(reader.network, stage)) for reader in readers for stage in stages)
    parameters = {} if strategy == "standard" else {"readers": [str(reader) for reader in readers]}
    parameters |= {"box": [study.readers.box, study.readers.as_published]} if "cascade" in strategy else {}
    return Product(
        chapter=max("04", images.chapter, *(one.chapter for one in trained)),
        run=images.run,
        folder=folder,
        name="predictions",
        write=partial(_predict, study, source, images, strategy),
        parameters=parameters,
        needs=(images, data.product(study), *trained),
        job=folder.relative_to(store.outputs() / study.label).as_posix() if shared else images.job,
        work=partial(_work, study, strategy),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    made = []
    for fold in study.folds:
        made += [weights(fold, Reader(network)) for network in study.networks]
        made += [product(fold, source) for source in study.sources]
    return made


def images_of(study: Study, source: Source) -> Product:
    """The product that holds the images of a source that no strategy has changed."""
    if source == ORIGINAL:
        return data.product(study)
    return noise.product(study) if source == NOISY else recon.product(study, source)


def check(study: Study) -> list[str]:
    """Name each network that cannot be built, or takes no images of this size, unless it was trained already."""
    mistakes = {}
    for network in study.networks:
        try:
            lacking = [trained for fold in study.folds if not (trained := weights(fold, Reader(network))).fresh]
            if lacking and network.model:
                given.check(build(study, network), study.dataset.size)
            elif lacking:
                lacking[0].work()
        except Exception as error:  # libraries fail in their own ways
            key = f"diagnosis.models.{network.name}" if network.model else f"diagnosis.{network.kind}"
            mistakes[str(error) if str(error).startswith(key) else f"{key}: {error}"] = network
    return list(mistakes)


def check_weights(study: Study) -> list[str]:
    """Name the published weights that a network will start from and that are neither on disk nor to be downloaded.

    Where there is a network, this downloads them.
    """
    untrained = [network for network in study.networks if not network.model]
    untrained = [one for one in untrained if not all(weights(fold, Reader(one)).fresh for fold in study.folds)]
    return unloadable([(network.kind, settings_of(study, network)) for network in untrained])


def unloadable(starting: list[tuple[str, dict]]) -> list[str]:
    """Say of which kinds and settings of networks the published weights cannot be loaded, each once."""
    mistakes = {}
    for kind, settings in starting:
        if settings["pretrained"]:
            try:
                diagnoser(kind)(settings).start_pretrained()
            except ValueError as error:
                mistakes[str(error)] = kind
    return list(mistakes)


def train(study: Study, network: Network) -> Path:
    """Train the standard reader of `network` on the original images unless it is fresh; return its folder.

    Of a model of the user's own only the thresholds are chosen.
    """
    return store.make(weights(study, Reader(network)))


def load(study: Study, network: Network, strategy: str = "standard"):
    """Return the trained network, frozen: no gradients, and eval mode even within a module that trains."""
    from reconfair import training

    reader = Reader(network, strategy.removesuffix("+thresholds"))
    folder, untrained = store.ready(weights(study, reader)), build(study, *reader)
    frozen = untrained if network.model else training.load(folder / "best.ckpt", untrained)
    frozen.train = lambda mode=True: frozen
    return frozen


def build(study: Study, network: Network, strategy: str = "standard"):
    """Return an untrained network, whose first weights depend on the seed alone; or a model of the user's own."""
    import torch

    if strategy != "standard" and strategy not in TRAINERS:
        from reconfair.diagnosis import strategies

        return strategies.build(study, Reader(network, strategy))

    from reconfair.keyed import seed_of

    settings = settings_of(study, network)
    if network.model:
        return given.diagnoser(settings)
    torch.manual_seed(seed_of(settings["seed"], "weights", network.name))
    return diagnoser(network.kind)(settings)


def settings_of(study: Study, network: Network) -> dict:
    """All that a network depends on; of colour images, how many channels they have."""
    return study.diagnosis.settings(network) | study.dataset.inputs


def diagnoser(kind: str) -> type:
    """Return the class of a kind of network."""
    with warnings.catch_warnings():  # a library asks for another progress bar when it is imported
        warnings.filterwarnings("ignore", message="IProgress not found")
        from reconfair.diagnosis import classify, segment
    return {"classify": classify, "segment": segment}[kind].Diagnoser


def predict(study: Study, source: Source | str, strategy: str = "standard") -> pd.DataFrame:
    """Let the readers look at the val and test images of a source that no strategy has changed.

    In a study with folds, each row has the ``fold`` of its reader; a patient is in split ``test`` in one of them.
    """
    source = Source(source) if isinstance(source, str) else source
    made = (store.make(product(fold, source, strategy=strategy)) for fold in study.folds)
    return tables.read("predictions", *made)


def evaluate_on(study: Study, other: Study, strategy: str = "standard") -> pd.DataFrame:
    """Let the frozen networks of `study` look at the test originals of another cohort: external evaluation.

    What changes at once is the domain: who is scanned and how ill they are, the scanner and how its
    images were prepared, and what a task's name stands for (``grade`` is 3 against 2 in LGG, 4 against
    2 and 3 in UCSF-PDGM). A loss here is the sum of all that, and no single one of them. See to it that
    no patient of `other` was trained on.

    Parameters
    ----------
    study : Study
        Trained up to chapter 04; its thresholds are to be kept.
    other : Study
        Of a cohort with tasks of the same names, and of the same classes, at as many pixels.
    strategy : str
        Of the readers; attributes are coded, and thresholds by group chosen, as in `study`.

    Returns
    -------
    DataFrame
        Rows of ``predictions`` for the shared tasks, source ``original``, as `fairness.assess` takes them
        with the cohort of `other`.

    Raises
    ------
    ValueError
        The two share no task, or their images differ in size.
    """
    networks = study.networks_of(strategy)
    shared = {net: [task for task in net.tasks if other.tasks.get(task) == net.kind] for net in networks}
    shared |= {net: [] for net in shared if net.classes and len(shared[net]) < len(net.tasks)}
    if not any(shared.values()):
        tasks = [f"{one.label} has {', '.join(one.tasks)}" for one in (study, other)]
        raise ValueError(f"no task of the same name and kind: {'; '.join(tasks)}")
    if study.dataset.shape != other.dataset.shape:
        sizes = f"{other.label} has images {other.dataset.shape}, {study.label} {study.dataset.shape}"
        raise ValueError(f"dataset.size: {sizes}; prepare both at the same size and with the same channels")
    cohort = data.prepare(other)
    rows, predictions = data.rows(cohort.table, "test"), []
    for network, tasks in shared.items():
        if tasks:
            who, what = cohort.table.iloc[rows], f"{network.name} of {other.label}"
            masks = other.dataset.region(cohort.masks, tasks[0]) if network.kind == "segment" else None
            answers, _ = read(study, Reader(network, strategy), cohort.images, rows, what, who, masks)
            if network.kind == "classify":
                answers = answers[:, [network.tasks.index(task) for task in tasks]]
            predictions.append(units(other, network._replace(tasks=tuple(tasks)), who, answers, masks))
    table = pd.concat(predictions, ignore_index=True)
    if strategy.endswith("+thresholds"):
        from reconfair.diagnosis import groupwise

        table = groupwise.elsewhere(study, strategy, table, cohort.table)
    return table.assign(source="original", strategy="standard", reader=strategy)


def thresholds(study: Study, strategy: str = "standard") -> dict:
    """Balanced threshold of every classification task, from the validation originals; with folds, such a dict by fold.

    Examples
    --------
    Of one split ``{"grade": 0.4}``, of two folds ``{1: {"grade": 0.4}, 2: {"grade": 0.5}}``.
    """
    if len(study.folds) > 1:
        return {fold.number: thresholds(fold, strategy) for fold in study.folds}
    by_task = {}
    for network in study.networks_of(strategy):
        folder = store.ready(weights(study, Reader(network, strategy)))
        by_task |= json.loads((folder / "threshold.json").read_text(encoding="utf-8"))
    return by_task


def called(study: Study, predictions: pd.DataFrame) -> pd.Series:
    """Whether each classified row of predictions by the standard readers is called positive; with folds, by its fold.

    Returns
    -------
    Series of bool
        With the index of the classified rows.
    """
    rows = predictions[predictions.kind == "classify"]
    cut = thresholds(study)
    if len(study.folds) > 1:
        at = [cut[fold].get(task, np.nan) for fold, task in zip(rows.fold, rows.task, strict=True)]
    else:
        at = rows.task.map(cut).astype(float)  # also where no row is classified
    positive = rows.score >= at
    if "decision" in rows:  # of several classes: the class with the largest score
        positive = positive.mask(rows.decision.notna(), rows.decision == 1)
    return positive.astype(bool)


def read(study: Study, reader: Reader, images, rows, what: str, table=None, masks=None) -> tuple[np.ndarray, dict]:
    """What a reader says of some rows of `images`, and how its answers came about.

    Parameters
    ----------
    study : Study
    reader : Reader
    images : ndarray
        (N, s, s).
    rows : ndarray of int
        (n,) of `images`.
    what : str
        Names the work.
    table : DataFrame, optional
        (n rows) of a cohort; for readers that must know who the patients are.
    masks : ndarray, optional
        By the labels of `table`'s index; for readers that must know where the true object is.

    Returns
    -------
    answers : ndarray
        Probabilities (n, tasks) or masks (n, s, s).
    columns : dict of ndarray
        (n,) ``unknown`` (1 where an attribute that the reader uses is not known); of a cascade see `crop.read`.
    """
    reader = reader._replace(strategy=reader.strategy.removesuffix("+thresholds"))
    if {"crop", "cascade"} & {*reader.strategy.split("+")}:
        from reconfair.diagnosis import crop

        return crop.read(study, reader, images, rows, what, table, masks)
    extras = _extras(study, reader, table)
    columns = {"unknown": 1.0 * np.isnan(extras[0]).any(1)} if extras else {}
    return look(study, load(study, *reader), images, rows, what, *extras), columns


def _extras(study: Study, reader: Reader, table: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """What a reader must know beside images: FairREAD the attributes (n, attributes), missing where unknown."""
    if "fairread" not in reader.strategy:
        return ()
    from reconfair.diagnosis import groupwise

    return (groupwise.coded(table, groupwise.zeros(study)),)


def look(study: Study, module, images, rows, what: str, *extras, see: str = "diagnose") -> np.ndarray:
    """Let a frozen network look at some rows of images.

    Parameters
    ----------
    study : Study
    module : Module
    images : ndarray
        (N, s, s) or (N, 3, s, s).
    rows : ndarray of int
        (n,) of `images`.
    what : str
        Names the work.
    *extras : ndarray
        (n, ...) what the network takes beside images.
    see : {"diagnose", "features"}
        The method of the network.

    Returns
    -------
    ndarray
        (n, ...) what the method returns.
    """
    from reconfair import training

    function = getattr(training.placed(module, study.compute), see)
    batches = training.apply(function, images, rows, study.compute, what, *extras)
    return np.concatenate([answers for _, answers in batches])


def looked_at(study: Study, source: Source, images: Product | None = None) -> tuple:
    """The val and test images of a source; of images made elsewhere, those that are there.

    Returns
    -------
    array : ndarray
        (n, size, size), of colour (n, 3, size, size), float16, memory-mapped.
    rows : ndarray of int
        The images, as rows of `array`.
    table : DataFrame
        The same images, as rows of the cohort.
    """
    cohort = data.load(study)
    rows = data.rows(cohort.table, "eval")
    table = cohort.table.iloc[rows]
    if source == ORIGINAL:
        return cohort.images, rows, table
    if source == NOISY:
        array = noise.load(study)
    else:
        folder = store.ready(images or images_of(study, source))
        array, rows = np.load(folder / "reconstructed.npy", mmap_mode="r"), np.arange(len(rows))
    there = data.there(array, rows)
    return array, rows[there], table[there]


def everywhere(study: Study) -> set[str]:
    """Ids of the val and test images that every source has."""
    *_, table = looked_at(study, ORIGINAL)
    noisy = study.noise.kind == "given"  # then what is made from these images can lack some as well
    ours = (ORIGINAL.model, *([] if noisy else [NOISY.model, *study.trained]))
    others = [looked_at(study, source)[2].image_id for source in study.sources if source.model not in ours]
    return set(table.image_id).intersection(*others)


def units(study: Study, network: Network, table: pd.DataFrame, answers: np.ndarray, masks=None) -> pd.DataFrame:
    """Turn the answers of `network` to the images in `table` into rows of ``predictions``.

    Classification: one row per unit and task, a patient's score being the median over the images. Of several classes
    one row for each: scores are divided by their sum, and the class with the largest one is the decision. Where the
    medians of all classes are 0, as of a reader that is always certain, they are means.
    Segmentation: one row per slice, Dice missing where neither truth nor answer holds anything, with further columns
    (`outlines.measured`); `masks` are indexed by the labels of `table`'s index.
    """
    if network.kind == "segment":
        truth = study.dataset.region(masks, network.tasks[0])[table.index]
        overlap, total = (answers * truth).sum((1, 2)), (answers + truth).sum((1, 2))
        dice = np.divide(2.0 * overlap, total, out=np.full(len(table), np.nan), where=total > 0)
        rows = table[["image_id", "patient_id", "split"]].rename(columns={"image_id": "unit"})
        rows = rows.assign(task=network.tasks[0], kind="segment", label=np.nan, score=np.nan, dice=dice)
        return rows.assign(**outlines.measured(answers, truth))
    parts, means = [], []
    for column, task in enumerate(network.tasks):
        rows = table.assign(unit=table[f"{study.dataset.about.unit}_id"], score=answers[:, column], label=table[task])
        grouped = rows.groupby("unit", sort=False)
        decided = grouped[["patient_id", "split", "label"]].first().assign(score=grouped.score.median())
        means.append(grouped.score.mean().to_numpy())
        parts.append(decided.reset_index().assign(task=task, kind="classify", dice=np.nan))
    if network.classes:
        score = np.stack([part.score for part in parts], axis=1)
        score = np.where(score.sum(axis=1, keepdims=True) > 0, score, np.stack(means, axis=1))
        score, first = score / score.sum(axis=1, keepdims=True), score.argmax(axis=1)
        parts = [
            part.assign(**{"score": score[:, k], "class": part.task.iloc[0].partition(": ")[2], "decision": first == k})
            for k, part in enumerate(parts)
        ]
        parts = [part.astype({"decision": float}) for part in parts]
    return pd.concat(parts, ignore_index=True)


def _training_work(study: Study, reader: Reader) -> Work:
    """What it takes to train a reader."""
    from reconfair import training

    network = reader.network
    settings, size = settings_of(study, network), study.dataset.size
    if network.model:
        return given.work(data.sizes(study)["eval"] / 2, size, study.compute)
    looks = settings["epochs"] + settings.get("linear_probe", False) / 3  # a gradient costs about as much as two looks
    module, images = partial(build, study, network), data.sizes(study)["diag"] * looks
    return training.work(f"train {network.kind}", module, settings, size, images, study.compute, trains=True)


def _work(study: Study, strategy: str) -> Work:
    """What it takes for all networks of a strategy to look at the val and test images."""
    from reconfair import training

    images, size, works = data.sizes(study)["eval"], study.dataset.size, []
    for network in study.networks_of(strategy):
        settings, module = settings_of(study, network), partial(build, study, network)
        if network.model:
            works.append(given.work(images, size, study.compute))
            continue
        works.append(training.work("apply readers", module, settings, size, images, study.compute))
    return works[0]._replace(amount=sum(work.amount for work in works), memory=1500)


def training_set(study: Study, network: Network) -> TrainingSet:
    """The originals that train the diagnosis, and those that choose the epoch."""
    cohort = data.load(study)
    rows, val = data.rows(cohort.table, "diag"), data.rows(cohort.table, "val")
    if network.kind == "segment":
        target = study.dataset.region(cohort.masks, network.tasks[0])
    else:  # an image without any label teaches nothing
        target = cohort.table[list(network.tasks)].to_numpy(np.float32)
        rows, val = (some[~np.isnan(target[some]).all(1)] for some in (rows, val))
    if settings_of(study, network).get("outlined"):  # of a patient's label, the other slices may show nothing
        rows, val = (some[[cohort.masks[row].any() for row in some]] for some in (rows, val))
    return TrainingSet(cohort.images, target, rows, val, cohort.table)


def fit(study: Study, module, of: TrainingSet, folder: Path, what: str, extras=(), batches=None, guide=None) -> None:
    """Train a network on a training set.

    Parameters
    ----------
    study : Study
    module : training.Module
    of : TrainingSet
    folder : Path
        Of the product being made.
    what : str
        Names the work in messages.
    extras : sequence of ndarray
        (n, ...) further arrays, whose rows a batch holds after images and target.
    batches : training.Batches, optional
        Of row numbers; left out: every training image once in an epoch.
    guide : Callback, optional
        See `training.fit`.
    """
    from reconfair import training

    arrays, settings = (of.images, of.target, *extras), module.settings
    training.fit(
        module,
        training.loader(arrays, of.rows, settings["batch_size"], settings["seed"], batches=batches),
        training.loader(arrays, of.val, settings["batch_size"], shuffle=False),
        folder,
        settings["epochs"],
        study.compute,
        what,
        guide,
    )


def _train(study: Study, reader: Reader, folder: Path) -> None:
    module, of = build(study, reader.network), training_set(study, reader.network)
    start(study, module, of, folder)
    if module.settings["epochs"]:
        fit(study, module, of, folder, reader.network.name)
    write_threshold(study, reader, folder)


def start(study: Study, module, of: TrainingSet, folder: Path) -> None:
    """Where a network's training begins: at pretrained weights, and after a linear probe, as its settings say."""
    if module.settings["pretrained"]:
        module.start_pretrained()
    if module.settings.get("class_weights") == "balanced":
        module.balance(of.target[of.rows])
    if module.settings.get("linear_probe") and not (folder / ".last.ckpt").exists():
        _linear_probe(study, module, of, folder)


def _linear_probe(study: Study, module, of: TrainingSet, folder: Path) -> None:
    """Fit the last layer of a classifier to the features that its other layers, which stay, have of the images."""
    from reconfair import training

    parts = []
    for some, what in ((of.rows, "training"), (of.val, "validation")):
        features = look(study, module.eval(), of.images, some, f"features of {what} images", see="features")
        parts.append((features, of.target[some].astype(np.float64)))
    losses = module.to("cpu").linear_probe(*parts)
    module.train()
    if not module.settings["epochs"]:
        training.save(module, {"epoch": 0, **losses}, folder)


def write_threshold(study: Study, reader: Reader, folder: Path) -> None:
    """Write the balanced threshold of every task of a classifier whose weights are in `folder`."""
    from reconfair import training

    by_task, network = {}, reader.network
    if network.kind == "classify":
        cohort, frozen = data.load(study), build(study, *reader)
        val = data.rows(cohort.table, "val")
        table = cohort.table.iloc[val]
        frozen = frozen if network.model else training.load(folder / "best.ckpt", frozen)
        extras = _extras(study, reader, table)
        answers = look(study, frozen, cohort.images, val, f"{reader} threshold", *extras)
        decided = units(study, network, table, answers)
        for task, rows in decided.groupby("task"):
            by_task[task] = balanced_threshold(score=rows.score, label=rows.label)
    (folder / "threshold.json").write_text(json.dumps(by_task, indent=1), encoding="utf-8")


def _predict(study: Study, source: Source, images: Product, strategy: str, folder: Path) -> None:
    masks, parts = data.load(study).masks, []
    array, rows, table = looked_at(study, source, images)
    for network in study.networks_of(strategy):
        what = f"{network.name} looks at {source}"
        answers, columns = read(study, Reader(network, strategy), array, rows, what, table, masks)
        decided = units(study, network, table, answers, masks)
        key = "image_id" if network.kind == "segment" else f"{study.dataset.about.unit}_id"
        for name, values in columns.items():
            by_unit = pd.Series(values, table[key].to_numpy()).groupby(level=0).max()
            decided[name] = decided.unit.map(by_unit)
        parts.append(decided)
    predictions = pd.concat(parts, ignore_index=True)
    predictions = predictions.assign(source=source.model, strategy=source.strategy, reader=strategy)
    predictions = predictions.assign(fold=study.number) if study.number else predictions
    tables.write(predictions, "predictions", folder)
