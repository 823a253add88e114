"""Crops: one window for all, within the image, and pasted back where it was."""

import numpy as np
import pandas as pd
import pytest

from reconfair import params
from reconfair.diagnosis import crop
from reconfair.params import Reader


def discs(*centres, size=32, radius=3):
    y, x = np.mgrid[:size, :size]
    return np.stack([np.hypot(y - a, x - b) <= radius for a, b in centres]).astype(np.uint8)


def test_the_window_is_the_largest_box_and_the_margin():
    masks = discs((10, 10), (10, 14), (20, 20))
    box = crop.boxes(["a", "a", "b"], masks)
    assert box.loc["a"].tolist() == [7, 14, 7, 18] and crop.window(box, 5, 32) == (12, 16)


@pytest.mark.parametrize("margin", [22, 40])
def test_a_window_larger_than_the_image_is_refused_with_what_would_do(margin):
    box = crop.boxes(["a"], discs((10, 10), radius=6))
    with pytest.raises(ValueError, match=r"readers.margin.* 19 or less"):
        crop.window(box, margin, 32)


def test_no_object_at_all_is_refused():
    with pytest.raises(ValueError, match=r"readers.strategies.*mask"):
        crop.window(crop.boxes(["a"], np.zeros((1, 8, 8))), 5, 8)


def test_windows_are_centred_on_the_patient_and_stay_within_the_image():
    box = crop.boxes(["a", "b"], discs((16, 16), (2, 30)))
    corner = crop.corners(["a", "b", "unknown"], box, (10, 12), 32)
    assert corner.tolist() == [[11, 10], [0, 20], [11, 10]]


def test_what_is_cut_is_pasted_back_with_background_outside():
    masks = discs((16, 16), (4, 28))
    corner = crop.corners(["a", "b"], crop.boxes(["a", "b"], masks), (12, 14), 32)
    cut = crop.cut(masks, [0, 1], corner, (12, 14))
    assert cut.shape == (2, 12, 14) and (crop.paste(cut, corner, 32) == masks).all()
    whole = crop.paste(np.ones_like(cut), corner, 32)
    assert whole.sum() == 2 * 12 * 14


def test_only_the_largest_region_of_a_patient_is_kept():
    tumour, spot = discs((20, 20)), discs((4, 4), radius=1)
    masks = np.concatenate([tumour | spot, discs((4, 4), radius=1), spot, discs((20, 22))])
    patients = ["a", "b", "a", "a"]  # the spot shows in two images of a, and is all there is of b
    kept = crop.largest(patients, masks)
    assert (kept[0] == tumour[0]).all() and not kept[2].any() and (kept[3] == masks[3]).all()
    assert (kept[1] == masks[1]).all() and kept.dtype == masks.dtype and masks[0, 4, 4] == 1
    box = crop.boxes(patients, kept)
    assert crop.corners(["a"], box, (10, 12), 32).tolist() == [[15, 15]]
    assert not crop.largest(["a"], np.zeros((1, 8, 8))).any()


def test_both_networks_of_a_cascade_have_the_dose():
    assert crop.stages("oversample+cascade") == ("oversample", "crop+oversample")
    box = pd.DataFrame({"top": [0], "bottom": [4], "left": [0], "right": [4]}, index=["a"])
    assert crop.corners(["a"], box, (4, 4), 32).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("readers", "finds"), [({}, True), ({"box": "as_published"}, False), ({"as_published": True}, False)]
)
def test_a_spot_that_the_first_network_takes_for_an_object_does_not_move_the_window(readers, finds, monkeypatch):
    study = params.study(dataset={"name": "phantom_mri"}, readers={"strategies": ["cascade"], **readers})
    tumour, spot = discs((24, 24)), discs((3, 3), radius=1)
    images, masks = (tumour | spot).astype(np.float32), tumour
    monkeypatch.setattr(crop.diagnosis, "read", lambda *given: ((images > 0).astype(np.uint8), {}))
    monkeypatch.setattr(crop.diagnosis, "load", lambda *given: None)
    monkeypatch.setattr(crop.diagnosis, "look", lambda study, frozen, windows, *given: (windows > 0).astype(np.uint8))
    monkeypatch.setattr(crop, "sizes", lambda *given: (12, 12))
    (reader,) = [Reader(network, "cascade") for network in study.networks_of("cascade")]
    table = pd.DataFrame({"patient_id": ["a"]})
    answers, columns = crop.read(study, reader, images, np.array([0]), "reads", table, masks)
    assert (answers == tumour).all() == finds and columns["first_empty"].tolist() == [0]
    assert columns["box_error_y"][0] == (0 if finds else pytest.approx(100 * (28 - 2) / 7 - 100))
