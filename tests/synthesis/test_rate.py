"""The rating tool: what a rater's clicks leave in the file."""

import numpy as np
import pandas as pd
import pytest

from reconfair.params import ParamsError
from reconfair.synthesis import rate
from reconfair.synthesis.preference import read_ratings


@pytest.fixture
def pairs():
    names = [f"{number:05d}" for number in range(10)]
    return pd.DataFrame(
        {"pair_id": [f"s-{k}" for k in range(5)], "cell": "female, 1", "left": names[::2], "right": names[1::2]}
    )


def test_every_choice_is_saved_undone_and_gone_on_from(pairs, tmp_path):
    rating = rate.Rating(pairs, "dr-lee", tmp_path)
    shown = [rating.current["pair_id"]]
    rating.choose("left")
    assert read_ratings(tmp_path / "dr-lee.csv", pairs).choice.tolist() == ["left"]
    shown.append(rating.current["pair_id"])
    rating.choose("right"), rating.choose("undo")
    assert rating.current["pair_id"] == shown[1] and len(read_ratings(rating.path, pairs)) == 1
    rating.choose("neither")
    again = rate.Rating(pairs, "dr-lee", tmp_path)
    assert [row["pair_id"] for row in again.rows] == shown and again.current == rating.current
    for _ in range(9):  # more clicks than pairs change nothing
        again.choose("right")
    table = read_ratings(again.path, pairs)
    assert again.current is None and sorted(table.pair_id) == sorted(pairs.pair_id) and set(table.rater) == {"dr-lee"}
    assert not list(tmp_path.glob("*.part"))


def test_two_windows_of_one_rater_lose_no_rating(pairs, tmp_path):
    one, two = (rate.Rating(pairs, "a", tmp_path) for _ in range(2))
    one.choose("left"), one.choose("left")
    two.choose("right")  # of a pair that was rated already: the first choice counts, and the next pair is shown
    assert read_ratings(one.path, pairs).choice.tolist() == ["left", "left"] and two.current == one.current
    two.choose("right"), one.choose("right")
    assert read_ratings(one.path, pairs).choice.tolist() == ["left", "left", "right"]
    two.choose("undo")
    assert len(read_ratings(one.path, pairs)) == 2 and len(two.left) == 3


def test_raters_without_a_pair_in_common_hide_no_agreement(opened, pairs, tmp_path):
    rated = [rate.Rating(pairs, name, tmp_path) for name in ("a", "b", "c")]
    for rating in rated[:2]:
        for _ in range(5):
            rating.choose("left")
    rated[2].choose("left"), rated[2].choose("undo")
    table = rate.agreements(None).set_index(["one", "other"])
    assert table.pairs["a", "b"] == 5 and table.pairs["a", "c"] == table.pairs["b", "c"] == 0
    assert table.agreement.notna().tolist() == [True, False, False]


def test_ratings_of_another_study_are_not_gone_on_from(pairs, tmp_path):
    rate.Rating(pairs, "a", tmp_path).choose("left")
    with pytest.raises(ParamsError, match=r"a\.csv.*another study"):
        rate.Rating(pairs.assign(pair_id=[f"t-{k}" for k in range(5)]), "a", tmp_path)
    with pytest.raises(ParamsError, match=r"'\.\./x'"):
        rate.Rating(pairs, "../x", tmp_path)


@pytest.fixture
def opened(pairs, tmp_path, monkeypatch):
    """The tool over invented pairs."""
    pytest.importorskip("ipywidgets")
    images = np.linspace(0, 1, 10)[:, None, None] * np.ones((10, 8, 8))
    monkeypatch.setattr(rate.synthesis, "listed_pairs", lambda study: (pairs, images))
    monkeypatch.setattr(rate, "folder_of", lambda study: tmp_path)
    return rate.widget(None, "me")


def test_the_tool_answers_buttons_and_keys(opened, pairs):
    prompt, images, controls = opened.children
    left, right, neither, undo, typed = controls.children
    before = images.children[0].value
    assert "female, 1" in prompt.value and undo.disabled and before != images.children[1].value
    left.click()
    assert opened.rating.rows[0]["choice"] == "left" and images.children[0].value != before and not undo.disabled
    typed.value = "n"
    assert [row["choice"] for row in opened.rating.rows] == ["left", "neither"] and typed.value == ""
    typed.value = "u"
    assert len(read_ratings(opened.rating.path, pairs)) == 1
    for _ in range(4):
        right.click()
    assert "Thank you" in prompt.value and right.disabled and neither.disabled and "5 of 5" in prompt.value


def test_a_png_has_the_size_and_channels_of_the_image():
    from io import BytesIO

    from PIL import Image

    grey, colour = (Image.open(BytesIO(rate.png(image))) for image in (np.ones((4, 6)), np.zeros((3, 4, 6))))
    assert (grey.size, grey.mode, np.asarray(grey).min()) == ((6, 4), "L", 255) and colour.mode == "RGB"
