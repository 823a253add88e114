"""Segmenter: U-Net with an encoder from segmentation-models-pytorch."""

import segmentation_models_pytorch as smp
import timm
import torch
from torch.nn import functional as F

from reconfair.diagnosis.networks import LITE, Learner, check_name, in_hub, packaged, published


class Diagnoser(Learner):
    """Half soft Dice loss, half L1, on sigmoid probabilities.

    Raises
    ------
    ValueError
        segmentation-models-pytorch has no encoder of the name in ``settings["encoder"]``, nor has timm
        after its prefix ``tu-``.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        names = [*timm.list_models(), *timm.list_pretrained()]
        names = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in names)]
        check_name("diagnosis.segment.encoder", settings["encoder"], names)
        self.net = smp.Unet(settings["encoder"], encoder_weights=None, decoder_channels=settings["decoder"])

    def start_pretrained(self) -> None:
        """Take over the published weights of the encoder, ImageNet's where there are several.

        Raises
        ------
        ValueError
            They are neither on disk nor to be downloaded; says where to put them.
        """
        name = self.settings["encoder"]
        if name == f"tu-{LITE}":
            with published("segment", name, "Install reconfair[weights]"):
                weights = packaged(timm.create_model(LITE).state_dict())
            state = self.net.encoder.state_dict()
            fitting = {key: weights.get(key.removeprefix("model."), value) for key, value in state.items()}
            self.net.encoder.load_state_dict(fitting)
            return
        if name.startswith("tu-"):
            weights, repository = True, timm.get_pretrained_cfg(name[3:]).hf_hub_id
        else:
            every = smp.encoders.encoders[name]["pretrained_settings"]
            weights = "imagenet" if "imagenet" in every else next(iter(every))
            repository = every[weights]["repo_id"]
        with published("segment", name, in_hub(repository)):
            encoder = smp.encoders.get_encoder(name, weights=weights)
        self.net.encoder.load_state_dict(encoder.state_dict())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, s, s) within [0, 1] to logits of the same shape; differentiable.

        The encoder halves five times, so sides are padded to multiples of 32 and cut again.
        """
        height, width = images.shape[-2:]
        return self.net(padded(images))[..., :height, :width]

    def diagnose(self, images: torch.Tensor) -> torch.Tensor:
        """Masks (n, s, s) of zeros and ones, at probability 0.5."""
        return (self(images)[:, 0] >= 0).float()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Means of the encoder's deepest layer over images (n, 1, s, s): (n, features); differentiable."""
        return self.net.encoder(padded(images))[-1].mean((2, 3))

    def summands(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Overlap, both areas, L1 and 1 of each slice, (n, 4), of logits (n, 1, s, s) against masks (n, s, s)."""
        # In half precision, areas of thousands of pixels would be rounded.
        probability = logits[:, 0].float().sigmoid()
        overlap, areas = (probability * masks).sum((1, 2)), probability.sum((1, 2)) + masks.sum((1, 2))
        return torch.stack([overlap, areas, (probability - masks).abs().mean((1, 2)), torch.ones_like(overlap)], 1)

    @staticmethod
    def of_sums(sums: torch.Tensor) -> torch.Tensor:
        """0.5 (1 - soft Dice) + 0.5 L1 of `summands` that are added up, (..., 4): Dice is that of all slices."""
        overlap, areas, error, slices = sums.unbind(-1)
        return 0.5 * (1 - (2 * overlap + 1) / (areas + 1)) + 0.5 * error / slices


def padded(images: torch.Tensor) -> torch.Tensor:
    """Images (n, 1 or 3, h, w) at sides of multiples of 32, in three channels."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % 32, 0, -height % 32)).expand(-1, 3, -1, -1)
