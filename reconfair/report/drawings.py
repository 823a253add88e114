"""Figures of the report alone, over all tasks, levels and strategies; the style is that of `figures`."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reconfair.figures import COLOURS, _above, _columns, _empty, marker, name

VERDICTS = {  # blue is no harm, orange harm, grey not known
    "better": "#0072B2",
    "equivalent": "#9BD0F0",
    "undecided": "#D9D9D9",
    "not compared": "#FFFFFF",
    "worse": "#D55E00",
}


def framework(models, strategies, attributes) -> Figure:
    """Draw what feeds what (the paper's figure 1): noise, reconstruction, frozen diagnosis, comparison, mitigation."""
    figure, axis = plt.subplots(figsize=(7.2, 3.1), layout="constrained")
    boxes = {
        "original": (0.9, 2.4, "Original\n$x$", "white"),
        "noisy": (0.9, 0.8, "Noisy\n$y$", "white"),
        "recon": (3.2, 0.8, "Reconstruction $\\hat x$\n" + "\n".join(map(name, models)), "#CFE6F5"),
        "diagnosis": (5.6, 1.6, "Diagnosis\nfrozen, trained\non originals", "#E6E6E6"),
        "fairness": (8.1, 1.6, "Performance\nand bias by\n" + ",\n".join(map(name, attributes)), "#FBE5CC"),
    }
    for x, y, text, colour in boxes.values():
        style = {"boxstyle": "round,pad=0.45", "fc": colour, "ec": "black"}
        axis.text(x, y, text, ha="center", va="center", fontsize=10, bbox=style, zorder=2)
    arrows = [
        ((0.9, 2.0), (0.9, 1.2), "less dose\nor time"),
        ((1.4, 0.8), (2.2, 0.8), ""),
        ((1.45, 2.4), (4.8, 1.9), ""),
    ]
    arrows += [((4.2, 0.95), (4.7, 1.25), ""), ((6.45, 1.6), (7.2, 1.6), "score")]
    arrow = {"arrowstyle": "->", "lw": 1.2, "color": "black"}
    for start, end, text in arrows:
        axis.annotate("", end, start, arrowprops=arrow)
        axis.text((start[0] + end[0]) / 2 + 0.08, (start[1] + end[1]) / 2 + 0.1, text, fontsize=9)
    if strategies:
        bend = arrow | {"ls": "--", "connectionstyle": "arc3,rad=-0.12"}
        axis.annotate("", (3.4, 0.05), (8.1, 0.7), arrowprops=bend)
        tuning = ", ".join(name(strategy) for strategy in strategies if strategy != "thresholds")
        tuned = f"mitigation tunes the reconstruction ({tuning})"
        axis.text(5.2, -0.55, tuned, ha="center", fontsize=9)
    axis.set(xlim=(0, 9.2), ylim=(-0.75, 3))
    axis.axis("off")
    return figure


def against_noise(rows: pd.DataFrame) -> Figure:
    """Draw image quality and every task's performance against the noise level, in percent of a reference.

    Rows of ``performance`` for everyone, with ``level`` (in order of noise) and, in percent of the reference,
    ``share, share_low, share_high, share_published``; every panel has the same axis.
    """
    levels, panels = list(rows.level.unique()), list(rows.groupby(["task", "metric"], sort=False))
    figure, axes = _columns(panels, (2.4, 2.3), 0.5, 3)
    for axis, ((task, metric), panel) in zip(axes, panels, strict=True):
        axis.axhline(100, color=COLOURS["original"], lw=0.8)
        sources = list(panel.groupby("source", sort=False))
        for k, (source, line) in enumerate(sources):
            at = [levels.index(level) + 0.4 * ((k + 0.5) / len(sources) - 0.5) for level in line.level]
            error = [line.share - line.share_low, line.share_high - line.share]
            style = {"color": COLOURS[source], "capsize": 2, "ms": 4, "lw": 1.2}
            axis.errorbar(at, line.share, error, fmt="o-", label=name(source), **style)
            axis.plot(at, line.share_published, "x", color=COLOURS[source], ms=6, mew=1.5)
        axis.set(xlim=(-0.5, len(levels) - 0.5))
        axis.set_title(name(metric) if task == "image" else f"{task}: {name(metric)}", fontsize=8)
        axis.set_xticks(range(len(levels)), levels)
    for axis in axes[::3]:
        axis.set_ylabel("percent")
    return _legend(figure, axes, rows.share_published.notna().any())


def against_baseline(rows: pd.DataFrame) -> Figure:
    """Draw changes against each task's performance on originals, a panel per question.

    Rows ``question, source, x, change, change_low, change_high``; right are the easy tasks, left the difficult ones.
    """
    panels = list(rows.groupby("question", sort=False))
    figure, axes = _columns(panels, (2.5, 2.6), 0.6, 3)
    for axis, (question, panel) in zip(axes, panels, strict=True):
        axis.axhline(0, color="black", lw=0.8)
        for source, own in panel.groupby("source", sort=False):
            error = np.abs([own.change - own.change_low, own.change_high - own.change])
            axis.errorbar(
                own.x, own.change, error, fmt="o", color=COLOURS[source], ms=4, elinewidth=0.6, label=name(source)
            )
        axis.set_title(question, fontsize="small")
        axis.set_xlabel("AUROC or Dice on originals", fontsize="small")
    axes[0].set_ylabel("source minus original")
    return _legend(figure, axes)


def amounts(rows: pd.DataFrame, ylabel: str) -> Figure:
    """Draw an amount of every task as a dot and the mean over tasks as a bar, a panel per attribute and measure.

    Rows ``attribute, metric, source, strategy, amount`` and, where known, ``chance``: what noise alone
    gives on average, drawn as a dashed line over the bar.
    """
    panels = list(rows.groupby(["attribute", "metric"], sort=False))
    arms = list(rows.groupby(["source", "strategy"], sort=False).groups)
    if not panels:
        return _empty("no attribute has two groups with enough cases to compare")
    across, down = min(3, len(panels)), -(-len(panels) // 3)
    size = (across * max(2.3, 0.17 * len(arms)) + 0.6, 2.3 * down + 0.4)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis, ((attribute, metric), panel) in zip(axes.flat, panels, strict=False):
        for at, (source, strategy) in enumerate(arms):
            own = panel[(panel.source == source) & (panel.strategy == strategy)]
            axis.bar(at, own.amount.mean(), color=COLOURS[source], alpha=0.35, width=0.7)
            axis.plot(np.full(len(own), at), own.amount, marker(strategy), color=COLOURS[source], ms=4)
            if "chance" in own:
                axis.plot([at - 0.4, at + 0.4], [own.chance.mean()] * 2, "--", color="black", lw=1.2)
        axis.set_title(f"{name(attribute)}, {name(metric)}", fontsize="small")
        axis.set_xticks([])
        axis.set_ylim(bottom=0)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    axes[0, 0].set_ylabel(ylabel)
    return _keyed(figure, arms, [("black", "--", "chance alone")] if "chance" in rows else [])


def costs(rows: pd.DataFrame) -> Figure:
    """Draw what mitigation changes against the standard model: diagnosis against PSNR, and against bias.

    Rows ``source, strategy, psnr, downstream, bias`` in percent, means over tasks and attributes.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
    for axis, column, label in zip(axes, ("psnr", "bias"), ("PSNR (%)", "bias, median (%)"), strict=True):
        axis.axhline(0, color="black", lw=0.8)
        axis.axvline(0, color="black", lw=0.8)
        for row in rows.itertuples():
            style = {"marker": marker(row.strategy), "color": COLOURS[row.source]}
            axis.plot(getattr(row, column), row.downstream, ms=8, ls="none", **style)
        axis.set(xlabel=f"change of {label}")
        axis.locator_params(axis="x", nbins=5)
    axes[0].set_ylabel("change of AUROC and Dice (%)")
    return _keyed(figure, list(rows[["source", "strategy"]].itertuples(index=False, name=None)))


def verdicts(table: pd.DataFrame) -> Figure:
    """Draw the share of comparisons that came to each verdict: a bar per row of `table`, columns as VERDICTS."""
    figure, axis = plt.subplots(figsize=(7.2, 0.34 * len(table) + 1.1), layout="constrained")
    share = table[list(VERDICTS)].div(table[list(VERDICTS)].sum(axis=1), axis=0) * 100
    left = share.cumsum(axis=1) - share
    lines = [" ".join(map(str, row)) if isinstance(row, tuple) else row for row in table.index]
    for verdict, colour in VERDICTS.items():
        style = {"color": colour, "edgecolor": "#777777", "linewidth": 0.6, "label": verdict}
        bars = axis.barh(range(len(table)), share[verdict], left=left[verdict], **style)
        counted = [str(count) if count else "" for count in table[verdict]]
        axis.bar_label(bars, counted, label_type="center", fontsize="x-small")
    axis.set_yticks(range(len(table)), lines, fontsize="small")
    axis.set(xlabel="percent of comparisons (numbers: how many)", xlim=(0, 100))
    axis.invert_yaxis()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize="small")
    return figure


def _legend(figure: Figure, axes, crosses: bool = False) -> Figure:
    """Name every source once above the panels, and say what a cross is."""
    shown = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if crosses:
        shown["published"] = Line2D([], [], marker="x", color="black", ls="none", ms=6, mew=1.5)
    return _above(figure, shown)


def _keyed(figure: Figure, arms, lines=()) -> Figure:
    """Name sources by colour and strategies by marker, above the panels."""
    sources, strategies = (list(dict.fromkeys(column)) for column in zip(*arms, strict=True))
    handles = [Line2D([], [], color=COLOURS[source], lw=5, alpha=0.6, label=name(source)) for source in sources]
    style = {"color": "black", "ls": "none", "ms": 5}
    handles += [Line2D([], [], marker=marker(word), label=name(word), **style) for word in strategies]
    handles += [Line2D([], [], color=colour, ls=ls, label=label) for colour, ls, label in lines]
    return _above(figure, {handle.get_label(): handle for handle in handles})
