"""What a generator is taught beside noise: that cells belong together (CBDM), and which of two samples is better."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from statsmodels.stats.proportion import proportion_confint
from torch.nn import functional as F

from reconfair.keyed import generator
from reconfair.params import ParamsError
from reconfair.training import widen
from reconfair.words import nearest

COLUMNS = ["pair_id", "cell", "left", "right", "choice", "rater", "seconds"]
CHOICES = ("left", "right", "neither")
GAMMA = 0.25  # of the second term of the diversity loss
RISE = 0.1  # share by which the errors of both images of the pairs may rise before preference learning stops
CHECK = 25  # steps of preference learning between two looks at these errors
STEPS = 1000  # times of the diffusion


def diversity_loss(noise_y, noise_other, t, T: int, tau: float = 1.0, gamma: float = GAMMA) -> torch.Tensor:
    """Diversity loss of class-balancing diffusion models (Qin et al. 2023), (n,).

    tau t / T (||eps(x_t, y) - sg eps(x_t, y')||^2 + gamma ||sg eps(x_t, y) - eps(x_t, y')||^2), means over pixels; sg
    stops the gradient. It pulls the cells y and y' together.

    Parameters
    ----------
    noise_y, noise_other : Tensor
        (n, c, s, s), predicted for the image's own cell and for another.
    t : Tensor
        (n,).
    T : int
    tau, gamma : float
    """
    first = (noise_y - noise_other.detach()).square().mean((1, 2, 3))
    second = (noise_y.detach() - noise_other).square().mean((1, 2, 3))
    return tau * t / T * (first + gamma * second)


def preference_loss(won, lost, won_before, lost_before, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Diffusion-DPO (Wallace et al. 2024): -log sigma(-(beta / 2) ((l_w - l_w^ref) - (l_l - l_l^ref))).

    Parameters
    ----------
    won, lost : Tensor
        (n,), noise errors of the preferred and the other image, at one time and with one noise.
    won_before, lost_before : Tensor
        (n,), those of the frozen reference.
    beta : float

    Returns
    -------
    losses : Tensor
        (n,); log 2 where nothing has changed.
    right : Tensor of bool
        (n,), whether the generator has moved towards the preferred image: its implicit accuracy.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> preference_loss(one, one, one, one, 500.0)[0].exp().round(decimals=4)
    tensor([2.])
    """
    margin = -(beta / 2) * ((won - won_before) - (lost - lost_before))
    return -F.logsigmoid(margin), margin > 0


def published_preference(won, lost, beta: float = 0.5) -> torch.Tensor:
    """Loss of the published code, (n,): -log sigma(beta (l_l - l_w)) + l_w, which mostly tunes on the winners."""
    return -F.logsigmoid(beta * (lost - won)) + won


def weight(beta: float, as_published: bool = False) -> float:
    """Factor of the preference loss where it is added to the noise loss: 2 / beta, or 1 as published.

    The gradient in the error of an image is then at most 1, as that of the noise loss, and vanishes once winners and
    losers have moved apart by a few times 2 / beta. With beta = 10 and the factor 1, samples of a rare cell lost their
    lesions (docs/results.md).
    """
    return 1.0 if as_published else 2 / beta


