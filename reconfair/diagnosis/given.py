"""Diagnostic models of the user's own: a class in a Python file, TorchScript or ONNX. They are judged, not trained.

Their files are run as they stand. This module imports torch where it computes.
"""

from __future__ import annotations

import mmap
import re
import textwrap
import warnings
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from reconfair import store
from reconfair.params import Compute, external, file_of, is_external, needed_files
from reconfair.store import Work

LEAST = 1e-6  # probabilities nearer to 0 and 1 have the logit of this one
# Of a tensor that an ONNX file keeps in another: the field external_data, its key, and the length of the file's name.
ELSEWHERE = re.compile(rb"\x6a(?:[\x80-\xff]?[\x00-\x7f])\n\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)


def files(model: str) -> tuple[list[str], list[str]]:
    """The Python file of a model, and checksums of its other files.

    These are TorchScript, ONNX with the files that hold its weights, or what a class names in ``files``.
    """
    path = file_of(model)
    if is_external(model):
        return [str(path)], [store.checksum(other) for other in needed_files(model)]
    others = _weights_of(path, path.stat().st_mtime_ns) if path.suffix == ".onnx" else ()
    return [], [store.checksum(one) for one in (path, *others)]


@cache
def _weights_of(path: Path, date: int) -> tuple[Path, ...]:
    """The files in which an ONNX file keeps its weights, if not in itself; `date` is its own."""
    if not path.stat().st_size:
        return ()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = set()
        for match in ELSEWHERE.finditer(content):
            low, *high = match[1]
            length = (low & 127) + 128 * sum(high)  # seven bits a byte, the lowest first
            names.add(content[match.end() : match.end() + length].decode(errors="replace"))
    return tuple(path.parent / name for name in sorted(names))


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
            return _checked(getattr(self.net, "diagnose", self.net), images, settings)

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
            if not (hasattr(self.net, "features") and is_external(settings["model"])):
                return self(images).flatten(1)
            expected = f"features ({len(images)}, features)"
            answers = _asked(self.net.features, images, settings["model"], expected).float()
            if answers.ndim < 2 or len(answers) != len(images):
                raise _fault(settings["model"], images, f"its answers have the shape {(*answers.shape,)}", expected)
            return answers.flatten(1)

    return Diagnoser().requires_grad_(False)


def _fault(model: str, images, what: str, expected: str) -> ValueError:
    """An error that says what was given to a model, what came of it, and what was expected."""
    given = f"given {str(images.dtype).removeprefix('torch.')} images {(*images.shape,)} within [0, 1]"
    return ValueError(f"{model}: {given}, {what}; expected {expected}")


def _reason(error: Exception) -> str:
    """What an error says, in one line; the last one of TorchScript, which shows its calls first."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[-1].removeprefix("RuntimeError: ") if "TorchScript" in lines[0] else " ".join(lines)
    return textwrap.shorten(f"{type(error).__name__}: {text}", 240, placeholder=" ...")


def _asked(method, images, model: str, expected: str):
    """What a method of a model answers to images, as a tensor where the images are."""
    import torch

    try:
        answers = method(images)
    except Exception as error:  # of any kind
        raise _fault(model, images, f"it fails ({_reason(error)})", expected) from error
    if not isinstance(answers, torch.Tensor | np.ndarray):
        many = f" of {len(answers)}" if isinstance(answers, tuple | list | dict) else ""
        what = "None" if answers is None else f"a {type(answers).__name__}{many}"
        raise _fault(model, images, f"it answers with {what}", f"{expected} as one tensor or array")
    return torch.as_tensor(answers, device=images.device)


def _checked(method, images, settings: dict):
    """The answers of a model to some images, (n, tasks) or (n, s, s), unless these are no probabilities."""
    model, n, side, classifies = settings["model"], len(images), images.shape[-1], settings["kind"] == "classify"
    wanted = (n, len(settings["tasks"])) if classifies else (n, side, side)
    expected = f"probabilities {wanted}"
    answers = _asked(method, images, model, expected)
    if classifies and not answers.is_floating_point():
        raise _fault(model, images, f"its answers are whole numbers ({answers.dtype})", expected)
    answers = answers.float()
    kinds = {wanted, (*wanted[:1], 1, *wanted[1:])} | ({(n,)} if wanted[1:] == (1,) else set())
    if tuple(answers.shape) not in kinds:
        raise _fault(model, images, f"its answers have the shape {(*answers.shape,)}", expected)
    if not bool(((answers >= 0) & (answers <= 1)).all()):  # false of NaN as well
        limits = f"its answers lie within [{answers.min():g}, {answers.max():g}]"
        raise _fault(model, images, limits, f"{expected} within [0, 1], so let the model end in a sigmoid")
    answers = answers.reshape(wanted)
    if settings.get("classes") and not bool(((total := answers.sum(1)) - 1).abs().max() <= 0.01):
        sums = f"its answers for the {wanted[1]} classes sum to {total.min():g} up to {total.max():g}"
        raise _fault(model, images, sums, f"{expected} whose sum is 1, so let the model end in a softmax")
    return answers


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
    images[1] = 0.3 + 0.2 * images[1]  # of other brightness and contrast: a model may scale a batch as a whole
    with torch.inference_mode():
        both, first, second = (module.probabilities(some) for some in (images, images[:1], images[1:]))
        module.features(images)
    if (both - torch.cat([first, second])).abs().max() > 1e-3:
        raise ValueError(
            f"{module.settings['model']}: the answer to an image changes with the images beside it, or from look to "
            "look; expected a model that is no longer trained (in PyTorch, eval())"
        )


def _loaded(model: str, inputs: int = 1):
    """The model itself; called with images it returns probabilities."""
    import torch

    if is_external(model):
        try:
            return external(model)()
        except Exception as error:  # of any kind
            expected = "expected a class that is made without arguments"
            raise ValueError(f"{model}: it cannot be made ({_reason(error)}); {expected}") from error
    path = file_of(model)
    if path.suffix == ".onnx":
        return _onnx(path, inputs)
    expected = "expected what torch.jit.save writes"
    if zipfile.is_zipfile(path) and not any(
        Path(name).name == "constants.pkl" for name in zipfile.ZipFile(path).namelist()
    ):
        raise ValueError(f"{model}: it is no TorchScript, though torch.save may have written it; {expected}")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch asks for another format
            return torch.jit.load(path, map_location="cpu")
    except Exception as error:  # torch raises several kinds
        raise ValueError(f"{model}: cannot be loaded as TorchScript ({_reason(error)}); {expected}") from None


def _onnx(path: Path, inputs: int):
    """A function of images (n, 1, s, s) that runs an ONNX file with ONNX Runtime, on the CPU."""
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path.name}: ONNX Runtime is not installed. Install reconfair[onnx]") from None
    expected = f"expected a model that takes tensor(float), that is float32, (n, {inputs}, size, size) with any n, or 1"
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise ValueError(f"{path.name}: cannot be loaded as ONNX ({_reason(error)}); {expected}") from None
    first, *others = session.get_inputs()
    batch, *sizes = first.shape or [None]
    fixed = [size for size in sizes[1:] if isinstance(size, int)]
    fits = len(sizes) == 3 and (not isinstance(sizes[0], int) or sizes[0] == inputs) and len(set(fixed)) < 2
    if others or not fits or first.type != "tensor(float)" or (isinstance(batch, int) and batch > 1):
        takes = " and ".join(f"{each.type} ({', '.join(map(str, each.shape))})" for each in (first, *others))
        raise ValueError(
            f"{path.name}: it takes {takes}; {expected}; export it so, or wrap it in a class of a Python file"
        )
    if len(answers := [each.name for each in session.get_outputs()]) > 1:
        raise ValueError(
            f"{path.name}: it has {len(answers)} outputs ({', '.join(answers)}), and which holds probabilities is not "
            "known; export that one alone, or wrap the file in a class of a Python file"
        )

    def run(images: torch.Tensor) -> torch.Tensor:
        batches = images.cpu().numpy().astype(np.float32)
        if fixed and fixed[0] != batches.shape[-1]:
            raise ValueError(f"it takes images of {fixed[0]} pixels a side")
        pieces = np.split(batches, len(batches)) if batch == 1 else [batches]  # exported for one image at a time
        return torch.from_numpy(np.concatenate([session.run(None, {first.name: piece})[0] for piece in pieces]))

    return run
