"""FCRO and FairREAD: first make what a classifier sees orthogonal to the attributes, then give them back openly.

Stage 1 (FCRO) trains a sensitive network, which predicts the attributes, and then a target network whose latent space
is orthogonal to the sensitive one. Stage 2 (FairREAD) fuses the attributes into the target's last feature map, while an
adversary sees to it that the map before does not hold them. All work on any network that ``diagnosis.classify`` names.

References
----------
Deng, Zhong, Dou and others: On fairness of medical image classification with multiple sensitive attributes via
learning orthogonal representations. IPMI 2023.
Gao, Hao, Zhou: FairREAD. arXiv 2412.16373.
"""

import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.nn import functional as F

from reconfair.diagnosis import classify
from reconfair.diagnosis.networks import Learner
from reconfair.fairness.metrics import auroc
from reconfair.training import widen

MOVING = 3  # epochs in which the subspace may move


# --- the latent space ---


def basis(z: torch.Tensor, rank: int | str = 3, centred: bool = True) -> torch.Tensor:
    """Leading directions of a latent space, its subspace of the attributes.

    Parameters
    ----------
    z : Tensor
        (n, d) latents of a sensitive network over the training images.
    rank : int or "energy"
        Number of directions; ``energy``: as many as together hold at most 0.99 of the squared singular values, and
        at least one. (The published code takes none where the first holds more, and its loss vanishes.)
    centred : bool
        Whether the mean is subtracted. Without, the first direction is the mean, which tells nobody's attribute.

    Returns
    -------
    Tensor
        (d, rank), orthonormal columns.
    """
    z = (z - z.mean(0) if centred else z).double()
    energy, directions = torch.linalg.eigh(z.T @ z)
    energy, directions = energy.flip(0).clamp(min=0), directions.flip(1)
    if rank == "energy":
        rank = int((energy.cumsum(0) <= 0.99 * energy.sum()).sum())
    return directions[:, : min(max(rank, 1), z.shape[1])].float()


def moved(base: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The subspace after a batch: of its old directions and those of the rest of `z`, the ones with most energy.

    Parameters
    ----------
    base : Tensor
        (d, r), orthonormal columns.
    z : Tensor
        (n, d) latents of the batch.

    Returns
    -------
    Tensor
        (d, r'), the strongest directions up to 0.99 of the batch's energy, at least one.
    """
    rest = z - z @ base @ base.T
    _, singular, right = torch.linalg.svd(rest, full_matrices=False)
    energy = torch.cat([(z @ base).square().sum(0), singular.square()])
    order = energy.argsort(descending=True)
    kept = max(1, int((energy[order].cumsum(0) <= 0.99 * z.square().sum()).sum()))
    return torch.cat([base, right.T], 1)[:, order[:kept]]


def column_loss(z: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """||Z U||^2 / N: what latents (n, d) have in the subspace (d, r) of the attributes; 0 where they are orthogonal.

    Examples
    --------
    >>> column_loss(torch.eye(3), torch.eye(3)[:, :1]).item(), column_loss(torch.eye(3)[1:], torch.eye(3)[:, :1]).item()
    (0.3333333432674408, 0.0)
    """
    return (z @ base).square().sum() / len(z)


def row_loss(z: torch.Tensor, z_a: torch.Tensor) -> torch.Tensor:
    """||Sigma||^2, Sigma the covariance of the latents (n, d) of both networks; it does not grow with the batch."""
    z, z_a = (values - values.mean(0) for values in (z, z_a.detach()))
    return (z.T @ z_a / len(z)).square().sum()


def by_class(labels: torch.Tensor, loss) -> torch.Tensor:
    """Mean over the classes of a batch of ``loss(class, rows)``; a class with fewer than two images is left out."""
    parts = [loss(y, rows) for y in (0, 1) if (rows := labels[:, 0] == y).sum() > 1]
    return torch.stack(parts).mean() if parts else labels.sum() * 0


# --- networks ---


class Trunk(nn.Module):
    """A classifier up to its last feature map, whatever its architecture: images (n, 1, s, s) to (n, C, h, w)."""

    def __init__(self, settings: dict):
        super().__init__()
        self.reader = classify.Diagnoser(settings).eval()
        blank = torch.zeros(2, 1, *[self.reader.size or 64] * 2)
        with torch.no_grad():
            self.name, self.incoming = self._place(blank)
            self.channels = self(blank).shape[1]
        self.reader.train()

    def _place(self, blank: torch.Tensor) -> tuple[str, bool]:
        """The layer whose output (or input, of a pooling layer) is the last feature map."""
        maps, hooks = [], []
        for name, layer in self.reader.net.named_modules():

            def note(layer, inputs, output, name=name):
                pools = "Pool" in type(layer).__name__
                value = inputs[0] if pools else output
                if name and torch.is_tensor(value) and value.dim() in (3, 4):
                    maps.append((value.dim(), name, pools, "AdaptivePool" in type(layer).__name__.replace("Avg", "")))

            hooks.append(layer.register_forward_hook(note))
        self.reader(blank)
        for hook in hooks:
            hook.remove()
        # What the last global pooling takes in; without such a layer, the last that is no vector.
        _, name, pools, _ = ([one for one in maps if one[0] == 4 and one[3]] or [one for one in maps if not one[2]])[-1]
        return name, pools

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = []

        def take(layer, inputs, output):
            seen.append((inputs[0] if self.incoming else output).clone())  # some networks go on in place

        hook = self.reader.net.get_submodule(self.name).register_forward_hook(take)
        try:
            self.reader(images)
        finally:
            hook.remove()
        return as_map(seen[-1])


def as_map(value: torch.Tensor) -> torch.Tensor:
    """A feature map (n, C, h, w), also of channels that come last and of a transformer's tokens (n, tokens, C)."""
    if value.dim() == 3:
        side = int(value.shape[1] ** 0.5)
        value = value[:, -(side * side) :].unflatten(1, (side, side))  # without the class token
        return value.permute(0, 3, 1, 2)
    last = value.shape[1] == value.shape[2] != value.shape[3]
    return value.permute(0, 3, 1, 2) if last else value


class Encoder(nn.Module):
    """Trunk, mean over pixels, projection to a latent vector of length 1; and the answer that it gives."""

    def __init__(self, settings: dict, outputs: int):
        super().__init__()
        self.trunk = Trunk(settings)
        self.project = nn.Linear(self.trunk.channels, settings["latent"])
        self.answer = nn.Linear(settings["latent"], outputs)

    def latent(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Latent vectors (n, d) of feature maps (n, C, h, w)."""
        return F.normalize(self.project(feature_map.mean((2, 3))), dim=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.latent(self.trunk(images))
        return z, self.answer(z)


def binary(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over what is known."""
    known = ~truth.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], truth[known], reduction="sum") / known.sum().clamp(1)


class Classifier(Learner):
    """What the classifiers of this file share: an encoder with its answer, and the loss of what is known."""

    keep_last = True
    criterion = staticmethod(binary)

    def __init__(self, settings: dict, outputs: int):
        super().__init__(settings)
        self.encoder = Encoder(settings, outputs)

    def start_pretrained(self) -> None:
        """Take over the published weights of the trunk."""
        self.encoder.trunk.reader.start_pretrained()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, s, s) to logits (n, outputs)."""
        return self.encoder(images)[1]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Latent vectors (n, d)."""
        return self.encoder(images)[0]


