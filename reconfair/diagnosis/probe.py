"""Attribute probe: how well a group can be told from the features of a frozen reader, for each source.

A reader that can tell the group may use it; that it does is not shown. A logistic regression learns the group from the
features, cross-validated by patients (Glocker et al., "Algorithmic encoding of protected characteristics in chest
X-ray disease detection models", eBioMedicine 89, 2023, probe in a similar way).
"""

from functools import partial
from itertools import product as product_of
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from reconfair import data, diagnosis, store
from reconfair.diagnosis.linear import ridge
from reconfair.keyed import generator
from reconfair.params import ORIGINAL, Reader, Study
from reconfair.store import Product

FOLDS = 5
# Regressions of different folds share patients, so that their AUROCs go together. Standard errors are widened as Nadeau
# and Bengio propose ("Inference for the generalization error", Machine Learning 52, 2003): here by a half.
OVERLAP = np.sqrt(1 + FOLDS / (FOLDS - 1))
WIDTH = 10.0  # prior variance of a logit: weights of p standardised features have the variance WIDTH / p
Z = 1.959964
COLUMNS = ["network", "source", "attribute", "group", "value", "low", "high", "change", "change_low", "change_high"]
COLUMNS += ["patients", "members"]


def probe(study: Study) -> pd.DataFrame:
    """Probe the readers of a study on every source that no strategy has changed, unless that is fresh.

    Returns
    -------
    DataFrame
        One row for each ``network, source, attribute`` and ``group``. ``value`` is the AUROC with which the group is
        told from the others, ``low`` and ``high`` its 95 % interval; 0.5 is chance. ``change`` is the value minus that
        on originals, of the same patients, with its interval, which is unknown where no placement changed. ``members``
        of the ``patients`` are in the group. Of two groups, which have the same AUROC, the first is listed. Groups with
        fewer than ``fairness.min_cases`` members are left out.
    """
    return pd.read_parquet(store.make(product(study)) / "probe.parquet")


def product(study: Study) -> Product:
    """The table of `probe`."""
    readers = [diagnosis.weights(fold, Reader(network)) for fold in study.folds for network in study.networks]
    images = dict.fromkeys(diagnosis.images_of(fold, source) for fold in study.folds for source in study.sources)
    return Product(
        chapter="05",
        run=study.name,
        folder=store.outputs() / study.name / "judged" / "standard",
        name="probe",
        write=partial(_write, study),
        parameters={
            "attributes": study.attributes(),
            "min_cases": study.fairness.min_cases,
            "seed": study.fairness.seed,
        },
        code=(__name__, "reconfair.diagnosis.linear", "reconfair.keyed"),
        needs=(data.product(study), *readers, *images),
        command=study.command,
    )


def separation(features: np.ndarray, member: np.ndarray, folds: np.ndarray, reader=None) -> tuple[float, np.ndarray]:
    """Cross-validated AUROC with which members are told from others by their features.

    Scores are compared within a fold only, because each fold has a regression of its own.

    Parameters
    ----------
    features : ndarray, shape (patients, features)
    member : ndarray of bool, shape (patients,)
    folds : ndarray of int, shape (patients,)
    reader : ndarray of int, shape (patients,), optional
        Which reader saw a patient; the features of different readers are not compared.

    Returns
    -------
    auroc : float
        Mean over the folds, weighted by their pairs of a member and another patient; NaN where no fold has a pair.
    influence : ndarray, shape (patients,)
        What each patient adds to the error; its sum of squares is the variance of DeLong et al. (1988) times the
        square of `OVERLAP`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> member, folds = np.arange(200) % 2 == 1, np.arange(200) // 2 % 5
    >>> blind, seeing = rng.normal(size=(2, 200, 8))
    >>> seeing[:, 3] += 2 * member
    >>> bool(abs(separation(blind, member, folds)[0] - 0.5) < 0.12), bool(separation(seeing, member, folds)[0] > 0.8)
    (True, True)
    """
    places, influence = [], np.zeros(len(member))
    reader = np.zeros(len(member), int) if reader is None else reader
    for one, fold in product_of(np.unique(reader), np.unique(folds)):
        test, rest = (reader == one) & (folds == fold), (reader == one) & (folds != fold)
        yes, no = test & member, test & ~member
        if not yes.any() or not no.any() or not member[rest].any() or member[rest].all():
            continue
        x = features[rest]
        least = 1e-8 * max(np.abs(x.mean(0)).max(), 1)
        weight, bias = ridge(x, member[rest], (x.std(0) >= least).sum() / WIDTH, least)
        score = features @ weight + bias
        above = (score[yes][:, None] > score[no]) + 0.5 * (score[yes][:, None] == score[no])
        places.append((above.size, above.mean(), (yes, above.mean(1)), (no, above.mean(0))))
    pairs = sum(size for size, *_ in places)
    for size, auroc, *sides in places:
        for who, placement in sides:
            n = len(placement)
            influence[who] = OVERLAP * size / pairs * (placement - auroc) / np.sqrt(n * max(n - 1, 1))
    return (sum(size * auroc for size, auroc, *_ in places) / pairs if pairs else np.nan), influence


