"""One function per figure. Each returns the Figure; a source has the same colour everywhere."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from reconfair import store
from reconfair.params import Study

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    "original": "#000000",
    "noisy": "#999999",
    "unet": "#0072B2",
    "pix2pix": "#D55E00",
    "sde": "#009E73",
}
GROUPS = ["#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#000000"]
NAMES = {
    "original": "Original",
    "noisy": "Noisy",
    "unet": "U-Net",
    "pix2pix": "Pix2Pix",
    "sde": "SDE",
    "standard": "standard",
    "reweight": "reweighted",
    "reweight@0": "plain fine-tuning",
    "dro": "Group DRO",
    "adv": "adversarial",
    "thresholds": "group thresholds",
    "physics": "Noise model",
    "sex": "Sex",
    "age_group": "Age",
    "race": "Race",
    "race_merged": "Race (merged)",
    "tpr": "true positive rate",
    "fpr": "false positive rate",
    "auroc": "AUROC",
    "dice": "Dice",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS (smaller is better)",
    "eodd": "EODD",
    "eop": "EOP",
    "ser": "SER",
    "delta_dice": "ΔDice",
    "psnr_gap": "PSNR gap (dB)",
    "ssim_gap": "SSIM gap",
    "auroc_gap": "AUROC gap",
    "fpr_gap": "FPR gap",
    "auprc": "AUPRC",
    "auprc_gap": "AUPRC gap",
    "ppr": "share called positive",
    "demographic_parity": "demographic parity difference",
    "calibration": "mean score - prevalence",
    "calibration_gap": "calibration gap",
    "tnr": "true negative rate",
}
MARKERS = {"standard": "o", "reweight": "s", "dro": "v", "eodd": "^", "adv": "D", "thresholds": "*"}
MARKERS |= {"reweight+eodd": "P", "reweight+adv": "h", "reweight@0": "X"}
TUNED = ["standard", "reweight@0", "reweight", "dro", "eodd", "adv", "reweight+eodd", "reweight+adv", "thresholds"]
STRATEGIES = dict(zip(TUNED, sns.color_palette("colorblind", len(TUNED)), strict=True))  # where no model has one
sns.set_theme(style="whitegrid", rc={"figure.dpi": 90, "savefig.dpi": 150, "axes.titlesize": "medium"})


def keep(figure: Figure, study: Study, name: str) -> Figure:
    """Save a figure as ``figures/<name>.png`` of the run, and return it to be shown once."""
    folder = store.outputs() / study.name / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", bbox_inches="tight")
    plt.close(figure)
    return figure


def name(word: str) -> str:
    """How a word of the vocabulary is written in a figure.

    Examples
    --------
    >>> name("sex*race"), name("reweight+eodd@0.3")
    ('Sex x Race', 'reweighted + EODD (0.3)')
    """
    for joint, written in (("*", " x "), ("+", " + ")):
        if joint in word:
            return written.join(map(name, word.split(joint)))
    part, at, strength = word.partition("@")
    return NAMES.get(word, NAMES.get(part, part) + f" ({strength})" * bool(at))


def marker(strategy: str) -> str:
    """Marker of a strategy, whatever its strength."""
    return MARKERS.get(strategy, MARKERS.get(re.sub(r"@[\d.]+", "", strategy), "<"))


def montage(rows: list[list[np.ndarray]], titles: list[str], labels: list[str], limits: list | None = None) -> Figure:
    """Draw a grid of pictures: one list of (s, s) arrays per row, grey unless its limits are about zero.

    `limits` are (low, high) by column, (0, 1) unless given; a column that reaches below zero shows
    differences, with a scale beside the grid.
    """
    limits = limits or [(0, 1)] * len(titles)
    size = (1.6 * len(titles) + 1, 1.6 * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
    differences = None
    for i, row in enumerate(rows):
        for j, (picture, (low, high)) in enumerate(zip(row, limits, strict=True)):
            colours = "gray" if low >= 0 else "RdBu_r"
            shown = axes[i, j].imshow(np.asarray(picture, float), cmap=colours, vmin=low, vmax=high, aspect="auto")
            axes[i, j].set(xticks=[], yticks=[], box_aspect=1, title=titles[j] if i == 0 else "")
            differences = shown if low < 0 else differences
        axes[i, 0].set_ylabel(labels[i], fontsize="x-small")
    if differences is not None:
        figure.colorbar(differences, ax=axes, shrink=0.8, label="difference")
    return figure


def comparison(originals: np.ndarray, sources: dict[str, np.ndarray], labels: list[str]) -> Figure:
    """Draw originals beside what each source made of them, with the error of each: arrays (n, s, s)."""
    originals = np.asarray(originals, float)
    columns, titles, limits = [originals], [name("original")], [(0, 1)]
    for source, images in sources.items():
        columns += [images, np.asarray(images, float) - originals]
        titles += [name(source), "error"]
        limits += [(0, 1), (-0.3, 0.3)]
    return montage([list(row) for row in zip(*columns, strict=True)], titles, labels, limits)


def by_level(rows: pd.DataFrame, metric: str) -> Figure:
    """Draw a metric by noise level, a panel per attribute and a colour per group.

    Rows ``level`` (in order of noise), ``attribute, group, metric, value, low, high``.
    """
    rows = rows[rows.metric == metric]
    levels, attributes = list(rows.level.unique()), list(rows.attribute.unique())
    figure, axes = plt.subplots(
        1, len(attributes), figsize=(3 * len(attributes) + 0.6, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (attribute, panel) in zip(axes[0], rows.groupby("attribute", sort=False), strict=True):
        groups = list(panel.groupby("group", sort=False))
        for k, (group, part) in enumerate(groups):
            at = [levels.index(level) + 0.5 * ((k + 0.5) / len(groups) - 0.5) for level in part.level]
            error = [part.value - part.low, part.high - part.value]
            axis.errorbar(at, part.value, error, fmt="o-", color=GROUPS[k % 6], label=group, capsize=2, ms=4, lw=1)
        axis.set(title=name(attribute), xlabel="noise level", xlim=(-0.5, len(levels) - 0.5))
        axis.set_xticks(range(len(levels)), levels)
        below = axis.transAxes + ScaledTranslation(0, -0.6, figure.dpi_scale_trans)  # inches: clear of the label
        axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below)
    axes[0, 0].set_ylabel(name(metric))
    return figure


def texture(errors: dict[str, np.ndarray], power: dict[str, tuple]) -> Figure:
    """Draw an image's error at each level (s, s), and the power spectrum of errors: (frequency, power) by level."""
    figure, axes = plt.subplots(1, len(errors) + 1, figsize=(2.3 * len(errors) + 3.6, 2.6), layout="constrained")
    reach = max(np.abs(error).max() for error in errors.values()) / 2
    greys = plt.get_cmap("Greys")(np.linspace(0.4, 1, len(errors)))
    for axis, (level, error), grey, line in zip(axes, errors.items(), greys, ["-", "--", ":", "-."], strict=False):
        shown = axis.imshow(error, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axis.set(title=level, xticks=[], yticks=[])
        axes[-1].semilogy(*power[level], line, color=grey, label=level)
    figure.colorbar(shown, ax=axes[:-1], shrink=0.8, label="error")
    axes[-1].set(xlabel="spatial frequency (cycles per pixel)", ylabel="power", title="power spectrum of the error")
    axes[-1].legend(fontsize="small")
    return figure


def by_group(groups: pd.DataFrame) -> Figure:
    """Draw patients per group and split: rows ``attribute, group, split, patients``."""
    attributes = list(groups.attribute.unique())
    heights = [groups[groups.attribute == attribute].group.nunique() for attribute in attributes]
    size = (7, 1.2 + 0.36 * sum(heights))
    figure, axes = plt.subplots(
        len(attributes), figsize=size, height_ratios=heights, sharex=True, squeeze=False, layout="constrained"
    )
    splits = [split for split in ("train", "train_recon", "train_diag", "val", "test") if split in set(groups.split)]
    shades = sns.color_palette("Blues_r", len(splits) + 1)
    for axis, attribute in zip(axes[:, 0], attributes, strict=True):
        part = groups[groups.attribute == attribute]
        wide = part.pivot_table("patients", "group", "split", fill_value=0).reindex(columns=splits, fill_value=0)
        wide = wide.loc[wide.sum(axis=1).sort_values().index]
        left = wide.cumsum(axis=1) - wide
        for split, colour in zip(splits, shades, strict=False):
            bars = axis.barh(wide.index, wide[split], left=left[split], color=colour, label=split, edgecolor="white")
        axis.bar_label(bars, [f"{total:.0f}" for total in wide.sum(axis=1)], padding=3, fontsize="small")
        axis.set(ylabel=name(attribute))
        axis.margins(x=0.1)
    axes[-1, 0].set_xlabel("patients")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(splits))
    return figure


