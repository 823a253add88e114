"""Classifiers that train with real and synthetic images, and what becomes of them on real test patients."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reconfair import data, diagnosis, store, synthesis, training
from reconfair.diagnosis import classify
from reconfair.fairness import assess
from reconfair.keyed import seed_of
from reconfair.params import Network, ParamsError, Study
from reconfair.synthesis.balance import inverse_performance
from reconfair.synthesis.distance import COLUMNS, Features
from reconfair.training import Batches

RESAMPLES = 400  # of NAR and ESSP, which have no closed form
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


def train(study: Study, network: Network, folder: Path, synthetic=None, rows=None, val=None, changes=None) -> None:
    """Train a classifier as the diagnosis does and, if given, with synthetic images; leave ``best.ckpt`` in `folder`.

    Parameters
    ----------
    study : Study
    network : Network
    folder : Path
    synthetic : (DataFrame, ndarray), optional
        Table and images; those that are ``used`` train. Validation is with real images alone.
    rows, val : ndarray of int, optional
        Real images that train, and that choose the epoch; left out: those of the diagnosis.
    changes : dict, optional
        Of the network's settings.
    """
    of, attributes, mode = diagnosis.training_set(study, network), study.cells[:-1], "none"
    of = of._replace(rows=of.rows if rows is None else rows, val=of.val if val is None else val)
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
    if classifier in synthesis.NETWORKS and synthesis.same_as_reader(study, classifier):
        frozen = diagnosis.load(study, network, generator)
        chance = diagnosis.look(study, frozen, cohort.images, evaluated, f"{classifier} looks")
    elif classifier in synthesis.NETWORKS:
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
        model = KNeighborsClassifier(min(5, len(features)), metric="cosine", weights="distance")
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
    if len(present := np.unique(labels)) == 1:  # what everyone in training has is all that can be learned
        chance[:, int(present[0])] = 1
    else:
        model.fit(features, labels)
        chance[:, model.classes_.astype(int)] = model.predict_proba(at)
    return chance if classes > 2 else chance[:, 1:]


def by_class(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as `diagnosis.units` makes them, one for each class: of two classes, decided at a score of 0.5.

    Examples
    --------
    >>> rows = pd.DataFrame({"task": ["ill"], "unit": ["a"], "label": [1.0], "score": [0.3]})
    >>> by_class(rows)[["task", "label", "score", "decision"]].values.tolist()
    [['ill: 0', 0.0, 0.7, 1.0], ['ill: 1', 1.0, 0.3, 0.0]]
    """
    if "class" in rows and rows["class"].notna().all():
        return rows
    one = rows.assign(**{"class": "1", "decision": (rows.score >= 0.5).astype(float)})
    none = one.assign(**{"class": "0", "label": 1 - one.label, "score": 1 - one.score, "decision": 1 - one.decision})
    return pd.concat([some.assign(task=some.task + ": " + some["class"]) for some in (none, one)], ignore_index=True)