def _write(study: Study, folder: Path) -> None:
    rows = [row for network in study.networks for row in _probed(study, network)]
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(folder / "probe.parquet", index=False)


def _probed(study: Study, network):
    everywhere = set().union(*(diagnosis.everywhere(fold) for fold in study.folds))  # the same images of every source
    seen = {source: _features(study, network, source, everywhere) for source in study.sources}
    people = data.load(study).table.drop_duplicates("patient_id").set_index("patient_id")
    for attribute in study.attributes():
        words = attribute.split("*")
        known = people[words].dropna().astype("str").agg(", ".join, axis=1)
        common = known.index
        for features in seen.values():  # the same patients for every source
            common = common.intersection(features.index)
        group, sizes = known[common], known[common].value_counts()
        sizes = sizes[sizes >= study.fairness.min_cases].sort_index()
        group = group[group.isin(sizes.index)]
        folds = _folds(group, study.fairness.seed)
        reader = people.fold[group.index].to_numpy() if study.dataset.folds else None
        for name in sizes.index[: 1 if len(sizes) == 2 else None] if len(sizes) > 1 else ():
            member, original = group.to_numpy() == name, None
            for source, features in seen.items():
                value, influence = separation(features.loc[group.index].to_numpy(), member, folds, reader)
                if source == ORIGINAL:
                    original = value, influence
                row = {"network": network.name, "source": source.model, "attribute": attribute, "group": name}
                row |= dict(zip(("value", "low", "high"), _limits(value, influence, member), strict=True))
                if source != ORIGINAL:
                    change, half = value - original[0], Z * np.linalg.norm(influence - original[1])
                    half = half or np.nan  # placements that are all alike are no certainty
                    row |= {"change": change, "change_low": change - half, "change_high": change + half}
                yield row | {"patients": len(group), "members": int(member.sum())}


def _features(study: Study, network, source, images: set[str]) -> pd.DataFrame:
    """Mean features of these images of each val and test patient; with folds, by the reader that tests the patient."""
    means = []
    for fold in study.folds:
        array, rows, table = diagnosis.looked_at(fold, source)
        some = table.image_id.isin(images).to_numpy()
        if fold.number:
            some = some & (table.split == "test").to_numpy()
        rows, table = rows[some], table[some]
        frozen, what = diagnosis.load(fold, network), f"{network.name} features of {source}"
        features = diagnosis.look(study, frozen, array, rows, what, see="features")
        means.append(pd.DataFrame(features).groupby(table.patient_id.to_numpy()).mean())
    return pd.concat(means)


def _folds(group: pd.Series, seed: int) -> np.ndarray:
    """A fold for each patient, such that each fold holds about as many of every group."""
    order = generator(seed, "probe").permutation(len(group))
    folds = np.empty(len(group), int)
    folds[order] = group.iloc[order].groupby(group.iloc[order]).cumcount() % FOLDS
    return folds


def _limits(value: float, influence: np.ndarray, member: np.ndarray) -> tuple[float, float, float]:
    """An AUROC and its 95 % interval, on the logit scale; at 0 and 1 that of the smaller side without an error."""
    edge = 0.025 ** (1 / min(member.sum(), (~member).sum()))
    if not 0 < value < 1:
        return (value, edge, 1.0) if value == 1 else (value, 0.0, 1 - edge) if value == 0 else (value, np.nan, np.nan)
    half = Z * np.linalg.norm(influence) / (value * (1 - value))
    return value, *(float(special.expit(special.logit(value) + side)) for side in (-half, half))