def ages(patients: pd.DataFrame, attributes) -> Figure:
    """Draw the ages (years) of the patients of each group, a panel per attribute: box, median and every patient."""
    heights = [patients[attribute].nunique() for attribute in attributes]
    figure, axes = plt.subplots(
        len(attributes), figsize=(7, 1.2 + 0.4 * sum(heights)), height_ratios=heights, sharex=True, squeeze=False
    )
    for axis, attribute in zip(axes[:, 0], attributes, strict=True):
        groups = patients[attribute].value_counts().index
        at = {"data": patients, "x": "age", "y": attribute, "order": groups, "ax": axis}
        sns.boxplot(**at, color="white", linecolor="black", showfliers=False, width=0.6)
        sns.stripplot(**at, color="#0072B2", marker="|", size=7, linewidth=1, alpha=0.3, jitter=False)
        axis.set(xlabel="", ylabel=name(attribute))
    axes[-1, 0].set_xlabel("age (years)")
    figure.tight_layout()
    return figure


def prevalence(rates: pd.DataFrame) -> Figure:
    """Draw the share of positives by group with 95 % Wilson intervals: ``task, attribute, group, share, low, high``."""
    tasks = list(rates.task.unique())
    groups = rates[["attribute", "group"]].drop_duplicates()
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(2.1 * len(tasks) + 2, 0.35 * len(groups) + 1.2), sharey=True, squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        part = rates[rates.task == task]
        axis.errorbar(
            part.share, part.group, xerr=[part.share - part.low, part.high - part.share], fmt="o", color="#0072B2"
        )
        axis.set(title=task, xlim=(0, 1), xlabel="share positive")
    axes[0, 0].invert_yaxis()
    figure.tight_layout()
    return figure


