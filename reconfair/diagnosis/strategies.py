"""Readers that are trained by a strategy: their products, settings and training sets, and how they are trained.

Oversampling, reweighting and DRO change the dose of attention that a group gets (`dosing`); `fairread` and `crop`
change the network. To train a reader with further images, see `diagnosis.TrainingSet`.
"""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, remedies, store
from reconfair.diagnosis import crop, groupwise
from reconfair.keyed import generator, seed_of
from reconfair.params import ALONE, DOSES, Network, Reader, Study
from reconfair.store import Product, Work

SENSITIVE = Network("sensitive", "classify", ())  # predicts the attributes; all findings share it
PUBLISHED_ALPHA = {"Cardiomegaly": 0.1, "Pleural Effusion": 0.0}  # of other findings 0.5
REMEDIES = {"oversample": ("oversample",), "reweight": ("balance", "dro"), "dro": ("balance", "dro")}


# --- products ---


def weights(study: Study, reader: Reader) -> Product:
    """A reader that a strategy has trained."""
    words = study.readers.parts(reader.strategy)
    if "cascade" in words:  # its own network is that of the windows
        return weights(study, reader._replace(strategy=crop.stages(reader.strategy)[1]))
    check(study, reader)
    main, needs = next((word for word in words if word not in DOSES), ""), (data.product(study),)
    settings = settings_of(study, reader) | {"parts": words, "attributes": study.attributes("readers")}
    settings |= {"amplify": study.readers.amplify, "dro": study.readers.dro, "reweight": study.readers.reweight}
    settings |= {"as_published": study.readers.as_published}
    settings |= {"margin": study.readers.margin} if main == "crop" else {}
    if main in ("fcro", "fairread"):
        needs += (sensitive(study),)
    if main == "fairread":
        needs += (weights(study, reader._replace(strategy="fcro")),)
    return _product(study, reader, settings, needs, words)


def sensitive(study: Study) -> Product:
    """The network that predicts the attributes: one for all findings."""
    reader = Reader(SENSITIVE, "fcro")
    settings = settings_of(study, reader) | {"attributes": study.attributes("readers")}
    return _product(study, reader, settings, (data.product(study),))


def _product(study: Study, reader: Reader, settings: dict, needs: tuple, words=()) -> Product:
    name = str(reader) if reader.network != SENSITIVE else SENSITIVE.name
    rooms = [f"reconfair.remedies.{file}" for word in words for file in REMEDIES.get(word, ())]
    rooms += ["reconfair.remedies", "reconfair.remedies.remedy"] * bool(rooms)
    files = (reader.network.kind, "networks", "linear", "outlines", "dosing", "fairread", "crop", "groupwise")
    code = ["reconfair.training", "reconfair.diagnosis", __name__, *(f"reconfair.diagnosis.{file}" for file in files)]
    return Product(
        chapter="07",
        run=study.label,
        folder=store.outputs() / study.label / "readers" / name,
        name="weights",
        write=partial(train, study, reader),
        parameters=settings,
        code=(*code, *dict.fromkeys(rooms), "reconfair.fairness.threshold", "reconfair.keyed"),
        needs=needs,
        job=f"readers/{name}",
        work=partial(_training_work, study, reader),
        command=study.command,
    )


def check(study: Study, reader: Reader) -> None:
    """Refuse a strategy that cannot train a network of this kind.

    Raises
    ------
    ValueError
    """
    kinds, settings = study.readers.kinds(reader.strategy), diagnosis.settings_of(study, reader.network)
    if not settings["epochs"]:
        raise ValueError(
            f"readers.strategies: '{reader.strategy}' needs training, and diagnosis.{reader.network.kind}.epochs is 0"
        )
    if reader.network.kind not in kinds:
        raise ValueError(
            f"readers.strategies: '{reader.strategy}' trains networks that {' or '.join(kinds)}, and "
            f"{reader.network.name} does not: its kind is {reader.network.kind}"
        )


