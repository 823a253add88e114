"""Chapter 04: diagnosis. Models trained on originals, then frozen, look at every source.

A kind of network is a module of this folder with one class, ``Diagnoser(settings)``: a Lightning
module whose ``diagnose(images)`` takes images within [0, 1] of any size. It owns its input adapter.
"""

import json
import warnings
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, noise, recon, store, tables
from reconfair.fairness.threshold import balanced_threshold
from reconfair.params import Network, Study


def train(study: Study, network: Network) -> Path:
    """Train `network` on the original images unless its weights are fresh; return its folder."""
    return store.make(store.flow(study)[f"diagnosis/{network.name}"], partial(_train, study, network))


def load(study: Study, network: Network):
    """Return the trained network, frozen: no gradients, and eval mode even within a module that trains."""
    from reconfair import training

    path = store.flow(study)[f"diagnosis/{network.name}"].folder / "best.ckpt"
    frozen = training.load(path, build(study, network))
    frozen.train = lambda mode=True: frozen
    return frozen


def build(study: Study, network: Network):
    """Return an untrained network; its first weights depend on the seed alone."""
    import torch

    from reconfair.keyed import seed_of

    settings = study.diagnosis.settings(network)
    with warnings.catch_warnings():  # a library asks for another progress bar when it is imported
        warnings.filterwarnings("ignore", message="IProgress not found")
        kind = import_module(f"reconfair.diagnosis.{network.kind}")
    torch.manual_seed(seed_of(settings["seed"], "weights", network.name))
    return kind.Diagnoser(settings)


def predict(study: Study, source: str, strategy: str = "standard") -> pd.DataFrame:
    """Let the frozen networks look at the val and test images of `source`; rows of ``predictions``."""
    key = store.variant(source, strategy)
    folder = store.make(store.flow(study)[f"{key}/predictions"], partial(_predict, study, source, strategy))
    return tables.read("predictions", folder)


def evaluate_on(study: Study, other: Study) -> pd.DataFrame:
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
        Of a cohort with tasks of the same names, at as many pixels.

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
    shared = {net: [task for task in net.tasks if other.tasks.get(task) == net.kind] for net in study.networks}
    if not any(shared.values()):
        tasks = [f"{one.label} has {', '.join(one.tasks)}" for one in (study, other)]
        raise ValueError(f"no task of the same name and kind: {'; '.join(tasks)}")
    if study.dataset.size != other.dataset.size:
        sizes = f"{other.label} has {other.dataset.size} pixels, {study.label} {study.dataset.size}"
        raise ValueError(f"dataset.size: {sizes}; prepare both at the same size")
    cohort = data.prepare(other)
    rows, parts = data.rows(cohort.table, "test"), []
    for network, tasks in shared.items():
        if tasks:
            said = scores(study, network, cohort.images, rows, f"{network.name} of {other.label}")
            said = said[:, [network.tasks.index(task) for task in tasks]] if network.kind == "classify" else said
            some = network._replace(tasks=tuple(tasks))
            parts.append(units(other, some, cohort.table.iloc[rows], said, cohort.masks))
    return pd.concat(parts, ignore_index=True).assign(source="original", strategy="standard")


def thresholds(study: Study) -> dict[str, float]:
    """Balanced threshold of every classification task, from the validation originals."""
    found = {}
    for network in study.networks:
        folder = store.flow(study)[f"diagnosis/{network.name}"].folder
        found |= json.loads((folder / "threshold.json").read_text())
    return found


def images_of(study: Study, source: str, strategy: str = "standard"):
    """Images of `source` for the val and test rows: (array, rows to take from it)."""
    cohort = data.load(study)
    rows = data.rows(cohort.table, "eval")
    if source in ("original", "noisy"):
        return (cohort.images if source == "original" else noise.load(study)), rows
    return recon.reconstruct(study, source, strategy), np.arange(len(rows))


def scores(study: Study, network: Network, images, rows, what: str) -> np.ndarray:
    """What `network` says of some rows of `images`: probabilities (n, tasks) or masks (n, s, s)."""
    from reconfair import training

    frozen = training.placed(load(study, network), study.compute)
    said = training.apply(frozen.diagnose, images, rows, study.compute, what)
    return np.concatenate([answer for _, answer in said])