def learning(logs: dict[str, pd.DataFrame], ylabel: str = "loss") -> Figure:
    """Draw training (dashed) and validation loss by epoch; the kept epoch is marked.

    A reconstructor has its colour, a diagnostic network that of the originals it learned on. Of a model that
    is validated by a part of its loss, ``train_l1``, that part is drawn of training too.
    """
    figure, axes = plt.subplots(1, len(logs), figsize=(3.2 * len(logs), 2.8), squeeze=False)
    for axis, (title, log) in zip(axes[0], logs.items(), strict=True):
        colour = COLOURS.get(title, COLOURS["original"])
        axis.plot(log.epoch, log.get("train_l1", log.train_loss), "--", color=colour, label="training")
        axis.plot(log.epoch, log.val_loss, "-", color=colour, label="validation")
        best = log.loc[log.val_loss.idxmin()]
        axis.plot(best.epoch, best.val_loss, "o", color=colour, label="kept")
        axis.set(title=name(title), xlabel="epoch", ylabel=ylabel)
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(fontsize="small")
    figure.tight_layout()
    return figure


def lines(drawn: dict[str, np.ndarray], xlabel: str, ylabel: str, x=None) -> Figure:
    """Draw some sequences against `x`, or against their place."""
    figure, axis = plt.subplots(figsize=(5, 2.8), layout="constrained")
    for (label, values), colour, style in zip(drawn.items(), GROUPS, ["-", "--", ":", "-."], strict=False):
        axis.plot(np.arange(len(values)) if x is None else x, values, style, color=colour, label=label)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize="small")
    return figure


