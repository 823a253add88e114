"""Pictures that follow sliders in Jupyter: the numbers are computed elsewhere, and drawn here.

Without ipywidgets, and in a run, the first picture stands alone.
"""

from __future__ import annotations

import io
import os
from base64 import b64encode

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri

from reconfair.fairness import two_groups
from reconfair.words import BLUE, ORANGE, markdown, name, p_value

# Values that a slider has. The page of the site has the same.
PATIENTS = (10, 20, 50, 100, 200, 500, 1000)
DISPARITY = tuple(round(0.1 * k, 1) for k in range(16))
THRESHOLD = tuple(round(0.1 * k, 1) for k in range(1, 10))
GAP = {
    "patients": ("patients of group b", PATIENTS, 50),
    "disparity": ("disparity", DISPARITY, 0.5),
    "threshold": ("threshold", THRESHOLD, 0.7),
}
STAGES = {
    "by_row": ("fault of the reconstruction", DISPARITY, 0.6),
    "by_reader": ("fault of the reader", DISPARITY, 0.6),
    "patients": ("patients of each group", (50, 100, 200, 500, 1000, 5000), 200),
}


def at_hand() -> bool:
    """Whether sliders can be moved: ipywidgets is installed, and no run executes the notebook."""
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None and "RECONFAIR_PROGRESS" not in os.environ


def show(draw, sliders: dict) -> None:
    """Display a picture with its sliders in a notebook, or the picture at their first values and a sentence.

    Parameters
    ----------
    draw : callable
        Takes a value of each slider by its name, and returns a Figure. Its label holds the numbers as a sentence.
    sliders : dict
        By name: its text, its values, and the value at the start.
    """
    from IPython.display import Markdown, display

    if at_hand():
        tool = widget(draw, sliders)
        picture = {"image/png": b64encode(tool.children[-2].value).decode()}  # for a page, where nothing moves
        display(tool._repr_mimebundle_() | picture, raw=True)
    else:
        first = {key: value for key, (_, _, value) in sliders.items()}
        display({"image/png": b64encode(png(draw(**first))).decode(), "text/plain": "a picture"}, raw=True)
        texts = ", ".join(f"{text} = {value}" for text, _, value in sliders.values())
        numbers = markdown(draw(**first).get_label())
        text = f"*The picture for {texts}. {numbers} With ipywidgets installed, sliders move it in JupyterLab.*"
        display(Markdown(text))


def widget(draw, sliders: dict):
    """Sliders, and below them a picture and its numbers that follow, as a box of ipywidgets; arguments as of `show`."""
    import ipywidgets

    wide = {"style": {"description_width": "12rem"}, "layout": {"width": "32rem"}}
    controls = {
        key: ipywidgets.SelectionSlider(description=text, options=values, value=value, **wide)
        for key, (text, values, value) in sliders.items()
    }
    picture, numbers = ipywidgets.Image(format="png"), ipywidgets.Label()

    def follow(_=None):
        figure = draw(**{key: control.value for key, control in controls.items()})
        picture.value, numbers.value = png(figure), figure.get_label()

    for control in controls.values():
        control.observe(follow, "value")
    follow()
    return ipywidgets.VBox([*controls.values(), picture, numbers])


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    figure.savefig(file := io.BytesIO(), format="png", dpi=80, pil_kwargs={"compress_level": 1})
    return file.getvalue()


def gap(patients: int, disparity: float, threshold: float) -> Figure:
    """Draw two groups: their points on the ROC curves, and their EODD beside what chance gives."""
    seen = two_groups.compare(patients=patients, disparity=disparity, threshold=threshold)
    figure = Figure((8, 3.2))
    roc, chance = figure.add_axes((0.08, 0.17, 0.33, 0.72)), figure.add_axes((0.5, 0.17, 0.47, 0.72))
    fpr = np.linspace(0.001, 0.999, 60)
    for at, (group, colour) in enumerate((("a", BLUE), ("b", ORANGE))):
        separation = two_groups.SEPARATION - at * disparity
        roc.plot(fpr, ndtr(separation + ndtri(fpr)), color=colour, lw=1)
        roc.plot(seen["fpr"][at], seen["tpr"][at], "o", color=colour, label=f"group {group}")
    roc.set(xlabel="FPR", ylabel="TPR", xlim=(0, 1), ylim=(0, 1.02))
    roc.legend(loc="lower right")
    x = np.linspace(0, 0.6, 200)
    curve = two_groups.density(x, seen["sd"])
    chance.fill_between(x, curve / curve.max(), color="#C8C8C8", label="EODD of equal groups")
    chance.axvline(seen["expected"], color="grey", ls="--", label=f"expected {seen['expected']:.3f}")
    chance.plot([seen["low"], seen["high"]], [0.5, 0.5], color=ORANGE)
    chance.plot(seen["eodd"], 0.5, "o", color=ORANGE, label=f"EODD {seen['eodd']:.3f}")
    chance.set(xlabel="EODD", yticks=[], xlim=(0, 0.6), ylim=(0, 1.05))
    chance.set_title(f"interval {seen['low']:.3f} to {seen['high']:.3f}, {p_value(seen['p'])}", fontsize="small")
    chance.legend(fontsize="small", loc="upper right")
    (tpr_a, tpr_b), (fpr, _) = seen["tpr"], seen["fpr"]
    figure.set_label(
        f"TPR {tpr_a:.3f} (a) and {tpr_b:.3f} (b), FPR {fpr:.3f}. EODD {seen['eodd']:.3f}, "
        f"interval {seen['low']:.3f} to {seen['high']:.3f}, expected of equal groups {seen['expected']:.3f}, "
        f"{p_value(seen['p'])}."
    )
    return figure


