"""Group DRO: the joint group that is reconstructed worst counts most."""

import torch


class GroupDRO:
    """Weights of groups that rise with their losses (Sagawa et al. 2020, algorithm 1), in units of their share.

    After each batch w_g changes by the factor exp(step (L_g / mean L - 1)) for each group in it, and all are scaled
    to a mean of 1 over images: with `step` 0 they stay 1, and the loss is the plain mean. Where every batch holds every
    group, the 1 cancels. Where it does not, the 1 is what keeps a rare group from losing weight by being absent.

    Parameters
    ----------
    members : Tensor
        (images,) joint group of every image, as numbers from 0.
    rows : sequence of int
        Images that are trained on.
    step : float
        Not negative.

    Examples
    --------
    >>> dro = GroupDRO(torch.tensor([0, 1]), [0, 1], step=1)
    >>> dro(torch.tensor([1.0, 3.0]), torch.tensor([0, 1])).tolist()
    [1.0, 3.0]
    >>> [round(weight, 2) for weight in dro.weights.tolist()]
    [0.54, 1.46]
    """

    def __init__(self, members: torch.Tensor, rows, step: float):
        self.members, self.step = members, step
        self.shares = torch.bincount(members[rows], minlength=int(members.max()) + 1).double().cpu() / len(rows)
        self.logs = torch.zeros_like(self.shares)

    @property
    def weights(self) -> torch.Tensor:
        """(groups,), float64."""
        return (self.logs - (self.shares.log() + self.logs).logsumexp(0)).exp()

    def __call__(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Weigh the losses (n,) of a batch, the images `rows` of all; the next batch will know of them."""
        of, known = self.members[rows].cpu(), losses.detach().double().cpu()
        weighted = losses * self.weights[of].to(losses)  # 1.0 exactly where the step is 0
        above = known / known.mean().clamp(min=1e-12) - 1
        counts = torch.bincount(of, minlength=len(self.shares)).clamp(min=1)
        self.logs += self.step * torch.zeros_like(self.shares).index_add(0, of, above) / counts
        return weighted

    def state_dict(self) -> dict:
        return {"logs": self.logs}

    def load_state_dict(self, state: dict) -> None:
        self.logs = state["logs"]