def adversaries(log: pd.DataFrame) -> Figure:
    """Draw how well generator and discriminator of a GAN did against each other, by epoch."""
    figure, axis = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
    axis.plot(log.epoch, log.train_adversarial, color=COLOURS["pix2pix"], label="generator")
    axis.plot(log.epoch, log.train_discriminator, "--", color="black", label="discriminator")
    axis.axhline(np.log(2), color="black", lw=0.8, ls=":", label="guessing, log 2")
    axis.set(xlabel="epoch", ylabel="cross-entropy")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize="small")
    return figure


def tradeoff(quality: pd.DataFrame) -> Figure:
    """Draw mean PSNR against SSIM and, where it was measured, LPIPS, by source, with bars of two standard errors."""
    others = [metric for metric in ("ssim", "lpips") if metric in quality]
    figure, axes = plt.subplots(1, len(others), figsize=(4.2 * len(others), 3.2), squeeze=False, layout="constrained")
    for axis, other in zip(axes[0], others, strict=True):
        for source, rows in quality.groupby("source", sort=False):
            patients = rows.groupby("patient_id")[["psnr", other]].mean()
            (x, y), error = patients.mean(), 2 * patients.sem()
            axis.errorbar(x, y, error[other], error["psnr"], fmt="o", color=COLOURS[source], label=name(source))
        axis.set(xlabel=name("psnr"), ylabel=name(other))
    axes[0, 0].legend(fontsize="small")
    return figure


def values(rows: pd.DataFrame, title: str = "") -> Figure:
    """Draw values with intervals by task (columns) and source (colour): rows of ``performance`` for one group."""
    metrics = rows[["task", "metric"]].drop_duplicates()
    height = 3 if rows.strategy.nunique() == 1 else 4.4  # room for longer names
    figure, axes = plt.subplots(1, len(metrics), figsize=(2.3 * len(metrics) + 0.6, height), squeeze=False)
    for axis, (task, metric) in zip(axes[0], metrics.itertuples(index=False), strict=True):
        part = rows[(rows.task == task) & (rows.metric == metric)]
        arms = [_arm(row) for row in part.itertuples()]
        for at, row in enumerate(part.itertuples()):
            _point(axis, at, row, vertical=True)
        axis.set_xticks(range(len(arms)), arms, rotation=60, ha="right", fontsize="small")
        axis.set(title=task, ylabel=name(metric), xlim=(-0.6, len(arms) - 0.4))
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def group_values(rows: pd.DataFrame, *metrics: str) -> Figure:
    """Draw metrics by group (vertical) and source (colour), a panel per task and metric: rows of ``performance``."""
    rows = rows[rows.metric.isin(metrics) & rows.value.notna()]
    rows = rows.assign(line=rows.attribute.map(name) + ": " + rows.group)
    lines, panels = list(rows.line.unique()), list(rows.groupby(["task", "metric"], sort=False))
    figure, axes = _columns(panels, (2.4, 0.5 * len(lines) + 1.4), 2.4)
    for axis, ((task, metric), part) in zip(axes, panels, strict=True):
        _dodged(axis, part, lines, list(rows.groupby(["source", "strategy"], sort=False).groups))
        axis.set(title=task, xlabel=name(metric))
    return _named(figure, axes, lines)


def shifts(rows: pd.DataFrame, metric: str, margin: float = 0) -> Figure:
    """Draw the shift of a bias against the originals, with intervals: rows of ``fairness``.

    A column per attribute; right of zero the source adds bias, left of it there is less. Shaded:
    changes within the margin. Hollow: adjusted p of 0.05 or more. A cross is the value in a column ``published``.
    """
    rows = rows[(rows.metric == metric) & (rows.source != "original") & rows["shift"].notna()]
    rows = rows.assign(line=rows.task, value=rows["shift"], low=rows.shift_low, high=rows.shift_high)
    if rows.empty:
        return _empty(f"{name(metric)}: no attribute has two groups with enough cases to compare")
    lines, arms = list(rows.line.unique()), list(rows.groupby(["source", "strategy"], sort=False).groups)
    height = 0.28 if len(lines) * len(arms) < 50 else 0.16
    figure, axes = _columns(rows.attribute.unique(), (2.8, height * len(lines) * len(arms) + 1.6), 1.4)
    for axis, (attribute, part) in zip(axes, rows.groupby("attribute", sort=False), strict=True):
        axis.axvspan(-margin, margin, color="#E6E6E6", lw=0)
        _dodged(axis, part, lines, arms)
        axis.axvline(0, color="black", lw=0.8)
        axis.set(title=name(attribute), xlabel=f"shift of {name(metric)}")
        axis.locator_params(axis="x", nbins=5)
    return _named(figure, axes, lines)