class Sensitive(Classifier):
    """The network that predicts the attributes; batches are images and attributes (n, k)."""

    def __init__(self, settings: dict):
        super().__init__(settings, len(settings["attributes"]))


class Orthogonal(Classifier):
    """FCRO: BCE + column loss + row loss, each by class.

    Batches are images, labels (n, 1), attributes (n, k) and the sensitive network's latents (n, d).
    """

    def __init__(self, settings: dict):
        super().__init__(settings, 1)
        d = settings["latent"]
        self.register_buffer("bases", torch.zeros(2, d, d))  # of each class; columns that are not used are 0

    def take_bases(self, latents: torch.Tensor, labels: torch.Tensor) -> None:
        """Fix the attributes' subspace of each class from the sensitive latents (n, d) of the training images."""
        for y in (0, 1):
            base = basis(latents[labels[:, 0] == y], self.settings["rank"], not self.settings["as_published"])
            self.bases[y] = F.pad(base, (0, len(base) - base.shape[1]))

    def orthogonality(
        self, z: torch.Tensor, z_a: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Column and row loss of latents (n, d), weighted."""
        strength, published = self.settings["strength"], self.settings["as_published"]
        column = by_class(labels, lambda y, rows: column_loss(z[rows], self.bases[y]))
        # The published row loss is a sum, so that it grows with the square of the batch.
        factor = 500 / z.shape[1] ** 2 if published else self.settings["row"]
        row = by_class(labels, lambda y, rows: row_loss(z[rows], z_a[rows]) * (rows.sum() ** 2 if published else 1))
        return strength * self.settings["column"] * column, strength * factor * row

    def training_step(self, batch, batch_idx):
        images, labels, _, z_a = batch
        if self.settings["moving_base"] and self.current_epoch < MOVING:
            for y in (0, 1):
                if (rows := labels[:, 0] == y).sum() > 1:
                    used = self.bases[y][:, self.bases[y].square().sum(0) > 0]
                    base = moved(used, z_a[rows])
                    self.bases[y] = F.pad(base, (0, len(base) - base.shape[1]))
        z, logits = self.encoder(widen(images))
        column, row = self.orthogonality(z, z_a, labels)
        bce = binary(logits, labels)
        return {"loss": bce + column + row, "bce": bce, "column": column, "row": row}


def bottleneck(channels: int) -> nn.Sequential:
    """1x1 to C / 8, 3x3, 1x1 to C, each with batch normalisation, and one ReLU at the end."""
    narrow = max(channels // 8, 1)
    layers = []
    for before, after, side in ((channels, narrow, 1), (narrow, narrow, 3), (narrow, channels, 1)):
        layers += [nn.Conv2d(before, after, side, padding=side // 2), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, nn.ReLU())


class Refusion(nn.Module):
    """Weighs the channels of a feature map by image and attributes: z <- conv(z w), N times.

    h = ReLU(Linear(k, m/2)(a)), (mu, sd) = Linear(m/2, m)(h); in each block r = ReLU(W1 GAP z), and
    w = ReLU(W2 (sd r + mu)).
    """

    def __init__(self, channels: int, attributes: int, width: int, blocks: int, dropout: float):
        super().__init__()
        self.drop, half = nn.Dropout(dropout), width // 2
        self.hidden = nn.Linear(attributes, half)
        self.mean, self.spread = nn.Linear(half, width), nn.Linear(half, width)
        self.inward = nn.ModuleList(nn.Linear(channels, width) for _ in range(blocks))
        self.outward = nn.ModuleList(nn.Linear(width, channels) for _ in range(blocks))
        self.blocks = nn.ModuleList(bottleneck(channels) for _ in range(blocks))

    def forward(self, z: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        h = self.drop(F.relu(self.hidden(self.drop(attributes))))
        mean, spread = self.mean(h), self.spread(h)
        for inward, outward, block in zip(self.inward, self.outward, self.blocks, strict=True):
            r = F.relu(inward(self.drop(z.mean((2, 3)))))
            w = F.relu(outward(self.drop(spread * r + mean)))
            z = block(z * w[:, :, None, None])
        return z


class Fused(Orthogonal):
    """FairREAD's second stage, or with no blocks an adversary alone: a classifier against one that seeks attributes.

    The adversary D minimises BCE(D(z), a), two steps a batch; the rest minimises BCE(y) - alpha BCE(D(z), a), and in
    stage 2 the losses of stage 1 as well. With ``as_published`` one optimiser minimises the latter over D too: D learns
    to be surely wrong, for which z must hold the attributes.
    """

    keep_last = False

    def __init__(self, settings: dict):
        super().__init__(settings)
        self.automatic_optimization = False
        k, channels, blocks = len(settings["attributes"]), self.encoder.trunk.channels, settings["blocks"]
        self.refusion = Refusion(channels, k, settings["width"], blocks, settings["dropout"]) if blocks else None
        self.answer = nn.Sequential(nn.Dropout(settings["dropout"] if blocks else 0), nn.Linear(channels, 1))
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, k))
        self.adversary = nn.Sequential(bottleneck(channels), *pooled)

    def decide(self, z: torch.Tensor, attributes=None) -> torch.Tensor:
        """Logits (n, 1) of feature maps and attributes (n, k); an attribute that is not known counts 0.5."""
        if self.refusion is not None:
            unknown = np.full((len(z), len(self.settings["attributes"])), 0.5)
            attributes = torch.as_tensor(unknown if attributes is None else attributes, device=z.device).float()
            z = self.refusion(z, attributes.nan_to_num(0.5))
        return self.answer(z.mean((2, 3)))

    def forward(self, images: torch.Tensor, attributes=None) -> torch.Tensor:
        """Map images (n, 1, s, s) and attributes (n, k), if they are known, to logits (n, 1)."""
        return self.decide(self.encoder.trunk(images), attributes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Means of the feature map before re-fusion, (n, C)."""
        return self.encoder.trunk(images).mean((2, 3))

    def loss(self, batch) -> torch.Tensor:
        """Cross-entropy of a batch (images, labels, attributes, ...), by which the epoch is chosen."""
        images, labels, attributes, *_ = batch
        return binary(self(widen(images), attributes), labels)

    def training_step(self, batch, batch_idx):
        images, labels, attributes, z_a = batch
        (rest, of_adversary), settings = self.optimizers(), self.settings
        z = self.encoder.trunk(widen(images))
        bce = binary(self.decide(z, attributes), labels)
        column = row = bce * 0
        if settings["keep_orthogonal"] and self.refusion is not None:
            column, row = self.orthogonality(self.encoder.latent(z), z_a, labels)
        rules = {
            "alpha": settings["alpha"],
            "steps": settings["adversary_steps"],
            "published": settings["as_published"],
        }
        loss = bce + column + row
        total, seen = play(z, attributes, loss, self.adversary, rest, of_adversary, rules, self.manual_backward)
        return {"loss": total, "bce": bce, "column": column, "row": row, "adversary": seen}

    def configure_callbacks(self):  # stage 2 may end early
        ends = self.refusion is not None
        return [EarlyStopping("val_loss", patience=self.settings["patience"], check_finite=False)] if ends else []

    def configure_optimizers(self):
        settings, ids = self.settings, {id(parameter) for parameter in self.adversary.parameters()}
        rest = [each for each in self.parameters() if settings["as_published"] or id(each) not in ids]
        return (
            torch.optim.Adam(rest, lr=settings["lr"], weight_decay=settings["weight_decay"], fused=True),
            torch.optim.Adam(self.adversary.parameters(), lr=settings["adversary_lr"], fused=True),
        )


def play(z, attributes, loss, adversary, rest, of_adversary, game: dict, backward=torch.Tensor.backward):
    """One round: the adversary learns to read the attributes in `z`, then the rest descends on its loss and against it.

    Parameters
    ----------
    z : Tensor
        (n, ...) what the adversary sees, with the gradient of the network that made it.
    attributes : Tensor
        (n, k) zeros, ones, or missing.
    loss : Tensor
        What the rest minimises apart from the game.
    adversary : Module
    rest, of_adversary : Optimizer
    game : dict
        ``alpha``, ``steps`` of the adversary, and ``published``: no step of its own, and `rest` moves it too.
    backward : callable

    Returns
    -------
    total, seen : Tensor
        What the rest minimised; the adversary's cross-entropy.
    """
    for _ in range(0 if game["published"] else game["steps"]):
        of_adversary.zero_grad()
        backward(binary(adversary(z.detach()), attributes))
        of_adversary.step()
    seen = binary(adversary(z), attributes)
    total = loss - game["alpha"] * seen
    rest.zero_grad()
    backward(total)
    rest.step()  # without `published` it does not hold the adversary
    return total, seen


class Several(nn.Module):
    """The same linear layer for several independent networks: (networks, n, inputs) to (networks, n, outputs)."""

    def __init__(self, networks: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(networks, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(networks, 1, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


def toy(game: str, steps: int = 300, alpha: float = 0.5, networks: int = 10, apart: float = 1.5) -> np.ndarray:
    """A toy whose answer is known: how well a fresh linear probe finds an attribute in what a network has learnt.

    Inputs hold a label and an attribute that go together (they agree in 7 cases of 10), each in a direction of its own
    and in noise. A network with one hidden layer learns the label. The probe is fitted by least squares to 2000 further
    cases and tested on 2000 others.

    Parameters
    ----------
    game : {"none", "right", "as_published"}
    steps : int
    alpha : float
        Weight of the adversary.
    networks : int
        Independent ones, each with its own weights and cases.
    apart : float
        Distance of the attribute's two groups from the middle, in standard deviations of the noise.

    Returns
    -------
    ndarray
        (networks,) AUROC of the probe; 0.5 if nothing is left of the attribute.
    """
    draw = torch.Generator().manual_seed(1)

    def cases(n):
        label = torch.randint(0, 2, (networks, n, 1), generator=draw).float()
        attribute = torch.where(torch.rand(networks, n, 1, generator=draw) < 0.7, label, 1 - label)
        x = torch.randn(networks, n, 16, generator=draw)
        x[..., :1] += 1.5 * (2 * label - 1)
        x[..., 1:2] += apart * (2 * attribute - 1)
        return x, label, attribute

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(Several(networks, 16, 32), nn.ReLU(), Several(networks, 32, 8))
        adversary = nn.Sequential(Several(networks, 8, 32), nn.ReLU(), Several(networks, 32, 1))
        answer = Several(networks, 8, 1)
    parts = [body, answer] + [adversary] * (game == "as_published")
    rest = torch.optim.Adam([parameter for part in parts for parameter in part.parameters()], lr=3e-3)
    of_adversary = torch.optim.Adam(adversary.parameters(), lr=3e-3)
    rules = {"alpha": alpha * (game != "none"), "steps": 2, "published": game == "as_published"}
    for _ in range(steps):
        x, label, attribute = cases(128)
        z = body(x)
        play(z, attribute, binary(answer(z), label), adversary, rest, of_adversary, rules)
    x, _, attribute = cases(4000)
    z = F.pad(body(x).detach(), (0, 1), value=1)
    fitted = torch.linalg.lstsq(z[:, :2000], attribute[:, :2000]).solution
    score = (z[:, 2000:] @ fitted)[..., 0].numpy()
    return np.array([auroc(score=s, label=a)[0, 0] for s, a in zip(score, attribute[:, 2000:, 0].numpy(), strict=True)])
