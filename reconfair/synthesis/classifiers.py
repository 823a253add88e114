"""Classifiers that train with real and synthetic images, and what becomes of them on real test patients."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reconfair import data, diagnosis, store, synthesis, training
from reconfair.data import splits
from reconfair.diagnosis import classify
from reconfair.fairness.metrics import auroc
from reconfair.keyed import generator, seed_of
from reconfair.params import Network, ParamsError, Study
from reconfair.synthesis.balance import inverse_performance
from reconfair.synthesis.distance import COLUMNS, Features
from reconfair.training import Batches

RESAMPLES = 400
METRICS = ("accuracy", "demographic_parity", "equal_opportunity", "essp", "nar")


class Joined:
    """Real images and synthetic ones below them, as one array; both may be memory-mapped."""

    def __init__(self, real, synthetic):
        self.parts, self.split = (real, synthetic), len(real)

    def __len__(self) -> int:
        return self.split + len(self.parts[1])

    def __getitem__(self, rows):
        rows = np.asarray(rows)
        images = np.empty((len(rows), *self.parts[0].shape[1:]), self.parts[0].dtype)
        for part, first, inside in ((0, 0, rows < self.split), (1, self.split, rows >= self.split)):
            if inside.any():
                images[inside] = self.parts[part][rows[inside] - first]
        return images


class Classifier(classify.Diagnoser):
    """A reader whose loss favours the groups that it serves badly (inverse-performance weights), renewed every epoch.

    Parameters
    ----------
    settings : dict
        As of `classify.Diagnoser`.

    Notes
    -----
    A batch is (images, labels, rows), rows numbering the images of training and validation.
    """

    def watch(self, groups: dict[str, np.ndarray], batches, mode: str) -> None:
        """Look at these groups of all rows; weigh the training ones in the loss or in the draws of `batches`."""
        self.groups, self.batches, self.mode = groups, batches, mode
        self.image_weights, self.accuracy, self.answers = torch.ones(len(next(iter(groups.values())))), {}, []

    def training_step(self, batch, batch_idx):
        images, labels, rows = batch
        sums = self.summands(self(training.widen(images)), labels)
        if self.mode != "loss":
            return self.of_sums(sums.sum(0))
        weights = self.image_weights[rows.long().cpu()].to(sums)[:, None]
        return weights.mean() * self.of_sums((weights * sums).sum(0))

    def validation_step(self, batch, batch_idx):
        images, labels, rows = batch
        logits = self(training.widen(images))
        self.log("val_loss", self.criterion(logits, labels), batch_size=len(images))
        right = ((logits > 0) == (labels > 0.5)).float().masked_fill(labels.isnan(), torch.nan).nanmean(1)
        if self.settings.get("classes"):
            right = (logits.argmax(1) == labels.nan_to_num().argmax(1)).float()
        self.answers.append((rows.long().cpu().numpy(), right.cpu().numpy()))

    def on_validation_epoch_end(self):
        rows, right = (np.concatenate(parts) for parts in zip(*self.answers, strict=True))
        self.answers = []
        for attribute, groups in self.groups.items():
            means = pd.Series(right).groupby(groups[rows]).mean().dropna()
            self.accuracy[attribute] = {str(group): float(value) for group, value in means.items() if group != ""}
        self.weigh()

    def weigh(self) -> None:
        """Set the weights by the last accuracies."""
        if self.mode == "none" or not self.accuracy:
            return
        train = self.batches.rows
        weights = inverse_performance(self.accuracy, {name: groups[train] for name, groups in self.groups.items()})
        self.image_weights[train] = torch.from_numpy(weights).float()
        if self.mode == "sampler":
            self.batches.shares = weights / weights.sum()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["accuracy"] = self.accuracy

    def on_load_checkpoint(self, checkpoint):
        self.accuracy = checkpoint["accuracy"]
        self.weigh()


def train(study: Study, network: Network, folder: Path, synthetic=None, rows=None, changes: dict | None = None) -> None:
    """Train a classifier as the diagnosis does and, if given, with synthetic images; leave ``best.ckpt`` in `folder`.

    Parameters
    ----------
    study : Study
    network : Network
    folder : Path
    synthetic : (DataFrame, ndarray), optional
        Table and images; those that are ``used`` train. Validation is with real images alone.
    rows : ndarray of int, optional
        Real training images; left out: all.
    changes : dict, optional
        Of the network's settings.
    """
    of, attributes, mode = diagnosis.training_set(study, network), study.cells[:-1], "none"
    of = of._replace(rows=of.rows if rows is None else np.intersect1d(of.rows, rows))
    if synthetic is not None:
        table, images = synthetic
        if "val" in set(table.split):
            raise ValueError("synthetic images are in the split val; they train alone")
        made = table.assign(**labels_of(network, study.cells[-1], table))
        used = len(of.table) + np.flatnonzero(table.used)
        whole = pd.concat([of.table, made], ignore_index=True)
        target = whole[list(network.tasks)].to_numpy(np.float32)
        of = of._replace(images=Joined(of.images, images), target=target, rows=np.append(of.rows, used), table=whole)
        mode = "sampler" if study.synthesis.as_published else study.synthesis.inverse_performance
    settings = diagnosis.settings_of(study, network) | (changes or {})
    torch.manual_seed(seed_of(settings["seed"], "weights", network.name))
    module = Classifier(settings)
    diagnosis.start(study, module, of, folder)
    if module.settings["epochs"]:
        batches = Batches(of.rows, settings["batch_size"], settings["seed"])
        groups = {attribute: of.table[attribute].fillna("").astype("str").to_numpy() for attribute in attributes}
        module.watch(groups, batches, mode)
        numbers = np.arange(len(of.table))
        diagnosis.fit(study, module, of, folder, network.name, [numbers], batches)


def labels_of(network: Network, task: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Label columns of synthetic images: the task, or a column for each class of a task of several classes."""
    if task in network.tasks:
        return {task: table[task].to_numpy()}
    return {column: (table[task] == number).to_numpy(float) for number, column in enumerate(network.tasks)}


