"""The words of the study: how each is written for a reader, in which colour and order, and the nearest valid one.

Whatever a user names (groups, tasks, models) passes `markdown`, `latex` or `mathtext` where it becomes markup, so that
it appears as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = {  # of sources, in their order
    "original": "#000000",
    "noisy": "#999999",
    "unet": BLUE,
    "pix2pix": ORANGE,
    "sde": "#009E73",
}
SPARE = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442")  # for models that users add
GROUPS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#000000")
STRATEGIES = {  # in their order; the colours are for figures in which no model has one, and none is a model's
    "standard": "#332288",
    "reweight@0": "#444444",
    "reweight": "#DDAA33",
    "dro": "#882255",
    "eodd": "#AA4499",
    "adv": "#999933",
    "reweight+eodd": "#CC6677",
    "reweight+adv": "#88CCEE",
    "thresholds": "#44AA99",
}
READERS = {  # in their order
    "standard": "#000000",
    "oversample": "#E69F00",
    "reweight": "#029E73",
    "dro": "#D55E00",
    "fcro": "#56B4E9",
    "adversary": "#CA9161",
    "fairread": "#0173B2",
    "crop": "#949494",
    "cascade": "#CC78BC",
    "replicate": "#999999",
}
VERDICTS = {  # blue: no harm; orange: harm; grey: not known
    "better": BLUE,
    "kept": "#9BD0F0",
    "not shown": "#D9D9D9",
    "not judged": "#FFFFFF",
    "unequal": "#F4C9A8",
    "worse": ORANGE,
}
ATTRIBUTES = ("sex", "age_group", "race", "race_merged")  # of the paper
NAMES = {
    "original": "Original",
    "noisy": "Noisy",
    "unet": "U-Net",
    "pix2pix": "Pix2Pix",
    "sde": "SDE",
    "standard": "standard",
    "reweight": "reweighted",
    "reweight@0": "plain fine-tuning",
    "replicate": "standard, other seed",
    "dro": "Group DRO",
    "adv": "adversarial",
    "thresholds": "group thresholds",
    "thresholds@0": "group thresholds (not applied)",
    "oversample": "oversampled",
    "oversample@0": "plain training",
    "fcro": "FCRO",
    "adversary": "adversary",
    "fairread": "FairREAD",
    "crop": "crop (truth)",
    "cascade": "cascade",
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
    "lite0_distance": "Lite0 distance (smaller is better)",
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
    "plain": "plain generator",
    "cbrs": "CBRS",
    "sqrs": "SQRS",
    "cbdm": "CBDM",
    "fairdiffusion": "FairDiffusion",
    "fairgen": "FairGen",
    "sd": "Stable Diffusion",
    "vit": "ViT",
    "resnet": "ResNet",
    "boosting": "gradient boosting",
    "neighbours": "nearest neighbours",
    "xgboost": "XGBoost",
    "equal_opportunity": "equal opportunity difference",
    "fd_own": "Fréchet distance (own features)",
    "fd_floor": "Fréchet distance, real against real",
    "fd_imagenet": "Fréchet distance (ImageNet features)",
    "accuracy": "accuracy",
    "eodd_worst_case": "EODD (worst case)",
    "fate_eo": "FATE (EODD)",
    "fate_auc": "FATE (AUROC)",
    "dice_median": "median Dice",
    "dice_iqr": "IQR of Dice",
    "ser_median": "SER of medians",
    "fairness_gap": "gap of median Dice",
    "hausdorff_mm_median": "median Hausdorff distance (mm)",
    "hausdorff_px_median": "median Hausdorff distance (pixels)",
    "cas": "classification accuracy score (CAS)",
    "kappa": "weighted kappa",
    "eodd_worst": "EODD of the worst class",
    "accuracy_gap": "accuracy gap",
    "kappa_gap": "kappa gap",
    "nar": "normalised accuracy range (NAR)",
    "essp": "equity-scaled accuracy (ESSP)",
    "tpr_slope": "slope of the true positive rate",
    "fpr_slope": "slope of the false positive rate",
    "dice_slope": "slope of Dice",
}
MEANINGS = {  # of the measures of a report, in their order
    "auroc": "the probability that a patient with the disease has a higher score than one without; 0.5 is chance",
    "tpr": "the share of the ill who are called positive (sensitivity)",
    "fpr": "the share of the healthy who are called positive (1 - specificity); less is better",
    "dice": "twice the overlap of two outlines divided by the sum of their areas; 1 is perfect",
    "accuracy": "the share of decisions that are right",
    "kappa": "the agreement of decision and label beyond chance, for classes in an order; 0 is chance",
    "psnr": "pixel error on a logarithmic scale; half the squared error is 3 dB more",
    "ssim": "the likeness of local means, contrasts and patterns to those of the original; 1 is equal",
    "lpips": "the distance from the original in the features of a network that was trained on photographs",
    "lite0_distance": "the same in the features of EfficientNet-Lite0, with equal weights of all depths; not LPIPS",
    "eodd": "the equalised odds difference, half the largest difference in TPR between groups plus half that in FPR; "
    "0 is equal",
    "eodd_worst": "the EODD of the class where it is largest",
    "eop": "the largest difference in TPR between groups",
    "ser": "the skewed error ratio, the largest mean error (1 - Dice) of a group divided by the smallest; 1 is equal",
    "delta_dice": "the largest difference in mean Dice between groups",
    "nar": "the range of the accuracies of the groups divided by their mean; 0 is equal",
    "essp": "the accuracy of all, divided by 1 plus the distances of the groups from it; more is better",
    "psnr_gap": "the largest difference in mean PSNR between groups",
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


def number(value: float, digits: int = 3, sign: bool = False) -> str:
    """Write a number with a fixed number of decimals; what rounds to zero has no sign.

    Examples
    --------
    >>> number(-0.00001), number(0.25, 2, sign=True), number(float("nan"))
    ('0.000', '+0.25', 'not known')
    """
    if not abs(value) < float("inf"):
        return "not known"
    value = round(float(value), digits) + 0.0
    return f"{value:{'+' if sign and value else ''}.{digits}f}"


def counted(n: float, noun: str) -> str:
    """Write how many there are of something.

    Examples
    --------
    >>> counted(1.0, "patient"), counted(0, "negative")
    ('1 patient', '0 negatives')
    """
    return f"{n:.0f} {noun}{'s' * (n != 1)}"


def p_value(p: float) -> str:
    """Write a p-value.

    Examples
    --------
    >>> p_value(0.0213), p_value(1e-9), p_value(0.64)
    ('p = 0.021', 'p < 0.001', 'p = 0.64')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def without_strength(strategy: str) -> str:
    """Return a strategy without its strengths: ``reweight+eodd`` of ``reweight@1+eodd@0.3``."""
    return re.sub(r"@[\d.]+", "", strategy)