def strengths(rows: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """Draw what the strength of a strategy does: a row of panels per model, a column per measure, a line per strategy.

    Rows ``source, strategy`` (such as eodd@0.3) and the columns that `measures` names for the axes. The standard model
    and plain fine-tuning are dotted lines across.
    """
    plain = rows.strategy.isin(["standard", "reweight@0"])
    strength = pd.to_numeric(rows.strategy.str.extract(r"@([\d.]+)$")[0]).mask(plain)
    bare = rows.strategy.where(plain, rows.strategy.str.replace(r"@[\d.]+", "", regex=True))
    rows = rows.assign(strategy=bare, strength=strength)
    models = [model for model in COLOURS if model in set(rows.source)]
    ticks = sorted(set(strength.dropna()))
    size = (2.9 * len(measures) + 0.4, 2.1 * len(models) + 0.6)
    figure, axes = plt.subplots(len(models), len(measures), figsize=size, squeeze=False, layout="constrained")
    for model, line in zip(models, axes, strict=True):
        part = rows[rows.source == model]
        for axis, (column, label) in zip(line, measures.items(), strict=True):
            for strategy, tried in part.sort_values("strength").groupby("strategy", sort=False):
                style = {"color": STRATEGIES[strategy], "label": name(strategy), "lw": 1.2}
                if tried.strength.isna().all():
                    axis.axhline(tried[column].mean(), ls=":", **style)
                else:
                    axis.semilogx(tried.strength, tried[column], marker=marker(strategy), ms=5, **style)
            axis.set_title(f"{name(model)}: {label}", fontsize="small")
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize="x-small", rotation=90)
            axis.minorticks_off()
    for axis in axes[-1]:
        axis.set_xlabel("strength λ")
    shown = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = [name(strategy) for strategy in STRATEGIES if name(strategy) in shown]
    return _above(figure, {label: shown[label] for label in order})


