"""What finished runs say: their tables with the published values beside them, and what these compare."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from reconfair import figures, judge, params, store, tables
from reconfair.fairness import MARGINS
from reconfair.params import ParamsError, Study

RUN, KEYS = ["dataset", "level"], ["name", "level", "source", "strategy", "attribute", "task", "metric"]
VERDICTS = ["better", "equivalent", "undecided", "not compared", "worse"]


@dataclass(eq=False)
class Found:
    """Tables of finished runs, with columns ``dataset, name, level`` and ``published`` values.

    Attributes
    ----------
    studies : list of Study
        The mildest noise of each dataset first.
    performance, fairness : DataFrame
    left_out : list of str
        Runs that could not be used, or are not up to date, one sentence each.
    study : Study, optional
        Whose report this is: exhibits on bias keep to its noise level. Without one, all runs count.
    """

    studies: list[Study]
    performance: pd.DataFrame
    fairness: pd.DataFrame
    left_out: list[str] = field(default_factory=list)
    study: Study | None = None

    def here(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the study's own noise level."""
        return table if self.study is None else table[table.level == self.study.level]

    def everyone(self, *metrics: str) -> pd.DataFrame:
        """Rows of ``performance`` that count all patients, of every level."""
        return self.performance[(self.performance.attribute == "all") & self.performance.metric.isin(metrics)]

    def shifts(self, *metrics: str) -> pd.DataFrame:
        """Rows of ``fairness`` at this level that compare a reconstruction; of the main measures, if none is named."""
        rows = restored(self.here(self.fairness))
        return rows[rows.metric.isin(metrics)] if metrics else judge.main_measure(rows)

    @property
    def margins(self) -> dict[str, dict[str, float]]:
        """Changes that would not matter, by run and metric."""
        return {study.name: MARGINS | study.fairness.margins for study in self.studies}

    def of(self, label: str) -> "Found":
        """The part on one dataset."""
        part = [table[table.dataset == label] for table in (self.performance, self.fairness)]
        return Found([study for study in self.studies if study.label == label], *part)


