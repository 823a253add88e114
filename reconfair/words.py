"""The words of the study: how each is written for a reader, in which colour and order, and the nearest valid one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    "original": "#000000",
    "noisy": "#999999",
    "unet": "#0072B2",
    "pix2pix": "#D55E00",
    "sde": "#009E73",
}
SPARE = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442")  # for models that users add
GROUPS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#000000")
NAMES = {
    "original": "Original",
    "noisy": "Noisy",
    "unet": "U-Net",
    "pix2pix": "Pix2Pix",
    "sde": "SDE",
    "standard": "standard",
    "reweight": "reweighted",
    "reweight@0": "plain fine-tuning",
    "dro": "Group DRO",
    "adv": "adversarial",
    "thresholds": "group thresholds",
    "physics": "Noise model",
    "sex": "Sex",
    "age_group": "Age",
    "race": "Race",
    "race_merged": "Race (merged)",
    "tpr": "true positive rate",
    "fpr": "false positive rate",
    "auroc": "AUROC",
    "dice": "Dice",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS (smaller is better)",
    "eodd": "EODD",
    "eop": "EOP",
    "ser": "SER",
    "delta_dice": "ΔDice",
    "psnr_gap": "PSNR gap (dB)",
    "ssim_gap": "SSIM gap",
    "auroc_gap": "AUROC gap",
    "fpr_gap": "FPR gap",
    "auprc": "AUPRC",
    "auprc_gap": "AUPRC gap",
    "ppr": "share called positive",
    "demographic_parity": "demographic parity difference",
    "calibration": "mean score - prevalence",
    "calibration_gap": "calibration gap",
    "tnr": "true negative rate",
}
MARKERS = {"standard": "o", "reweight": "s", "dro": "v", "eodd": "^", "adv": "D", "thresholds": "*"}
MARKERS |= {"reweight+eodd": "P", "reweight+adv": "h", "reweight@0": "X"}


def name(word: str) -> str:
    """How a word of the vocabulary is written for a reader.

    Examples
    --------
    >>> name("sex*race"), name("reweight+eodd@0.3")
    ('Sex x Race', 'reweighted + EODD (0.3)')
    """
    for joint, written in (("*", " x "), ("+", " + ")):
        if joint in word:
            return written.join(map(name, word.split(joint)))
    bare, at, strength = word.partition("@")
    return NAMES.get(word, NAMES.get(bare, bare) + f" ({strength})" * bool(at))


def marker(strategy: str) -> str:
    """Marker of a strategy, whatever its strength."""
    return MARKERS.get(strategy, MARKERS.get(re.sub(r"@[\d.]+", "", strategy), "<"))


def colour(source: str) -> str:
    """Colour of a source; a model that is not ours has one of the spare colours, always the same."""
    return COLOURS.get(source) or SPARE[sum(map(ord, source)) % len(SPARE)]


def nearest(word: str, valid: Iterable[str], otherwise: str = "valid here") -> str:
    """Say which valid word was probably meant, or else which there are.

    Examples
    --------
    >>> nearest("ser_gap", ["ser", "eodd"]), nearest("x", ["ser", "eodd"])
    ("did you mean 'ser'?", 'valid here: ser, eodd')
    """
    valid = [str(one) for one in valid]
    near = get_close_matches(str(word), valid, 1, 0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    listed = ", ".join(valid[:20]) + (", ..." if len(valid) > 20 else "")
    return f"{otherwise}: {listed or 'none'}"