# --- downstream ---


def answer(study: Study, generator: str, classifier: str, folder: Path) -> None:
    """Train a kind of classifier with a generator's images, and write its answers for real val and test patients."""
    cohort, task, network = data.load(study), study.cells[-1], synthesis.asked(study)
    rows, evaluated = diagnosis.training_set(study, network).rows, data.rows(cohort.table, "eval")
    made = synthesis.synthetic(study, generator) if generator != "standard" else None
    if classifier in synthesis.NETWORKS:
        changes = synthesis.architecture(study, classifier)
        train(study, network, folder, made, changes=changes)
        module = classify.Diagnoser(diagnosis.settings_of(study, network) | changes)
        frozen = training.load(folder / "best.ckpt", module)
        chance = diagnosis.look(study, frozen, cohort.images, evaluated, f"{classifier} looks")
    else:
        look = Features(study)
        features, labels = look(cohort.images, rows, raw=True), synthesis.labels(study)[rows]
        if made is not None:
            used = np.flatnonzero(made[0].used)
            features = np.concatenate([features, look(made[1], used, raw=True)])
            labels = np.concatenate([labels, made[0][task].to_numpy()[used]])
        chance = of_features(study, classifier, features, labels, look(cohort.images, evaluated, raw=True))
    decided = diagnosis.units(study, network, cohort.table.iloc[evaluated], chance.astype(float))
    decided.to_parquet(folder / "answers.parquet", index=False)