def decisions(rows: pd.DataFrame, threshold: float) -> Figure:
    """Draw scores by group and label, a dot a row, with the threshold and the rates: ``score, label, group``."""
    lines = [(group, label) for group in sorted(rows.group.unique()) for label in (1, 0)]
    figure, axis = plt.subplots(figsize=(7, 0.55 * len(lines) + 1))
    for at, (group, label) in enumerate(lines):
        score = rows.score[(rows.group == group) & (rows.label == label)].to_numpy()
        place = at + np.linspace(-0.25, 0.25, 7)[np.arange(len(score)) % 7]
        axis.plot(score, place, "o", ms=4, alpha=0.7, color="#D55E00" if label else "#0072B2")
        rate = f"{'TPR' if label else 'FPR'} {np.mean(score >= threshold):.2f}" if len(score) else "no case"
        axis.annotate(rate, (1.02, at), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axis.axvline(threshold, color="black", lw=1)
    axis.set_yticks(range(len(lines)), [f"{group}, {'with' if label else 'without'}" for group, label in lines])
    axis.set(xlabel="score (line: threshold; at or right of it, called positive)", ylim=(len(lines) - 0.5, -0.5))
    figure.tight_layout()
    return figure


def histograms(panels: dict[str, dict[str, np.ndarray]], xlabel: str, marks: dict[str, float] | None = None) -> Figure:
    """Draw distributions, a panel per title and a colour per name; `marks` are vertical lines by name."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.8 * len(panels), 2.8), squeeze=False, layout="constrained")
    for axis, (title, drawn) in zip(axes[0], panels.items(), strict=True):
        edges = np.histogram_bin_edges(np.concatenate(list(drawn.values())), 24)
        for (label, values), colour in zip(drawn.items(), GROUPS, strict=False):
            axis.hist(values, edges, color=colour, alpha=0.7, label=label)
        for (label, value), line in zip((marks or {}).items(), ["-", "--", ":"], strict=False):
            axis.axvline(value, color="black", ls=line, lw=1, label=label)
        axis.set(title=title, xlabel=xlabel)
        axis.legend(fontsize="x-small")
    axes[0, 0].set_ylabel("draws")
    return figure


def shift_histogram(rows: pd.DataFrame) -> Figure:
    """Draw the bias shifts of all tasks and models in percent of the original's bias, a panel per attribute."""
    rows = rows[~rows.source.isin(["original", "noisy"]) & np.isfinite(rows.shift_percent)]
    if rows.empty:
        return _empty("no attribute has two groups with enough cases to compare")
    attributes = list(rows.attribute.unique())
    figure, axes = plt.subplots(1, len(attributes), figsize=(3 * len(attributes) + 1, 2.8), sharey=True, squeeze=False)
    reach = max(50, np.ceil(rows.shift_percent.abs().max() / 25) * 25)
    for axis, attribute in zip(axes[0], attributes, strict=True):
        part = rows[rows.attribute == attribute]
        stacks = [part.shift_percent[part.source == source] for source in part.source.unique()]
        colours = [COLOURS[source] for source in part.source.unique()]
        labels = [name(source) for source in part.source.unique()]
        axis.hist(stacks, np.linspace(-reach, reach, 17), stacked=True, color=colours, label=labels)
        axis.axvline(0, color="black", lw=0.8)
        axis.set(title=f"{name(attribute)}: median {part.shift_percent.median():+.0f} %", xlabel="bias shift (%)")
    axes[0, 0].set_ylabel("tasks x models")
    axes[0, 0].legend(fontsize="small")
    figure.tight_layout()
    return figure


def balance(rates: pd.DataFrame, thresholds: dict[str, float]) -> Figure:
    """Draw TPR and TNR by threshold with bands, a panel per task, and the chosen threshold as a vertical line.

    Rows of `diagnosis.curves.by_threshold`: ``task, rate, x, value, low, high``.
    """
    tasks = list(rates.task.unique())
    figure, axes = _columns(tasks, (2.6, 2.8), 0.6)
    for axis, task in zip(axes, tasks, strict=True):
        for rate, line in (("tpr", "-"), ("tnr", "--")):
            _band(axis, rates[(rates.task == task) & (rates.rate == rate)], line, name(rate))
        axis.axvline(thresholds[task], color="black", lw=1, ls=":", label="chosen threshold")
        axis.set(title=f"{task}: {thresholds[task]:.3f}", xlabel="threshold", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("rate")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="small")
    return figure


def curves(roc: pd.DataFrame, precision_recall: pd.DataFrame, performance: pd.DataFrame) -> Figure:
    """Draw the ROC and the precision-recall curve of every task, with bands; a ring is the decision at the threshold.

    Rows of `diagnosis.curves`, and of ``performance`` on the same originals. Dotted: what chance alone does.
    """
    everyone = performance[performance.attribute == "all"]
    tasks = list(roc.task.unique())
    figure, axes = plt.subplots(len(tasks), 2, figsize=(7, 3 * len(tasks)), squeeze=False, layout="constrained")
    for (left, right), task in zip(axes, tasks, strict=True):
        own = everyone[everyone.task == task].set_index("metric")
        tpr, fpr, prevalence = own.value.tpr, own.value.fpr, own.positives.tpr / own.n.tpr
        precision = tpr * prevalence / (tpr * prevalence + fpr * (1 - prevalence))
        _band(left, roc[roc.task == task])
        _band(right, precision_recall[precision_recall.task == task])
        left.plot([0, 1], [0, 1], ":", color="grey")
        right.axhline(prevalence, ls=":", color="grey")
        for axis, at, metric in ((left, (fpr, tpr), "auroc"), (right, (tpr, precision), "auprc")):
            axis.plot(*at, "o", ms=8, mfc="white", mec="black", mew=1.5)
            area = "{value:.2f} ({low:.2f} to {high:.2f})".format(**own.loc[metric])
            axis.set_title(f"{task}: {name(metric)} {area}", fontsize="small")
            axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        left.set(xlabel=name("fpr"), ylabel=name("tpr"))
        right.set(xlabel="recall (true positive rate)", ylabel="precision")
    return figure


def reliability(bins: pd.DataFrame) -> Figure:
    """Draw the share of positives against the mean score, a panel per task; on the diagonal a score is a risk.

    Rows of `diagnosis.curves.reliability`: ``task, x, value, low, high``.
    """
    tasks = list(bins.task.unique())
    figure, axes = _columns(tasks, (2.6, 2.8), 0.6)
    for axis, (task, part) in zip(axes, bins.groupby("task", sort=False), strict=True):
        error = [part.value - part.low, part.high - part.value]
        axis.plot([0, 1], [0, 1], ":", color="grey")
        axis.errorbar(part.x, part.value, error, fmt="o-", color=COLOURS["original"], capsize=2, ms=4, lw=1)
        axis.set(title=task, xlabel="mean score", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes[0].set_ylabel("share of positives")
    return figure


def _band(axis, curve: pd.DataFrame, line: str = "-", label: str = "") -> None:
    """A curve on originals with its interval: rows ``x, value, low, high``."""
    axis.plot(curve.x, curve.value, line, color=COLOURS["original"], lw=1.5, label=label)
    axis.fill_between(curve.x, curve.low, curve.high, color=COLOURS["original"], alpha=0.15, lw=0)


def _arm(row) -> str:
    """Source, with its strategy where that is not the standard one."""
    return name(row.source) + ("" if row.strategy == "standard" else f", {name(row.strategy)}")


def _columns(panels, size: tuple[float, float], margin: float, most: int = 5) -> tuple[Figure, np.ndarray]:
    """One axis per panel, `size` inches each, at most five side by side, with a common vertical axis."""
    across, down = min(len(panels), most), -(-len(panels) // most)
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(size[0] * across + margin, size[1] * down),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    return figure, axes.flat[: len(panels)]


def _dodged(axis, rows: pd.DataFrame, lines: list[str], arms: list[tuple[str, str]]) -> None:
    """Values on their lines, those of one source and strategy always at the same place within a line."""
    for k, (source, strategy) in enumerate(arms):
        part = rows[(rows.source == source) & (rows.strategy == strategy)]
        for row in part.itertuples():
            _point(axis, lines.index(row.line) + 0.7 * ((k + 0.5) / len(arms) - 0.5), row)


def _named(figure: Figure, axes: np.ndarray, lines: list[str]) -> Figure:
    """Name the lines from top to bottom, and every source once above the panels."""
    axes[0].set_yticks(range(len(lines)), lines)
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    shown = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return _above(figure, shown)


def _above(figure: Figure, shown: dict[str, object]) -> Figure:
    """Name handles above all panels, in as many columns as the figure has room for."""
    letters = max(map(len, shown), default=0)
    fitting = max(1, int(figure.get_figwidth() / (0.6 + 0.08 * letters)))  # inches of a line, and of a letter
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=min(fitting, 5), fontsize="small")
    return figure


def _point(axis, at: float, row, vertical: bool = False) -> None:
    """One value with its interval, in the colour of its source and the marker of its strategy."""
    error = np.abs([[row.value - row.low], [row.high - row.value]])
    style = {"color": COLOURS[row.source], "fmt": marker(row.strategy), "ms": 5, "capsize": 2}
    if getattr(row, "p_adjusted", 0) >= 0.05:
        style["mfc"] = "white"
    if vertical:
        axis.errorbar(at, row.value, yerr=error, label=_arm(row), **style)
    else:
        axis.errorbar(row.value, at, xerr=error, label=_arm(row), **style)
        axis.plot(getattr(row, "published", np.nan), at, "x", color=COLOURS[row.source], ms=6, mew=1.5)


def _empty(sentence: str) -> Figure:
    """Say in place of a figure why there is none."""
    figure, axis = plt.subplots(figsize=(6, 1))
    axis.text(0.5, 0.5, sentence, ha="center", va="center")
    axis.axis("off")
    return figure
