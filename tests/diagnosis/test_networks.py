"""Diagnostic networks: their losses, their input adapters, and that they stay frozen."""

import re
import shutil
import sys
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.models import get_model, get_model_weights

from reconfair import data, diagnosis, mitigation, params, run, store
from reconfair.diagnosis import classify, segment
from reconfair.fairness.threshold import balanced_threshold
from reconfair.params import NOISY, ORIGINAL, Network, Reader, Source

CLASSIFY = {
    "architecture": "resnet18", "pretrained": False, "size": 0, "value_range": None, "batch_size": 4,
    "lr": 1e-3, "weight_decay": 0, "tasks": ["a", "b"], "seed": 0,
}  # fmt: skip
SEGMENT = {"encoder": "resnet18", "decoder": [8] * 5, "pretrained": False, "batch_size": 4, "lr": 1e-3, "seed": 0}


def classifier(**changes):
    torch.manual_seed(0)
    return classify.Diagnoser({**CLASSIFY, **changes}).eval()


def unreachable(*_, **__):
    raise URLError("no network")


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """Torch's cache, empty, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts weights into Hugging Face's cache, empty until then; and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(repository, weights, commit="0" * 40):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
        (folder / "snapshots" / commit / "config.json").write_text("{}")
        save_file(weights, folder / "snapshots" / commit / "model.safetensors")

    return put


def same_but_the_last_layer(net, published, last):
    weights = published.state_dict()
    assert {name for name, value in net.state_dict().items() if not torch.equal(value, weights[name])} == last


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


# --- architectures ---


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet19", "resnet18"),
        ("vit_tiny_patch16_225", "vit_tiny_patch16_224"),
        ("resnet18d.ra3_in1k", "resnet18d.ra2_in1k"),
    ],
)
def test_an_unknown_architecture_is_refused_with_the_nearest_name(name, nearest):
    with pytest.raises(ValueError, match=rf"diagnosis\.classify\.architecture: .*'{name}'.*'{nearest}'"):
        classifier(architecture=name)


@pytest.mark.parametrize(("name", "nearest"), [("resnet19", "resnet18"), ("tu-convnext_tny", "tu-convnext_tiny")])
def test_an_unknown_encoder_is_refused_with_the_nearest_name(name, nearest):
    with pytest.raises(ValueError, match=rf"diagnosis\.segment\.encoder: .*'{name}'.*'{nearest}'"):
        segment.Diagnoser({**SEGMENT, "encoder": name})


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_b_16"])
def test_a_vit_sees_images_at_the_size_it_takes_and_at_no_other(name):
    module = classifier(architecture=name)
    assert module.size == 224
    with torch.inference_mode():
        assert module(torch.rand(2, 1, 64, 64)).shape == (2, 2)
    with pytest.raises(ValueError, match=rf"classify\.size: {name} takes 224 pixels, not 64"):
        classifier(architecture=name, size=64)


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "vit_tiny_patch16_224"])
def test_black_and_white_are_mapped_as_in_the_first_training(name):
    # torchvision: ImageNet's mean over the channels; timm: what it records with the network
    first = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    first = timm.get_pretrained_cfg(name).to_dict() if name != "resnet18" else first
    mean, deviation = np.mean(first["mean"]), np.mean(first["std"])
    assert classifier(architecture=name).value_range == pytest.approx((-mean / deviation, (1 - mean) / deviation))


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "mit_b0", "tu-resnet18", "tu-convnext_atto"])
def test_encoders_of_both_libraries_segment(encoder):
    module, images = segment.Diagnoser({**SEGMENT, "encoder": encoder}).eval(), torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        assert module(images).shape == images.shape


def test_a_classifier_of_timm_learns_the_labels_of_its_training_images():
    torch.manual_seed(0)
    module = classify.Diagnoser({**CLASSIFY, "architecture": "resnet18d", "tasks": ["a"]})
    images, labels = torch.rand(8, 32, 32), torch.tensor([[0.0], [1.0]] * 4)
    images[1::2, 8:16, 8:16] += 1
    optimiser = module.configure_optimizers()
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        losses.append(module.loss((images, labels)))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 4


# --- published weights ---


def probed(slices=1, **changes):
    """A small study whose reader begins with a linear probe: its state, where that started, and the log."""
    settings = {"architecture": "test_resnet", "pretrained": False, "linear_probe": True, **changes}
    dataset = {"name": "phantom_mri", "size": 64, "patients": 60, "slices": slices}
    study = params.study(dataset=dataset, noise="none", diagnosis={"tasks": ["grade"], "classify": settings})
    (network,) = study.networks
    weights = store.make(diagnosis.weights(study, Reader(network)))
    state = torch.load(weights / "best.ckpt", weights_only=True)["state_dict"]
    return study, state, diagnosis.build(study, network).state_dict(), pd.read_csv(weights / "log.csv")


def test_a_linear_probe_fits_the_last_layer_alone(outputs):
    study, state, start, log = probed(epochs=0)
    moved = {name for name, value in state.items() if not torch.equal(value, start[name])}
    assert moved == {"net.fc.weight", "net.fc.bias"} and log.epoch.tolist() == [0]
    table = data.load(study).table
    rate = table.grade[table.split == "train"].mean()
    assert log.train_loss.item() < -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))  # that of the share alone
    assert diagnosis.weights(study, Reader(study.networks[0])).work().amount > 0


def test_after_a_linear_probe_all_layers_train_and_normalisation_stays(outputs):
    _, state, start, log = probed(epochs=1)
    moved = {name for name, value in state.items() if not torch.equal(value, start[name])}
    assert any("conv" in name for name in moved) and not any("running_mean" in name for name in moved)
    assert log.epoch.tolist() == [1]


def test_a_classifier_can_be_trained_on_outlined_images_alone(outputs, monkeypatch):
    seen, fitted = [], diagnosis._linear_probe

    def recorded(study, module, of, folder):
        seen.extend((of.rows, of.val))
        fitted(study, module, of, folder)

    monkeypatch.setattr(diagnosis, "_linear_probe", recorded)
    study = probed(slices=4, epochs=0, outlined=True)[0]
    cohort = data.load(study)
    for rows, split in zip(seen, ("train", "val"), strict=True):
        every = data.rows(cohort.table, split)
        assert list(rows) == [row for row in every if cohort.masks[row].any()] and 0 < len(rows) < len(every)
    with pytest.raises(params.ParamsError, match=r"diagnosis\.classify\.outlined.*nih"):
        params.study(dataset={"name": "nih"}, noise="none", diagnosis={"classify": {"outlined": True}})


def test_a_probe_or_some_epochs_must_train_a_classifier():
    with pytest.raises(params.ParamsError, match=r"diagnosis\.classify.*linear_probe"):
        params.study(dataset={"name": "lgg"}, noise="none", diagnosis={"classify": {"epochs": 0}})


def test_missing_weights_of_torchvision_are_named_with_their_place(torch_home):
    with pytest.raises(ValueError, match=rf"classify\.pretrained: .*{re.escape(str(torch_home))}/resnet18-\w+\.pth"):
        classifier().start_pretrained()


def test_a_broken_file_of_weights_is_named_with_its_place(torch_home):
    (torch_home / get_model_weights("resnet18").DEFAULT.url.rsplit("/")[-1]).write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"classify\.pretrained: .*resnet18-\w+\.pth"):
        classifier().start_pretrained()


def test_weights_of_torchvision_on_disk_are_taken_but_for_the_last_layer(torch_home):
    torch.manual_seed(7)
    published = get_model("resnet18", num_classes=1000)
    torch.save(published.state_dict(), torch_home / get_model_weights("resnet18").DEFAULT.url.rsplit("/")[-1])
    module = classifier()
    module.start_pretrained()
    same_but_the_last_layer(module.net, published, {"fc.weight", "fc.bias"})


def test_missing_weights_are_named_before_anything_is_made_each_once(torch_home, hub, outputs, tmp_path, capsys):
    file = tmp_path / "mri_originals.yaml"
    file.write_text(
        "dataset: {name: phantom_mri, patients: 40, size: 64}\nnoise: none\n"
        "diagnosis: {tasks: [grade], classify: {architecture: resnet18}}\n"
        "synthesis: {cells: sex*grade, widths: [1, 2], vit: test_vit, resnet: resnet18, classifiers: [vit, resnet]}\n"
    )
    for command in (["check"], ["run", "--only", "01"]):
        assert run.main([*command, str(file)]) == 2
        said = capsys.readouterr().err
        assert said.count("diagnosis.classify.pretrained: the weights of resnet18 cannot be loaded") == 1
        assert "test_vit" in said
    assert not list(outputs.glob("*/cohort"))
    torch.save(
        get_model("resnet18").state_dict(), torch_home / get_model_weights("resnet18").DEFAULT.url.rsplit("/")[-1]
    )
    assert diagnosis.check_weights(params.load(file)) == []


def test_weights_of_a_densenet_are_taken_although_published_under_older_names(torch_home):
    torch.manual_seed(7)
    published = get_model("densenet121", num_classes=1000)
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in published.state_dict().items()
        if "num_batches_tracked" not in name
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    torch.save(older, torch_home / get_model_weights("densenet121").DEFAULT.url.rsplit("/")[-1])
    module = classifier(architecture="densenet121")
    module.start_pretrained()
    same_but_the_last_layer(module.net, published, {"classifier.weight", "classifier.bias"})


def test_weights_of_timm_in_the_cache_are_taken_but_for_the_last_layer(hub):
    torch.manual_seed(7)
    published = timm.create_model("resnet18d")
    hub("timm/resnet18d.ra2_in1k", published.state_dict())
    module = classifier(architecture="resnet18d")
    module.start_pretrained()
    same_but_the_last_layer(module.net, published, {"fc.weight", "fc.bias"})


def test_weights_of_an_encoder_in_the_cache_are_taken(hub):
    torch.manual_seed(7)
    published, of = smp.encoders.get_encoder("resnet18"), smp.encoders.encoders["resnet18"]["pretrained_settings"]
    hub(of["imagenet"]["repo_id"], published.state_dict(), of["imagenet"]["revision"])
    module = segment.Diagnoser(SEGMENT)
    module.start_pretrained()
    same_but_the_last_layer(module.net.encoder, published, set())


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("module", "repository"),
    [
        (lambda: classifier(architecture="resnet18d"), "timm/resnet18d.ra2_in1k"),
        (lambda: segment.Diagnoser(SEGMENT), "smp-hub/resnet18.imagenet"),
        (lambda: segment.Diagnoser({**SEGMENT, "encoder": "tu-resnet18d"}), "timm/resnet18d.ra2_in1k"),
        (lambda: segment.Diagnoser({**SEGMENT, "encoder": "resnext101_32x4d"}), "smp-hub/resnext101_32x4d"),
    ],
    ids=["timm", "smp", "smp of timm", "smp without ImageNet"],
)
def test_missing_weights_of_a_hub_are_named_with_their_repository(module, repository):
    with pytest.raises(ValueError, match=rf"\.pretrained: .*{repository}.*HF_HOME"):
        module().start_pretrained()


XRAY = {"architecture": "densenet121", "pretrained": "xrv-pc"}


def test_torchxrayvision_is_asked_for_by_the_name_of_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    with pytest.raises(ValueError, match=r"classify\.pretrained: .*xrv-pc.*reconfair\[xrv\]"):
        classifier(**XRAY).start_pretrained()


def test_missing_weights_of_torchxrayvision_are_named_with_their_place(monkeypatch, tmp_path):
    pytest.importorskip("torchxrayvision")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("torchxrayvision.utils.download", unreachable)
    with pytest.raises(
        ValueError, match=r"classify\.pretrained: .*https\S+/pc-dense\S+ .*/models_data/pc-dense\S+\.pt"
    ):
        classifier(**XRAY).start_pretrained()


def test_with_weights_of_torchxrayvision_the_features_are_those_of_its_model(monkeypatch, tmp_path):
    models = pytest.importorskip("torchxrayvision").models
    torch.manual_seed(7)
    published, image = models.DenseNet(num_classes=18).eval(), torch.rand(2, 1, 64, 64)
    folder = tmp_path / ".torchxrayvision" / "models_data"
    folder.mkdir(parents=True)
    torch.save(published, folder / models.model_urls["pc"]["weights_url"].rsplit("/")[-1])
    monkeypatch.setenv("HOME", str(tmp_path))
    module = classifier(**XRAY, tasks=[str(task) for task in range(18)])
    module.start_pretrained()
    seen = []
    module.net.features.register_forward_hook(lambda *passed: seen.append(passed[-1]))
    with torch.inference_mode():
        module(image)
        theirs = published.features(2048 * image - 1024).relu()
    assert torch.allclose(seen[0], theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())
    assert not torch.equal(module.net.classifier.weight, published.classifier.weight)  # as many, but other findings


def test_weights_of_torchxrayvision_are_chosen_by_name_and_for_their_network_alone():
    def study(name, **classify):
        return params.study(dataset={"name": name}, diagnosis={"classify": classify})

    assert study("nih", pretrained="xrv-pc").diagnosis.classify.value_range == (-1024, 1024)
    with pytest.raises(ValueError, match=r"classify\.pretrained: 'xrv-chexpert'.*'xrv-chex'"):
        study("nih", pretrained="xrv-chexpert")
    with pytest.raises(ValueError, match=r"xrv-pc.*densenet121.*resnet50"):
        study("lgg", pretrained="xrv-pc")


# --- from answers to decisions ---


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
    masks, answers = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.float32)
    masks[0, 0] = 1  # four pixels, two of them found, and no other
    answers[0, 0, :2] = 1
    answers[1, 0, 0] = 1  # an answer where the truth is empty
    units = diagnosis.units(study, Network("tumour", "segment", ("tumour",)), table, answers, masks)
    assert units.dice[0] == pytest.approx(2 * 2 / (2 + 4)) and units.dice[1] == 0 and np.isnan(units.dice[2])


# --- frozen ---


def test_nothing_downstream_changes_a_weight(smallest, tmp_path, monkeypatch):
    shutil.copytree(store.outputs() / smallest.label, tmp_path / smallest.label)
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    tuned, loaded, load = Source("unet", "reweight"), [], diagnosis.load
    readers = {network: diagnosis.weights(smallest, Reader(network)).folder for network in smallest.networks}
    trained = {network: torch.load(folder / "best.ckpt")["state_dict"] for network, folder in readers.items()}
    standard = [diagnosis.product(smallest, source) for source in (ORIGINAL, NOISY, Source("unet"))]
    remade = [*standard, mitigation.weights(smallest, tuned), mitigation.predictions(smallest, tuned)]
    for product in remade:
        product.stamp.unlink()

    def recorded(study, network, strategy="standard"):
        loaded.append((network, load(study, network, strategy)))
        return loaded[-1][1]

    monkeypatch.setattr(diagnosis, "load", recorded)
    for product in remade:
        store.make(product)
    assert all(product.fresh for product in remade) and len(loaded) == (len(standard) + 1) * len(trained)
    for network, frozen in loaded:
        after, before = frozen.state_dict(), trained[network]
        assert after.keys() == before.keys() and any("running_mean" in name for name in after)
        assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_a_frozen_network_stays_so_within_a_module_that_trains(smallest):
    frozen = diagnosis.load(smallest, smallest.networks[0])
    around = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), frozen).train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    optimiser = torch.optim.SGD([weight for weight in around.parameters() if weight.requires_grad], lr=0.1)
    logits = around(torch.rand(4, 1, 64, 64))
    cross_entropy(torch.cat([logits, -logits], 1), torch.tensor([0, 1, 0, 1])).backward()
    optimiser.step()
    assert around[0].weight.grad.abs().sum() > 0  # gradients go through it to what is trained
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


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
