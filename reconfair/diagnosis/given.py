"""Diagnostic models of the user's own: a class in a Python file, TorchScript or ONNX. They are judged, not trained.

Their files are run as they stand. This module imports torch where it computes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from reconfair import store
from reconfair.params import Compute, external, file_of, is_external
from reconfair.store import Work

LEAST = 1e-6  # probabilities nearer to 0 and 1 have the logit of this one


def files(model: str) -> tuple[list[str], list[str]]:
    """The Python file of a model, and checksums of its other files: TorchScript, ONNX, or those that a class names."""
    path = file_of(model)
    if not is_external(model):
        return [], [store.checksum(path)]
    return [str(path)], [store.checksum(path.parent / name) for name in getattr(external(model), "files", ())]


def work(images: float, size: int, compute: Compute) -> Work:
    """What it takes to look at images; what such a model costs is not known, a ResNet-50 is assumed."""
    from reconfair import training

    operations, (rate, on_gpu) = 0.004 * (size / 224) ** 2, training.rate_of("apply given", compute)
    return Work("apply given", operations * images, rate, 1500, 0.1, on_gpu)


def diagnoser(settings: dict):
    """Load the model of the user's own as a frozen module that has ``diagnose`` and ``features``.

    Parameters
    ----------
    settings : dict
        ``model`` (as the params file names it), ``kind`` (``classify`` or ``segment``) and ``tasks``; ``classes`` where
        these are the classes of one task, and ``inputs`` 3 where images have three channels.

    Returns
    -------
    torch.nn.Module
        ``diagnose(images)`` maps images (n, 1 or 3, s, s) within [0, 1] to probabilities (n, tasks), or to masks
        (n, s, s) of zeros and ones.

    Raises
    ------
    ValueError
        The file cannot be loaded.
    """
    import torch

    from reconfair import diagnosis

    class Diagnoser(torch.nn.Module):
        """A model of the user's own, and what is made of its answers."""

        def __init__(self):
            super().__init__()
            self.settings, self.net = settings, _loaded(settings["model"], settings.get("inputs", 1))
            self.register_buffer("weights", torch.ones(len(settings["tasks"])))  # of classes, in the criterion
            self.eval()

        def diagnose(self, images: torch.Tensor) -> torch.Tensor:
            """Probabilities (n, tasks) or masks (n, s, s)."""
            answers = self.probabilities(images)
            return (answers >= 0.5).float() if settings["kind"] == "segment" else answers

        def probabilities(self, images: torch.Tensor) -> torch.Tensor:
            """What the model answers, checked: (n, tasks), or (n, s, s) of a segmenter."""
            return _checked(getattr(self.net, "diagnose", self.net)(images), images, settings)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Logits of the probabilities: (n, tasks), or (n, 1, s, s) of a segmenter."""
            logits = self.probabilities(images).clamp(LEAST, 1 - LEAST).logit()
            return logits[:, None] if settings["kind"] == "segment" else logits

        def criterion(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            """The loss that a reader of this kind is trained with."""
            learner = diagnosis.diagnoser(settings["kind"])
            return learner.of_sums(learner.summands(self, logits, truth).sum(0))

        def features(self, images: torch.Tensor) -> torch.Tensor:
            """Features (n, features): those of the model, or its logits where it states none."""
            if hasattr(self.net, "features") and is_external(settings["model"]):
                return torch.as_tensor(self.net.features(images), dtype=torch.float32).flatten(1)
            return self(images).flatten(1)

    return Diagnoser().requires_grad_(False)


def _checked(answers, images, settings: dict):
    """The answers of a model to some images, (n, tasks) or (n, s, s), unless these are no probabilities."""
    import torch

    model, n, side, classifies = settings["model"], len(images), images.shape[-1], settings["kind"] == "classify"
    if isinstance(answers, tuple | list | dict):
        raise ValueError(f"{model}: it has {len(answers)} answers to each image, expected probabilities alone")
    answers = torch.as_tensor(answers, device=images.device)
    if classifies and not answers.is_floating_point():
        raise ValueError(f"{model}: answers are whole numbers ({answers.dtype}); expected probabilities")
    answers = answers.float()
    wanted = (n, len(settings["tasks"])) if classifies else (n, side, side)
    kinds = {wanted, (*wanted[:1], 1, *wanted[1:])} | ({(n,)} if wanted[1:] == (1,) else set())
    if tuple(answers.shape) not in kinds:
        shapes = f"images {tuple(images.shape)} have the shape {tuple(answers.shape)}; expected {wanted}"
        raise ValueError(f"{model}: answers to {shapes}")
    if not bool(((answers >= 0) & (answers <= 1)).all()):  # false of NaN as well
        raise ValueError(
            f"{model}: answers lie within [{answers.min():g}, {answers.max():g}]; expected probabilities within "
            "[0, 1], so let the model end in a sigmoid"
        )
    total = answers.sum(1)
    if settings.get("classes") and not bool(((total - 1).abs() <= 0.01).all()):
        raise ValueError(
            f"{model}: probabilities of the {wanted[1]} classes sum to {total.min():g} up to {total.max():g}; expected "
            "1, so let the model end in a softmax"
        )
    return answers.reshape(wanted)


def check(module, size: int) -> None:
    """Let a model look at two images; raises as it does where they or its answers are wrong.

    Raises
    ------
    ValueError
        The answer to an image changes from look to look, or with the images beside it.
    """
    import torch

    shape = (2, module.settings.get("inputs", 1), size, size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        both, first = (module.probabilities(some) for some in (images, images[:1]))
    if (both[:1] - first).abs().max() > 1e-3:
        raise ValueError(
            f"{module.settings['model']}: the answer to an image changes with the images beside it, or from look to "
            "look; expected a model that is no longer trained (in PyTorch, eval())"
        )


def _loaded(model: str, inputs: int = 1):
    """The model itself; called with images it returns probabilities."""
    import torch

    if is_external(model):
        return external(model)()
    path = file_of(model)
    if path.suffix == ".onnx":
        return _onnx(path, inputs)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch asks for another format
            return torch.jit.load(path, map_location="cpu")
    except Exception as error:  # torch raises several kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{model}: cannot be loaded as TorchScript ({reason})") from None


def _onnx(path: Path, inputs: int):
    """A function of images (n, 1, s, s) that runs an ONNX file with ONNX Runtime, on the CPU."""
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path.name}: ONNX Runtime is not installed. Install reconfair[onnx]") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise ValueError(f"{path.name}: cannot be loaded as ONNX ({str(error).splitlines()[0]})") from None
    (name, wanted), *others = [(each.name, each.shape) for each in session.get_inputs()]
    if others or len(wanted) != 4:
        raise ValueError(
            f"{path.name}: expected one input (n, 1, size, size), found {[wanted, *dict(others).values()]}"
        )
    if isinstance(wanted[1], int) and wanted[1] != inputs:
        raise ValueError(
            f"{path.name}: it takes {wanted[1]} channels, images have {inputs}; wrap it in a class of a Python file"
        )
    alone = wanted[0] == 1  # exported for one image at a time
    if len(answers := [each.name for each in session.get_outputs()]) > 1:
        raise ValueError(
            f"{path.name}: it has {len(answers)} outputs ({', '.join(answers)}), and which holds probabilities is not "
            "known; export that one alone, or wrap the file in a class of a Python file"
        )

    def run(images: torch.Tensor) -> torch.Tensor:
        batches = images.cpu().numpy().astype(np.float32)
        for batch in batches[:1]:
            sides = [side for side in wanted[2:] if isinstance(side, int) and side != batch.shape[-1]]
            if sides:
                raise ValueError(f"{path.name}: it takes images of {sides[0]} pixels, not {batch.shape[-1]}")
        pieces = np.split(batches, len(batches)) if alone else [batches]
        return torch.from_numpy(np.concatenate([session.run(None, {name: piece})[0] for piece in pieces]))

    return run
