"""What a remedy may change in a training, and what it knows of the images that are trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch


def joint_groups(attributes: pd.DataFrame) -> np.ndarray:
    """Number the joint group of each image, from 0.

    An image with an unknown attribute is in no group, -1. Remedies leave its weight as it is: what is not known cannot
    be balanced, and few such patients would count as much as a whole group.

    Parameters
    ----------
    attributes : DataFrame
        (images, attributes).

    Returns
    -------
    ndarray of int
        (images,).

    Examples
    --------
    >>> joint_groups(pd.DataFrame({"sex": ["male", "female", None], "race": ["a", "a", "a"]})).tolist()
    [1, 0, -1]
    """
    return attributes.astype(object).groupby(list(attributes)).ngroup().fillna(-1).astype(int).to_numpy()


def of_groups(weights: torch.Tensor, joint: torch.Tensor) -> torch.Tensor:
    """Weight (n,) of each image, given those of the groups; of an image in no group, 1.

    Examples
    --------
    >>> of_groups(torch.tensor([0.5, 1.5]), torch.tensor([1, -1, 0])).tolist()
    [1.5, 1.0, 0.5]
    """
    return torch.where(joint < 0, 1.0, weights[joint.clamp(min=0)])


class Panel:
    """Diagnostic networks that look at images, and what is known of every image.

    Parameters
    ----------
    table : DataFrame
        (images rows) a cohort.
    masks : ndarray or None
        (images, s, s) of zeros and ones, of several regions (images, regions, s, s).
    tasks : dict of str
        ``classify`` or ``segment``, in the order of the networks.
    attributes : sequence of str
        Columns of the table whose groups are to be treated alike.
    thresholds : dict of float
        By task of a classifier; a score at or above it is called positive.
    networks : callable
        Returns the networks by their `params.Network`; called once, when a remedy first looks.
    shape : tuple of int
        Of an image: channels, rows and columns.
    device : str
    regions : sequence of str
        The tasks that the masks outline, in their order.

    Attributes
    ----------
    labels : Tensor
        (images, tasks) 0, 1 or missing; of a segmentation 1 where there is something to outline, else missing.
    groups : Tensor
        (images, groups) of zeros and ones, the groups of all attributes side by side; `spans` tell them apart.
    joint : Tensor
        (images,) `joint_groups` of the attributes.
    thresholds, rates : Tensor
        (tasks,): threshold of a decision; number of rates a disparity is the mean of (TPR and FPR, or Dice alone).
    """

    def __init__(
        self,
        table: pd.DataFrame,
        masks,
        tasks: dict[str, str],
        attributes,
        thresholds: dict[str, float],
        networks: Callable[[], Mapping],
        shape: tuple[int, int, int],
        device: str,
        regions=(),
    ):
        self.regions = list(regions)
        self.masks, self.tasks, self.shape, self.device, self._networks = masks, list(tasks), shape, device, networks
        kept, classified = table[list(attributes)], [kind == "classify" for kind in tasks.values()]
        outlined = {
            task: np.where([mask.any() for mask in self.region(masks, task)], 1, np.nan)
            for task, kind in tasks.items()
            if kind == "segment"
        }
        labels = [table[task] if known else outlined[task] for task, known in zip(tasks, classified, strict=True)]
        codes = [kept[attribute].astype("category").cat for attribute in kept]
        ends = np.cumsum([len(code.categories) for code in codes])
        self.spans = [slice(end - len(code.categories), end) for end, code in zip(ends, codes, strict=True)]
        hot = [np.eye(len(code.categories) + 1)[code.codes][:, :-1] for code in codes]  # the code of unknown is -1

        def tensor(values):
            return torch.tensor(np.asarray(values, np.float32), device=device)

        self.labels, self.groups = tensor(np.stack(labels, 1)), tensor(np.concatenate(hot, 1))
        self.thresholds = tensor([thresholds.get(task, 0.5) for task in tasks])
        self.rates = tensor([1 + known for known in classified])
        self.joint = torch.tensor(joint_groups(kept), device=device)

    @cached_property
    def networks(self) -> Mapping:
        """Loaded when a remedy first looks: some never do."""
        return self._networks()

    def region(self, masks, task: str):
        """Masks (n, s, s) of one task, of masks that outline one region or several (n, regions, s, s)."""
        return masks[:, self.regions.index(task)] if masks.ndim == 4 else masks

    def columns(self, network) -> slice:
        """Where the tasks of `network` stand among all."""
        first = self.tasks.index(network.tasks[0])
        return slice(first, first + len(network.tasks))

    @torch.no_grad()
    def features(self) -> list[int]:
        """How many features each network has."""
        blank = torch.zeros(1, *self.shape, device=self.device)
        return [network.features(blank).shape[1] for network in self.networks.values()]


class Remedy:
    """Changes nothing; a remedy overrides what it needs.

    Parameters
    ----------
    panel : Panel
    rows : sequence of int
        Images that are trained on.
    strength : float
        At 0 the training is the plain one.
    options : Mapping
        Further settings: those of the section that names the strategy, and a ``seed``.

    Attributes
    ----------
    terms : Mapping of str to float
        Weights of what `measure` returns in the penalty F; empty: no penalty.
    criterion : str
        Which validation loss chooses the epoch to keep: ``loss``, ``balanced`` (mean over joint groups) or ``worst``.
    kept : tuple of str
        Attributes, each a tensor, that a resumed training must know.
    """

    terms: Mapping[str, float] = MappingProxyType({})
    criterion = "loss"
    kept: tuple[str, ...] = ()

    def __init__(self, panel: Panel, rows, strength: float, options: Mapping = MappingProxyType({})):
        self.panel, self.rows, self.strength, self.options = panel, rows, strength, options

    def joint(self) -> torch.Tensor:
        """Joint group of each training image, (rows,); -1: none."""
        return self.panel.joint.cpu()[torch.as_tensor(np.asarray(self.rows))]

    def counts(self) -> torch.Tensor:
        """Training images of each joint group, (groups,)."""
        joint = self.joint()
        return torch.bincount(joint[joint >= 0], minlength=int(self.panel.joint.max()) + 1)

    def shares(self) -> np.ndarray | None:
        """Relative probability of drawing each of the training rows; None: all alike."""

    def weigh(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Weigh the losses (n,) of the images `rows` of a batch."""
        return losses

    def measure(self, images: torch.Tensor, rows: torch.Tensor, masks=None) -> dict[str, torch.Tensor]:
        """What the networks see in images (n, 1, s, s) within [0, 1]: scalars by name, the `terms` among them."""
        return {}

    def afresh(self) -> Remedy:
        """The same remedy for validation, which has seen nothing."""
        return self

    def state_dict(self) -> dict:
        """What a resumed training must know."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name)))
