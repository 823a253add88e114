"""The true disparity: what a frozen model does to a phantom population, against what was planted."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import diagnosis, noise, params, truth
from reconfair.data import splits
from reconfair.fairness import assess

DIALS = {"contrast": {"sex": {"female": -0.9}}}


class Bright(torch.nn.Module):
    """Scores a slice by its brightest part, as a lesion of full contrast would be found."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def diagnose(self, images):
        self.seen.append(images)
        bright = images[..., 14:50, 14:50].flatten(1).topk(80, dim=1)[0].mean(1, keepdim=True)
        return (40 * (bright - 0.64)).sigmoid()


def planned(**dataset):
    return params.study(
        dataset={"name": "phantom_mri", "size": 64, "slices": 1, **dataset},
        diagnosis={"tasks": ["grade"]},
        fairness={"attributes": ["sex"]},
    )


@pytest.fixture
def disparity(monkeypatch):
    """Disparity of a fixed reader between the sexes, for given dials, on fresh patients; and the images it saw."""

    def of(patients, **dataset):
        reader, study = Bright(), planned(**dataset)
        monkeypatch.setattr(diagnosis, "load", lambda *_: reader)
        monkeypatch.setattr(diagnosis, "thresholds", lambda *_: {"grade": 0.5})
        rows = truth.true_disparity(study, patients=patients)
        return rows.set_index("metric").value, torch.cat(reader.seen)[:, 0].numpy()

    return of


def test_without_dials_and_with_null_the_truth_is_near_zero_and_with_contrast_it_is_not(disparity):
    null, planted = (disparity(600, **dataset)[0]["eodd"] for dataset in ({"null": True}, {"dials": DIALS}))
    # two groups of 300 patients: rates known to about 0.04, so a null EODD above 0.1 would be chance of 1 in 100
    assert null < 0.1 < 0.15 < planted


def test_the_draw_is_repeatable_and_of_patients_that_the_study_has_not(disparity):
    first, seen = disparity(40)
    again, same = disparity(40)
    assert np.array_equal(first, again, equal_nan=True) and np.array_equal(seen, same)
    dataset = planned(patients=40).dataset
    own, _ = truth.drawn(dataset, dataset.read_table(), 1)
    assert len(seen) == len(own) == 40
    assert not any(np.allclose(fresh, image, atol=1e-3) for fresh in seen for image in own)


@pytest.mark.parametrize("planted", [{"null": True}, {"dials": DIALS}], ids=["nothing", "fainter tumours in women"])
def test_estimates_of_small_cohorts_agree_with_the_truth_within_their_intervals(planted):
    study = params.study(
        dataset={"name": "phantom_mri", "size": 64, "slices": 1, "patients": 3500, **planted},
        noise={"kind": "kspace", "acceleration": 16},
        diagnosis={"tasks": ["grade"]},
    )
    cohort = splits.derive(study.dataset.read_table()).assign(split="test")
    images, _ = truth.drawn(study.dataset, cohort, study.compute.workers)
    seen = {"original": images, "noisy": noise.degrade(images, cohort.image_id, study.noise)}
    scores = {source: Bright().diagnose(torch.tensor(x)[:, None]).numpy() for source, x in seen.items()}
    (network,) = study.networks
    arms = [diagnosis.units(study, network, cohort, scores[source]).assign(source=source) for source in seen]
    predictions = pd.concat(arms).assign(strategy="standard", reader="standard")

    def eodd(patients):
        rows = predictions[predictions.patient_id.isin(patients)]
        _, fairness = assess(rows, cohort, attributes=["sex"], thresholds={"grade": 0.5}, resamples=400)
        return fairness[fairness.metric == "eodd"].set_index("source")

    ids = cohort.patient_id.unique()
    true, estimates = eodd(ids[:2000]), [eodd(some) for some in np.split(ids[2000:], 10)]
    assert true.loc["original", "value"] > 0.2 if "dials" in planted else true.loc["original", "value"] < 0.08
    # Of 10 intervals that each hold the truth with 95 %, at least 8 do so but in 1 of 80 cases.
    covered = [(e.low <= true.value) & (true.value <= e.high) for e in estimates]
    shift_covered = [(e.shift_low <= true["shift"]) & (true["shift"] <= e.shift_high) for e in estimates]
    assert (sum(covered) >= 8).all()
    assert sum(shift_covered)["noisy"] >= 8


def test_real_scans_have_no_known_truth():
    with pytest.raises(params.ParamsError, match=r"dataset\.name: .*phantoms.*lgg"):
        truth.true_disparity(params.study(dataset={"name": "lgg"}))