def stages(by_row: float, by_reader: float, patients: int) -> Figure:
    """Draw the EODD of four systems of two reconstructions and two readers, with limits and what chance gives."""
    four = two_groups.by_stage(by_row=by_row, by_reader=by_reader, patients=patients)
    figure = Figure((7, 2.6))
    axis = figure.add_axes((0.42, 0.2, 0.55, 0.68))
    for at, seen in enumerate(four.values()):
        axis.plot([seen["low"], seen["high"]], [at, at], color=BLUE)
        axis.plot(seen["eodd"], at, "o", color=BLUE, label="EODD" if not at else "")
        axis.plot(seen["expected"], at, "|", color="grey", ms=14, label="expected of equal groups" if not at else "")
    value = {cell: seen["eodd"] for cell, seen in four.items()}
    alone = value["fairer", "standard"] + value["standard", "fairer"] - value["standard", "standard"]
    axis.set(yticks=range(4), ylim=(3.5, -0.5), xlim=(0, 0.6), xlabel="EODD")
    axis.set_yticklabels([f"{row} reconstruction, {reader} reader" for row, reader in four], fontsize="small")
    interaction = f"interaction of the gap {round(value['fairer', 'fairer'] - alone, 3) + 0.0:+.3f}"
    axis.set_title(interaction, fontsize="small")
    axis.legend(fontsize="small", loc="lower right")
    systems = "; ".join(f"{row} reconstruction, {reader} reader: {eodd:.3f}" for (row, reader), eodd in value.items())
    figure.set_label(f"EODD: {systems}; {interaction}.")
    return figure


def noise(originals: np.ndarray, levels: dict[str, np.ndarray], groups: pd.DataFrame):
    """Return what draws one image at one level, and the mean PSNR of each group there.

    Parameters
    ----------
    originals : ndarray
        (n, size, size) or (n, 3, size, size), within [0, 1].
    levels : dict of ndarray
        The same images at each level, by its name.
    groups : DataFrame
        ``attribute, group, level, metric, value, low, high``.

    Returns
    -------
    draw : callable
        Takes ``level`` and ``image``, and returns a Figure.
    sliders : dict
        As `show` takes them.
    """
    psnr = groups[groups.metric == "psnr"]
    span = psnr.low.min() - 0.5, psnr.high.max() + 0.5

    def draw(level: str, image: int) -> Figure:
        figure = Figure((9, 3))
        y, x = levels[level][image - 1], originals[image - 1]
        for at, (title, picture) in enumerate({"original": x, level: y, "error": np.abs(y - x) * 3}.items()):
            axis = figure.add_axes((0.01 + 0.21 * at, 0.05, 0.2, 0.8))
            axis.imshow(
                np.moveaxis(picture, 0, -1).clip(0, 1) if picture.ndim == 3 else picture, "gray", vmin=0, vmax=1
            )
            axis.set_title(title, fontsize="small")
            axis.axis("off")
        rows = psnr[psnr.level == level]
        axis = figure.add_axes((0.8, 0.18, 0.19, 0.67))
        axis.hlines(range(len(rows)), rows.low, rows.high, color=BLUE)
        axis.plot(rows.value, range(len(rows)), "o", color=BLUE)
        axis.set(xlim=span, ylim=(len(rows) - 0.5, -0.5), xlabel="PSNR (dB)", yticks=range(len(rows)))
        axis.set_yticklabels([group[:20] for group in rows.group], fontsize="x-small")
        axis.set_title(f"by {', '.join(name(each) for each in rows.attribute.unique())}", fontsize="x-small")
        means = ", ".join(f"{row.group} {row.value:.1f} dB" for row in rows.itertuples())
        figure.set_label(f"Mean PSNR at {level}: {means}.")
        return figure

    most = min(len(originals), 20)
    names = tuple(levels)
    return draw, {"level": ("level", names, names[-1]), "image": ("image", tuple(range(1, most + 1)), most // 2)}
