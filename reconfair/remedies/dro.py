"""Group DRO: the joint group that is reconstructed worst counts most."""

from types import MappingProxyType

import torch

from reconfair.remedies.remedy import Remedy, of_groups


class GroupDRO(Remedy):
    """Weights of groups that rise with their losses (Sagawa et al. 2020, algorithm 1), in units of their share.

    After each batch w_g changes by the factor exp(strength (L_g / mean L - 1)) for each group in it, and all are scaled
    to a mean of 1 over images: with `strength` 0 they stay 1, and the loss is the plain mean. Where every batch holds
    every group, the 1 cancels. Where it does not, the 1 keeps a rare group from losing weight by being absent.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> dro = GroupDRO(SimpleNamespace(joint=torch.tensor([0, 1])), [0, 1], 1)
    >>> dro.weigh(torch.tensor([1.0, 3.0]), torch.tensor([0, 1])).tolist()
    [1.0, 3.0]
    >>> [round(weight, 2) for weight in dro.weights.tolist()]
    [0.54, 1.46]
    """

    criterion = "worst"
    kept = ("logs",)

    def __init__(self, panel, rows, strength, options=MappingProxyType({})):
        super().__init__(panel, rows, strength, options)
        counts = self.counts().double()
        self.share = counts / counts.sum()
        self.logs = torch.zeros_like(self.share)

    @property
    def weights(self) -> torch.Tensor:
        """(groups,), float64."""
        return (self.logs - (self.share.log() + self.logs).logsumexp(0)).exp()

    def weigh(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Weigh the losses (n,) of a batch, the images `rows` of all; the next batch will know of them."""
        of = self.panel.joint[rows].cpu()
        weighted = losses * of_groups(self.weights, of).to(losses)  # 1.0 exactly where the step is 0
        of, known = of[of >= 0], losses.detach().double().cpu()[of >= 0]
        above = known / known.mean().clamp(min=1e-12) - 1
        counts = torch.bincount(of, minlength=len(self.share)).clamp(min=1)
        self.logs += self.strength * torch.zeros_like(self.share).index_add(0, of, above) / counts
        return weighted