def restored(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of reconstructions."""
    return rows[~rows.source.isin(["original", "noisy"])]


def gather(study: Study | None = None) -> Found:
    """Read this run, or all levels of its dataset, as ``report.runs`` says; without a study, every finished run.

    Raises
    ------
    ParamsError
        No run has been finished to chapter 06.
    """
    stamps = store.finished(study)
    if study:
        store.require(own := store.flow(study)["mitigation"])
        stamps = [own.stamp] if study.report.runs == "this" else stamps
    runs, left_out = [], []
    for folder in (stamp.parents[1] for stamp in stamps):
        try:
            made = study if study and folder == store.outputs() / study.name else _study_of(folder)
            runs.append((made, *(_table(name, folder, made) for name in ("performance", "fairness"))))
            if not store.flow(made)["mitigation"].fresh:
                left_out.append(f"{made.name}: made with other settings, code or scans than today's; run it again.")
        except (ParamsError, ValueError, OSError) as error:
            left_out.append(f"{folder.parent.name}/{folder.name}: left out, {str(error).splitlines()[0]}.")
    if not runs:
        raise ParamsError(" ".join([f"{store.outputs()}: expected a finished run, found none.", *left_out]))
    runs.sort(key=lambda run: (run[0].label, getattr(run[0].noise, "acceleration", 0) or -run[0].noise.photons))
    studies, performance, fairness = zip(*runs, strict=True)
    performance, fairness = (pd.concat(parts, ignore_index=True) for parts in (performance, fairness))
    return Found(list(studies), *_beside_published(_averaged(performance), fairness), left_out, study)


def compared(found: Found) -> pd.DataFrame:
    """Every comparison of a standard reconstruction with the original, and its ``verdict``.

    Performance: *equivalent* if the 95 % interval of the change lies within the margin, else *worse* or
    *better* if it lies on one side of 0. Bias: *worse* (it grew) or *better* if the adjusted p is below 0.05,
    else *equivalent* if no gap changed by more than the margin. The rest is *undecided*, or *not compared*.
    """
    rows = restored(found.here(found.everyone("auroc", "dice"))).query("task != 'average'")
    gap = rows.metric.map({"auroc": "auroc_gap", "dice": "delta_dice"})
    runs = rows.dataset + "/" + rows.level
    margin = np.array([found.margins[run][metric] for run, metric in zip(runs, gap, strict=True)])
    within = (rows.change_low > -margin) & (rows.change_high < margin)
    cases = [rows.change_low.isna(), within, rows.change_high < 0, rows.change_low > 0]
    verdict = np.select(cases, ["not compared", "equivalent", "worse", "better"], "undecided")
    performance = rows.assign(question="performance", verdict=verdict)

    rows = found.shifts()
    moved = rows.p_adjusted < 0.05
    cases = [rows["shift"].isna(), moved & (rows["shift"] > 0), moved, rows.equivalent == 1]
    verdict = np.select(cases, ["not compared", "worse", "better", "equivalent"], "undecided")
    columns = {"change": rows["shift"], "change_low": rows.shift_low, "change_high": rows.shift_high}
    bias = rows.assign(question="bias by " + rows.attribute.map(figures.name), verdict=verdict, **columns)
    every = pd.concat([performance, bias], ignore_index=True).query("strategy == 'standard'")
    return every[[*RUN, "question", "task", "metric", "attribute", "source", "verdict", *columns]]


def verdict_counts(found: Found, by: list[str]) -> pd.DataFrame:
    """How many comparisons came to each verdict."""
    counts = compared(found).groupby(by, sort=False).verdict.value_counts(sort=False).unstack(fill_value=0)
    return counts.reindex(columns=VERDICTS, fill_value=0)


def costs(found: Found) -> pd.DataFrame:
    """What each mitigated reconstructor changes against the standard one, in percent.

    Columns ``dataset, level, source, strategy``; ``psnr``; ``downstream``, the mean over tasks of the change of AUROC
    and Dice; ``bias``, the median change of the disparity, and in how many of ``comparisons`` it ``fell`` or
    ``grew`` with p < 0.05, not adjusted.
    """
    arm = [*RUN, "source"]
    rows = restored(found.here(found.everyone("auroc", "dice", "psnr"))).query("task != 'average'")
    standard = rows[rows.strategy == "standard"].set_index([*arm, "task", "metric"]).value
    tuned = rows[rows.strategy != "standard"]
    before = standard.reindex(pd.MultiIndex.from_frame(tuned[[*arm, "task", "metric"]])).to_numpy()
    tuned = tuned.assign(
        percent=100 * (tuned.value / before - 1), what=np.where(tuned.task == "image", "psnr", "downstream")
    )
    tuned = tuned[np.isfinite(tuned.percent)]
    table = tuned.pivot_table("percent", [*arm, "strategy"], "what", sort=False)
    gaps = found.shifts().query("strategy != 'standard' and shift_standard.notna()")
    sure = gaps.shift_standard_p < 0.05
    gaps = gaps.assign(
        bias=100 * gaps.shift_standard / (gaps.value - gaps.shift_standard),
        fell=sure & (gaps.shift_standard < 0),
        grew=sure & (gaps.shift_standard > 0),
    ).groupby([*arm, "strategy"], sort=False)
    counted = gaps.agg(
        bias=("bias", "median"), fell=("fell", "sum"), grew=("grew", "sum"), comparisons=("bias", "size")
    )
    return table.reindex(columns=["psnr", "downstream"]).join(counted).reset_index()


def _study_of(folder: Path) -> Study:
    """The resolved study of a run, which also tells its versions."""
    sections = yaml.safe_load((folder / "study.yaml").read_text())
    return params.study(**{key: value for key, value in sections.items() if key != "versions"})


def _table(name: str, folder: Path, study: Study) -> pd.DataFrame:
    """Table of a run, with image quality by LPIPS where that was measured."""
    table = tables.read(name, folder / "mitigation")
    if lacks := sorted(set(tables.SCHEMAS[name]) - set(table)):
        raise ValueError(f"its table '{name}' is of an older kind, without {', '.join(lacks)}")
    if name == "performance" and len(quality := _quality(study)):
        table = pd.concat([table, quality], ignore_index=True)
    return table.assign(dataset=study.label, name=study.dataset.name, level=study.level)


def _quality(study: Study) -> pd.DataFrame:
    """Rows of ``performance`` on LPIPS: the mean over patients with its normal 95 % interval."""
    try:
        quality = judge.collect(study, "quality", mitigated=True)
    except OSError:
        return pd.DataFrame()
    if "lpips" not in quality:
        return pd.DataFrame()
    patients = quality[quality.split == "test"].groupby(["source", "strategy", "patient_id"], sort=False).lpips.mean()
    rows = patients.groupby(["source", "strategy"], sort=False).agg(value="mean", se="sem", n="size").reset_index()
    rows = rows.assign(low=rows.value - 1.96 * rows.se, high=rows.value + 1.96 * rows.se, patients=rows.n)
    return rows.assign(task="image", attribute="all", group="all", metric="lpips")


def _averaged(performance: pd.DataFrame) -> pd.DataFrame:
    """With the mean AUROC over the findings of a radiograph; the mean of the intervals is, if anything, too wide."""
    rows = performance[(performance.attribute == "all") & (performance.metric == "auroc")]
    rows = rows[rows.groupby(RUN).task.transform("nunique") > 3]
    numbers = ["value", "low", "high", "change", "change_low", "change_high"]
    mean = rows.groupby([*RUN, "name", "source", "strategy"], sort=False)[numbers].mean().reset_index()
    mean = mean.assign(task="average", attribute="all", group="all", metric="auroc")
    return pd.concat([performance, mean], ignore_index=True) if len(mean) else performance


def _beside_published(performance: pd.DataFrame, fairness: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with columns ``published`` and, of fairness, ``published_shift``."""
    paper = tables.published("performance").assign(strategy="standard")
    slides = tables.published("strategies").query("strategy != 'standard'")
    rates = pd.concat([paper, slides]).assign(attribute="all")
    gaps = tables.published("fairness").assign(strategy="standard")
    keys = ["dataset", "level", "attribute", "task", "metric"]
    original = gaps[gaps.source == "original"].set_index(keys).value
    gaps["published_shift"] = gaps.value - original.reindex(pd.MultiIndex.from_frame(gaps[keys])).to_numpy()
    rates, gaps = (part.rename(columns={"dataset": "name", "value": "published"}) for part in (rates, gaps))
    return (
        performance.merge(rates[[*KEYS, "published"]], "left", KEYS),
        fairness.merge(gaps[[*KEYS, "published", "published_shift"]], "left", KEYS),
    )
