"""Pictures that follow sliders: their numbers, their time, and what stands where nobody can move them."""

import time

import numpy as np
import pandas as pd
import pytest

from reconfair import play
from reconfair.fairness import metrics, simulation, two_groups

START = {key: value for key, (_, _, value) in play.GAP.items()}


def shown(monkeypatch) -> list:
    """What a notebook would display, from now on."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    return displayed


def test_numbers_follow_from_the_settings():
    fair, unfair = (two_groups.compare(**START | {"disparity": value}) for value in (0.0, 1.0))
    assert fair["eodd"] == 0 and fair["low"] == 0 < fair["expected"] and fair["p"] > 0.9
    assert unfair["low"] > 0 and unfair["low"] < unfair["eodd"] < unfair["high"] and unfair["p"] < 0.05
    widths = [
        np.ptp([one["low"], one["high"]])
        for one in (two_groups.compare(**START | {"patients": n}) for n in play.PATIENTS)
    ]
    assert (np.diff(widths) < 0).all()
    tpr = [two_groups.compare(**START | {"threshold": t})["tpr"][0] for t in play.THRESHOLD]
    assert (np.diff(tpr) < 0).all()


def test_the_chance_curve_is_that_of_simulated_studies():
    seen = two_groups.compare(**START | {"disparity": 0.0, "patients": 200})
    share = {"a": two_groups.LARGE / (two_groups.LARGE + 200), "b": 200 / (two_groups.LARGE + 200)}
    how = {"prevalence": two_groups.PREVALENCE, "separation": two_groups.SEPARATION, "images": (1, 1)}
    eodds = []
    for seed in range(200):
        rows = simulation.simulate(patients=two_groups.LARGE + 200, share=share, **how, seed=seed)
        rate = (rows.score >= START["threshold"]).groupby([rows.label, rows.group]).mean().unstack()
        eodds.append(float(metrics.eodd(tpr=rate.loc[1.0], fpr=rate.loc[0.0])))
    x = np.linspace(0, 0.3, 1001)
    mean = np.trapezoid(x * two_groups.density(x, seen["sd"]), x)
    assert np.mean(eodds) == pytest.approx(mean, abs=0.004) and seen["expected"] == pytest.approx(mean, abs=0.002)


@pytest.mark.parametrize(("draw", "sliders"), [(play.gap, play.GAP), (play.stages, play.STAGES)])
def test_a_move_takes_less_than_a_tenth_of_a_second(draw, sliders):
    first, seconds = {key: value for key, (_, _, value) in sliders.items()}, []
    play.png(draw(**first))  # fonts and fixed draws are loaded once
    for patients in sliders["patients"][1][:4]:
        start = time.process_time()
        play.png(draw(**first | {"patients": patients}))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 3 * 0.1  # three times as long is allowed on a slow machine


def test_a_slider_moves_the_picture():
    pytest.importorskip("ipywidgets")
    tool = play.widget(play.gap, play.GAP)
    *controls, picture = tool.children
    assert [control.description for control in controls] == [text for text, *_ in play.GAP.values()]
    before = picture.value
    controls[1].value = 1.5
    assert picture.value != before
    assert picture.value == play.png(play.gap(**START | {"disparity": 1.5}))


def test_a_run_shows_one_picture_and_a_sentence(monkeypatch):
    displayed = shown(monkeypatch)
    monkeypatch.setenv("RECONFAIR_PROGRESS", "file")
    play.show(play.gap, play.GAP)
    picture, sentence = displayed
    assert "image/png" in picture and "widget" not in " ".join(picture) and "disparity = 0.5" in sentence.data


def test_a_notebook_has_the_sliders_and_a_picture_for_its_page(monkeypatch):
    pytest.importorskip("ipywidgets")
    displayed = shown(monkeypatch)
    monkeypatch.delenv("RECONFAIR_PROGRESS", raising=False)
    play.show(play.stages, play.STAGES)
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= {*displayed[0]}


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 3, 8, 8)], ids=["grey", "colour"])
def test_the_picture_of_noise_shows_the_level_and_the_image(shape):
    originals = np.random.default_rng(0).random(shape)
    rows = [("sex", group, level, "psnr", 30.0, 29.0, 31.0) for level in ("x4", "x8") for group in ("female", "male")]
    groups = pd.DataFrame(rows, columns=["attribute", "group", "level", "metric", "value", "low", "high"])
    draw, sliders = play.noise(originals, {"x4": originals / 2, "x8": 0 * originals}, groups)
    figure = draw("x8", 2)
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    expected = np.moveaxis(originals[1], 0, -1) if len(shape) == 4 else originals[1]
    assert np.allclose(drawn[0], expected) and not drawn[1].any() and sliders["image"][1] == (1, 2, 3)