class Pairs:
    """Pairs of samples of one cell of which one was preferred, and the frozen generator that they are measured by.

    Parameters
    ----------
    winners, losers : ndarray
        (n, s, s) or (n, 3, s, s) within [0, 1].
    cells : ndarray of int
        (n,).
    reference : Module
        Frozen network of the generator before preference learning.
    """

    kept = ("active", "steps")  # what a resumed training must know

    def __init__(self, winners, losers, cells, reference):
        images = [2 * widen(torch.from_numpy(np.asarray(some, np.float32))) - 1 for some in (winners, losers)]
        self.images, self.cells = torch.stack(images, 1), torch.tensor(np.array(cells, np.int64))
        self.reference, self.active, self.steps = reference, True, 0

    def to(self, device) -> Pairs:
        """Move images and reference to a device."""
        for name in ("images", "cells", "reference"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def loss(self, generator, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss of n pairs, and their implicit accuracy; without gradient once preference learning has stopped."""
        published = generator.settings.get("as_published")
        self.steps += 1
        if self.active and not published and self.steps % CHECK == 0:
            self.active = not bool((self.rises(generator) > RISE).all())
        drawn = torch.randint(len(self.images), (n,), device=self.images.device)
        t = torch.randint(1, STEPS + 1, (n,), device=drawn.device)
        noise = torch.randn_like(self.images[drawn])
        noise = noise if published else noise[:, :1].expand_as(noise)  # both images of a pair with the same noise
        with torch.set_grad_enabled(self.active and torch.is_grad_enabled()):
            now = self.errors(generator, generator.net, drawn, t, noise)
        with torch.no_grad():
            before = self.errors(generator, self.reference, drawn, t, noise)
        losses, right = preference_loss(*now, *before, generator.settings["beta"])
        losses = published_preference(*now) if published else losses
        return losses.mean() if self.active else losses.mean().detach(), right.float().mean()

    def errors(self, generator, net, drawn, t, noise) -> torch.Tensor:
        """Noise errors of winners and losers, (2, n), by a network."""
        x0, t, noise = self.images[drawn].flatten(0, 1), t.repeat_interleave(2), noise.flatten(0, 1)
        mean, sd = generator.schedule.marginal(t, x0)
        predicted = generator.noise_hat_of(mean + sd * noise, t, self.cells[drawn].repeat_interleave(2), net)
        return (predicted - noise).square().mean((1, 2, 3)).unflatten(0, (len(drawn), 2)).T

    def rises(self, generator) -> torch.Tensor:
        """Shares by which the errors of winners and losers have risen, (2,): where both rise, it only forgets."""
        now, before = self.tuned(generator, 2 * CHECK)
        return ((now - before) / before).mean(1)

    def preferred(self, generator) -> torch.Tensor:
        """Whether the tuned generator has moved towards the winner of each pair, (n,): 1, 0 or, if not at all, 0.5."""
        now, before = self.tuned(generator, len(self.images))
        won, lost = now - before
        return (1 + (lost - won).sign()) / 2

    @torch.no_grad()
    def tuned(self, generator, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise errors, (2, n), of the generator and of the reference, always at the same times and noise.

        Of the averaged weights: those of the moment err more, by as much as the learning rate is large.
        """
        draw, some = torch.Generator().manual_seed(0), self.images[:pairs]
        t = torch.randint(1, STEPS + 1, (len(some),), generator=draw).to(some.device)
        noise = torch.randn(some[:, :1].shape, generator=draw).to(some.device).expand_as(some)
        parts, errors = torch.arange(len(some), device=some.device).split(2 * CHECK), []
        for net in (generator.average, self.reference):
            errors.append(torch.cat([self.errors(generator, net, part, t[part], noise[part]) for part in parts], 1))
        return tuple(errors)


# --- who prefers ---


def choose(scores: np.ndarray, kappa: float, seed: int) -> np.ndarray:
    """Let a simulated physician choose: the left image wins with probability sigma(kappa (score_left - score_right)).

    Parameters
    ----------
    scores : ndarray, shape (pairs, 2)
    kappa : float
    seed : int

    Returns
    -------
    ndarray of str, shape (pairs,)
        ``left`` or ``right``.
    """
    chance = 1 / (1 + np.exp(-np.clip(kappa * (scores[:, 0] - scores[:, 1]), -50, 50)))
    return np.where(generator(seed, "physician").random(len(scores)) < chance, "left", "right")


def lesion(images: np.ndarray, view: float) -> np.ndarray:
    """Measure the brightest round spot within the brain of each phantom slice.

    The spot is where the Laplacian of a Gaussian, over positions and scales, is strongest: of a disc of radius r and
    contrast c it is 2 c / e at the scale r / sqrt(2) (Lindeberg 1998). The same measure is taken of real and synthetic
    slices, so that its own errors are in both.

    Parameters
    ----------
    images : ndarray
        (n, s, s) within [0, 1].
    view : float
        mm across the image.

    Returns
    -------
    ndarray, shape (n, 3)
        Contrast in units of intensity, radius in mm, and sharpness of the margin: the step of the mean intensity at
        the radius over the contrast.
    """
    images = np.asarray(images, np.float32)
    pixel = view / images.shape[-1]
    radii = np.geomspace(7, 30, 9)
    axis = (np.arange(images.shape[-1]) + 0.5) * pixel
    measured = np.empty((len(images), 3))
    for number, image in enumerate(images):
        head = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 3 / pixel) > 0.15)
        brain = ndimage.distance_transform_edt(head) * pixel > 16
        if not brain.any():
            measured[number] = 0, radii[0], 0
            continue
        filled = np.where(brain, image, np.median(image[brain]))  # else the skull would be the brightest
        strength = [-((r / pixel) ** 2) / 2 * ndimage.gaussian_laplace(filled, r / pixel / np.sqrt(2)) for r in radii]
        strength = np.where(brain, np.stack(strength), -np.inf)
        scale, row, column = np.unravel_index(strength.argmax(), strength.shape)
        contrast, radius = strength[scale, row, column] * np.e / 2, radii[scale]
        distance = np.hypot(axis[:, None] - axis[row], axis[None, :] - axis[column]) / radius
        inside, outside = (distance < 1) & (distance > 0.6), (distance > 1) & (distance < 1.4)
        step = image[inside].mean() - image[outside].mean() if inside.any() and outside.any() else 0.0
        measured[number] = contrast, radius, step / max(contrast, 0.02)
    return measured


