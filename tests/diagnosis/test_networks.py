"""Diagnostic networks: their losses, their input adapters, and that they stay frozen."""

from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from reconfair import data, diagnosis, params, store
from reconfair.diagnosis import classify, segment
from reconfair.fairness.threshold import balanced_threshold
from reconfair.params import Network

CLASSIFY = {
    "architecture": "resnet18", "pretrained": False, "size": 0, "value_range": None, "batch_size": 4,
    "lr": 1e-3, "weight_decay": 0, "tasks": ["a", "b"], "seed": 0,
}  # fmt: skip
SEGMENT = {"encoder": "resnet18", "decoder": [8] * 5, "pretrained": False, "batch_size": 4, "lr": 1e-3, "seed": 0}


def classifier(**changes):
    torch.manual_seed(0)
    return classify.Diagnoser({**CLASSIFY, **changes}).eval()


def test_unknown_labels_leave_the_loss():
    module, images = classifier(), torch.rand(3, 64, 64)
    labels = torch.tensor([[1, 0], [float("nan"), 1], [0, float("nan")]])
    logits = module(images[:, None])
    known = torch.stack([logits[0, 0], logits[0, 1], logits[1, 1], logits[2, 0]])
    expected = binary_cross_entropy_with_logits(known, torch.tensor([1.0, 0, 1, 0]))
    assert torch.allclose(module.loss((images, labels)), expected)


@pytest.mark.parametrize("value_range", [None, (-1024, 1024)])
def test_the_adapter_is_differentiable_and_takes_any_size(value_range):
    module = classifier(size=48, value_range=value_range)
    for size in (48, 64, 96):
        images = torch.rand(2, 1, size, size, requires_grad=True)
        module(images).sum().backward()
        assert images.grad.abs().sum() > 0


def test_probabilities_do_not_depend_on_the_batch():
    module, images = classifier(), torch.rand(5, 1, 64, 64)
    with torch.inference_mode():
        whole = module.diagnose(images)
        alone = torch.cat([module.diagnose(image[None]) for image in images])
    assert whole.shape == (5, 2) and torch.allclose(whole, alone, atol=1e-5)


def test_the_segmenter_takes_sides_that_are_no_multiple_of_32():
    module, images = segment.Diagnoser(SEGMENT).eval(), torch.rand(2, 1, 80, 80)
    assert module(images).shape == images.shape
    assert set(module.diagnose(images).unique().tolist()) <= {0.0, 1.0}


def test_a_perfect_mask_has_no_loss_and_an_empty_one_nearly_half():
    module, masks = segment.Diagnoser(SEGMENT), torch.zeros(1, 32, 32)
    masks[:, 8:24, 8:24] = 1
    module.forward = lambda images: 100 * (2 * masks[:, None] - 1)
    assert module.loss((masks, masks)) < 1e-4
    module.forward = lambda images: torch.full_like(images, -100)
    # soft Dice (0 + 1) / (256 + 1); a quarter of the pixels is wrong
    assert module.loss((masks, masks)).item() == pytest.approx(0.5 * (1 - 1 / 257) + 0.5 * 0.25)


def test_unknown_networks_are_refused_by_name():
    with pytest.raises(ValueError, match=r"classify\.architecture: torchvision has no 'resnet19'"):
        classify.Diagnoser({**CLASSIFY, "architecture": "resnet19"})
    with pytest.raises(ValueError, match=r"segment\.encoder: .* has no 'resnet19'"):
        segment.Diagnoser({**SEGMENT, "encoder": "resnet19"})


def test_missing_pretrained_weights_are_named_with_their_place(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(ValueError, match=r"resnet18-\w+\.pth.*pretrained: false"):
        classifier().start_pretrained()


def test_pretrained_weights_on_disk_are_taken_but_for_the_last_layer(monkeypatch, tmp_path):
    from torchvision.models import get_model, get_model_weights

    torch.manual_seed(7)
    published = get_model("resnet18", num_classes=1000)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / get_model_weights("resnet18").DEFAULT.url.rsplit("/")[-1]
    path.parent.mkdir(parents=True)
    torch.save(published.state_dict(), path)
    module = classifier()
    module.start_pretrained()
    assert torch.equal(module.net.conv1.weight, published.conv1.weight)
    assert module.net.fc.weight.shape == (2, 512)


def test_a_missing_encoder_is_named_with_its_place(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    module = segment.Diagnoser(SEGMENT)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", unreachable)
    with pytest.raises(ValueError, match=r"smp-hub/resnet18\.imagenet.*pretrained: false"):
        module.start_pretrained()


def test_a_patients_score_is_the_median_over_the_images():
    study = params.study(dataset={"name": "phantom_mri"})
    table = pd.DataFrame(
        {"image_id": list("abcd"), "patient_id": ["p", "p", "p", "q"], "split": "test", "grade": [1, 1, 1, np.nan]}
    )
    units = diagnosis.units(
        study, Network("grade", "classify", ("grade",)), table, np.array([[0.1], [0.9], [0.2], [0.5]])
    )
    assert units.score.tolist() == [0.2, 0.5] and units.unit.tolist() == ["p", "q"]
    assert units.label[0] == 1 and np.isnan(units.label[1])


def test_dice_by_hand_and_missing_where_nothing_is_there():
    study = params.study(dataset={"name": "phantom_mri"})
    table = pd.DataFrame({"image_id": list("abc"), "patient_id": "p", "split": "test"})
    masks, said = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.float32)
    masks[0, 0] = 1  # four pixels, two of them found, and no other
    said[0, 0, :2] = 1
    said[1, 0, 0] = 1  # an answer where the truth is empty
    units = diagnosis.units(study, Network("tumour", "segment", ("tumour",)), table, said, masks)
    assert units.dice[0] == pytest.approx(2 * 2 / (2 + 4)) and units.dice[1] == 0 and np.isnan(units.dice[2])


def test_nothing_downstream_changes_a_weight(smallest):
    from reconfair import mitigation, recon, training

    paths = [store.flow(smallest)[f"diagnosis/{network.name}"].folder / "best.ckpt" for network in smallest.networks]
    before = [path.read_bytes() for path in paths]
    frozen = diagnosis.load(smallest, smallest.networks[0])
    weights = {name: value.clone() for name, value in frozen.state_dict().items()}
    images, rows = diagnosis.images_of(smallest, "unet")
    list(training.apply(frozen.diagnose, images, rows, smallest.compute, "test"))
    diagnosis.predict(smallest, "unet", "reweight")
    mitigation.finetune(smallest, "unet", "reweight")
    recon.reconstruct(smallest, "unet", "reweight")
    assert [path.read_bytes() for path in paths] == before
    assert all(torch.equal(value, weights[name]) for name, value in frozen.state_dict().items())


def test_the_threshold_is_that_of_the_validation_originals(smallest):
    predictions = diagnosis.predict(smallest, "original")
    for task, threshold in diagnosis.thresholds(smallest).items():
        rows = predictions[(predictions.task == task) & (predictions.split == "val")]
        assert threshold == pytest.approx(balanced_threshold(score=rows.score, label=rows.label), abs=1e-6)


def test_every_source_answers_for_the_same_units(smallest):
    answers = [diagnosis.predict(smallest, source) for source in ("original", "noisy", "unet")]
    for answer in answers[1:]:
        pd.testing.assert_frame_equal(
            answers[0][["unit", "task", "split", "label"]], answer[["unit", "task", "split", "label"]]
        )
    cohort = data.load(smallest).table
    evaluated = cohort[cohort.split.isin(["val", "test"])]
    assert set(answers[0][answers[0].task == "grade"].unit) == set(evaluated.patient_id)