def compare(answers: dict[str, pd.DataFrame], cohort: pd.DataFrame, attributes, min_cases: int, seed: int = 0):
    """The measures of FairGen and AUROC, with the intervals of chapter 05, and their changes from ``standard``.

    Demographic parity and equal opportunity are the mean over classes of the largest difference between groups in the
    share that is given the class, of all and of those who have it; of two classes only the second counts. With accuracy
    I as a fraction, ``ESSP = I / (1 + sum |I - I_a|)`` and ``NAR = (max - min) / mean`` of the groups' accuracies I_a.

    Parameters
    ----------
    answers : dict of DataFrame
        Rows as `diagnosis.units` makes them, by name; those of the split test are judged.
    cohort : DataFrame
        One row per image with ``patient_id`` and the attributes.
    attributes : sequence of str
    min_cases, seed : int
        See `fairness.assess`.

    Returns
    -------
    DataFrame
        ``generator`` (the name), ``attribute, group, metric, value, low, high, change, change_low, change_high, n``
        (patients) and ``note``. Accuracy and AUROC of everyone have the attribute and group "all".
    """
    arm, ends = {"source": "original", "strategy": "standard"}, ("", "_low", "_high")
    every = [by_class(rows[rows.split == "test"]).assign(reader=name, **arm) for name, rows in answers.items()]
    rows = pd.concat(every, ignore_index=True)
    classes = rows["class"].unique()
    task = rows.task.iloc[0].removesuffix(f": {rows['class'].iloc[0]}")
    how = {"attributes": attributes, "thresholds": {}, "min_cases": min_cases, "resamples": RESAMPLES, "seed": seed}
    performance, gaps = assess(rows, cohort, **how)
    performance = performance[performance.task == task].drop(columns=[f"change{end}" for end in ends])
    performance = performance.rename(columns={f"change_standard{end}": f"change{end}" for end in ends})
    accuracy = performance[(performance.metric == "accuracy") & (performance.group == "all")]
    single = f"{task}: {classes[-1]}" if len(classes) == 2 else task
    of_accuracy = (gaps.task == task) & gaps.metric.isin(["nar", "essp"])
    gaps = gaps[of_accuracy | (gaps.task == single) & gaps.metric.isin(["demographic_parity", "eop"])]
    gaps = gaps.rename(columns={f"shift_standard{end}": f"change{end}" for end in ends})
    note = ("left out: " + gaps.left_out).where(gaps.left_out != "", "")
    gaps = gaps.assign(group="all", metric=gaps.metric.replace({"eop": "equal_opportunity"}), note=note)
    gaps = gaps.assign(patients=rows.patient_id.nunique())
    whole = pd.concat([accuracy, gaps, performance[performance.metric == "auroc"]], ignore_index=True)
    whole = whole[whole.value.notna()].assign(generator=whole.reader, n=whole.patients)
    return whole[[name for name in COLUMNS if name != "classifier"]]


def judge(study: Study) -> pd.DataFrame:
    """Rows of the table ``synthesis`` on real test patients; the generator ``standard`` is none."""
    settings, every = study.synthesis, []
    for classifier in settings.classifiers:
        answers = {
            name: pd.read_parquet(store.ready(made) / "answers.parquet")
            for (name, kind), made in synthesis.answered(study).items()
            if kind == classifier
        }
        how = (data.load(study).table, study.attributes(), study.fairness.min_cases, settings.seed)
        every.append(compare(answers, *how).assign(classifier=classifier))
    return pd.concat(every, ignore_index=True)[COLUMNS] if every else pd.DataFrame(columns=COLUMNS)


def against_ratio(study: Study, name: str, ratios, classifier: str = "boosting") -> pd.DataFrame:
    """What a classifier of frozen features does on real test patients, by synthetic images per real one.

    Every cell adds as many images. The same samples serve all ratios; ratios that would need more of a cell than were
    drawn are left out.

    Returns
    -------
    DataFrame
        Rows ``ratio`` and those of `compare`, for the first attribute of the cells.
    """
    cohort, task, network = data.load(study), study.cells[-1], synthesis.asked(study)
    rows, evaluated = diagnosis.training_set(study, network).rows, data.rows(cohort.table, "test")
    look, (table, images) = Features(study), synthesis.synthetic(study, name)
    real, made, test = (
        look(*some, raw=True) for some in ((cohort.images, rows), (images,), (cohort.images, evaluated))
    )
    labels, answers = synthesis.labels(study)[rows], {}
    order, cells = table.groupby("cell").cumcount().to_numpy(), table.cell.nunique()
    drawn = table.cell.value_counts().min()
    for ratio, each in ((ratio, round(ratio * len(rows) / cells)) for ratio in ratios):
        if each > drawn:
            continue
        some = order < each
        x, y = np.concatenate([real, made[some]]), np.concatenate([labels, table[task].to_numpy()[some]])
        chance = of_features(study, classifier, x, y, test)
        answers[ratio] = diagnosis.units(study, network, cohort.table.iloc[evaluated], chance)
    named = {"standard" if ratio == 0 else str(ratio): some for ratio, some in answers.items()}
    how = (cohort.table, study.cells[:1], study.fairness.min_cases, study.synthesis.seed)
    compared = compare(named, *how)
    return compared.assign(ratio=compared.generator.replace("standard", "0").astype(float)).sort_values("ratio")
