"""What a remedy knows of images and readers, and what one that overrides nothing does."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair.params import Network
from reconfair.remedies.remedy import Panel, Remedy

GRADE, TUMOUR = Network("grade", "classify", ("grade", "type")), Network("tumour", "segment", ("tumour",))


class Quarters(torch.nn.Module):
    """A reader with four features."""

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


@pytest.fixture
def panel():
    """Three images: the second of unknown sex and without a tumour, the third of unknown type."""
    table = pd.DataFrame({"sex": ["male", None, "female"], "race": ["a", "b", "b"], "grade": [1, 0, 1]})
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[[0, 2], 2] = 1
    tasks = {"grade": "classify", "type": "classify", "tumour": "segment"}
    loaded = []
    made = Panel(
        table.assign(type=[0, 1, np.nan]),
        masks,
        tasks,
        ("sex", "race"),
        {"grade": 0.3, "type": 0.6},
        lambda: loaded.append(1) or {GRADE: Quarters(), TUMOUR: Quarters()},
        (1, 8, 8),
        "cpu",
    )
    assert not loaded  # networks are loaded when a remedy first looks
    return made


def test_labels_and_rates_are_those_of_each_task(panel):
    nan = np.nan
    np.testing.assert_array_equal(panel.labels, [[1, 0, 1], [0, 1, nan], [1, nan, 1]])
    assert panel.rates.tolist() == [2, 2, 1]  # TPR and FPR; of a segmentation Dice alone
    assert panel.thresholds.tolist() == pytest.approx([0.3, 0.6, 0.5])
    assert panel.columns(GRADE) == slice(0, 2) and panel.columns(TUMOUR) == slice(2, 3)


def test_a_missing_attribute_is_in_no_group(panel):
    assert panel.spans == [slice(0, 2), slice(2, 4)]
    assert panel.groups.tolist() == [[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 1]]
    assert panel.joint.tolist() == [1, -1, 0]


def test_features_are_counted_network_by_network(panel):
    assert panel.features() == [4, 4]


def test_a_remedy_that_overrides_nothing_changes_nothing(panel):
    remedy, losses = Remedy(panel, [0, 1], 1.0), torch.rand(2)
    assert remedy.shares() is None and not remedy.terms and remedy.measure(losses, [0, 1]) == {}
    assert remedy.weigh(losses, torch.tensor([0, 1])) is losses
    assert remedy.afresh() is remedy and remedy.state_dict() == {}
