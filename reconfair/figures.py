"""One function per figure. Each returns the Figure; a source has the same colour everywhere."""

from __future__ import annotations

import textwrap
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from reconfair import store
from reconfair.fairness.grid import front
from reconfair.params import Study
from reconfair.words import (
    BLUE,
    GROUPS,
    ORANGE,
    STRATEGIES,
    VERDICTS,
    colour,
    marker,
    mathtext,
    name,
    number,
    ordered,
    reader_colour,
    without_strength,
)

sns.set_theme(style="whitegrid", rc={"figure.dpi": 90, "savefig.dpi": 150, "axes.titlesize": "small"})
# How a point is filled by its verdict: in its colour, in a pale one, grey, or not at all.
FILLS = dict.fromkeys(("worse", "better", "changed", "grew", "fell"), "full") | {"unequal": "pale"}
FILLS |= dict.fromkeys(("kept", "no change"), "#C8C8C8") | dict.fromkeys(("not shown", "not judged"), "white")
RATES = ("tpr", "fpr", "ppr")
NOTHING = "There is nothing to draw: no row is of this kind."
FEW = "no attribute has two groups with enough cases to compare"


def keep(figure: Figure, study: Study, name: str) -> Figure:
    """Save a figure as ``chapters/figures/<name>.png`` of the run and return it, to be displayed once."""
    folder = store.outputs() / study.name / "chapters" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", bbox_inches="tight")
    figure.set_layout_engine("none")  # it is laid out already: displayed as it was saved, and sooner
    plt.close(figure)
    return figure


# --- what the figures below have in common ---


def panels(titles, width, height, across=5, margin=0.8, xlabel="", ylabel="", **shared) -> tuple[Figure, list]:
    """Prepare a figure with a panel for each title.

    Parameters
    ----------
    titles : sequence of str
        Drawn as they stand; long ones are wrapped.
    width, height : float
        Size of a panel in inches.
    across : int
        Panels side by side at most.
    margin : float
        Room for the labels of the vertical axis, in inches.
    xlabel, ylabel : str
        Of every panel, and of the first in each row.
    **shared
        As in `matplotlib.pyplot.subplots`: ``sharex, sharey, height_ratios``.

    Returns
    -------
    Figure, list of Axes
    """
    across = min(len(titles), across)
    down = -(-len(titles) // across)
    size = (across * width + margin, down * height + 0.4)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained", **shared)
    for axis in axes.flat[len(titles) :]:
        axis.remove()
    for axis, title in zip(axes.flat, titles, strict=False):
        axis.set(title=mathtext(textwrap.fill(title, int(width * 11.5))), xlabel=xlabel)
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    return figure, list(axes.flat[: len(titles)])


def key(figure: Figure, *handles: Line2D) -> Figure:
    """Name once, above all panels, what bears a label in any of them, and further `handles`."""
    named = {handle.get_label(): handle for handle in handles}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    for columns in range(min(len(named), 6), 0, -1):
        letters = sum(max(map(len, column)) for column in np.array_split(list(named), columns))
        if 0.6 * columns + 0.08 * letters < figure.get_figwidth():  # inches of a handle, and of a letter
            break
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns, fontsize="small")
    return figure


def points(axis, at, rows: pd.DataFrame, upright: bool = True, **style) -> None:
    """Draw values with their intervals at places `at`: rows ``value, low, high``; values go up if `upright`."""
    error = np.abs([rows.value - rows.low, rows.high - rows.value])
    style = {"fmt": "o", "capsize": 2, "ms": 4, "lw": 1} | style
    if upright:
        axis.errorbar(at, rows.value, yerr=error, **style)
    else:
        axis.errorbar(rows.value, at, xerr=error, **style)


