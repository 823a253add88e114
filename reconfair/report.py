"""Chapter 07: one run, or all levels of a dataset, brought together from the tables alone."""

from pathlib import Path

import pandas as pd
import yaml

from reconfair import figures, judge, params, store, tables
from reconfair.params import Study


def tables_of(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables ``performance`` and ``fairness`` of this run, or of all levels of its dataset, with a column ``level``."""
    store.require(store.flow(study)["mitigation"])
    levels = [study.level] if study.report.runs == "this" else _levels(study)
    folders = [store.outputs() / study.label / level / "mitigation" for level in levels]
    return tuple(
        pd.concat(
            [tables.read(name, folder).assign(level=level) for folder, level in zip(folders, levels, strict=True)]
        )
        for name in ("performance", "fairness")
    )


def summary(study: Study, performance: pd.DataFrame, fairness: pd.DataFrame) -> str:
    """Say in a few sentences what was found; every number comes from the tables."""
    lines = [f"**{study.label}**, noise level {study.level}:", ""]
    rows = _of_level(performance, study)
    everyone = rows[(rows.attribute == "all") & (rows.strategy == "standard")]
    for metric, unit in (("psnr", " dB"), ("auroc", ""), ("dice", "")):
        for task, part in everyone[everyone.metric == metric].groupby("task", sort=False):
            said = [f"{figures.name(row.source)} {_interval(row)}{unit}" for row in part.itertuples()]
            where = "PSNR" if metric == "psnr" else f"{figures.name(metric)} of *{task}*"
            lines.append(f"- {where}: {'; '.join(said)}.")
    shifted = judge.main_measure(_of_level(fairness, study))
    restored = ~shifted.source.isin(["original", "noisy"]) & (shifted.strategy == "standard")
    compared = shifted[restored & shifted["shift"].notna()]
    lines.append(
        f"- Bias shift: {len(compared)} comparisons of task, attribute and reconstructor could be made; in "
        f"{(compared.p_adjusted < 0.05).sum()} of them p < 0.05 after adjustment for their number, and in "
        f"{int(compared.equivalent.sum())} this cohort can claim that nothing changed by more than the margin."
    )
    silent = shifted[shifted.source == "original"]
    names = sorted({f"{row.attribute} ({row.task})" for row in silent.itertuples() if pd.isna(row.value)})
    if names:
        lines.append(f"- Not compared, for want of patients: {', '.join(names)}. This says nothing about these groups.")
    return "\n".join(lines)


def against_noise(performance: pd.DataFrame) -> pd.DataFrame:
    """Rows for everyone, with the reference of each: the value on originals, or for PSNR the best of all."""
    rows = performance[
        (performance.attribute == "all")
        & (performance.strategy == "standard")
        & performance.metric.isin(["psnr", "auroc", "dice"])
    ]
    originals = rows[rows.source == "original"].drop_duplicates(["task", "metric"]).set_index(["task", "metric"]).value
    best = rows.groupby(["task", "metric"]).value.transform("max")
    known = pd.MultiIndex.from_frame(rows[["task", "metric"]]).map(originals)
    rows = rows.assign(reference=pd.Series(known, rows.index, dtype=float).fillna(best))
    return rows[rows.source != "original"]


def bias_table(fairness: pd.DataFrame) -> pd.DataFrame:
    """Median bias on originals and median shift by attribute and strategy, over tasks and reconstructors."""
    rows = judge.main_measure(fairness)
    originals = rows[rows.source == "original"].groupby("attribute", sort=False).value.median()
    restored = rows[~rows.source.isin(["original", "noisy"])].groupby(["attribute", "strategy"], sort=False)
    table = restored.shift_percent.agg(
        comparisons="count", median="median", absolute_median=lambda shift: shift.abs().median()
    ).reset_index()
    table.insert(1, "bias_on_originals", table.attribute.map(originals))
    return table.round(3)


def export(study: Study) -> pd.DataFrame:
    """Write the five tables of a run as Parquet and CSV into its ``tables``; return their sizes."""
    folder = store.outputs() / study.name / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    performance, fairness = tables_of(study)
    every = {
        "cohort": tables.read("cohort", store.flow(study)["cohort"].folder),
        "quality": judge.collect(study, "quality", mitigated=True),
        "predictions": judge.collect(study, "predictions", mitigated=True),
        "performance": performance,
        "fairness": fairness,
    }
    for name, table in every.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
        table.to_csv(folder / f"{name}.csv", index=False)
    return pd.DataFrame({name: {"rows": len(t), "columns": t.shape[1]} for name, t in every.items()}).T


def _levels(study: Study) -> list[str]:
    """Finished levels of the dataset, the mildest noise first."""
    found = {path.parts[-3]: _noise_of(path.parents[1] / "study.yaml") for path in store.finished(study)}
    mild = {level: getattr(noise, "acceleration", 0) or -noise.photons for level, noise in found.items()}
    return sorted(mild, key=mild.get)


def _noise_of(resolved: Path):
    """Noise section of a run's resolved study, which also tells its versions."""
    sections = yaml.safe_load(resolved.read_text())
    return params.study(**{key: value for key, value in sections.items() if key != "versions"}).noise


def _of_level(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    return table[table.level == study.level]


def _interval(row) -> str:
    digits = 1 if row.metric == "psnr" else 2
    return f"{row.value:.{digits}f} ({row.low:.{digits}f} to {row.high:.{digits}f})"