def settings_of(study: Study, reader: Reader) -> dict:
    """All that the network of a reader is built and trained with, JSON-ready."""
    settings = diagnosis.settings_of(study, reader.network) | {"seed": study.readers.seed}
    if reader.network == SENSITIVE:
        settings["tasks"] = list(study.attributes("readers"))
    words, options = study.readers.parts(reader.strategy), study.readers.fairread.model_dump(mode="json")
    if "replicate" in words:
        settings["seed"] = study.diagnosis.seed + 1
    if not {*words} & {*ALONE}:
        return settings
    published, task = study.readers.as_published, (*reader.network.tasks, "")[0]
    settings |= options | {"as_published": published, "attributes": list(study.attributes("readers")), "strength": 1.0}
    if "fcro" in words:
        settings["strength"] = words["fcro"]
    if published:
        settings |= {"rank": "energy", "keep_orthogonal": False}
    if not {"adversary", "fairread"} & {*words}:
        return settings
    settings["alpha"] = words.get("adversary", words.get("fairread"))
    if published:
        settings["alpha"] = PUBLISHED_ALPHA.get(task, 0.5)
    if "fairread" in words:
        return settings | {"epochs": options["refusion_epochs"], "batch_size": options["refusion_batch_size"]}
    return settings | {"blocks": 0}


def _training_work(study: Study, reader: Reader) -> Work:
    from reconfair import training

    settings = settings_of(study, reader)
    images = data.sizes(study)["diag"] * (settings["epochs"] + settings.get("linear_probe", False) / 3)
    module = partial(build, study, reader)
    return training.work(
        f"train {reader.network.kind}", module, settings, study.dataset.size, images, study.compute, trains=True
    )


def build(study: Study, reader: Reader):
    """An untrained network for a strategy, whose first weights depend on the seed alone."""
    import torch

    from reconfair.diagnosis import fairread

    words, settings = study.readers.parts(reader.strategy), settings_of(study, reader)
    torch.manual_seed(seed_of(settings["seed"], "weights", reader.network.name))
    if reader.network == SENSITIVE:
        return fairread.Sensitive(settings)
    if "fcro" in words:
        return fairread.Orthogonal(settings)
    if {"adversary", "fairread"} & {*words}:
        return fairread.Fused(settings)
    return diagnosis.diagnoser(reader.network.kind)(settings)


# --- training sets ---