def units(study: Study, network: Network, table: pd.DataFrame, said: np.ndarray, masks=None) -> pd.DataFrame:
    """Turn what `network` said of the images in `table` into rows of ``predictions``.

    Classification: one row per unit and task, a patient's score being the median over the images.
    Segmentation: one row per slice, Dice missing where neither truth nor answer holds anything;
    `masks` are indexed by the labels of `table`'s index.
    """
    if network.kind == "segment":
        truth = masks[table.index]
        overlap, total = (said * truth).sum((1, 2)), (said + truth).sum((1, 2))
        dice = np.divide(2.0 * overlap, total, out=np.full(len(table), np.nan), where=total > 0)
        rows = table[["image_id", "patient_id", "split"]].rename(columns={"image_id": "unit"})
        return rows.assign(task=network.tasks[0], kind="segment", label=np.nan, score=np.nan, dice=dice)
    parts = []
    for column, task in enumerate(network.tasks):
        rows = table.assign(unit=table[f"{study.dataset.about.unit}_id"], score=said[:, column], label=table[task])
        grouped = rows.groupby("unit", sort=False)
        decided = grouped[["patient_id", "split", "label"]].first().assign(score=grouped.score.median())
        parts.append(decided.reset_index().assign(task=task, kind="classify", dice=np.nan))
    return pd.concat(parts, ignore_index=True)


def check_name(key: str, name: str, names: list[str]) -> None:
    """Refuse a `name` that is none of `names`, with the nearest that is.

    Examples
    --------
    >>> check_name("diagnosis.segment.encoder", "resnet19", ["resnet18", "vgg16"])
    Traceback (most recent call last):
        ...
    ValueError: diagnosis.segment.encoder: there is no 'resnet19'; the nearest name is 'resnet18'
    """
    if name not in names:
        (near,) = get_close_matches(name, names, 1, cutoff=0)
        raise ValueError(f"{key}: there is no '{name}'; the nearest name is '{near}'")


@contextmanager
def published(kind: str, what: str, remedy: str):
    """Say in one sentence what to do where published weights cannot be loaded."""
    try:
        yield
    except Exception as error:  # each library fails in its own ways, without network or with a broken file
        key, reason = f"diagnosis.{kind}.pretrained", (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{key}: the weights of {what} cannot be loaded, from disk or by download ({type(error).__name__}: "
            f"{reason}). {remedy}, or set {key}: false to start from random weights"
        ) from None


def in_hub(repository: str | None) -> str:
    """What to do where weights are missing that libraries keep in the cache of Hugging Face."""
    return f"Bring {repository} into the Hugging Face cache (see HF_HOME)" if repository else "Choose another network"


def _train(study: Study, network: Network, part: Path) -> None:
    from reconfair import training

    cohort, module = data.load(study), build(study, network)
    if module.settings["pretrained"]:
        module.start_pretrained()
    rows, val = data.rows(cohort.table, "diag"), data.rows(cohort.table, "val")
    target = cohort.masks if network.kind == "segment" else cohort.table[list(network.tasks)].to_numpy(np.float32)
    if network.kind == "classify":  # an image without any label teaches nothing
        rows, val = (some[~np.isnan(target[some]).all(1)] for some in (rows, val))
    batch_size, seed = module.settings["batch_size"], module.settings["seed"]
    training.fit(
        module,
        training.loader((cohort.images, target), rows, batch_size, seed),
        training.loader((cohort.images, target), val, batch_size, shuffle=False),
        part,
        module.settings["epochs"],
        study.compute,
        network.name,
    )
    _write_threshold(study, network, part)


def _write_threshold(study: Study, network: Network, part: Path) -> None:
    from reconfair import training

    found = {}
    if network.kind == "classify":
        cohort = data.load(study)
        val = data.rows(cohort.table, "val")
        frozen = training.placed(training.load(part / "best.ckpt", build(study, network)), study.compute)
        said = training.apply(frozen.diagnose, cohort.images, val, study.compute, f"{network.name} threshold")
        decided = units(study, network, cohort.table.iloc[val], np.concatenate([answer for _, answer in said]))
        found = {task: balanced_threshold(score=one.score, label=one.label) for task, one in decided.groupby("task")}
    (part / "threshold.json").write_text(json.dumps(found, indent=1))


def _predict(study: Study, source: str, strategy: str, part: Path) -> None:
    images, rows = images_of(study, source, strategy)
    cohort = data.load(study)
    table = cohort.table.iloc[data.rows(cohort.table, "eval")]
    parts = []
    for network in study.networks:
        said = scores(study, network, images, rows, f"{network.name} of {store.variant(source, strategy)}")
        parts.append(units(study, network, table, said, cohort.masks))
    predictions = pd.concat(parts, ignore_index=True).assign(source=source, strategy=strategy)
    tables.write(predictions, "predictions", part)