def marker(strategy: str) -> str:
    """Marker of a strategy, whatever its strength."""
    return MARKERS.get(strategy, MARKERS.get(without_strength(strategy), "<"))


def colour(word: str) -> str:
    """Colour of a source; a model that is not ours has one of the spare colours, always the same."""
    return COLOURS.get(word) or SPARE[sum(map(ord, word)) % len(SPARE)]


def reader_colour(reader: str) -> str:
    """Colour of a reader: that of the first part of its strategy that has one.

    Examples
    --------
    >>> reader_colour("crop+oversample@0.5") == READERS["crop"], reader_colour("fairread+thresholds")
    (True, '#0173B2')
    """
    parts = without_strength(reader).split("+")
    return next((READERS[part] for part in parts if part in READERS), SPARE[sum(map(ord, reader)) % len(SPARE)])


def ordered(words: Iterable[str]) -> list[str]:
    """Sources or strategies in the order of every figure, each once; those that a user added come last.

    Examples
    --------
    >>> ordered(["toy", "sde", "unet", "sde"]), ordered(["eodd@0.3", "standard"])
    (['unet', 'sde', 'toy'], ['standard', 'eodd@0.3'])
    """
    place = {word: at for at, word in enumerate([*COLOURS, *STRATEGIES])}
    return sorted(dict.fromkeys(words), key=lambda word: place.get(word, place.get(without_strength(word), len(place))))


def mathtext(text: str) -> str:
    """Write text for a figure so that dollar signs show as they stand and start no formula.

    Examples
    --------
    >>> print(mathtext("$x$"))
    \\$x\\$
    """
    return str(text).replace("$", r"\$")


def markdown(text: str | list | dict) -> str:
    """Write text as Markdown that shows it as it stands; a list as bullets, a dict as paragraphs with bold keys.

    Examples
    --------
    >>> markdown("a <b> & c_d"), markdown(["one", "two"])
    ('a &#60;b&#62; &#38; c&#95;d', '- one\\n- two')
    """
    if isinstance(text, dict):
        return "\n\n".join(f"**{markdown(key.capitalize())}.** {markdown(value)}" for key, value in text.items())
    if isinstance(text, list):
        return "\n".join(f"- {markdown(line)}" for line in text)
    text = re.sub(r"[\\`*_{}\[\]<>#|~&^$]", lambda match: f"&#{ord(match[0])};", text)
    return text.replace("&#36;", "<span>&#36;</span>")  # MathJax reads no formula across the border of an element


def latex(text: str) -> str:
    """Write text as LaTeX that shows it as it stands.

    Examples
    --------
    >>> print(latex(r"5 % of a_b & $x$ \\frac <c>"))
    5 \\% of a\\_b \\& \\$x\\$ \\textbackslash{}frac \\textless{}c\\textgreater{}
    """
    escapes = {character: f"\\{character}" for character in "&%$#_{}"}
    escapes |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escapes |= {"<": r"\textless{}", ">": r"\textgreater{}", "Δ": r"$\Delta$"}
    return "".join(escapes.get(character, character) for character in text)


def first_few(words: list, most: int = 5) -> str:
    """List the first few words; dots stand for the others.

    Examples
    --------
    >>> first_few(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(map(str, words[:most])) + (", ..." if len(words) > most else "")


def nearest(word: str, valid: Iterable[str], otherwise: str = "valid here") -> str:
    """Say which valid word was probably meant, or else which there are; upper and lower case are the same.

    Examples
    --------
    >>> nearest("age", ["race", "age_group"]), nearest("EODD", ["ser", "eodd"])
    ("did you mean 'age_group'?", "did you mean 'eodd'?")
    >>> nearest("ser_gap", ["ser", "eodd"]), nearest("x", ["ser", "eodd"])
    ("did you mean 'ser'?", 'valid here: ser, eodd')
    """
    valid = [str(one) for one in valid]
    folds, word = [one.casefold() for one in valid], str(word).strip().casefold()
    begun = [one for one in folds if len(word) > 2 and one.startswith(word)]
    near = get_close_matches(word, begun if len(begun) == 1 else folds, 1, 0 if len(begun) == 1 else 0.5)
    if near:
        return f"did you mean '{valid[folds.index(near[0])]}'?"
    return f"{otherwise}: {first_few(valid, 20) or 'none'}"