def arms(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Sources, each with strategy and reader, in the order of `rows`; without a column, the reader is the standard."""
    rows = rows.assign(reader=rows.get("reader", "standard"))
    return list(rows.groupby(["source", "strategy", "reader"], sort=False).groups)


def of_arm(rows: pd.DataFrame, arm: tuple[str, str, str]) -> pd.DataFrame:
    """Rows of one of `arms`."""
    same = (rows.source == arm[0]) & (rows.strategy == arm[1])
    return rows[same & (rows.reader == arm[2])] if "reader" in rows else rows[same]


def arm_word(arm: tuple[str, str, str]) -> str:
    """The word that gives an arm its marker: its strategy, or, where that is the standard, its reader."""
    return arm[1] if arm[1] != "standard" else arm[2]


def arm_points(axis, at, rows: pd.DataFrame, upright: bool = True) -> None:
    """Draw points of one arm in the colour of its source; those with a ``verdict`` are filled by it, see `FILLS`."""
    arm = arms(rows)[0]
    rows, shape = rows.assign(at=at), marker(arm_word(arm))
    filled = rows.verdict.map(FILLS) if "verdict" in rows else pd.Series("full", rows.index)
    for fill, some in rows.groupby(filled, sort=False):
        size = 8 if shape == "*" else 5  # a star looks smaller than it is
        face = {"full": colour(arm[0]), "pale": (*to_rgb(colour(arm[0])), 0.3)}.get(fill, fill)
        points(axis, some["at"], some, upright, color=colour(arm[0]), mfc=face, fmt=shape, ms=size)


def verdict_handles(rows: pd.DataFrame) -> list[Line2D]:
    """Say how points are filled by their verdicts."""
    words = {}
    for verdict in FILLS:
        if verdict in set(rows.verdict):
            words.setdefault(FILLS[verdict], []).append(verdict)
    faces = {"full": "black", "pale": (0, 0, 0, 0.3)}
    style = {"marker": "o", "color": "black", "ls": "none", "ms": 5}
    return [Line2D([], [], mfc=faces.get(fill, fill), label=" or ".join(each), **style) for fill, each in words.items()]


def arm_handles(pairs: list[tuple[str, str, str]], published: bool = False) -> list[Line2D]:
    """Name sources by colour and, if there are several, strategies and readers by marker; and what a cross is."""
    sources, words = ordered(arm[0] for arm in pairs), ordered(map(arm_word, pairs))
    single = {"marker": marker(words[0]), "ls": "none"} if len(words) == 1 else {"lw": 5}
    handles = [Line2D([], [], color=colour(word), label=mathtext(name(word)), **single) for word in sources]
    style = {"color": "black", "ls": "none", "ms": 5}
    if len(words) > 1:
        handles += [Line2D([], [], marker=marker(word), label=mathtext(name(word)), **style) for word in words]
    if published:
        handles.append(Line2D([], [], marker="x", label="published", mew=1.5, **style))
    return handles


def forest(axis, rows: pd.DataFrame, lines: list[str], pairs: list[tuple[str, str, str]]) -> None:
    """Draw values on their ``line``, from top to bottom; each of `arms` has its place within a line.

    A cross is the value in a column ``published``.
    """
    for k, pair in enumerate(pairs):
        some = of_arm(rows, pair)
        at = some.line.map(lines.index) + 0.7 * ((k + 0.5) / len(pairs) - 0.5)
        if len(some):
            arm_points(axis, at, some, upright=False)
        if "published" in some:
            axis.plot(some.published, at, "x", color=colour(pair[0]), ms=6, mew=1.5)
    axis.set_yticks(range(len(lines)), list(map(mathtext, lines)))
    axis.set_ylim(len(lines) - 0.5, -0.5)


def sentence(text: str) -> Figure:
    """Say in place of a figure why there is none."""
    figure, axis = plt.subplots(figsize=(6, 1))
    axis.text(0.5, 0.5, mathtext(text), ha="center", va="center")
    axis.axis("off")
    return figure


def _of_rows(draw):
    """Let a figure of a table be a sentence where the table has no rows."""

    @wraps(draw)
    def drawn(rows: pd.DataFrame, *args, **options) -> Figure:
        return draw(rows, *args, **options) if len(rows) else sentence(NOTHING)

    return drawn


# --- images ---


def montage(rows: list[list[np.ndarray]], titles: list[str], labels: list[str], limits: list | None = None) -> Figure:
    """Draw a grid of pictures: one list of (s, s) arrays per row, grey unless its limits are about zero, or (3, s, s).

    `limits` are (low, high) by column, (0, 1) unless given. A column that reaches below zero shows differences, with a
    scale to the right of the grid; of colour it shows the mean over the channels. Titles and labels may hold formulas.
    """
    limits = limits or [(0, 1)] * len(titles)
    figure, axes = panels([""] * len(titles) * len(rows), 1.6, 1.6, len(titles))
    differences = None
    for k, axis in enumerate(axes):
        row, column = divmod(k, len(titles))
        low, high = limits[column]
        colours = "gray" if low >= 0 else "RdBu_r"
        picture = as_drawn(rows[row][column], differs=low < 0)
        picture = picture.clip(0, 1) if picture.ndim == 3 else picture  # as colours are drawn
        image = axis.imshow(picture, cmap=colours, vmin=low, vmax=high, aspect="auto")
        axis.set(xticks=[], yticks=[], box_aspect=1, title="" if row else titles[column])
        if column == 0:
            axis.set_ylabel(labels[row], fontsize="small")
        differences = image if low < 0 else differences
    if differences is not None:
        figure.colorbar(differences, ax=axes, shrink=0.8, label="difference")
    return figure


def as_drawn(picture, differs: bool = False) -> np.ndarray:
    """A picture as it is drawn: (s, s), or of colour (s, s, 3); of a difference the mean over its channels."""
    picture = np.asarray(picture, float)
    if picture.ndim == 2:
        return picture
    return picture.mean(axis=0) if differs else picture.transpose(1, 2, 0)


def comparison(originals: np.ndarray, sources: dict[str, np.ndarray], labels: list[str]) -> Figure:
    """Draw originals, the images of each source, and their errors: arrays (n, s, s) or (n, 3, s, s)."""
    originals = np.asarray(originals, float)
    columns, titles, limits = [originals], [name("original")], [(0, 1)]
    for source, images in sources.items():
        columns += [images, np.asarray(images, float) - originals]
        titles += [mathtext(name(source)), "error"]
        limits += [(0, 1), (-0.3, 0.3)]
    return montage([list(row) for row in zip(*columns, strict=True)], titles, list(map(mathtext, labels)), limits)


def texture(errors: dict[str, np.ndarray], power: dict[str, tuple]) -> Figure:
    """Draw an error by level, (s, s) or (3, s, s), and the power spectrum of errors: (frequency, power) by level."""
    figure, axes = panels([*errors, "power spectrum of the error"], 2.6, 2.6)
    reach = max(np.abs(error).max() for error in errors.values()) / 2
    greys = plt.get_cmap("Greys")(np.linspace(0.4, 1, len(errors)))
    for axis, (level, error), grey, line in zip(axes, errors.items(), greys, ["-", "--", ":", "-."], strict=False):
        image = axis.imshow(as_drawn(error, differs=True), cmap="RdBu_r", vmin=-reach, vmax=reach)
        axis.set(xticks=[], yticks=[])
        axes[-1].semilogy(*power[level], line, color=grey, label=level)
    figure.colorbar(image, ax=axes[:-1], shrink=0.8, label="error")
    axes[-1].set(xlabel="cycles per pixel", ylabel="power")
    axes[-1].legend(fontsize="small")
    return figure


# --- patients ---


def by_group(groups: pd.DataFrame) -> Figure:
    """Draw patients per group and split: rows ``attribute, group, split, patients``."""
    attributes = list(groups.attribute.unique())
    heights = [groups[groups.attribute == attribute].group.nunique() for attribute in attributes]
    style = {"sharex": True, "height_ratios": heights}
    figure, axes = panels([""] * len(heights), 6.2, 0.4 + 0.36 * np.mean(heights), 1, **style)
    splits = [split for split in ("train", "train_recon", "train_diag", "val", "test") if split in set(groups.split)]
    shades = sns.color_palette("Blues_r", len(splits) + 1)
    for axis, attribute in zip(axes, attributes, strict=True):
        rows = groups[groups.attribute == attribute]
        wide = rows.pivot_table("patients", "group", "split", fill_value=0).reindex(columns=splits, fill_value=0)
        wide = wide.loc[wide.sum(axis=1).sort_values().index]
        left, at = wide.cumsum(axis=1) - wide, range(len(wide))
        for split, shade in zip(splits, shades, strict=False):
            bars = axis.barh(at, wide[split], left=left[split], color=shade, label=split, edgecolor="white")
        totals = [f"{total:.0f}" for total in wide.sum(axis=1)]
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no line of the grid runs through a number
        axis.bar_label(bars, totals, padding=3, fontsize="small", bbox=paper)
        axis.grid(axis="y", visible=False)
        axis.set_yticks(at, list(map(mathtext, wide.index)))
        axis.set(ylabel=mathtext(name(attribute)))
        axis.margins(x=0.1)
    axes[-1].set_xlabel("patients")
    return key(figure)


def ages(patients: pd.DataFrame, attributes) -> Figure:
    """Draw the ages (years) of the patients of each group, a panel per attribute: box, median and every patient."""
    heights = [patients[attribute].nunique() for attribute in attributes]
    style = {"sharex": True, "height_ratios": heights}
    figure, axes = panels([""] * len(heights), 6.2, 0.4 + 0.4 * np.mean(heights), 1, **style)
    for axis, attribute in zip(axes, attributes, strict=True):
        groups = patients[attribute].value_counts().index
        for at, group in enumerate(groups):
            age = patients.age[patients[attribute] == group].dropna()
            low, median, high = age.quantile([0.25, 0.5, 0.75])
            axis.plot(age, np.full(len(age), at), "|", color=BLUE, ms=9, mew=1, alpha=0.3)
            axis.barh(at, high - low, 0.6, low, fill=False, edgecolor="black", lw=1)
            axis.plot([median, median], [at - 0.3, at + 0.3], color="black", lw=2)
        axis.set_yticks(range(len(groups)), list(map(mathtext, groups)))
        axis.invert_yaxis()
        axis.set(ylabel=mathtext(name(attribute)))
    axes[-1].set_xlabel("age (years)")
    return figure


@_of_rows
def prevalence(rates: pd.DataFrame) -> Figure:
    """Draw the share of positives by group with 95 % Wilson intervals: ``task, attribute, group, share, low, high``."""
    groups = list(rates.groupby(["attribute", "group"], sort=False).groups)
    tasks = list(rates.task.unique())
    figure, axes = panels(tasks, 2.1, 0.35 * len(groups) + 0.8, margin=2, xlabel="share positive", sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        rows = rates[rates.task == task].rename(columns={"share": "value"})
        at = [groups.index(pair) for pair in zip(rows.attribute, rows.group, strict=True)]
        points(axis, at, rows, upright=False, color=BLUE)
        axis.set(xlim=(0, 1))
    axes[0].set_yticks(range(len(groups)), [mathtext(group) for _, group in groups])
    axes[0].invert_yaxis()
    return figure


# --- networks ---


def learning(logs: dict[str, pd.DataFrame], ylabel: str = "loss") -> Figure:
    """Draw training (dashed) and validation loss by epoch; the kept epoch is marked.

    A model that is validated by one term of its loss, ``train_l1``, is drawn by that term in training too.
    """
    figure, axes = panels(list(map(name, logs)), 3.2, 2.6, xlabel="epoch", ylabel=ylabel)
    for axis, log in zip(axes, logs.values(), strict=True):
        axis.plot(log.epoch, log.get("train_l1", log.train_loss), "--", color="black", label="training")
        axis.plot(log.epoch, log.val_loss, "-", color="black", label="validation")
        best = log.loc[log.val_loss.idxmin()]
        axis.plot([best.epoch], [best.val_loss], "o", color="black", label="kept")
        axis.set_ylim(0, 1.1 * axis.dataLim.y1)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return key(figure)


def lines(drawn: dict[str, np.ndarray], xlabel: str, ylabel: str, x=None) -> Figure:
    """Draw some sequences against `x`, or against their index."""
    figure, (axis,) = panels([""], 4.6, 2.8, xlabel=xlabel, ylabel=ylabel)
    for (label, values), shade, style in zip(drawn.items(), GROUPS, ["-", "--", ":", "-."], strict=False):
        axis.plot(np.arange(len(values)) if x is None else x, values, style, color=shade, label=mathtext(label))
    return key(figure)


def adversaries(log: pd.DataFrame) -> Figure:
    """Draw how well generator and discriminator of a GAN did against each other, by epoch."""
    figure, (axis,) = panels([""], 4, 2.6, xlabel="epoch", ylabel="cross-entropy")
    axis.plot(log.epoch, log.train_adversarial, color=colour("pix2pix"), label="generator")
    axis.plot(log.epoch, log.train_discriminator, "--", color="black", label="discriminator")
    axis.axhline(np.log(2), color="black", lw=0.8, ls=":", label="guessing, log 2")
    axis.xaxis.get_major_locator().set_params(integer=True)
    return key(figure)


@_of_rows
def balance(rates: pd.DataFrame, thresholds: dict[str, float]) -> Figure:
    """Draw TPR and TNR by threshold with bands, a panel per task, and the chosen threshold as a vertical line.

    Rows of `diagnosis.curves.by_threshold`: ``task, rate, x, value, low, high``.
    """
    tasks = list(rates.task.unique())
    titles = [f"{task}: {thresholds[task]:.3f}" for task in tasks]
    figure, axes = panels(titles, 2.6, 2.6, xlabel="threshold", ylabel="rate", sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        for rate, line in (("tpr", "-"), ("tnr", "--")):
            _band(axis, rates[(rates.task == task) & (rates.rate == rate)], line, name(rate))
        axis.axvline(thresholds[task], color="black", lw=1, ls=":", label="chosen threshold")
        axis.set(ylim=(-0.03, 1.03))
    return key(figure)


@_of_rows
def curves(roc: pd.DataFrame, precision_recall: pd.DataFrame, performance: pd.DataFrame) -> Figure:
    """Draw the ROC and the precision-recall curve of every task, with bands; a ring is the decision at the threshold.

    Rows of `diagnosis.curves`, and of ``performance`` on the same originals. Dotted: a classifier that guesses.
    """
    performance = performance[performance.attribute == "all"]
    tasks = list(roc.task.unique())
    areas = "{task}: {metric} {value:.2f} ({low:.2f} to {high:.2f})"
    rows = [performance[performance.task == task].set_index("metric", drop=False).rename_axis(None) for task in tasks]
    titles = [areas.format(**dict(row.loc[at], metric=name(at))) for row in rows for at in ("auroc", "auprc")]
    figure, axes = panels(titles, 3.2, 2.8, 2)
    for left, right, task, row in zip(axes[::2], axes[1::2], tasks, rows, strict=True):
        tpr, fpr, positive = row.value.tpr, row.value.fpr, row.positives.tpr / row.n.tpr
        precision = tpr * positive / (tpr * positive + fpr * (1 - positive))
        _band(left, roc[roc.task == task])
        _band(right, precision_recall[precision_recall.task == task])
        left.plot([0, 1], [0, 1], ":", color="grey")
        right.axhline(positive, ls=":", color="grey")
        for axis, at in ((left, (fpr, tpr)), (right, (tpr, precision))):
            axis.plot(*at, "o", ms=8, mfc="white", mec="black", mew=1.5)
            axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        left.set(xlabel=name("fpr"), ylabel=name("tpr"))
        right.set(xlabel="recall (true positive rate)", ylabel="precision")
    return figure


@_of_rows
def reliability(bins: pd.DataFrame) -> Figure:
    """Draw the share of positives against the mean score, a panel per task; on the diagonal a score is a risk.

    Rows of `diagnosis.curves.reliability`: ``task, x, value, low, high``.
    """
    tasks = dict(list(bins.groupby("task", sort=False)))
    figure, axes = panels(list(tasks), 2.6, 2.6, xlabel="mean score", ylabel="share of positives", sharey=True)
    for axis, rows in zip(axes, tasks.values(), strict=True):
        axis.plot([0, 1], [0, 1], ":", color="grey")
        points(axis, rows.x, rows, fmt="o-", color=colour("original"))
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    return figure


@_of_rows
def decisions(rows: pd.DataFrame, threshold: float) -> Figure:
    """Draw scores by group and label, a dot a row, with the threshold and the rates: ``score, label, group``."""
    pairs = [(group, label) for group in sorted(rows.group.unique()) for label in (1, 0)]
    xlabel = "score (line: threshold; at or right of it, called positive)"
    figure, (axis,) = panels([""], 6.2, 0.55 * len(pairs) + 0.6, xlabel=xlabel)
    for at, (group, label) in enumerate(pairs):
        score = rows.score[(rows.group == group) & (rows.label == label)].to_numpy()
        place = at + np.linspace(-0.25, 0.25, 7)[np.arange(len(score)) % 7]
        axis.plot(score, place, "o", ms=4, alpha=0.7, color=ORANGE if label else BLUE)
        rate = f"{'TPR' if label else 'FPR'} {np.mean(score >= threshold):.2f}" if len(score) else "no case"
        axis.annotate(rate, (1.02, at), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axis.axvline(threshold, color="black", lw=1)
    ticks = [mathtext(f"{group}, {'with' if label else 'without'}") for group, label in pairs]
    axis.set_yticks(range(len(pairs)), ticks)
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    return figure


def _band(axis, curve: pd.DataFrame, line: str = "-", label: str = "") -> None:
    """Draw a curve on originals with its interval: rows ``x, value, low, high``."""
    axis.plot(curve.x, curve.value, line, color=colour("original"), lw=1.5, label=label)
    axis.fill_between(curve.x, curve.low, curve.high, color=colour("original"), alpha=0.15, lw=0)


# --- sources and groups compared ---


def by_level(rows: pd.DataFrame, metric: str) -> Figure:
    """Draw a metric by noise level, a panel per attribute and a colour per group.

    Rows ``level`` (in order of noise), ``attribute, group, metric, value, low, high``.
    """
    rows = rows[rows.metric == metric]
    if rows.empty:
        return sentence(NOTHING)
    levels, attributes = list(rows.level.unique()), dict(list(rows.groupby("attribute", sort=False)))
    figure, axes = panels(list(map(name, attributes)), 3, 3.6, xlabel="noise level", ylabel=name(metric), sharey=True)
    for axis, panel in zip(axes, attributes.values(), strict=True):
        groups = list(panel.groupby("group", sort=False))
        for k, (group, some) in enumerate(groups):
            at = some.level.map(levels.index)  # side by side, lines that fall would seem closer or farther apart
            points(axis, at, some, fmt="o-", color=GROUPS[k % len(GROUPS)], label=mathtext(group))
        axis.set(xlim=(-0.5, len(levels) - 0.5))
        axis.set_xticks(range(len(levels)), levels)
        below = axis.transAxes + ScaledTranslation(0, -0.6, figure.dpi_scale_trans)  # inches: clear of the label
        axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below)
    return figure


def tradeoff(quality: pd.DataFrame) -> Figure:
    """Draw mean PSNR against SSIM and the perceptual distances that were measured, by source, with bars of two SE."""
    others = [metric for metric in ("ssim", "lpips", "lite0_distance") if metric in quality]
    figure, axes = panels([""] * len(others), 4, 3, xlabel=name("psnr"))
    for axis, other in zip(axes, others, strict=True):
        for source, rows in quality.groupby("source", sort=False):
            patients = rows.groupby("patient_id")[["psnr", other]].mean()
            (x, y), error = patients.mean(), 2 * patients.sem()
            style = {"fmt": "o", "color": colour(source), "label": mathtext(name(source))}
            axis.errorbar(x, y, error[other], error["psnr"], **style)
        axis.set_ylabel(name(other))
    return key(figure)


@_of_rows
def values(rows: pd.DataFrame) -> Figure:
    """Draw values with intervals by task (columns) and source (colour): rows of ``performance`` for one group."""
    tasks = dict(list(rows.groupby(["task", "metric"], sort=False)))
    titles = [f"{task}: {name(metric)}" for task, metric in tasks]
    figure, axes = panels(titles, 2.3, 2.6 if rows.strategy.nunique() == 1 else 3.6)
    for axis, some in zip(axes, tasks.values(), strict=True):
        pairs = arms(some)
        for at, pair in enumerate(pairs):
            arm_points(axis, at, of_arm(some, pair).drop(columns="verdict", errors="ignore"))
        ticks = [", ".join(map(name, [pair[0], *(word for word in pair[1:] if word != "standard")])) for pair in pairs]
        axis.set_xticks(range(len(pairs)), list(map(mathtext, ticks)), rotation=60, ha="right", fontsize="small")
        axis.set_xlim(-0.6, len(pairs) - 0.4)
    return figure


def group_values(rows: pd.DataFrame, *metrics: str) -> Figure:
    """Draw metrics by group (vertical) and source (colour), a panel per task and metric: rows of ``performance``."""
    rows = rows[rows.metric.isin(metrics) & rows.value.notna()].drop(columns="verdict", errors="ignore")
    if rows.empty:
        return sentence(NOTHING)
    rows = rows.assign(line=rows.attribute.map(name) + ": " + rows.group)
    lines, tasks = list(rows.line.unique()), dict(list(rows.groupby(["task", "metric"], sort=False)))
    titles = [f"{task}: {name(metric)}" for task, metric in tasks]
    figure, axes = panels(titles, 2.4, 0.5 * len(lines) + 0.8, margin=2.4, sharey=True)
    for axis, some in zip(axes, tasks.values(), strict=True):
        forest(axis, some, lines, arms(rows))
        if some.metric.iloc[0] in RATES:
            axis.set_xlim(-0.04, 1.04)  # one axis for all rates, so that panels can be compared
    return key(figure, *arm_handles(arms(rows)))


def changes(rows: pd.DataFrame) -> Figure:
    """Draw each group's paired change, a panel per task and measure: rows of `judge.changes`.

    Bars are the limits of the table, which hold at once for all groups of an attribute. Shaded: changes within the
    margin. Points are filled by their verdict.
    """
    if rows.empty:
        return sentence("no group has enough cases, or nothing was changed")
    rows = rows.sort_index().assign(line=rows.attribute.map(name) + ": " + rows.group)
    rows = rows.assign(value=rows.change, low=rows.change_low, high=rows.change_high)
    by_line = rows.drop_duplicates("line").sort_values("attribute", kind="stable")
    lines, tasks = list(by_line.line), dict(list(rows.groupby(["task", "metric"], sort=False)))
    titles, pairs = [f"{task}: {name(metric)}" for task, metric in tasks], arms(rows)
    height = (0.2 if len(lines) * len(pairs) < 60 else 0.13) * len(lines) * len(pairs) + 1
    figure, axes = panels(titles, 2.6, height, 4, margin=2.2, xlabel="change", sharey=True)
    for axis, some in zip(axes, tasks.values(), strict=True):
        axis.axvspan(-some.margin.max(), some.margin.max(), color="#E6E6E6", lw=0)
        axis.axvline(0, color="black", lw=0.8)
        forest(axis, some, lines, pairs)
        axis.locator_params(axis="x", nbins=5)
    return key(figure, *arm_handles(pairs), *verdict_handles(rows))


def shifts(rows: pd.DataFrame, metric: str) -> Figure:
    """Draw the shift of a bias against the originals, with intervals: rows of ``fairness``.

    A column per attribute; right of zero the source adds bias, left of it there is less. Shaded: changes within the
    margin. Points are filled by their verdict: hollow where a shift is not shown. A cross is the value in a column
    ``published``.
    """
    rows = rows[(rows.metric == metric) & (rows.source != "original") & rows["shift"].notna()]
    rows = rows.assign(line=rows.task, value=rows["shift"], low=rows.shift_low, high=rows.shift_high)
    if rows.empty:
        return sentence(f"{name(metric)}: {FEW}")
    lines, pairs, margin = list(rows.line.unique()), arms(rows), rows.margin.max()
    attributes = dict(list(rows.groupby("attribute", sort=False)))
    height = (0.28 if len(lines) * len(pairs) < 50 else 0.16) * len(lines) * len(pairs) + 1
    xlabel = f"shift of {name(metric)}" + " (relative)" * (metric == "ser")
    figure, axes = panels(list(map(name, attributes)), 2.8, height, margin=1.4, xlabel=xlabel, sharey=True)
    for axis, some in zip(axes, attributes.values(), strict=True):
        axis.axvspan(-margin, margin, color="#E6E6E6", lw=0)
        axis.axvline(0, color="black", lw=0.8)
        forest(axis, some, lines, pairs)
        axis.locator_params(axis="x", nbins=5)
    published = "published" in rows and rows.published.notna().any()
    return key(figure, *arm_handles(pairs, published), *verdict_handles(rows))


def shift_histogram(rows: pd.DataFrame) -> Figure:
    """Draw the bias shifts of all tasks and models in percent of the original's bias.

    A panel per measure and attribute: percentages of EODD and of SER are not of one kind.
    """
    rows = rows[~rows.source.isin(["original", "noisy"]) & np.isfinite(rows.shift_percent)]
    if rows.empty:
        return sentence(FEW)
    drawn = dict(list(rows.groupby(["metric", "attribute"], sort=False)))
    titles = [
        f"{name(metric)} by {name(attribute)}: median {number(some.shift_percent.median(), 0, sign=True)} %"
        for (metric, attribute), some in drawn.items()
    ]
    across = rows.attribute.nunique()
    figure, axes = panels(titles, 3, 2.6, across, xlabel="bias shift (%)", ylabel="tasks x models", sharey=True)
    reach = max(50, np.ceil(rows.shift_percent.abs().max() / 25) * 25)
    sources = ordered(rows.source)
    style = {"color": list(map(colour, sources)), "label": [mathtext(name(source)) for source in sources]}
    for axis, some in zip(axes, drawn.values(), strict=True):
        stacks = [some.shift_percent[some.source == source] for source in sources]
        axis.hist(stacks, np.linspace(-reach, reach, 17), stacked=True, **style)
        axis.axvline(0, color="black", lw=0.8)
    return key(figure)


def histograms(drawn: dict[str, dict[str, np.ndarray]], xlabel: str, marks=None, uniform: bool = False) -> Figure:
    """Draw distributions, a panel per title and a colour per name.

    `marks` are vertical lines by name. If `uniform`, values are from 0 to 1, and a line shows the height that all bars
    would have if every value were equally probable.
    """
    figure, axes = panels(list(drawn), 3.6, 2.6, xlabel=xlabel, ylabel="draws")
    for axis, samples in zip(axes, drawn.values(), strict=True):
        values = np.concatenate(list(samples.values()))
        edges = np.linspace(0, 1, 21) if uniform else np.histogram_bin_edges(values, 24)
        for (label, sample), shade in zip(samples.items(), GROUPS, strict=False):
            axis.hist(sample, edges, color=shade, alpha=0.7, label=mathtext(label))
        for (label, value), line in zip((marks or {}).items(), ["-", "--", ":"], strict=False):
            axis.axvline(value, color="black", ls=line, lw=1, label=mathtext(label))
        if uniform:
            axis.axhline(len(values) / len(samples) / 20, color="black", ls="--", lw=1, label="expected")
        axis.locator_params(axis="x", nbins=6)
        axis.legend(fontsize="x-small")
    return figure


def strengths(rows: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """Draw what the strength of a strategy does: a row of panels per model, a column per measure, a line per strategy.

    Rows ``source, strategy`` (such as eodd@0.3) and the columns that `measures` names for the axes. The standard model
    and plain fine-tuning are dotted lines across.
    """
    plain = rows.strategy.isin(["standard", "reweight@0"])
    strength = pd.to_numeric(rows.strategy.str.extract(r"@([\d.]+)$")[0]).mask(plain)
    bare = rows.strategy.where(plain, rows.strategy.map(without_strength))
    rows, ticks = rows.assign(strategy=bare, strength=strength), sorted(set(strength.dropna()))
    drawn = [(model, column) for model in ordered(rows.source) for column in measures]
    titles = [f"{name(model)}: {measures[column]}" for model, column in drawn]
    figure, axes = panels(titles, 2.9, 2.3, len(measures))
    shades = STRATEGIES | {word: "black" for word in ordered(bare) if word not in STRATEGIES}
    for axis, (model, column) in zip(axes, drawn, strict=True):
        tried = rows[rows.source == model].sort_values("strength")
        for strategy, some in sorted(tried.groupby("strategy"), key=lambda pair: list(shades).index(pair[0])):
            style = {"color": shades[strategy], "label": mathtext(name(strategy)), "lw": 1.2}
            if some.strength.isna().all():
                axis.axhline(some[column].mean(), ls=":", **style)
            else:
                axis.semilogx(some.strength, some[column], marker=marker(strategy), ms=5, **style)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize="x-small", rotation=90)
        axis.minorticks_off()
    for axis in axes[-len(measures) :]:
        axis.set_xlabel("strength λ")
    return key(figure)


# --- the report ---


def readers(rows: pd.DataFrame, ylabel: str, published: pd.DataFrame | None = None) -> Figure:
    """Gap against performance, a dot for each reader; the best place is at the lower right. Published values: crosses.

    Parameters
    ----------
    rows : DataFrame
        ``panel, reader, performance, gap``, and limits ``gap_low, gap_high``.
    ylabel : str
    published : DataFrame, optional
        ``panel, reader, performance, gap``.
    """
    given = rows if published is None else pd.concat([rows.assign(by="ours"), published.assign(by="published")])
    names = list(dict.fromkeys(given.panel))
    figure, axes = panels(names, 3.0, 2.8, xlabel="performance", ylabel=ylabel)
    for axis, panel in zip(axes, names, strict=True):
        for row in given[given.panel == panel].itertuples():
            colour = reader_colour(row.reader)
            theirs = getattr(row, "by", "ours") == "published"
            style = "x" if theirs else "*" if row.reader.endswith("thresholds") else "o"
            axis.plot(row.performance, row.gap, style, color=colour, ms=6)
            if not theirs and np.isfinite(row.gap_low):
                axis.plot([row.performance] * 2, [row.gap_low, row.gap_high], color=colour, lw=0.8)
        axis.axhline(0, color="grey", lw=0.6)
        if given.gap[given.panel == panel].isna().all():  # groups are too small, say
            axis.text(0.5, 0.6, "no gap can be judged", ha="center", transform=axis.transAxes, fontsize=8)
            axis.set(xticks=[], yticks=[])
    whole = dict.fromkeys(reader.removesuffix("+thresholds") for reader in given.reader)
    marks = [("o", reader_colour(reader), mathtext(name(reader))) for reader in whole]
    marks += [("*", "grey", "with group thresholds")] + [("x", "grey", "published")] * (published is not None)
    return key(figure, *(Line2D([], [], ls="", marker=m, color=shade, label=text) for m, shade, text in marks))


def spaces(spaces: dict[str, np.ndarray], colours: dict[str, pd.Series]) -> Figure:
    """Latent spaces in their first two principal components: a column for each space, a row for each colouring.

    Parameters
    ----------
    spaces : dict of ndarray
        By title (n, d).
    colours : dict of Series
        By name (n,) groups.
    """
    size = {"figsize": (2.6 * len(spaces), 2.4 * len(colours)), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(len(colours), len(spaces), **size)
    for down, (line, (label, groups)) in enumerate(zip(axes, colours.items(), strict=True)):
        values = sorted(groups.dropna().unique())
        for axis, (title, z) in zip(line, spaces.items(), strict=True):
            centred = z - z.mean(0)
            at = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
            for value, shade in zip(values, GROUPS, strict=False):
                rows = (groups == value).to_numpy()
                axis.plot(*at[rows].T[:2], ".", ms=3, color=shade, label=mathtext(str(value)))
            axis.set(title="" if down else mathtext(title), xticks=[], yticks=[])
        line[0].set_ylabel(mathtext(label))
        line[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def framework(models, strategies, attributes) -> Figure:
    """Draw what feeds what (the paper's figure 1): noise, reconstruction, frozen diagnosis, comparison, mitigation."""
    figure, axis = plt.subplots(figsize=(7.2, 3.1), layout="constrained")
    given = models, attributes, [word for word in strategies if word != "thresholds"]
    models, attributes, tuning = ([mathtext(name(word)) for word in words] for words in given)
    boxes = [
        (0.9, 2.4, "Original\n$x$", "white"),
        (0.9, 0.8, "Noisy\n$y$", "white"),
        (3.2, 0.8, "Reconstruction $\\hat x$\n" + "\n".join(models), "#CFE6F5"),
        (5.6, 1.6, "Diagnosis\nfrozen, trained\non originals", "#E6E6E6"),
        (8.1, 1.6, "Performance\nand bias by\n" + ",\n".join(attributes), "#FBE5CC"),
    ]
    for x, y, text, fill in boxes:
        style = {"boxstyle": "round,pad=0.45", "fc": fill, "ec": "black"}
        axis.text(x, y, text, ha="center", va="center", fontsize=10, bbox=style, zorder=2)
    arrows = [
        ((0.9, 2.0), (0.9, 1.2), "less dose\nor time"),
        ((1.4, 0.8), (2.2, 0.8), ""),
        ((1.45, 2.4), (4.8, 1.9), ""),
        ((4.2, 0.95), (4.7, 1.25), ""),
        ((6.45, 1.6), (7.2, 1.6), "score"),
    ]
    arrow = {"arrowstyle": "->", "lw": 1.2, "color": "black"}
    for start, end, text in arrows:
        axis.annotate("", end, start, arrowprops=arrow)
        axis.text((start[0] + end[0]) / 2 + 0.08, (start[1] + end[1]) / 2 + 0.1, text, fontsize=9)
    if strategies:
        bend = arrow | {"ls": "--", "connectionstyle": "arc3,rad=-0.12"}
        axis.annotate("", (3.4, 0.05), (8.1, 0.7), arrowprops=bend)
        axis.text(5.2, -0.55, f"mitigation tunes the reconstruction ({', '.join(tuning)})", ha="center", fontsize=9)
    axis.set(xlim=(0, 9.2), ylim=(-0.75, 3))
    axis.axis("off")
    return figure


def against_noise(rows: pd.DataFrame) -> Figure:
    """Draw image quality and every task's performance against the noise level, relative to a reference.

    Rows of ``performance`` for all patients, with ``level`` (in order of noise) and ``share, share_low, share_high,
    share_published``: of PSNR the difference from the reference in dB, of the others percent of it, on one axis.
    """
    levels, tasks = list(rows.level.unique()), dict(list(rows.groupby(["task", "metric"], sort=False)))
    titles = [name(metric) if task == "image" else f"{task}: {name(metric)}" for task, metric in tasks]
    figure, axes = panels(titles, 2.6, 2.3, 3)
    sources, percent = ordered(rows.source), None
    for axis, ((_, metric), panel) in zip(axes, tasks.items(), strict=True):
        if metric == "psnr":
            axis.set_ylabel("change (dB)")
        else:
            axis.set_ylabel("percent")
            percent = percent or axis
            axis.sharey(percent)
        axis.axhline(0 if metric == "psnr" else 100, color=colour("original"), lw=0.8)
        for source in sources:
            line = panel[panel.source == source]
            at = line.level.map(levels.index)  # all at one place: side by side, lines that fall would change their gaps
            some = pd.DataFrame({"value": line.share, "low": line.share_low, "high": line.share_high})
            points(axis, at, some, fmt="o-", color=colour(source), lw=1.2)
            axis.plot(at, line.share_published, "x", color=colour(source), ms=6, mew=1.5)
        axis.set(xlim=(-0.5, len(levels) - 0.5))
        axis.set_xticks(range(len(levels)), levels)
    return key(figure, *arm_handles(arms(rows), rows.share_published.notna().any()))


def against_baseline(rows: pd.DataFrame) -> Figure:
    """Draw changes against each task's performance on originals, a panel per question.

    Rows ``question, source, x, change, change_low, change_high``; right are the easy tasks, left the difficult ones.
    """
    rows = rows.rename(columns={"change": "value", "change_low": "low", "change_high": "high"})
    questions = dict(list(rows.groupby("question", sort=False)))
    style = {"xlabel": "AUROC or Dice on originals", "ylabel": "source minus original", "sharey": True}
    figure, axes = panels(list(questions), 2.5, 2.6, 3, **style)
    for axis, panel in zip(axes, questions.values(), strict=True):
        axis.axhline(0, color="black", lw=0.8)
        for source, some in panel.groupby("source", sort=False):
            points(axis, some.x, some, color=colour(source), elinewidth=0.6, capsize=0, label=mathtext(name(source)))
        axis.xaxis.label.set_size("small")
    return key(figure)


def amounts(rows: pd.DataFrame, ylabel: str) -> Figure:
    """Draw an amount of every task as a dot and the mean over tasks as a bar, a panel per attribute and measure.

    Rows ``attribute, metric, source, strategy, amount``.
    """
    if rows.empty:
        return sentence(FEW)
    measures, pairs = dict(list(rows.groupby(["attribute", "metric"], sort=False))), arms(rows)
    titles = [f"{name(attribute)}, {name(metric)}" for attribute, metric in measures]
    figure, axes = panels(titles, max(2.3, 0.17 * len(pairs)), 2.3, 3, ylabel=ylabel)
    for axis, panel in zip(axes, measures.values(), strict=True):
        for at, pair in enumerate(pairs):
            some, fill = of_arm(panel, pair), colour(pair[0])
            axis.bar(at, some.amount.mean(), color=fill, alpha=0.35, width=0.7)
            axis.plot(np.full(len(some), at), some.amount, marker(arm_word(pair)), color=fill, ms=4)
        axis.set_xticks([])
        axis.set_ylim(bottom=0)
    return key(figure, *arm_handles(pairs))


def costs(rows: pd.DataFrame) -> Figure:
    """Draw what mitigation changes against the standard model: diagnosis against PSNR, and against bias.

    Rows ``source, strategy, metric`` (EODD or SER), ``decibels`` of PSNR, ``downstream, bias`` in percent; a row of
    panels per metric.
    """
    measures = dict(list(rows.groupby("metric", sort=False)))
    figure, axes = panels([""] * 2 * len(measures), 3.2, 2.6, 2)
    for k, (metric, some) in enumerate(measures.items()):
        columns = {"decibels": "PSNR (dB)", "bias": f"{name(metric)}, median (%)"}
        for axis, (column, label) in zip(axes[2 * k :], columns.items(), strict=False):
            axis.axhline(0, color="black", lw=0.8)
            axis.axvline(0, color="black", lw=0.8)
            for row in some.itertuples():
                shape = marker(row.strategy)
                style = {"marker": shape, "color": colour(row.source), "mec": "white", "alpha": 0.85}
                star = {"ms": 13, "zorder": 4} if shape == "*" else {"ms": 8, "zorder": 3}  # no mark hides another
                axis.plot(getattr(row, column), row.downstream, ls="none", **style, **star)
            axis.set_xlabel(f"change of {label}")
            axis.locator_params(axis="x", nbins=5)
        axes[2 * k].set_ylabel(f"change of {'Dice' if metric == 'ser' else 'AUROC'} (%)")
    return key(figure, *arm_handles(arms(rows)))


def verdicts(table: pd.DataFrame) -> Figure:
    """Draw the share of comparisons that came to each verdict: a bar per row of `table`, a column per verdict."""
    xlabel = "percent of comparisons (numbers: how many)"
    figure, (axis,) = panels([""], 6.4, 0.34 * len(table) + 0.7, xlabel=xlabel)
    share = table[list(VERDICTS)].div(table[list(VERDICTS)].sum(axis=1), axis=0) * 100
    left = share.cumsum(axis=1) - share
    for verdict, fill in VERDICTS.items():
        style = {"color": fill, "edgecolor": "#777777", "linewidth": 0.6, "label": verdict}
        bars = axis.barh(range(len(table)), share[verdict], left=left[verdict], **style)
        counted = [str(count) if count else "" for count in table[verdict]]
        axis.bar_label(bars, counted, label_type="center", fontsize="x-small")
    lines = [" ".join(map(str, row)) if isinstance(row, tuple) else row for row in table.index]
    axis.set_yticks(range(len(table)), list(map(mathtext, lines)), fontsize="small")
    axis.set_xlim(0, 100)
    axis.invert_yaxis()
    return key(figure)


def grid_cells(cells: pd.DataFrame, columns=("gap", "performance")) -> Figure:
    """Draw the grid of both stages as heat maps: rows are what was read, columns the readers; bold cells are the front.

    Rows of `fairness.grid.grid` of one task and attribute. A frame marks cells that lie on the Pareto front.
    """
    rows, readers = (list(cells[key].unique()) for key in ("row", "reader"))
    words = {"gap": name(cells.gap_metric.iloc[0]), "performance": name(cells.performance_metric.iloc[0])}
    size = max(2.6, 0.8 * len(readers)), 0.36 * len(rows) + 1.9  # room for the names of the readers
    figure, axes = panels([words[column] for column in columns], *size, 2, 1.3, sharey=True)
    best = front_of(cells)
    for axis, column in zip(axes, columns, strict=True):
        values = cells.pivot(index="row", columns="reader", values=column).loc[rows, readers].to_numpy(float)
        tones = "cividis_r" if column == "gap" else "cividis"
        sns.heatmap(values, ax=axis, annot=True, fmt=".2f", cmap=tones, cbar=False, annot_kws={"size": "small"})
        for row, reader in best:
            corner = readers.index(reader), rows.index(row)
            axis.add_patch(plt.Rectangle(corner, 1, 1, fill=False, ec=ORANGE, lw=2.5))
        axis.set(xlabel="reader", ylabel="")
        across, down = ([mathtext(name(word)) for word in words] for words in (readers, rows))
        axis.set_xticks(np.arange(len(readers)) + 0.5, across, rotation=35, ha="right")
        axis.set_yticks(np.arange(len(rows)) + 0.5, down, rotation=0)
    axes[0].set_ylabel("what was read")
    return key(figure, Line2D([], [], ls="none", marker="s", mfc="none", mec=ORANGE, mew=2, label="on the front"))


def front_of(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Cells of the grid, rows and readers, that no other cell beats in gap and performance at once."""
    reconstructed = cells[~cells["row"].isin(["original", "noisy"])]
    best = front(reconstructed.gap.to_numpy(), reconstructed.performance.to_numpy())
    return list(reconstructed.loc[best, ["row", "reader"]].itertuples(index=False, name=None))


def grid_front(cells: pd.DataFrame) -> Figure:
    """Draw the gap of each cell against its performance, with limits; beaten cells are pale, thresholds by group open.

    Rows of `fairness.grid.grid` of one task and attribute.
    """
    reconstructed, best = cells[~cells["row"].isin(["original", "noisy"])], front_of(cells)
    readers, rows = (list(reconstructed[key].unique()) for key in ("reader", "row"))
    shapes = dict(zip(rows, "os^DvP*Xh", strict=False))
    labels = {"xlabel": name(cells.gap_metric.iloc[0]), "ylabel": name(cells.performance_metric.iloc[0])}
    figure, (axis,) = panels([""], 6.8, 3.8, 1, **labels)
    for cell in reconstructed.itertuples():
        alpha = 1 if (cell.row, cell.reader) in best else 0.3
        x = [[cell.gap - cell.gap_low], [cell.gap_high - cell.gap]]
        y = [[cell.performance - cell.performance_low], [cell.performance_high - cell.performance]]
        style = {"fmt": shapes.get(cell.row, "o"), "color": reader_colour(cell.reader), "alpha": alpha}
        style |= {"mfc": "white"} if cell.reader.endswith("thresholds") else {}
        axis.errorbar(cell.gap, cell.performance, y, x, ms=8 if alpha == 1 else 5, elinewidth=0.7, **style)
    handles = []
    for word in readers:
        fill = "white" if word.endswith("thresholds") else reader_colour(word)
        style = {"color": reader_colour(word), "mfc": fill, "label": mathtext(f"reader: {name(word)}")}
        handles.append(Line2D([], [], ls="none", marker="s", **style))
    for word in rows:
        text = mathtext(f"images: {name(word)}")
        handles.append(Line2D([], [], ls="none", marker=shapes.get(word, "o"), color="#555555", label=text))
    return key(figure, *handles)
