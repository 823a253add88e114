"""Tables of finished runs, with the published values of the same data."""

from dataclasses import dataclass, field

import pandas as pd
import yaml

from reconfair import judge, mitigation, params, perceptual, store, tables
from reconfair.data.phantom import Phantom
from reconfair.params import ParamsError, Study
from reconfair.store import Product

RUN = ["dataset", "level"]
KEYS = ["name", "level", "source", "strategy", "reader", "attribute", "task", "metric"]  # of published values
NOT_APPLIED = "thresholds@0"  # the strategy `thresholds` where no group got a threshold


@dataclass(eq=False)
class Runs:
    """Tables of finished runs, with columns ``dataset, name, level`` and ``published`` values.

    Attributes
    ----------
    studies : list of Study
        The mildest noise of each dataset first.
    performance, fairness : DataFrame
    left_out : list of str
        Runs that could not be used, or are not up to date, one sentence each.
    study : Study, optional
        The study that is reported: exhibits on bias keep to its noise level. Without one, all runs count.
    """

    studies: list[Study]
    performance: pd.DataFrame
    fairness: pd.DataFrame
    left_out: list[str] = field(default_factory=list)
    study: Study | None = None

    @property
    def simulated(self) -> str:
        """Of which runs the patients are simulated, as a sentence; empty where all are real."""
        labels = dict.fromkeys(study.label for study in self.studies if isinstance(study.dataset, Phantom))
        if len(labels) == len({study.label for study in self.studies}):
            return "Simulated data."
        return f"Simulated data: {', '.join(labels)}." * bool(labels)

    def at_level(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the study's noise level."""
        return table if self.study is None else table[table.level == self.study.level]

    def overall(self, *metrics: str) -> pd.DataFrame:
        """Rows of ``performance`` that count all patients, of every level."""
        return self.performance[(self.performance.attribute == "all") & self.performance.metric.isin(metrics)]

    def shifts(self, *metrics: str) -> pd.DataFrame:
        """Rows of ``fairness`` of reconstructions at this level; of the main measures, if none is named."""
        rows = reconstructed(self.at_level(self.fairness))
        return rows[rows.metric.isin(metrics)] if metrics else judge.main_measure(rows)

    def of_dataset(self, label: str) -> "Runs":
        """Runs of one dataset."""
        some = [table[table.dataset == label] for table in (self.performance, self.fairness)]
        return Runs([study for study in self.studies if study.label == label], *some)


def reconstructed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of reconstructions."""
    return rows[~rows.source.isin(["original", "noisy"])]


def gather(study: Study | None = None) -> Runs:
    """Read this run, or all levels of its dataset, as ``report.runs`` says; without a study, every finished run.

    Raises
    ------
    ParamsError
        No run has been finished, or this one is missing and takes long to make.
    """
    every, left_out = [(study, mitigation.judged(study))] if study else [], []
    if study:
        store.ready(mitigation.judged(study))
    if study is None or study.report.runs == "all":
        every += [
            run for run in finished(study.label if study else "*", left_out) if not study or run[0].name != study.name
        ]
    runs = []
    for made, product in every:
        try:
            runs.append((made, *(_table(name, product, made) for name in ("performance", "fairness"))))
            if not product.fresh:
                left_out.append(f"{made.name}: made with other settings, code or scans than today's; run it again.")
        except (ParamsError, ValueError, OSError) as error:
            left_out.append(f"{made.name}: left out, {str(error).splitlines()[0]}.")
    if not runs:
        raise ParamsError(" ".join([f"{store.outputs()}: expected a finished run, found none.", *left_out]))
    runs.sort(key=lambda run: _strength(run[0].noise))
    runs.sort(key=lambda run: run[0].label)
    studies, performance, fairness = zip(*runs, strict=True)
    performance, fairness = (pd.concat(each, ignore_index=True) for each in (performance, fairness))
    fairness = judge.with_percentages(fairness, performance)
    return Runs(list(studies), *_with_published(_averaged(performance), fairness), left_out, study)


def _strength(noise) -> float:
    """The mildest noise first: the least acceleration or standard deviation, or the most photons."""
    given = getattr(noise, "acceleration", 0) or getattr(noise, "sigma", 0)
    return given or -getattr(noise, "photons", 1e99)


def finished(label: str = "*", left_out: list[str] | None = None) -> list[tuple[Study, Product]]:
    """Finished runs of a dataset, or of all: each study and its judged tables; replicates are not among them.

    Sentences about runs that cannot be read are added to `left_out`.
    """
    runs = []
    for path in sorted(store.outputs().glob(f"{label}/*/run.yaml")):
        if "-seed-" in path.parent.name:
            continue
        try:
            sections = yaml.safe_load(path.read_text(encoding="utf-8"))
            study = params.study(**{key: value for key, value in sections.items() if key != "versions" and value})
            product = mitigation.judged(study)
            if product.stamp.exists():
                runs.append((study, product))
        except (ParamsError, ValueError, OSError, yaml.YAMLError) as error:
            if left_out is not None:
                name = f"{path.parent.parent.name}/{path.parent.name}"
                left_out.append(f"{name}: left out, {str(error).splitlines()[0]}.")
    return runs


def own_thresholds(study: Study) -> dict[str, dict[str, int]]:
    """How many groups got a threshold, by reconstructor and task, where the strategy `thresholds` was run."""
    from reconfair.mitigation import thresholds

    counts = {}
    for source in study.mitigated:
        if source.strategy == "thresholds" and (groups := thresholds.read(study, source)) is not None:
            counts[source.model] = groups.groupby("task", sort=False).moved.sum().astype(int).to_dict()
    return counts


def _table(name: str, product: Product, study: Study) -> pd.DataFrame:
    """Read a table of a run; ``performance`` with perceptual distances, where those were measured."""
    table = tables.read(name, product.folder)
    if lacks := sorted(set(tables.SCHEMAS[name]) - set(table)):
        raise ValueError(f"its table '{name}' is of an older kind, without {', '.join(lacks)}")
    if name == "performance" and (distances := _distances(study)):
        table = pd.concat([table, *distances], ignore_index=True)
    idle = [model for model, groups in own_thresholds(study).items() if not sum(groups.values())]
    idle = (table.strategy == "thresholds") & table.source.isin(idle)
    table = table.assign(strategy=table.strategy.mask(idle, NOT_APPLIED))
    return table.assign(dataset=study.label, name=study.dataset.name, level=study.level)


def _distances(study: Study) -> list[pd.DataFrame]:
    """Rows of ``performance`` on LPIPS and Lite0 distance: means over patients with their normal 95 % intervals."""
    parts = []
    for metric, products in (("lpips", mitigation.qualities), ("lite0_distance", perceptual.products)):
        try:
            quality = tables.read("quality", *(product.folder for product in products(study)))
        except (OSError, ValueError):  # not asked for, or this run has no noise, or its images are no longer there
            continue
        if metric in quality:
            of_patients = quality[quality.split == "test"].groupby(["source", "strategy", "patient_id"], sort=False)
            means = of_patients[metric].mean().groupby(["source", "strategy"], sort=False)
            rows = means.agg(value="mean", se="sem", n="size").reset_index()
            rows = rows.assign(low=rows.value - 1.96 * rows.se, high=rows.value + 1.96 * rows.se, patients=rows.n)
            parts.append(rows.assign(task="image", reader="standard", attribute="all", group="all", metric=metric))
    return parts


def _averaged(performance: pd.DataFrame) -> pd.DataFrame:
    """Add the mean AUROC over the findings of a radiograph; the mean of the intervals is, if anything, too wide."""
    rows = performance[(performance.attribute == "all") & (performance.metric == "auroc")]
    rows = rows[rows.groupby(RUN).task.transform("nunique") > 3]
    numbers = ["value", "low", "high", "change", "change_low", "change_high"]
    mean = rows.groupby([*RUN, "name", "source", "strategy", "reader"], sort=False)[numbers].mean().reset_index()
    mean = mean.assign(task="average", attribute="all", group="all", metric="auroc")
    return pd.concat([performance, mean], ignore_index=True) if len(mean) else performance


def _with_published(performance: pd.DataFrame, fairness: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add columns ``published`` and, to fairness, ``published_shift``."""
    paper = tables.published("performance").assign(strategy="standard")
    slides = tables.published("strategies").query("strategy != 'standard'")
    rates = pd.concat([paper, slides]).assign(attribute="all", reader="standard")
    gaps = tables.published("fairness").assign(strategy="standard", reader="standard")
    keys = ["dataset", "level", "attribute", "task", "metric"]
    original = gaps[gaps.source == "original"].set_index(keys).value
    gaps["published_shift"] = gaps.value - original.reindex(pd.MultiIndex.from_frame(gaps[keys])).to_numpy()
    rates, gaps = (table.rename(columns={"dataset": "name", "value": "published"}) for table in (rates, gaps))
    return (
        performance.merge(rates[[*KEYS, "published"]], "left", KEYS),
        fairness.merge(gaps[[*KEYS, "published", "published_shift"]], "left", KEYS),
    )
