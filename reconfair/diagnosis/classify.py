"""Classifier of slices or radiographs: any torchvision network, one output per task."""

from pathlib import Path

import lightning as L
import torch
from torch.nn import functional as F
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.transforms.v2.functional import resize

# Mean and deviation of ImageNet's channels, averaged to the one channel of a scan.
MEAN, DEVIATION = 0.449, 0.226


class Diagnoser(L.LightningModule):
    """Binary cross-entropy on one logit per task; unknown labels (NaN) leave the loss.

    Raises
    ------
    ValueError
        torchvision has no network of the name in ``settings["architecture"]``.
    """

    def __init__(self, settings: dict):
        super().__init__()
        self.settings = settings
        if settings["architecture"] not in list_models():
            raise ValueError(f"diagnosis.classify.architecture: torchvision has no '{settings['architecture']}'")
        self.net = get_model(settings["architecture"], weights=None, num_classes=len(settings["tasks"]))

    def start_pretrained(self) -> None:
        """Take over the ImageNet weights of all but the last layer."""
        weights = imagenet(get_model_weights(self.settings["architecture"]).DEFAULT.url)
        own = self.net.state_dict()
        fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
        self.net.load_state_dict(fitting, strict=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, s, s) within [0, 1] to logits (n, tasks); differentiable."""
        size, value_range = self.settings["size"], self.settings["value_range"]
        if size and images.shape[-1] != size:
            images = resize(images, [size, size], antialias=True)
        low, high = value_range or (-MEAN / DEVIATION, (1 - MEAN) / DEVIATION)
        return self.net((low + (high - low) * images).expand(-1, 3, -1, -1))

    def diagnose(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, tasks)."""
        return self(images).sigmoid()

    def loss(self, batch) -> torch.Tensor:
        """Mean cross-entropy over the known labels of a batch: images (n, s, s), labels (n, tasks)."""
        images, labels = batch
        known = ~labels.isnan()
        return F.binary_cross_entropy_with_logits(self(images[:, None])[known], labels[known])

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self):
        settings = self.settings
        return torch.optim.Adam(self.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])


def imagenet(url: str) -> dict[str, torch.Tensor]:
    """Read published weights from torch's cache, or download them.

    Raises
    ------
    ValueError
        They are neither on disk nor to be downloaded; says where to put the file.
    """
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True, progress=False)
    except OSError as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/")[-1]
        raise ValueError(
            f"diagnosis.classify.pretrained: no ImageNet weights on disk, and no download ({error}). Put {url} "
            f"at {place}, or set diagnosis.classify.pretrained: false to start from random weights"
        ) from None