def of_features(study: Study, classifier: str, features, labels, at) -> np.ndarray:
    """Probabilities (m, tasks) at features (m, d) by a classifier that is fitted to features (n, d) and labels (n,).

    It is scikit-learn's gradient boosting or nearest neighbours, or XGBoost.

    Raises
    ------
    ParamsError
        XGBoost is not installed.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors import KNeighborsClassifier

    seed = study.synthesis.seed
    if classifier == "neighbours":
        model = KNeighborsClassifier(5, metric="cosine", weights="distance")
    elif classifier == "boosting":
        model = HistGradientBoostingClassifier(random_state=seed)
    else:
        try:
            from xgboost import XGBClassifier
        except ImportError:
            extra = "pip install 'reconfair[xgboost]'"
            raise ParamsError(f"synthesis.classifiers: xgboost is not installed; {extra}") from None
        shares = {"subsample": 0.9, "colsample_bytree": 0.9}
        model = XGBClassifier(n_estimators=400, max_depth=6, learning_rate=0.1, random_state=seed, **shares)
    classes = max(len(synthesis.asked(study).tasks), 2)
    chance = np.zeros((len(at), classes))  # of a class that nobody in training has
    model.fit(features, labels)
    chance[:, model.classes_.astype(int)] = model.predict_proba(at)
    return chance if classes > 2 else chance[:, 1:]


def measures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of FairGen from counts, as METHODS settles them; accuracy is a fraction.

    Demographic parity and equal opportunity are the mean over classes of the largest difference between groups in the
    share that is given the class, of all and of those who have it; of two classes only the second counts.
    ``ESSP = I / (1 + sum |I - I_a|)`` and ``NAR = (max - min) / mean`` of the groups' accuracies.

    Parameters
    ----------
    counts : ndarray
        (..., groups, classes, classes): patients by group, label and answer.

    Examples
    --------
    >>> counts = np.array([[[4, 0], [0, 4]], [[4, 0], [2, 2]]])
    >>> {name: round(float(value), 3) for name, value in measures(counts).items()}
    {'accuracy': 0.875, 'demographic_parity': 0.25, 'equal_opportunity': 0.5, 'essp': 0.7, 'nar': 0.286}
    """
    counts = np.asarray(counts, float)
    classes = [1] if counts.shape[-1] == 2 else list(range(counts.shape[-1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.trace(counts, axis1=-2, axis2=-1)
        accuracy = right / counts.sum((-2, -1))
        overall = right.sum(-1) / counts.sum((-3, -2, -1))
        called = (counts.sum(-2) / counts.sum((-2, -1))[..., None])[..., classes]
        true = (np.diagonal(counts, axis1=-2, axis2=-1) / counts.sum(-1))[..., classes]
        spread = lambda rates: (rates.max(-2) - rates.min(-2)).mean(-1)  # noqa: E731
        parity, opportunity = spread(called), spread(true)
        essp = overall / (1 + np.abs(overall[..., None] - accuracy).sum(-1))
        nar = (accuracy.max(-1) - accuracy.min(-1)) / accuracy.mean(-1)
    return dict(zip(METRICS, (overall, parity, opportunity, essp, nar), strict=True))


def decisions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per unit, ``patient_id, split, label, answer, score``, of rows as `diagnosis.units` makes them.

    Of two classes the answer is 1 from a score of 0.5; of several, which have a row each, the class decided for, and
    there is no score.
    """
    if "class" not in rows or rows["class"].isna().all():
        return rows.assign(answer=(rows.score >= 0.5).astype(int))
    number = rows.groupby("unit", sort=False).cumcount()
    rows = rows.assign(number=number)
    first = rows.groupby("unit", sort=False)[["patient_id", "split"]].first()
    label = rows[rows.label == 1].set_index("unit").number.reindex(first.index)
    answer = rows[rows.decision == 1].set_index("unit").number.reindex(first.index)
    return first.assign(label=label, answer=answer, score=np.nan).reset_index()


def by_attribute(decided: pd.DataFrame, groups: np.ndarray, seed: int, resamples: int = RESAMPLES):
    """Yield (metric, group, value, low, high, patients): `measures` and AUROC, with intervals of a patient bootstrap.

    Parameters
    ----------
    decided : DataFrame
        One row per unit: ``patient_id, label, answer, score``; see `decisions`.
    groups : ndarray of str
        Group of each unit, none of them empty.
    seed, resamples : int
    """
    patient, who = pd.factorize(decided.patient_id)
    names, group = np.unique(groups, return_inverse=True)
    label, answer = decided.label.to_numpy(int), decided.answer.to_numpy(int)
    classes = max(label.max(), answer.max(), 1) + 1
    place = np.eye(len(names) * classes**2)[(group * classes + label) * classes + answer]
    draw = generator(seed, "patients", len(who))
    weights = draw.multinomial(len(who), np.full(len(who), 1 / len(who)), resamples)[:, patient]
    shape = (len(names), classes, classes)
    drawn = measures((weights @ place).reshape(resamples, *shape))
    for metric, value in measures(place.sum(0).reshape(shape)).items():
        yield metric, "all", float(value), *_interval(drawn[metric]), len(who)
    score = decided.score.to_numpy()
    for number, name in enumerate(names if classes == 2 else ()):
        some = group == number
        value, drawn = (
            auroc(score=score[some], label=label[some], weights=rows)[:, 0] for rows in (None, weights[:, some])
        )
        yield "auroc", str(name), float(value[0]), *_interval(drawn), len({*patient[some]})


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return tuple(map(float, np.quantile(known, [0.025, 0.975]))) if len(known) else (np.nan, np.nan)


def judge(study: Study) -> pd.DataFrame:
    """Rows of the table ``synthesis`` on real test patients; the generator ``standard`` is none."""
    table, rows = data.load(study).table, []
    settings = study.synthesis
    known = table.drop_duplicates("patient_id").set_index("patient_id")
    for (name, classifier), made in synthesis.answered(study).items():
        decided = decisions(pd.read_parquet(store.ready(made) / "answers.parquet"))
        decided = decided[(decided.split == "test") & decided.label.notna()]
        for attribute in study.attributes():
            groups = decided.patient_id.map(splits.groups_of(known, attribute))
            sizes = decided.patient_id.groupby(groups).nunique()
            enough = groups.isin(sizes.index[sizes >= study.fairness.min_cases])
            few = "; ".join(f"{group} ({n})" for group, n in sizes.items() if n < study.fairness.min_cases)
            if groups[enough].nunique() < 2:
                continue
            some = by_attribute(decided[enough], groups[enough].to_numpy("str"), settings.seed)
            note = f"left out: {few}" * bool(few)
            for metric, group, value, low, high, n in some:
                rows.append((name, classifier, attribute, group, metric, value, low, high, n, note))
    return pd.DataFrame(rows, columns=COLUMNS)


def against_ratio(study: Study, name: str, ratios, classifier: str = "boosting") -> pd.DataFrame:
    """What a classifier of frozen features does on real test patients, by synthetic images per real one.

    The same samples serve all ratios; ratios that would need more of them than were drawn are left out.

    Returns
    -------
    DataFrame
        Rows ``ratio, metric, group, value, low, high``, for the first attribute of the cells.
    """
    cohort, (attribute, *_), task = data.load(study), study.cells, study.cells[-1]
    network = synthesis.asked(study)
    rows, evaluated = diagnosis.training_set(study, network).rows, data.rows(cohort.table, "test")
    look, (table, images) = Features(study), synthesis.synthetic(study, name)
    real, made, test = (
        look(*some, raw=True) for some in ((cohort.images, rows), (images,), (cohort.images, evaluated))
    )
    labels, known = synthesis.labels(study)[rows], cohort.table.drop_duplicates("patient_id")
    groups_by_patient, every = splits.groups_of(known.set_index("patient_id"), attribute), []
    for ratio in (ratio for ratio in ratios if round(ratio * len(rows)) <= len(table)):
        n = round(ratio * len(rows))
        x, y = np.concatenate([real, made[:n]]), np.concatenate([labels, table[task].to_numpy()[:n]])
        chance = of_features(study, classifier, x, y, test)
        decided = decisions(diagnosis.units(study, network, cohort.table.iloc[evaluated], chance))
        groups = decided.patient_id.map(groups_by_patient)
        some = (decided.label.notna() & groups.notna()).to_numpy()
        measured = by_attribute(decided[some], groups[some].to_numpy("str"), study.synthesis.seed)
        every += [(ratio, metric, group, value, low, high) for metric, group, value, low, high, _ in measured]
    return pd.DataFrame(every, columns=["ratio", "metric", "group", "value", "low", "high"])
