"""Figures: every one can be read, has room for its legend, and shows what a user named as it stands."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text

from reconfair import figures, words

GROUP, TASK, MODEL = r"$\frac{a}$ & <b>", r"cost $x_$", "$toy$"
SOURCES = ["noisy", "unet", MODEL]
RNG = np.random.default_rng(0)


def rows(**keys):
    """All combinations of the keys, with values and intervals."""
    table = pd.MultiIndex.from_product(keys.values(), names=list(keys)).to_frame(index=False)
    value = RNG.normal(0.8, 0.1, len(table))
    return table.assign(value=value, low=value - 0.1, high=value + 0.1)


def fairness(strategies=("standard",)):
    keys = {"task": [TASK, "grade"], "attribute": ["sex", "race"], "source": SOURCES, "strategy": list(strategies)}
    table = rows(**keys, metric=["eodd"])
    shift = {"shift": table.value - 0.8, "shift_low": table.low - 0.8, "shift_high": table.high - 0.8}
    table = table.assign(**shift, shift_percent=100 * shift["shift"], amount=abs(shift["shift"]), margin=0.05)
    return table.assign(verdict=np.resize(["grew", "fell", "unequal", "no change", "not shown"], len(table)))


def performance(strategies=("standard",), readers=("standard",)):
    keys = {"task": [TASK, "grade"], "metric": ["tpr", "fpr"], "attribute": ["sex"], "group": [GROUP, "male"]}
    table = rows(**keys, source=SOURCES, strategy=list(strategies), reader=list(readers))
    table = table.assign(change=table.value - 0.8, change_low=table.low - 0.8, change_high=table.high - 0.8)
    return table.assign(margin=0.05, verdict=np.resize(["worse", "better", "kept", "not shown"], len(table)))


def curve():
    return rows(task=[TASK], rate=["tpr", "tnr"], k=[1, 2]).assign(x=[0.1, 0.2] * 2)


def originals():
    table = rows(task=[TASK], metric=["tpr", "fpr", "auroc", "auprc"], attribute=["all"])
    return table.assign(positives=3.0, n=10)


LOG = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3, 2, 1], "val_loss": [3, 2, 2.5]})
IMAGES = RNG.random((2, 8, 8))
PATIENTS = pd.DataFrame({"age": [30, 40, 50, 60], "sex": [GROUP, "male", GROUP, "male"]})
SPLITS = pd.DataFrame({"attribute": "sex", "group": [GROUP, "male"], "split": ["train", "test"], "patients": [4, 5]})
QUALITY = pd.DataFrame({"source": SOURCES * 2, "patient_id": list("aaabbb"), "psnr": RNG.random(6), "ssim": 0.5})
SCORES = pd.DataFrame({"group": [GROUP, "male"] * 2, "label": [0, 0, 1, 1], "score": [0.1, 0.3, 0.6, 0.9]})
STRENGTHS = pd.DataFrame({"strategy": ["standard", "eodd@0.3", "mine@1"], "bias": [1, 2, 3]})
GRID = pd.DataFrame(
    {"row": [GROUP, "standard"] * 2, "reader": ["standard"] * 2 + [MODEL] * 2, "gap": [0.1, 0.2, 0.3, 0.1]}
)
GRID = GRID.assign(gap_low=0.0, gap_high=0.4, performance=0.8, performance_low=0.7, performance_high=0.9)
GRID = GRID.assign(gap_metric="eodd", performance_metric="auroc")
VERDICTS = pd.DataFrame(1, index=[GROUP, "bias by Sex"], columns=list(words.VERDICTS))
NOISE = rows(task=["image", TASK], metric=["psnr"], level=["x4", "x8"], source=SOURCES, strategy=["standard"])
NOISE = NOISE.assign(share=90, share_low=80, share_high=100, share_published=95)
CHANGES = rows(question=["performance", f"bias by {GROUP}"], source=SOURCES).rename(
    columns={"value": "change", "low": "change_low", "high": "change_high"}
)
COSTS = {"metric": ["eodd", "ser"], "source": SOURCES, "strategy": ["eodd", "adv"]}
DRAWN = {  # by function: what draws it, and a text that it must show
    "montage": (lambda: figures.montage([[IMAGES[0]] * 2], ["$x$", ""], ["a"], [(0, 1), (-1, 1)]), "$x$"),
    "comparison": (lambda: figures.comparison(IMAGES, {MODEL: IMAGES}, [GROUP, "b"]), MODEL),
    "texture": (lambda: figures.texture({"x4": IMAGES[0]}, {"x4": ([1, 2], [3, 4])}), "x4"),
    "by_group": (lambda: figures.by_group(SPLITS), GROUP),
    "ages": (lambda: figures.ages(PATIENTS, ["sex"]), GROUP),
    "prevalence": (
        lambda: figures.prevalence(
            rows(task=[TASK], attribute=["sex"], group=[GROUP, "b"]).rename(columns={"value": "share"})
        ),
        GROUP,
    ),
    "learning": (lambda: figures.learning({MODEL: LOG, "unet": LOG}), MODEL),
    "lines": (lambda: figures.lines({GROUP: [1, 2], "b": [2, 3]}, "step", "share"), GROUP),
    "adversaries": (
        lambda: figures.adversaries(LOG.assign(train_adversarial=1, train_discriminator=0.7)),
        "guessing, log 2",
    ),
    "balance": (lambda: figures.balance(curve(), {TASK: 0.5}), f"{TASK}: 0.500"),
    "curves": (lambda: figures.curves(curve(), curve(), originals()), TASK),
    "reliability": (lambda: figures.reliability(curve()), TASK),
    "decisions": (lambda: figures.decisions(SCORES, 0.5), f"{GROUP}, with"),
    "by_level": (
        lambda: figures.by_level(
            rows(level=["x4", "x8"], attribute=["sex", "race"], group=[GROUP, "b"], metric=["psnr"]), "psnr"
        ),
        GROUP,
    ),
    "tradeoff": (lambda: figures.tradeoff(QUALITY), MODEL),
    "values": (
        lambda: figures.values(
            rows(task=[TASK, "grade"], metric=["auroc"], source=SOURCES, strategy=["standard", "eodd@0.3"])
        ),
        f"{MODEL}, EODD (0.3)",
    ),
    "group_values": (
        lambda: figures.group_values(
            rows(
                task=[TASK], metric=["auroc"], source=SOURCES, strategy=["standard"], attribute=["sex"], group=[GROUP]
            ),
            "auroc",
        ),
        f"Sex: {GROUP}",
    ),
    "changes": (lambda: figures.changes(performance(["standard", "eodd"], ["standard", "fairread"])), f"Sex: {GROUP}"),
    "shifts": (lambda: figures.shifts(fairness(["standard", "thresholds@0"]).assign(published=0), "eodd"), TASK),
    "shift_histogram": (lambda: figures.shift_histogram(fairness()), MODEL),
    "histograms": (lambda: figures.histograms({TASK: {GROUP: IMAGES.ravel()}}, "draws", {"none": 0}), GROUP),
    "strengths": (lambda: figures.strengths(STRENGTHS.assign(source=MODEL), {"bias": "bias"}), f"{MODEL}: bias"),
    "framework": (lambda: figures.framework([MODEL], ["eodd", "thresholds"], ["sex"]), MODEL),
    "against_noise": (lambda: figures.against_noise(NOISE), MODEL),
    "against_baseline": (lambda: figures.against_baseline(CHANGES.assign(x=0.9)), MODEL),
    "amounts": (lambda: figures.amounts(fairness(["standard", "eodd"]), "absolute shift"), MODEL),
    "costs": (
        lambda: figures.costs(rows(**COSTS).assign(decibels=1.0, downstream=2.0, bias=3.0)),
        MODEL,
    ),
    "verdicts": (lambda: figures.verdicts(VERDICTS), GROUP),
    "readers": (
        lambda: figures.readers(GRID.rename(columns={"row": "panel"}), "gap"),
        GROUP,
    ),
    "spaces": (
        lambda: figures.spaces({MODEL: RNG.random((4, 3))}, {TASK: pd.Series([GROUP, "male"] * 2)}),
        GROUP,
    ),
    "grid_cells": (lambda: figures.grid_cells(GRID), GROUP),
    "grid_front": (lambda: figures.grid_front(GRID), f"images: {GROUP}"),
}
HELPERS = {"front_of", "keep", "panels", "key", "points", "forest", "sentence", "as_drawn"}
HELPERS |= {"arms", "of_arm", "arm_word", "arm_points", "arm_handles", "verdict_handles"}


def test_every_figure_is_looked_at_here():
    defined = {key for key, value in vars(figures).items() if getattr(value, "__module__", "") == figures.__name__}
    assert {key for key in defined if not key.startswith("_")} == set(DRAWN) | HELPERS


@pytest.fixture(autouse=True)
def closed():
    """No figure is left open, not even by a test that fails."""
    yield
    plt.close("all")


@pytest.mark.parametrize("function", DRAWN)
def test_names_are_shown_as_they_stand_and_nothing_is_cut_off(function):
    draw, name = DRAWN[function]
    figure = draw()
    figure.canvas.draw()  # raises where a name is taken for a formula
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert any(name in re.sub(r"\s+", " ", text.get_text().replace(r"\$", "$")) for text in texts)
    labels = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label, axis.yaxis.label)]
    labels += [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    ticks = [
        tick
        for axis in figure.axes
        for tick in axis.get_yticklabels()
        if min(axis.get_ylim()) <= tick.get_position()[1] <= max(axis.get_ylim())
    ]
    low, high = figure.bbox.min - 2, figure.bbox.max + 2
    for text in [text for text in labels + ticks if text in texts]:
        box = text.get_window_extent()
        assert (box.min >= low).all() and (box.max <= high).all(), text.get_text()
    titles = [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    assert not any(a.overlaps(b) for k, a in enumerate(titles) for b in titles[:k])


@pytest.mark.parametrize("drawn", ["costs", "strengths", "amounts", "verdicts"])
def test_a_legend_of_many_entries_fits_into_the_figure(drawn):
    arms = ["standard", "reweight@1", "eodd@0.3", "adv@0.03", "reweight@1+eodd@0.3", "reweight@1+adv@0.3", "dro@0.05"]
    table = pd.DataFrame({"strategy": arms, "source": "unet", "decibels": 1.0, "downstream": 1.0, "bias": 1.0})
    table = table.assign(attribute="sex", metric="eodd", amount=1.0, reader="standard")
    figure = {
        "costs": lambda: figures.costs(table),
        "strengths": lambda: figures.strengths(table, {"bias": "bias"}),
        "amounts": lambda: figures.amounts(table, "size"),
        "verdicts": lambda: figures.verdicts(VERDICTS),
    }[drawn]()
    figure.canvas.draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) >= (5 if drawn == "verdicts" else len(arms))
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 > figure.axes[0].get_window_extent().y1


@pytest.mark.parametrize("groups", [2, 6, 8])
def test_a_legend_below_leaves_the_label_of_its_axis_alone(groups):
    levels = pd.DataFrame({"level": ["x4", "x8", "x16"], "value": [0.6, 0.5, 0.4]})
    table = levels.merge(pd.DataFrame({"group": [f"group {k}" for k in range(groups)]}), how="cross")
    table = table.assign(attribute="race", metric="ssim", low=table.value - 0.1, high=table.value + 0.1)
    figure = figures.by_level(table, "ssim")
    figure.canvas.draw()
    (axis,) = figure.axes
    legend, label = axis.get_legend().get_window_extent(), axis.xaxis.label.get_window_extent()
    assert legend.y0 >= 0 and legend.y1 < label.y0


def test_models_come_in_one_order_and_unknown_ones_last():
    table = pd.DataFrame({"strategy": "eodd@0.3", "source": ["toy", "sde", "pix2pix", "unet"], "bias": 1.0})
    figure = figures.strengths(table, {"bias": "bias"})
    assert [axis.get_title() for axis in figure.axes] == ["U-Net: bias", "Pix2Pix: bias", "SDE: bias", "toy: bias"]


def test_a_model_has_one_colour_and_a_point_is_filled_by_its_verdict():
    table = fairness()
    table = table[(table.task == TASK) & (table.attribute == "sex")]
    for verdicts, faces in (
        (["grew", "not shown", "fell"], [None, "white", None]),
        (["no change", "not judged", "no change"], ["#C8C8C8", "white", "#C8C8C8"]),
    ):
        figure = figures.shifts(table.assign(verdict=verdicts), "eodd")
        lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
        assert [line.get_markeredgecolor() for line in lines] == [words.colour(source) for source in SOURCES]
        expected = [face or words.colour(source) for face, source in zip(faces, SOURCES, strict=True)]
        assert [line.get_markerfacecolor() for line in lines] == expected
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("grew or fell" in labels) == ("grew" in verdicts) and ("no change" in labels) == (
            "no change" in verdicts
        )


def test_a_strategy_that_was_not_applied_says_so():
    figure = figures.shifts(fairness(["standard", "thresholds@0"]), "eodd")
    assert "group thresholds (not applied)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_nothing_to_compare_is_said_in_place_of_a_figure():
    empty = fairness().iloc[:0]
    for figure in (figures.shifts(empty, "eodd"), figures.shift_histogram(empty), figures.amounts(empty, "")):
        assert "two groups" in figure.axes[0].texts[0].get_text()
    assert "no group" in figures.changes(performance().iloc[:0]).axes[0].texts[0].get_text()


def test_groups_at_one_noise_level_stand_at_one_place():
    # Side by side on a line that falls, two groups would seem closer or farther apart than they are.
    table = rows(level=["x4", "x8"], attribute=["sex"], group=[GROUP, "b"], metric=["psnr"])
    (axis,) = figures.by_level(table, "psnr").axes
    assert {tuple(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2} == {(0, 1)}


def test_sources_at_one_noise_level_stand_at_one_place():
    for axis in figures.against_noise(NOISE).axes:
        drawn = [tuple(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"]
        assert len(drawn) == len(SOURCES) and set(drawn) == {(0, 1)}


def test_rates_of_all_tasks_have_one_axis_and_decibels_their_own():
    table = rows(
        task=[TASK, "grade"], metric=["tpr"], source=["unet"], strategy=["standard"], attribute=["sex"], group=["a"]
    )
    limits = {axis.get_xlim() for axis in figures.group_values(table, "tpr").axes}
    assert limits == {(-0.04, 1.04)}
    noise = pd.concat([NOISE[NOISE.task == "image"], NOISE[NOISE.task != "image"].assign(metric="auroc", share=90.0)])
    image, task = figures.against_noise(noise).axes
    assert image.get_ylabel() == "change (dB)" and task.get_ylabel() == "percent"
    assert image.get_ylim() != task.get_ylim()


def test_no_strategy_has_the_colour_of_a_model():
    assert not {*words.STRATEGIES.values()} & {*words.COLOURS.values()}
    assert len({*words.STRATEGIES.values()}) == len(words.STRATEGIES)


def test_uniform_values_are_drawn_with_the_height_that_is_expected():
    (axis,) = figures.histograms({"p": {"none": np.full(200, 0.5)}}, "p", uniform=True).axes
    assert [line.get_ydata()[0] for line in axis.lines] == [10] and len(axis.patches) == 20


def test_a_panel_without_any_gap_says_so():
    figure = figures.readers(GRID.rename(columns={"row": "panel"}).assign(gap=np.nan), "gap")
    panels = [axis for axis in figure.axes if axis.axison]
    assert all([text.get_text() for text in axis.texts] == ["no gap can be judged"] for axis in panels) and panels
    figure = figures.readers(GRID.rename(columns={"row": "panel"}), "gap")
    assert not any(text.get_text() == "no gap can be judged" for axis in figure.axes for text in axis.texts)