def dosed_groups(study: Study, table: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Joint group of each image by the attributes of the readers; -1 where one is unknown.

    Raises
    ------
    ValueError
        The training images `rows` are all of one group.
    """
    from reconfair.remedies.remedy import joint_groups

    attributes = list(study.attributes("readers"))
    groups = joint_groups(table[attributes])
    if len(np.unique(groups[rows][groups[rows] >= 0])) < 2:
        groupwise.references(table.iloc[rows], attributes)  # names the attribute that is the same for all
        raise ValueError(
            f"readers.attributes: the training images with all of {', '.join(attributes)} are of one group, so there "
            "is nothing to balance; name fewer attributes"
        )
    return groups


def amplified(labels: np.ndarray, groups: np.ndarray, gap: float, seed: int) -> np.ndarray:
    """Leave images out until positive rates differ by `gap` between the two groups of every attribute.

    From the group with the higher rate negatives are left out, from the other one positives, at random.

    Parameters
    ----------
    labels : ndarray
        (n,) 0 or 1.
    groups : ndarray
        (n, attributes) 0, 1 or missing.
    gap : float
        Difference of the rates.
    seed : int

    Returns
    -------
    ndarray of bool
        (n,) the images that stay.

    Examples
    --------
    >>> labels, groups = np.tile([0, 1], 500), np.repeat([[0], [1]], 500, 0)
    >>> kept = amplified(labels, groups, 0.2, seed=0)
    >>> rates = [labels[kept & (groups[:, 0] == g)].mean() for g in (0, 1)]
    >>> bool(abs(max(rates) - min(rates) - 0.2) < 0.01), int(kept.sum()) > 700
    (True, True)
    """
    draw, kept = generator(seed, "amplify"), np.ones(len(labels), bool)
    for _ in range(20):
        for column in groups.T:
            rows = [kept & (column == g) for g in (0, 1)]
            rates = [labels[some].mean() for some in rows]
            low, high = (rows[k] for k in np.argsort(rates, kind="stable"))
            middle = (min(rates) + max(rates)) / 2
            if max(rates) - min(rates) >= gap - 0.005:
                continue
            # Rates to reach: as far on either side of the middle, where both sides have room.
            top, bottom = min(middle + gap / 2, 0.99), max(middle - gap / 2, 0.01)
            for some, wrong, rate in ((high, 0, top), (low, 1, bottom)):
                right, candidates = (some & (labels != wrong)).sum(), np.flatnonzero(some & (labels == wrong))
                share = rate if wrong == 0 else 1 - rate
                spare = len(candidates) - round(right * (1 - share) / share)
                if spare > 0:
                    kept[draw.choice(candidates, spare, replace=False)] = False
    return kept


def training_set(study: Study, reader: Reader):
    """The training set of a strategy: that of the diagnosis, and amplified where `readers.amplify` says so."""
    examples = diagnosis.training_set(study, reader.network)
    if not study.readers.amplify or reader.network.kind != "classify":
        return examples
    labels, zeros = examples.target[examples.rows, 0], groupwise.zeros(study)
    groups = groupwise.coded(examples.table.iloc[examples.rows], zeros)
    for attribute, column in zip(zeros, groups.T, strict=True):
        for group, some in ((zeros[attribute], column == 0), (f"not {zeros[attribute]}", column == 1)):
            if len(np.unique(labels[some])) < 2:
                raise ValueError(
                    f"readers.amplify: {reader.network.name} has no training images of both labels in the group "
                    f"'{group}' of {attribute}; leave {attribute} out of readers.attributes, or set amplify: 0"
                )
    kept = amplified(labels, groups, study.readers.amplify, seed_of(study.readers.seed, reader.network.name))
    print(f"{reader.network.name}: {kept.sum()} of {len(kept)} training images stay after amplification", flush=True)
    return examples._replace(rows=examples.rows[kept])


# --- training ---


def train(study: Study, reader: Reader, folder: Path) -> None:
    """Train a reader and leave its weights, log and thresholds in `folder`."""
    words, module = study.readers.parts(reader.strategy), build(study, reader)
    if reader.network == SENSITIVE:
        _train_sensitive(study, module, folder)
        return
    if {*words} & {*ALONE}:
        _train_alone(study, reader, module, folder)
    else:
        examples = training_set(study, reader)
        if "crop" in words:
            if examples.target is None:
                raise ValueError(f"readers.strategies: crop and cascade need masks, and {study.label} has none")
            examples = crop.training_windows(study, examples, folder)
        diagnosis.start(study, module, examples, folder)  # where the standard reader began
        _train_doses(study, reader, module, examples, folder)
    diagnosis.write_threshold(study, reader, folder)


def _train_doses(study: Study, reader: Reader, module, examples, folder: Path) -> None:
    import torch

    from reconfair.diagnosis.dosing import Doses

    groups = dosed_groups(study, examples.table, examples.rows)
    options = {"dro": study.readers.dro, "reweight": study.readers.reweight}
    if study.readers.as_published:
        options = dict.fromkeys(options, "as_published")
    panel, parts = SimpleNamespace(joint=torch.tensor(groups)), {}
    for word, strength in study.readers.parts(reader.strategy).items():
        if word in DOSES:
            parts[word] = remedies.of_reader(word, options)(panel, examples.rows, strength, options)
    guide = Doses(module, parts, groups, examples.rows)
    batch_size, seed = module.settings["batch_size"], module.settings["seed"]
    batches = parts["oversample"].batches(batch_size, seed) if "oversample" in parts else None
    extras = (np.arange(len(examples.table)),)
    diagnosis.fit(study, module, examples, folder, str(reader), extras=extras, batches=batches, guide=guide)


def _known(study: Study, examples, attributes: np.ndarray):
    """The training set without images of unknown attributes or label: those cannot teach."""
    known = ~np.isnan(attributes[examples.rows]).any(1)
    if examples.target.ndim == 2 and examples.target.shape[1]:
        known &= ~np.isnan(examples.target[examples.rows]).any(1)
    return examples._replace(rows=examples.rows[known])


def _train_sensitive(study: Study, module, folder: Path) -> None:
    cohort = data.load(study)
    attributes = groupwise.coded(cohort.table, groupwise.zeros(study))
    rows, val = data.rows(cohort.table, "diag"), data.rows(cohort.table, "val")
    examples = diagnosis.TrainingSet(cohort.images, attributes, rows, val, cohort.table)
    if module.settings["pretrained"]:
        module.start_pretrained()
    diagnosis.fit(study, module, _known(study, examples, attributes), folder, "sensitive")


def _train_alone(study: Study, reader: Reader, module, folder: Path) -> None:
    """Train a network of FCRO, FairREAD or an adversary on one finding, half of each batch positive."""
    import torch

    from reconfair import training

    examples = training_set(study, reader)
    attributes = groupwise.coded(examples.table, groupwise.zeros(study))
    examples = _known(study, examples, attributes)
    labels = examples.target[examples.rows, 0]
    if len(np.unique(labels)) < 2:
        raise ValueError(f"{reader.network.name}: all {len(labels)} training images have one label; FCRO needs both")
    latents = np.zeros((len(examples.table), module.settings["latent"]), np.float32)
    if "adversary" not in reader.strategy:
        first = store.ready(sensitive(study)) / "best.ckpt"
        frozen = training.load(first, build(study, Reader(SENSITIVE, "fcro")))
        seen = diagnosis.look(study, frozen, examples.images, examples.rows, "sensitive latents", see="features")
        latents[examples.rows] = seen
    if "fairread" in reader.strategy:
        first = store.ready(weights(study, reader._replace(strategy="fcro"))) / "best.ckpt"
        module.load_state_dict(torch.load(first, map_location="cpu", weights_only=True)["state_dict"], strict=False)
    elif module.settings["pretrained"]:
        module.start_pretrained()
    if "fcro" in reader.strategy:
        module.take_bases(torch.tensor(latents[examples.rows]), torch.tensor(labels[:, None]))
    rarity = 1 / np.bincount(labels.astype(int))[labels.astype(int)]
    halves = training.Batches(examples.rows, module.settings["batch_size"], module.settings["seed"], rarity)
    diagnosis.fit(study, module, examples, folder, str(reader), extras=(attributes, latents), batches=halves)


# --- what came of it ---


def doses(study: Study) -> pd.DataFrame:
    """Dose of every reader that was trained: the rarest group's share of the gradient relative to plain training.

    Returns
    -------
    DataFrame
        ``network, reader, group, images`` (of the rarest joint group) ``, minority_share``, the mean over epochs.
    """
    rows, table = [], data.load(study).table
    attributes = list(study.attributes("readers"))
    for strategy in study.reader_names:
        for network in study.networks_of(strategy) if not strategy.endswith("thresholds") else ():
            words = study.readers.parts(strategy) if strategy != "standard" else {}
            path = diagnosis.weights(study, Reader(network, strategy)).folder / "log.csv"
            if {*words} & {*DOSES} and path.exists():
                share = pd.read_csv(path).minority_share.mean()
            elif {*words} <= {"crop", "cascade"}:
                share = 1.0
            else:
                continue
            trained = table.iloc[diagnosis.training_set(study, network).rows][attributes].dropna().astype(str)
            sizes = trained.agg(", ".join, axis=1).value_counts()
            row = {"network": network.name, "reader": strategy, "group": sizes.index[-1], "images": int(sizes.iloc[-1])}
            rows.append(row | {"minority_share": share})
    return pd.DataFrame(rows)
