"""The true disparity: what a frozen model does to a phantom population, against what was planted."""

import numpy as np
import pytest
import torch

from reconfair import diagnosis, params, truth


class Bright(torch.nn.Module):
    """Scores a slice by its brightest part, as a lesion of full contrast would be found."""

    def diagnose(self, images):
        bright = images[..., 14:50, 14:50].flatten(1).topk(80, dim=1).values.mean(1, keepdim=True)
        return (40 * (bright - 0.64)).sigmoid()


@pytest.fixture
def disparity(monkeypatch):
    """Disparity of a fixed reader between the sexes, for given dials, on 600 fresh patients."""

    def of(**dataset):
        study = params.study(
            dataset={"name": "phantom_mri", "size": 64, "slices": 2, **dataset},
            diagnosis={"tasks": ["grade"]},
            fairness={"attributes": ["sex"]},
        )
        monkeypatch.setattr(diagnosis, "load", lambda *_: Bright())
        monkeypatch.setattr(diagnosis, "thresholds", lambda *_: {"grade": 0.5})
        rows = truth.true_disparity(study, patients=600)
        return rows.set_index("metric").value

    return of


def test_without_dials_and_with_null_the_truth_is_near_zero_and_with_contrast_it_is_not(disparity):
    null = disparity(null=True)
    planted = disparity(dials={"contrast": {"sex": {"female": -0.9}}})
    # two groups of 300 patients: rates known to about 0.04, so a null EODD above 0.1 would be chance of 1 in 100
    assert null["eodd"] < 0.1 < 0.15 < planted["eodd"]


def test_the_draw_is_fresh_and_repeatable(disparity):
    first = disparity(null=True)
    assert np.array_equal(first.to_numpy(), disparity(null=True).to_numpy(), equal_nan=True)


def test_real_scans_have_no_known_truth():
    with pytest.raises(params.ParamsError, match="phantoms only, not of lgg"):
        truth.true_disparity(params.study(dataset={"name": "lgg"}))