class Law:
    """Distribution of measured lesions in each cell.

    Parameters
    ----------
    measured : ndarray, shape (n, features)
        Of slices whose cell is known.
    cells : ndarray of int, shape (n,)
    """

    def __init__(self, measured: np.ndarray, cells: np.ndarray):
        self.of = {int(cell): measured[cells == cell] for cell in np.unique(cells)}

    def score(self, measured: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Logarithm of the density of each measured lesion in its cell, (n,), by a Gaussian kernel."""
        scores = np.empty(len(measured))
        for cell in np.unique(cells):
            some, known = cells == cell, self.of[int(cell)]
            scores[some] = stats.gaussian_kde(known.T).logpdf(measured[some].T)
        return np.clip(scores, -50, 50)

    def error(self, measured: np.ndarray, cell: int) -> float:
        """Difference of the mean contrast and radius from those of a cell, in its SDs; the mean of both."""
        known = self.of[cell][:, :2]
        return float((np.abs(measured[:, :2].mean(0) - known.mean(0)) / known.std(0)).mean())


# --- ratings by people ---


def blank(pairs: pd.DataFrame, rater: str) -> pd.DataFrame:
    """The pairs in a random order of this rater, with left and right exchanged in a random half of them."""
    draw = generator(rater, "order", *pairs.pair_id)
    shuffled = pairs.iloc[draw.permutation(len(pairs))].reset_index(drop=True)
    swap = draw.random(len(pairs)) < 0.5
    left, right = shuffled.left.where(~swap, shuffled.right), shuffled.right.where(~swap, shuffled.left)
    return shuffled[["pair_id", "cell"]].assign(left=left, right=right)


def read_ratings(path: Path, pairs: pd.DataFrame) -> pd.DataFrame:
    """Read a rater's file and check it against the pairs of this study.

    Raises
    ------
    ParamsError
        A column is missing, a row is broken, or the pairs are those of another study; the file and its line are named.
    """
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ParamsError(f"{path}: cannot be read as a table of ratings ({str(error).splitlines()[0]})") from None
    if absent := [column for column in COLUMNS if column not in table]:
        raise ParamsError(f"{path}: column '{absent[0]}' is missing; {nearest(absent[0], table.columns, 'it has')}")
    known = pairs.set_index("pair_id")
    for line, row in enumerate(table.itertuples(index=False), 2):
        where = f"{path}, line {line}"
        if row.choice not in CHOICES:
            raise ParamsError(f"{where}: choice '{row.choice}' is unknown; {nearest(row.choice, CHOICES)}")
        if row.pair_id not in known.index:
            study = str(pairs.pair_id.iloc[0]).rpartition("-")[0]
            raise ParamsError(
                f"{where}: pair '{row.pair_id}' is of another study; those of this one begin with '{study}'; "
                "move the file away and rate again"
            )
        if row.cell != known.cell[row.pair_id]:
            raise ParamsError(f"{where}: cell '{row.cell}'; pair '{row.pair_id}' is of '{known.cell[row.pair_id]}'")
        if row.rater != table.rater[0] or not row.rater.strip():
            raise ParamsError(f"{where}: rater '{row.rater}'; a file has one rater in all its rows, and a name for him")
        if {row.left, row.right} != {*known.loc[row.pair_id, ["left", "right"]]}:
            raise ParamsError(
                f"{where}: pair '{row.pair_id}' shows '{row.left}' and '{row.right}', which it does not hold"
            )
        if not re.fullmatch(r"\d+(\.\d+)?", row.seconds):
            raise ParamsError(f"{where}: seconds '{row.seconds}' is not a number such as 3.2")
    if repeated := table.pair_id[table.pair_id.duplicated()].tolist():
        raise ParamsError(f"{path}: pair '{repeated[0]}' is rated more than once")
    return table.assign(seconds=table.seconds.astype(float))


def read_raters(paths, pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Read the files of several raters; see `read_ratings`.

    Raises
    ------
    ParamsError
        Two files are of one rater, who would vote twice.
    """
    read, of = {}, {}
    for path in paths:
        table = read_ratings(path, pairs)
        rater = table.rater[0] if len(table) else path.stem
        if rater in of:
            raise ParamsError(f"{path}: rater '{rater}' has {of[rater]} already; leave one file of each rater")
        read[rater], of[rater] = table, path
    return read


def preferred(ratings: pd.DataFrame) -> pd.DataFrame:
    """Columns ``winner, loser, cell`` of the pairs in which more than half of the raters chose the same image."""
    raters = ratings.groupby("pair_id").size()
    decided = ratings[ratings.choice != "neither"]
    left = decided.choice == "left"
    decided = decided.assign(
        winner=decided.left.where(left, decided.right), loser=decided.right.where(left, decided.left)
    )
    votes = decided.groupby(["pair_id", "cell", "winner", "loser"]).size().rename("votes").reset_index()
    return votes[votes.votes > votes.pair_id.map(raters) / 2].reset_index(drop=True)


def agreement(one: pd.DataFrame, other: pd.DataFrame, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """How often two raters chose alike among the pairs that both saw, with Cohen's kappa and their 95 % intervals.

    Returns
    -------
    dict of float
        ``pairs, agreement, low, high, kappa, kappa_low, kappa_high``. The interval of the agreement is Wilson's, that
        of kappa is of a bootstrap of the pairs, and missing where the raters always agree or always differ.
    """
    winners = [
        table.set_index("pair_id").pipe(
            lambda rows: rows.left.where(rows.choice == "left", rows.right).where(rows.choice != "neither", "neither")
        )
        for table in (one, other)
    ]
    both = pd.concat(winners, axis=1, keys=["one", "other"], join="inner")
    if both.empty:
        raise ParamsError("ratings: the two raters saw no pair in common")
    # Choices are coded as neither, the image that stands first by name, and the other, since sides are random.
    first = one.set_index("pair_id")[["left", "right"]].min(axis=1)[both.index]
    codes = np.stack([np.where(both[k] == "neither", 0, np.where(both[k] == first, 1, 2)) for k in both])
    rows = generator(seed, "agreement").integers(len(both), size=(draws, len(both)))

    def measures(codes):
        same = (codes[0] == codes[1]).mean(-1)
        chance = sum((codes[0] == k).mean(-1) * (codes[1] == k).mean(-1) for k in range(3))
        return same, np.where(chance < 1, (same - chance) / np.where(chance < 1, 1 - chance, 1), 1.0)

    (same, kappa), (_, drawn) = measures(codes), measures(codes[:, rows])
    low, high = proportion_confint(round(same * len(both)), len(both), method="wilson")
    kappa_low, kappa_high = np.quantile(drawn, [0.025, 0.975]) if 0 < same < 1 else (np.nan, np.nan)
    values = [len(both), same, low, high, kappa, kappa_low, kappa_high]
    keys = ["pairs", "agreement", "low", "high", "kappa", "kappa_low", "kappa_high"]
    return dict(zip(keys, map(float, values), strict=True))
