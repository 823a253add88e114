"""The study: typed parameters, one settings class for each section of a params file.

What a params file leaves out takes the default written here, which is the paper's setting. An unknown key is an error
that names the nearest valid one. Rooms own the settings of what they hold and register them in `DATASETS`, `NOISES`,
`MODELS` and `REMEDIES`; a class of your own is given as ``"my_file.py:MyClass"``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import reprlib
import shlex
import sys
from collections.abc import Iterable
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from reconfair.words import nearest

PATTERNS = {  # in words
    r"^[\w-]*$": "letters, digits, '-' and '_' alone",
    r"^\w[\w-]*$": "letters, digits, '-' and '_' alone, and no '-' first",
    r"^\w[\w -]*$": "letters, digits, blanks, '-' and '_' alone, and a letter or digit first",
    r"^[A-Za-z]\w*$": "a letter, then letters, digits and '_' alone",
    r"^[A-Za-z0-9_][A-Za-z0-9_.]*$": "letters, digits, '.' and '_' alone, and no '.' first",
    r"(?i)\.(csv|tsv|txt|xlsx|parquet)$": "a name that ends with .csv, .tsv, .txt, .xlsx or .parquet",
}
NUMBERS = {"int": "a whole number", "float": "a number", "finite": "a number that is finite", "bool": "true or false"}
ATTRIBUTES = ("sex", "age_group", "race", "race_merged")
SEXES = ("female", "male")
AGE_GROUPS = ("younger", "older")
RACES = (
    "White",
    "Other",
    "Asian",
    "Black",
    "Native Hawaiian/Pacific Islander",
    "American Indian/Alaska Native",
)
GAPS = ("eodd", "eop", "fpr_gap", "demographic_parity", "auroc_gap", "auprc_gap", "calibration_gap")
GAPS += ("delta_dice", "ser", "psnr_gap", "ssim_gap", "eodd_worst", "accuracy_gap", "kappa_gap", "nar", "essp")
MEASURES = ("tpr", "fpr", "ppr", "auroc", "auprc", "calibration", "accuracy", "kappa", "dice", "psnr", "ssim")
COHORT = ("image_id", "patient_id", "split", "age", *ATTRIBUTES, "path", "mask_path", "slice")  # columns of every one
GROUPS = {"sex": SEXES, "age_group": AGE_GROUPS, "race": RACES}
PAPER_SDE_EPOCHS = {"mri": 300, "xray": 40}
PAPER_LAMBDA = {"mri": 1, "xray": 0.005}
# The paper's classifiers: ResNet-50 on slices, DenseNet-121 on radiographs as in TorchXRayVision.
PAPER_CLASSIFIER = {
    "mri": {"architecture": "resnet50"},
    "xray": {
        "architecture": "densenet121",
        "size": 224,
        "value_range": (-1024, 1024),
        "epochs": 50,
        "lr": 1e-3,
        "weight_decay": 1e-5,
    },
}
BOTH = ("classify", "segment")
# Strategies of readers: the kinds of network that they train, and their usual strength; None: they have none.
READERS = {
    "oversample": (BOTH, None),  # its strength is `level`
    "reweight": (BOTH, 1.0),
    "dro": (BOTH, 0.01),
    "fcro": (("classify",), 1.0),
    "adversary": (("classify",), None),  # its strength is `alpha`
    "fairread": (("classify",), None),
    "crop": (("segment",), None),
    "cascade": (("segment",), None),
    "replicate": (BOTH, None),  # the standard training with another seed: a placebo
    "thresholds": (("classify",), None),  # after any other training: decisions by group
}
ALONE = ("fcro", "adversary", "fairread")  # a network for each finding
DOSES = ("oversample", "reweight", "dro")  # they change how much each group counts, and can be joined
OPTIONAL = ("mitigation", "readers", "synthesis", "two_stages")  # sections without which a chapter is not run
MAX_BYTES, MAX_DEPTH, MAX_VALUES = 100_000, 20, 5_000  # of a params file
LATER = (("channels", 1), ("attributes", {}))  # settings that cohorts of an earlier version lack; these change nothing
MANY = 20  # mistakes are named, no more
MANY_FOLDS = 1_000
MODEL_FILES = (".pt", ".pth", ".onnx")  # of diagnostic models: TorchScript and ONNX

# Settings classes by the name that a params file gives. Each room adds its own.
DATASETS: dict[str, type[Dataset]] = {}
NOISES: dict[str, type[Section]] = {}
MODELS: dict[str, type[Training]] = {}
GIVEN: dict[str, type[Section]] = {}  # models that are not trained and may have any name, by their `kind`
REMEDIES: dict[str, float | None] = {}  # the usual strength; None: the section's `lam`


class ParamsError(ValueError):
    """A parameter is wrong; the message names its key and what was expected."""


class About(NamedTuple):
    """What is known about a dataset before any of it is read."""

    modality: str
    unit: str  # what is decided: a patient or an image
    tasks: dict[str, str]  # task: classify or segment
    attributes: tuple[str, ...] = ("sex", "age_group", "race")  # those that it records
    folder: str = ""  # its name under RECONFAIR_DATA
    metadata: tuple[str, ...] = ()  # the files that must be in that folder; * stands for a version
    where: str = ""  # to get it
    classes: dict[str, tuple[str, ...]] = {}  # of tasks of several classes, in order
    ordinal: tuple[str, ...] = ()  # those whose classes go from low to high
    further: dict[str, str] = {}  # tasks that are studied only where `diagnosis.tasks` names them, and their kind
    whole: tuple[str, ...] = ()  # attributes whose numbers, in the column <attribute>_value, have a slope

    @property
    def every(self) -> dict[str, str]:
        """All tasks and their kind."""
        return self.tasks | self.further

    @property
    def regions(self) -> tuple[str, ...]:
        """What masks outline: the tasks to segment."""
        return tuple(task for task, kind in self.every.items() if kind == "segment")

    def decisions(self, task: str) -> tuple[str, ...]:
        """What is decided in a task: itself, or, of several classes, whether it is of each.

        Examples
        --------
        >>> about = About("mri", "image", {"dx": "classify"}, classes={"dx": ("nv", "mel", "bcc")})
        >>> about.decisions("dx")
        ('dx: nv', 'dx: mel', 'dx: bcc')
        """
        return tuple(f"{task}: {name}" for name in self.classes[task]) if task in self.classes else (task,)


class Network(NamedTuple):
    """A diagnostic network: one for all findings of a radiograph, one per task of an MRI."""

    name: str
    kind: str
    tasks: tuple[str, ...]
    model: str = ""  # a model of the user's own, as the params file names it; empty: one that is trained here
    classes: bool = False  # whether its tasks are the classes of one task, of which each unit has one


class Source(NamedTuple):
    """What a reader looks at: originals, noisy images, or what a model made of them; fine-tuned by a strategy or not.

    Examples
    --------
    >>> str(Source("unet")), str(Source("unet", "reweight"))
    ('unet', 'unet-reweight')
    """

    model: str
    strategy: str = "standard"

    def __str__(self) -> str:
        return self.model if self.strategy == "standard" else f"{self.model}-{self.strategy}"

    @property
    def standard(self) -> Source:
        """The same model without fine-tuning."""
        return Source(self.model)


class Reader(NamedTuple):
    """A trained diagnostic network, and the strategy that trained it."""

    network: Network
    strategy: str = "standard"

    def __str__(self) -> str:
        return self.network.name if self.strategy == "standard" else f"{self.network.name}-{self.strategy}"


ORIGINAL, NOISY = Source("original"), Source("noisy")


class Section(BaseModel):
    """A section of a params file: no unknown keys, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def model_copy(self, *, update: dict | None = None, deep: bool = False):
        """A copy, with changes; what was worked out once from the original is not taken over."""
        copied = super().model_copy(update=update, deep=deep)
        for key in copied.__dict__.keys() - type(self).model_fields.keys() - (update or {}).keys():
            del copied.__dict__[key]
        return copied

    def __getstate__(self) -> dict:
        """What another process gets: the fields, and not what was worked out from them."""
        state = super().__getstate__()
        known = type(self).model_fields.keys()
        return state | {"__dict__": {key: value for key, value in state["__dict__"].items() if key in known}}

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_text(cls, value, info):
        kinds = _kinds(cls.model_fields[info.field_name].annotation)
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and kinds & {int, float} and bool not in kinds:
            raise ValueError("yes, no, true and false are truth values, a number was expected")
        texts = [item for item in items if isinstance(item, str)]
        if texts and kinds & {int, float} and str not in kinds and not any(isinstance(kind, str) for kind in kinds):
            raise ValueError(f"'{texts[0]}' is text, a number was expected, without quotes and leading zeros")
        return value

    @field_validator("*", mode="wrap")
    @classmethod
    def _one_sentence_for_word_or_number(cls, value, handler, info):
        try:
            return handler(value)
        except ValidationError as error:
            expected = _word_or_number(cls.model_fields[info.field_name].annotation, value, error.errors())
            if not expected:
                raise
            raise ValueError(expected) from None

    @model_validator(mode="after")
    def _named_once(self):
        for key, value in self:
            repeated = [word for word in value if value.count(word) > 1] if isinstance(value, tuple) else []
            if repeated and isinstance(repeated[0], str):
                raise ValueError(f"{key} names '{repeated[0]}' more than once")
        return self


def _kinds(annotation) -> set:
    """The types within an annotation, and the values of a `Literal`."""
    return {annotation}.union(*(_kinds(inner) for inner in get_args(annotation)))


def _word_or_number(annotation, value, errors: list[dict]) -> str:
    """Say what a setting takes that is a word or numbers, such as ``median`` or [18.5, 25]; empty of any other."""
    kinds = _kinds(annotation)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    reasoned = any(item["type"] == "value_error" for item in errors)  # by the setting itself
    if reasoned or not kinds & {int, float} or not words or not all(isinstance(word, str) for word in words):
        return ""
    number = "a number" if float in kinds else "a whole number"
    if any(get_origin(kind) is tuple for kind in kinds):
        one = value if isinstance(value, int | float) and abs(value) < float("inf") else 25
        number = f"a list of numbers, such as [{one}]"
    bounds = [
        item["msg"].removeprefix("Input should be ") for item in errors if item["type"].startswith(("great", "less"))
    ]
    expected = f"expected {', '.join(words)} or {' '.join([number, *bounds])}"
    near = nearest(value, words) if isinstance(value, str) else ""
    return f"{expected}; {near}" if near.endswith("?") else expected


Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=32, le=1024, multiple_of=16)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as PyTorch Lightning takes it


class Dataset(Section):
    """What every dataset has. A dataset has a class variable `about` and two methods.

    ``read_table()`` returns one row per image: ``image_id, patient_id, sex, age, race`` and a column for each task (1,
    0 or missing; of several classes their number); rows with ``evaluated`` False are seen in training alone.
    ``read_image(row)`` returns an image within [0, 1], (size, size) or, where the dataset has ``channels`` 3,
    (3, size, size), and its mask (size, size) or None; None for an image that shows nothing and is to leave the cohort.
    """

    name: str
    label: str = Field("", pattern=r"^[\w-]*$", max_length=80)  # names the output folder; empty: the name
    size: Size = 256  # pixels a side
    split: tuple[Fraction, Fraction, Fraction] = (0.7, 0.1, 0.2)  # train, val, test; by patient
    folds: int | None = None  # parts of the patients, each tested by models of its own; None: one split
    training: Literal["shared", "parted"] | None = None  # reconstruction and diagnosis; None: parted by X-ray
    seed: Seed = 0
    age_boundary: PositiveFloat | None = None  # years, the oldest of the younger; None: the median
    on_bad_image: Literal["error", "skip"] = "error"  # skip: leave it out, and list it in skipped.csv
    about: ClassVar[About]

    @model_validator(mode="after")
    def _whole_split(self):
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split must add up to 1, not {sum(self.split):g}")
        if min(self.split) == 0:
            raise ValueError(f"split: each of train, val and test needs patients, not {list(self.split)}")
        if self.folds is not None and not 2 <= self.folds <= MANY_FOLDS:
            raise ValueError(f"folds must be 2 to {MANY_FOLDS}, or left out for one split, not {self.folds}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image: (size, size), of colour (3, size, size)."""
        side = (self.size, self.size)
        return (3, *side) if getattr(self, "channels", 1) == 3 else side

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of a mask: (size, size), of several regions (regions, size, size)."""
        regions = len(self.about.regions)
        return (regions,) * (regions > 1) + (self.size, self.size)

    def region(self, masks, task: str):
        """Masks (n, s, s) of one task, of masks that outline one region or several (n, regions, s, s)."""
        return masks[:, self.about.regions.index(task)] if masks.ndim == 4 else masks

    @property
    def inputs(self) -> dict[str, int]:
        """What the settings of a network say of colour: ``{"inputs": 3}``, and nothing of grey images."""
        return {"inputs": 3} if len(self.shape) == 3 else {}

    @property
    def parted(self) -> bool:
        """Whether reconstruction and diagnosis train on different patients."""
        return (self.training or {"xray": "parted"}.get(self.about.modality)) == "parted"

    @cached_property
    def settings(self) -> dict:
        """What a cohort depends on, JSON-ready; the place of the scans is not among it."""
        written = self.model_dump(mode="json", exclude={"root", "on_bad_image"})
        return {key: value for key, value in written.items() if (key, value) not in LATER}

    def find(self) -> Path | None:
        """Return the folder of the scans; None where nothing is read from disk."""

    @property
    def signature(self) -> str:
        """Hash of the metadata files; empty where nothing is read from disk."""
        return ""


class Scans(Dataset):
    """Real scans in the layout of their publishers."""

    root: str = ""  # folder of the dataset; empty: the dataset's folder under RECONFAIR_DATA
    links: Literal["refuse", "follow"] = "refuse"  # symbolic links to images that lead out of root

    def find(self) -> Path:
        """Return the folder of the scans.

        Raises
        ------
        ParamsError
            It is not there; the message says what was looked for and where to get it.
        """
        self.metadata()
        return self._folder.resolve()

    def metadata(self, *names: str) -> list[Path]:
        """Return the metadata files (or those of some `names`), of several versions of one the last; see `find`."""
        paths = {name: sorted(self._folder.glob(name)) for name in names or self.about.metadata}
        for name in [name for name, versions in paths.items() if not versions]:
            path, base = self._folder / name, self.about.folder
            there = [other.name for other in path.parent.glob("*")]
            holds = nearest(path.name, there, "the folder holds") if path.parent.is_dir() else "nor is its folder"
            holds += "" if holds.endswith("?") else "."
            raise ParamsError(
                f"dataset.root: {path} is not there; {holds} Get {self.about.where}; "
                f"then set dataset.root to its folder, or RECONFAIR_DATA to the folder that holds '{base}'"
            )
        return [versions[-1].resolve() for versions in paths.values()]

    @property
    def signature(self) -> str:
        """Hash of the metadata files, empty where one is absent."""
        try:
            statuses = [(path, path.stat()) for path in self.metadata()]
        except ParamsError:
            return ""
        return _content(tuple((path, status.st_mtime_ns, status.st_size) for path, status in statuses))

    @property
    def _folder(self) -> Path:
        base = os.environ.get("RECONFAIR_DATA", "data")
        return folder_of(self.root or base) / ("" if self.root else self.about.folder)


class Training(Section):
    """What every trained network has."""

    epochs: Count
    batch_size: Count
    lr: PositiveFloat


class Reconstruction(Section):
    """Which reconstructors are trained, and how. The settings of each model stand under its name."""

    models: tuple[str, ...] = ("unet", "pix2pix", "sde")  # or classes of your own, such as my_models.py:Restormer
    seed: Seed = 0
    perceptual: bool = False  # measure `lite0_distance` too, see tables; needs the extra `weights`

    @property
    def places(self) -> dict[str, str]:
        """By the name of a model, what the params file calls it; both are the same for the models of the package."""
        return {name_of(word): word for word in self.models}

    def settings(self, model: str, sampling: bool = True) -> dict:
        """All that `model` depends on, JSON-ready; without `sampling`, all that its training depends on."""
        section = getattr(self, model)
        left_out = set() if sampling else set(getattr(section, "SAMPLING", ()))
        return {**section.model_dump(mode="json", exclude=left_out), "seed": self.seed}


# Weights of TorchXRayVision by the radiographs they were trained on. Those of nih, rsna and all have seen patients of
# ChestX-ray14, those of chex and all patients of CheXpert: there, some of the test patients are no strangers to them.
XRV = ("xrv-all", "xrv-chex", "xrv-mimic_ch", "xrv-mimic_nb", "xrv-nih", "xrv-pc", "xrv-rsna")


class Classify(Training):
    """Classifier of slices or radiographs; left out: the paper's settings for the modality."""

    architecture: str = ""  # a name torchvision or timm knows, such as resnet50 or vit_tiny_patch16_224
    pretrained: Literal[(True, False, *XRV)] = True  # start from ImageNet weights, or from some of TorchXRayVision
    size: NonNegativeInt = 0  # pixels the network sees; 0: as the image comes, or as a ViT needs it
    value_range: tuple[float, float] | None = None  # of the network's input; None: as in its first training
    linear_probe: bool = False  # first fit the last layer alone to features of the pretrained network
    outlined: bool = False  # train on images alone in which something is outlined
    epochs: NonNegativeInt = 20  # 0: the linear probe is all
    batch_size: Count = 16
    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0
    # Of several classes: every image counts the same, or every class does.
    class_weights: Literal["equal", "balanced"] = "equal"

    @model_validator(mode="after")
    def _weights_fit(self):
        if self.pretrained in XRV and self.architecture != "densenet121":
            raise ValueError(f"pretrained {self.pretrained} goes with densenet121, not with {self.architecture}")
        if self.value_range and self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range {list(self.value_range)} is empty; the lower end comes first")
        if self.epochs == 0 and not self.linear_probe:
            raise ValueError("epochs: 0 trains nothing unless linear_probe is true; expected 1 or more")
        return self


class Segment(Training):
    """Segmenter: U-Net with an encoder known to segmentation-models-pytorch."""

    encoder: str = "resnet34"  # or tu- and a name timm knows, such as tu-convnext_tiny
    decoder: Annotated[tuple[int, ...], Field(min_length=5, max_length=5)] = (256, 128, 64, 32, 16)  # channels
    pretrained: bool = True
    epochs: Count = 20
    batch_size: Count = 8
    lr: PositiveFloat = 1e-3


class Diagnosis(Section):
    """The diagnostic models: trained on originals, then frozen; or models of the user's own, which are only judged."""

    tasks: tuple[str, ...] = ()  # empty: every task of the dataset
    models: dict[str, str] = {}  # by task: a model of your own, which is not trained
    classify: Classify = Classify()
    segment: Segment = Segment()
    seed: Seed = 0

    def settings(self, network: Network) -> dict:
        """All that the training of `network` depends on, JSON-ready; of a model of the user's own, what it is."""
        if network.model:
            named = {"model": network.model, "kind": network.kind, "tasks": list(network.tasks)}
            return named | ({"classes": True} if network.classes else {})
        section = getattr(self, network.kind).model_dump(mode="json")
        weights = section.pop("class_weights", None)
        section |= {"classes": True, "class_weights": weights} if network.classes else {}
        return {**section, "tasks": list(network.tasks), "seed": self.seed}


class Fairness(Section):
    """Which attributes are compared, and by which inference."""

    attributes: tuple[str, ...] = ()  # empty: those that the dataset records; sex*age_group: their intersections
    inference: Literal["closed_form", "bootstrap", "as_published"] = "closed_form"
    resamples: Annotated[int, Field(ge=99, le=1_000_000)] = 1000
    eodd: Literal["mean", "worst_case"] = "mean"
    primary: tuple[Literal[MEASURES], ...] = ("tpr", "fpr", "dice")  # their changes by group hold all at once
    min_cases: Annotated[int, Field(ge=2)] = 20  # patients with the needed labels for a group to be compared
    margins: dict[str, PositiveFloat] = {}  # changes that would not matter, by metric; ser: a ratio
    seed: Seed = 0

    @model_validator(mode="after")
    def _known_metrics(self):
        for metric in self.margins:
            one_of(metric, (*GAPS, *MEASURES), "margins: metric")
            if metric not in ("ser", "psnr", "psnr_gap") and self.margins[metric] >= 1:
                share = f"a share below 1, such as 0.05 for 5 %, not {self.margins[metric]:g}"
                raise ValueError(f"margins: {metric} is {share}")
        if self.margins.get("ser", 1.1) <= 1:
            raise ValueError(f"margins: ser is a ratio above 1, such as 1.1, not {self.margins['ser']}")
        return self


class Strategies(Section):
    """A section that names strategies. A strategy joins words by ``+``; the strength of a word follows ``@``."""

    strategies: tuple[str, ...]

    @model_validator(mode="after")
    def _known_strategies(self):
        if not self.strategies:
            raise ValueError("strategies: [] names none; name one, or leave the section out")
        names = [self.name_of(strategy) for strategy in self.strategies]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"strategies: '{repeated[0]}' is named more than once")
        parts = [self.parts(strategy) for strategy in self.strategies]
        for at, strategy in enumerate(self.strategies):
            if parts[at] in parts[:at]:
                other = self.strategies[parts.index(parts[at])]
                raise ValueError(f"strategies: '{strategy}' is the same as '{other}'; leave out one of them")
        return self

    def name_of(self, strategy: str) -> str:
        """How a strategy is called in tables and folders: strengths as they are usually written, no file names.

        Examples
        --------
        >>> from reconfair import remedies
        >>> Mitigation().name_of("reweight+eodd@0.30"), Readers().name_of("oversample@0.50+dro")
        ('reweight+eodd@0.3', 'oversample@0.5+dro')
        """
        items, strengths = [item.partition("@") for item in strategy.split("+")], self.parts(strategy)
        return "+".join(name_of(word) + (f"@{strengths[word]:g}" if at else "") for word, at, _ in items)

    @staticmethod
    def _strength(item: str, usual: float) -> float:
        """The strength that ``word@strength`` names; of a word alone, the usual one."""
        word, at, written = item.partition("@")
        try:
            strength = float(written) if at else usual
        except ValueError:
            strength = -1.0
        if not 0 <= strength < float("inf") or (at and not re.fullmatch(r"[\d.eE+-]+", written, re.ASCII)):
            raise ValueError(f"strategies: the strength of '{item}' must be a number from 0, such as {word}@0.3")
        return strength


class Mitigation(Strategies):
    """Fine-tuning of the reconstructors against bias; the diagnosis stays frozen."""

    strategies: tuple[str, ...] = ("reweight", "eodd", "adv")  # also dro, remedies joined by +, and thresholds
    models: tuple[str, ...] = ()  # empty: every reconstructor of the study
    attributes: tuple[str, ...] = ()  # empty: those that the dataset records
    lam: NonNegativeFloat = 1  # of eodd and adv where a strategy names none, as in eodd@0.3
    epochs: Count = 10
    lr_factor: PositiveFloat = 0.1  # of the learning rate of the first training
    temperature: PositiveFloat = 0.3  # of soft decisions, in units of probability
    adversary_lr: PositiveFloat = 1e-4
    seed: Seed = 0

    def parts(self, strategy: str) -> dict[str, float]:
        """The remedies that a strategy joins, and the strength of each; ``thresholds`` has none.

        Examples
        --------
        >>> from reconfair import remedies
        >>> Mitigation().parts("reweight+eodd@0.3")
        {'reweight': 1.0, 'eodd': 0.3}
        """
        strengths = {}
        for item in strategy.split("+") if strategy != "thresholds" else ():
            word = item.partition("@")[0]
            if not is_external(word):
                one_of(word, (*REMEDIES, "thresholds"), "strategies: strategy")
            elif name_of(word) in (*REMEDIES, "thresholds", "standard"):
                raise ValueError(f"strategies: '{word}' has the name of another strategy; rename the class")
            else:
                external(word, "terms", "shares", "weigh", "measure")
            if word in strengths or word == "thresholds":
                raise ValueError(
                    f"strategies: '{strategy}' names a remedy twice, or joins thresholds, which stands alone"
                )
            usual = REMEDIES.get(word, 1.0)
            strengths[word] = self._strength(item, self.lam if usual is None else usual)
        return strengths


CLASSIFIERS = ("vit", "resnet", "boosting", "neighbours", "xgboost")  # that train with synthetic patients
GENERATORS = ("plain", "cbrs", "sqrs", "cbdm", "fairdiffusion", "fairgen")  # of synthetic patients, in their order


class Synthesis(Section):
    """Synthetic patients: a diffusion model that fills rare cells of attribute and disease, for training alone."""

    cells: str = ""  # attributes and the task, as in sex*grade; empty: the first of both
    min_images: Count = 8  # real training images that a cell needs
    small_cells: Literal["refuse", "merge"] = "refuse"  # merge: cells with fewer join the largest cell of their label
    baselines: tuple[Literal[GENERATORS[:-1]], ...] = GENERATORS[:-1]  # generators beside fairgen
    sampling: Literal["sqrs", "cbrs", "natural"] = "sqrs"  # of fairgen: cells by 1 / sqrt(n), by 1 / n, as they are
    gradient_norms: bool = True  # of fairgen: cells with large gradients are drawn more often
    diversity: NonNegativeFloat = 1.0  # of cbdm and fairgen: strength tau of the diversity loss; 0: none
    preference: Literal["oracle", "csv", "none"] = "oracle"  # of fairgen: who compares pairs of samples
    ratings: str = ""  # folder with the files of the raters, for preference: csv
    pairs: Annotated[int, Field(ge=2)] = 400  # pairs of samples to be compared
    beta: PositiveFloat = 2000.0  # how closely preference learning stays with the plain generator
    kappa: PositiveFloat = 1.0  # how sure the simulated physician is of a difference in score
    guidance: NonNegativeFloat = 1.5  # of sampling towards the cell; 0: as if no cell were named
    steps: Annotated[int, Field(ge=2, le=1000)] = 50  # of sampling
    amount: Literal["balance"] | PositiveFloat = "balance"
    inverse_performance: Literal["loss", "sampler", "none"] = "loss"  # groups with few right answers weigh more
    classifiers: tuple[Literal[CLASSIFIERS], ...] = CLASSIFIERS[:-1]
    vit: str = "vit_b_16"  # a name torchvision or timm knows
    resnet: str = "resnet50"  # a name torchvision or timm knows
    pretrained: bool | None = None  # whether vit and resnet start from ImageNet weights; None: as diagnosis.classify
    epochs: Count | None = None  # of vit and resnet; None: as diagnosis.classify
    draws: Annotated[int, Field(ge=2)] = 10  # of equal numbers of images, for distances
    judged: Annotated[int, Field(ge=4)] = 200  # samples of each cell that are compared with real images
    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 64  # of the first level
    widths: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 2, 2, 4)  # of each level
    blocks: Count = 2  # residual blocks of each level
    attention: tuple[Count, ...] = (16, 8)  # pixels a side of the levels with attention
    patch: Count = 1  # pixels a side that enter the first level as one place
    iterations: Count = 20_000  # of the common training, in equal epochs of at most 100
    tuning: Count = 2_000  # of each generator, from the common one
    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: PositiveFloat = 2e-4
    tuning_lr: PositiveFloat | None = None  # learning rate of the tuning; None: lr
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the averaged weights
    start: str = ""  # weights of a generator to start from, a best.ckpt of the same cells and size; of no test patient
    diffusers: str = ""  # folder of a Stable Diffusion checkpoint that makes the samples of a further generator, sd
    as_published: bool = False  # no gradient norms, preference without reference, weights by sampler, guidance 7.5
    seed: Seed = 0

    @model_validator(mode="after")
    def _whole(self):
        if self.preference == "csv" and not self.ratings:
            raise ValueError("ratings: missing; preference csv needs the folder that `reconfair rate` fills")
        return self

    @property
    def generators(self) -> tuple[str, ...]:
        """Names of the generators, and so of the readers that train with their images."""
        baselines = [word for word in GENERATORS if word in self.baselines]
        return (*baselines, "fairgen", *["sd"] * bool(self.diffusers))


class FairREAD(Training):
    """Networks whose latent space is orthogonal to the attributes (FCRO), and their second stage (FairREAD)."""

    epochs: Count = 40  # of each network of stage 1; the last epoch is kept
    batch_size: Annotated[int, Field(ge=2)] = 128  # half of each batch is positive
    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 4e-4
    latent: Annotated[int, Field(ge=2)] = 128  # size of the latent space
    column: NonNegativeFloat = 80.0  # weight of the column loss
    row: NonNegativeFloat = 125.0  # weight of the row loss; 125 is the published 500 at 64 images a class
    rank: Count | Literal["energy"] = 3  # of the attributes' subspace; energy: 0.99 of it
    moving_base: bool = False  # the subspace follows the batches of the first three epochs
    refusion_epochs: Count = 10  # of stage 2, at most
    refusion_batch_size: Annotated[int, Field(ge=2)] = 64
    patience: Count = 3  # epochs of stage 2 without a lower validation loss
    blocks: Count = 2  # of re-fusion
    width: Annotated[int, Field(ge=2)] = 256  # of the attributes' code
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    keep_orthogonal: bool = True  # both losses of stage 1 stay on in stage 2
    alpha: NonNegativeFloat = 0.5  # of the adversary, where a strategy names none, as in adversary@0.1
    adversary_steps: Count = 2  # of the adversary in each batch
    adversary_lr: PositiveFloat = 1e-4


class Readers(Strategies):
    """Diagnostic networks that are trained to be fairer; the images stay as they are."""

    strategies: tuple[str, ...] = ("oversample", "reweight", "dro")  # or joined by +, with a strength after @
    thresholds: Literal["none", "min_gap", "youden", "gmeans"] = "none"  # by group, after each classifier's training
    attributes: tuple[str, ...] = ()  # empty: those that the dataset records
    amplify: Fraction = 0.0  # training images are left out until positive rates of groups differ by so much
    level: Fraction = 1.0  # of oversampling: 0 natural, 1 as many images of every group
    dro: Literal["online", "max", "as_published"] = "online"  # max: the worst group of a batch alone
    reweight: Literal["training", "as_published"] = "training"  # where groups are counted; as_published: in the batch
    margin: NonNegativeInt = 5  # pixels that a crop is larger than the largest box, along each axis
    box: Literal["largest", "as_published"] = "largest"  # of a cascade: around the largest region found; or around all
    fairread: FairREAD = FairREAD()
    dice: Literal["volume", "slice_mean"] = "volume"  # of a patient, in the measures of this chapter
    as_published: bool = False  # as the public code of FairREAD, FCRO and Lee et al. does it
    seed: Seed = 0

    def parts(self, strategy: str) -> dict[str, float]:
        """The parts that a strategy joins, and the strength of each; thresholds and crops have none (0).

        Examples
        --------
        >>> Readers().parts("oversample@0.5+dro")
        {'oversample': 0.5, 'dro': 0.01}
        >>> Readers().parts("standard+thresholds")
        {'thresholds': 0.0}
        """
        strengths, alpha = {}, self.fairread.alpha
        for item in strategy.removeprefix("standard+").split("+"):
            word, at, _ = item.partition("@")
            one_of(word, READERS, "strategies: strategy")
            if word in strengths:
                raise ValueError(f"strategies: '{strategy}' names '{word}' twice")
            usual = {"oversample": self.level, "adversary": alpha, "fairread": alpha}.get(word, READERS[word][1])
            if at and usual is None:
                raise ValueError(f"strategies: '{item}': {word} has no strength; write {word}")
            strengths[word] = self._strength(item, usual or 0.0)
            if word == "oversample" and strengths[word] > 1:
                raise ValueError(f"strategies: '{item}': the level of oversampling lies in [0, 1]")
        *before, last = strengths
        main = [word for word in strengths if word not in (*DOSES, "thresholds")]
        doses = [word for word in strengths if word in DOSES]
        if "thresholds" in before or (last == "thresholds" and {*main} & {"crop", "cascade"}):
            raise ValueError(
                f"strategies: '{strategy}': thresholds come last and belong to classifiers, as in fairread+thresholds"
            )
        if len(main) > 1 or len(doses) > 2 or (doses and main and main[0] not in ("crop", "cascade")):
            raise ValueError(
                f"strategies: '{strategy}' cannot be joined; two of {', '.join(DOSES)} can, also with crop or cascade"
            )
        return strengths

    def kinds(self, strategy: str) -> tuple[str, ...]:
        """The kinds of network that a strategy can train.

        Examples
        --------
        >>> Readers().kinds("cascade+oversample"), Readers().kinds("dro")
        (('segment',), ('classify', 'segment'))
        """
        words = () if strategy == "standard" else self.parts(strategy)
        return tuple(kind for kind in BOTH if all(kind in READERS[word][0] for word in words))


class TwoStages(Section):
    """Interventions at both stages: strategies of one reconstructor, each read by every reader."""

    model: str = ""  # the reconstructor; empty: the first that mitigation fine-tunes
    strategies: tuple[str, ...] = ()  # rows; empty: all of mitigation.strategies that change images
    readers: tuple[str, ...] = ()  # columns; empty: all of chapter 07, with thresholds; generators of 08 must be named
    against: Literal["standard", "matched"] = "standard"  # the reader that eodd and adv see; matched: that of the cell
    rule: Literal["upper_limit", "estimate"] = "upper_limit"  # of the gap: the cell where it is least on validation
    tolerance: Fraction = 0.02  # how much lower than the best the chosen cell's AUROC or Dice may be
    margin: Fraction = 0.0  # how much the chosen cell must close the gap on test, with certainty, to be called better
    seeds: tuple[Seed, ...] = ()  # with which everything is trained again, for the variance between trainings
    max_cells: Annotated[int, Field(ge=4)] = 60  # a larger grid is refused, with its cost

    @model_validator(mode="after")
    def _other_trainings(self):
        if repeated := [seed for seed in self.seeds if self.seeds.count(seed) > 1]:
            raise ValueError(f"seeds names {repeated[0]} more than once; a repeated training shows no variance")
        return self


class Report(Section):
    """What the last chapter gathers."""

    runs: Literal["this", "all"] = "this"


class Compute(Section):
    """Where the work runs; enters no fingerprint."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    workers: NonNegativeInt = 0  # threads and processes; 0: every core
    compile: bool = False  # networks before they train: worth its start in long trainings on a GPU


class Study(Section):
    """One configuration: a dataset at one noise level, and everything done with it."""

    dataset: SerializeAsAny[Dataset]
    noise: SerializeAsAny[Section]
    reconstruction: SerializeAsAny[Reconstruction]
    diagnosis: Diagnosis = Diagnosis()
    fairness: Fairness = Fairness()
    mitigation: Mitigation | None = None  # left out: chapter 06 is not run
    readers: Readers | None = None  # left out: chapter 07 is not run
    synthesis: Synthesis | None = None  # left out: chapter 08 is not run
    two_stages: TwoStages | None = None  # left out: chapter 09 is not run
    report: Report = Report()
    compute: Compute = Compute()
    _command: str = PrivateAttr("")  # what to write after `reconfair run` for this study
    _number: int = PrivateAttr(0)  # of the fold that this is

    @model_validator(mode="after")
    def _known_words(self):
        about, name = self.dataset.about, self.dataset.name
        for task in self.diagnosis.tasks:
            one_of(task, about.every, f"diagnosis.tasks: task of {name}")
        words = {"fairness.attributes": [word for joint in self.fairness.attributes for word in joint.split("*")]}
        words |= {
            f"{key}.attributes": getattr(getattr(self, key), "attributes", ()) for key in ("readers", "mitigation")
        }
        words["synthesis.cells"] = self.cells[:-1]
        for key, attributes in words.items():
            for word in attributes:
                recorded = about.attributes + ("race_merged",) * ("race" in about.attributes)
                one_of(word, recorded, f"{key}: attribute of {name}")
        intersections = [{*joint.split("*")} for joint in self.fairness.attributes]
        for at, joint in enumerate(self.fairness.attributes):
            if len(intersections[at]) <= joint.count("*"):
                raise ValueError(f"fairness.attributes: '{joint}' names an attribute twice")
            if intersections[at] in intersections[:at]:
                other = self.fairness.attributes[intersections.index(intersections[at])]
                raise ValueError(f"fairness.attributes: '{joint}' is the same as '{other}'; leave out one of them")
        if self.cells:
            classified = [task for task, kind in self.tasks.items() if kind == "classify"]
            if not self._classified:
                raise ValueError("synthesis: cells need a task that is classified; diagnosis.tasks names none")
            one_of(self.cells[-1], dict.fromkeys([*self._classified, *classified]), "synthesis.cells: task")
            if len({*self.cells[:-1]}) < max(len(self.cells) - 1, 1):
                cells = "*".join(self.cells)
                raise ValueError(f"synthesis.cells: '{cells}' must name each attribute once, and one task")
        return self

    @model_validator(mode="after")
    def _possible(self):
        pretrained, folds = self.diagnosis.classify.pretrained, self.dataset.folds
        if self.diagnosis.classify.outlined and "segment" not in self.dataset.about.tasks.values():
            raise ValueError(f"diagnosis.classify.outlined: {self.dataset.name} has no outlines; expected false")
        for strategy in self.readers.strategies if self.readers else ():
            self.networks_of(self.readers.name_of(strategy))
        for name in ("readers", "two_stages") if folds else ():
            if getattr(self, name):
                raise ValueError(f"{name}: its readers are trained in one split; leave out dataset.folds, or {name}")
        if self.dataset.inputs and not getattr(type(self.noise), "COLOUR", False):
            valid = ", ".join(kind for kind, section in NOISES.items() if getattr(section, "COLOUR", False))
            raise ValueError(
                f"noise.kind: {self.noise.kind} measures one channel, and dataset.channels is 3; valid here: {valid}"
            )
        if self.reconstruction.perceptual and self.noise.kind == "none":
            raise ValueError("reconstruction.perceptual: chapter 03 measures it, which needs noise; expected false")
        chosen = {f"reconstruction.{name}": getattr(self.reconstruction, name) for name in self.reconstruction.places}
        for key, section in {"noise": self.noise, **chosen}.items():
            if self.dataset.inputs and getattr(section, "channel", None) is not None:
                raise ValueError(
                    f"{key}.channel picks one of three, and dataset.channels: 3 keeps them all; leave one of them out"
                )
        if self.dataset.inputs and pretrained in XRV:
            raise ValueError(
                f"diagnosis.classify.pretrained: {pretrained} has seen one channel, and dataset.channels is 3; "
                "valid here: true, false"
            )
        return self

    @model_validator(mode="after")
    def _known_models(self):
        learning = [name for name in self.reconstruction.places if not self._is_given(name)]
        if self.noise.kind == "none" and self.models and learning:
            raise ValueError(
                f"reconstruction.models: without noise, {learning[0]} has nothing to learn from; leave it out, or give "
                f"noise a kind ({', '.join(kind for kind in NOISES if kind != 'none')})"
            )
        for model in self.mitigation.models if self.mitigation else ():
            one_of(name_of(model), self.reconstruction.places, "mitigation.models: model of this study")
            if not any(source.model == name_of(model) for source in self.mitigated) and self.noise.kind != "none":
                raise ValueError(
                    f"mitigation.models: the images of '{model}' were made elsewhere, so that only the strategy "
                    f"thresholds applies; {nearest(model, self.trained, 'trained here')}"
                )
        for key, word in self.diagnosis.models.items():
            # Networks first, for all findings; several classes have one network, which is named for their task.
            one_of(key, dict.fromkeys((*(one.name for one in self.networks), *self._named)), "diagnosis.models: task")
            if is_external(word):
                external(word, "diagnose")
                needed_files(word)
            elif not word.endswith(MODEL_FILES):
                expected = f"a class such as my_reader.py:Reader, or a file of {', '.join(MODEL_FILES)}"
                raise ValueError(f"diagnosis.models.{key}: '{word}' is neither; expected {expected}")
            else:
                file_of(word)
        return self

    @model_validator(mode="after")
    def _known_grid(self):
        if grid := self.grid:  # its rows and columns must be made by the study
            makes = [source for source in self.mitigated if source.strategy != "thresholds"]
            if not makes:
                remedies = ", ".join(word for word in REMEDIES if word != "thresholds")
                expected = f"name one in mitigation.strategies ({remedies}), or leave two_stages out"
                raise ValueError(
                    f"two_stages: no strategy of mitigation.strategies changes a reconstruction; {expected}"
                )
            models, strategies = ([*dict.fromkeys(names)] for names in zip(*makes, strict=True))
            one_of(grid.model or models[0], models, "two_stages.model: model of mitigation.models")
            for word in grid.strategies:
                one_of(self.row_name(word), ["standard", *strategies], "two_stages.strategies: strategy")
            for word in grid.readers:
                one_of(self.reader_name(word), self.grid_readers, "two_stages.readers: reader")
        return self

    def attributes(self, section: str = "fairness") -> tuple[str, ...]:
        """Attributes that `section` looks at: those it names, or those that the dataset records."""
        return getattr(self, section).attributes or self.dataset.about.attributes

    @property
    def tasks(self) -> dict[str, str]:
        """Tasks of this study and their kind, ``classify`` or ``segment``; each class of several is one."""
        about = self.dataset.about
        return {decision: about.every[task] for task in self._named for decision in about.decisions(task)}

    @property
    def ordinal(self) -> tuple[str, ...]:
        """Tasks of this study whose several classes are in order."""
        return tuple(task for task in self._named if task in self.dataset.about.ordinal)

    @property
    def _named(self) -> tuple[str, ...]:
        return self.diagnosis.tasks or tuple(self.dataset.about.tasks)

    @property
    def _classified(self) -> tuple[str, ...]:
        return tuple(task for task in self._named if self.dataset.about.every[task] == "classify")

    @property
    def networks(self) -> tuple[Network, ...]:
        """The diagnostic networks that carry the tasks; a model of the user's own is a network by itself."""
        models, about = self.diagnosis.models, self.dataset.about
        alone = tuple(
            Network(task, about.every[task], about.decisions(task), models.get(task, ""), task in about.classes)
            for task in self._named
        )
        if about.modality == "mri":
            return alone
        apart = tuple(network for network in alone if network.kind == "segment" or network.model or network.classes)
        findings = tuple(network.name for network in alone if network not in apart)
        together = (Network("findings", "classify", findings, models.get("findings", "")),) if findings else ()
        return together + apart

    @property
    def grid(self) -> TwoStages | None:
        """The section ``two_stages``, where the study has noise and both stages intervene; else there is no grid."""
        applies = self.mitigation and self.readers and self.noise.kind != "none"
        return self.two_stages if applies else None

    @property
    def reader_names(self) -> tuple[str, ...]:
        """Strategies by which the diagnostic networks are trained, the standard one first."""
        if self.readers is None:
            return ("standard",)
        plain = ["standard"] + ["oversample@0"] * bool(self.readers.amplify)  # the latter: on the same images
        names = dict.fromkeys((*plain, *map(self.readers.name_of, self.readers.strategies)))
        if self.readers.thresholds != "none":
            whole = [name for name in names if not name.endswith("+thresholds") and self.networks_of(name)]
            moved = [name for name in whole if self.networks_of(f"{name}+thresholds", refuse=False)]
            names |= dict.fromkeys(f"{name}+thresholds" for name in moved)
        return tuple(names)

    @property
    def grid_readers(self) -> tuple[str, ...]:
        """Readers that the grid may have as columns: those of `reader_names`, and those of the generators."""
        return (*self.reader_names, *(self.synthesis.generators if self.synthesis else ()))

    def reader_name(self, word: str) -> str:
        """How a reader that the params file names is called in tables, such as ``oversample@0.5`` or ``fairgen``."""
        try:
            return self.readers.name_of(word)
        except ValueError:  # no strategy: the standard reader, a generator, or unknown
            return word

    def row_name(self, word: str) -> str:
        """How a strategy of the reconstruction that the params file names is called in tables, as `reader_name`."""
        try:
            return self.mitigation.name_of(word)
        except ValueError:  # the standard reconstructor, or unknown
            return word

    def networks_of(self, strategy: str, refuse: bool = True) -> tuple[Network, ...]:
        """The networks that a strategy of readers trains; it leaves models of the user's own as they are.

        FCRO, FairREAD and an adversary train one network for each finding, and so does every strategy on amplified
        images, since these are chosen by finding.

        Raises
        ------
        ValueError
            No network of the study is of a kind that this strategy can train.
        """
        base = strategy.removesuffix("+thresholds")
        if strategy == "standard":
            return self.networks
        if self.synthesis and strategy in self.synthesis.generators:  # those of the task of the cells
            task = self.cells[-1]
            return tuple(net for net in self.networks if task in (net.name, *net.tasks) and not net.model)
        try:
            kinds = self.readers.kinds(strategy)
        except ValueError:
            if refuse:
                raise
            return ()
        fitting = [network for network in self.networks if network.kind in kinds]
        fitting = [network for network in fitting if base == "standard" or not network.model]
        if base != "standard" and {*self.readers.parts(base)} & {*ALONE}:  # these know one finding, with and without
            fitting = [network for network in fitting if not network.classes]
        if not fitting and refuse:
            there = " and ".join(dict.fromkeys(network.kind for network in self.networks))
            raise ValueError(
                f"readers.strategies: '{strategy}' trains networks that {' or '.join(kinds)}, and those of this study "
                f"{there}; {nearest(strategy, [word for word in READERS if there in READERS[word][0]])}"
            )
        if base == "standard" or not (self.readers.amplify or {*self.readers.parts(base)} & {*ALONE}):
            return tuple(fitting)
        return tuple(Network(task, network.kind, (task,)) for network in fitting for task in network.tasks)

    @property
    def cells(self) -> tuple[str, ...]:
        """The attributes and, last, the task whose combinations are the cells of chapter 08; empty without it."""
        if self.synthesis is None:
            return ()
        usual = (*self.attributes()[:1], *self._classified[:1])
        return tuple((self.synthesis.cells or "*".join(usual)).split("*"))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the reconstructors; where there is no noise, those whose images were made elsewhere."""
        return tuple(name for name in self.reconstruction.places if self.noise.kind != "none" or self._is_given(name))

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the reconstructors that are trained here; the images of the others were made elsewhere."""
        return tuple(name for name in self.models if not self._is_given(name))

    def _is_given(self, model: str) -> bool:
        return isinstance(getattr(self.reconstruction, model), tuple(GIVEN.values()))

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the readers look at before any mitigation: originals, noisy images, reconstructions."""
        noisy = () if self.noise.kind == "none" else (NOISY,)
        return (ORIGINAL, *noisy, *map(Source, self.models))

    @property
    def mitigated(self) -> tuple[Source, ...]:
        """Reconstructors that a strategy changes; of images made elsewhere, only their thresholds by group."""
        if self.mitigation is None or self.noise.kind == "none":
            return ()
        models = [name for name in map(name_of, self.mitigation.models or self.models) if name in self.models]
        strategies = [self.mitigation.name_of(strategy) for strategy in self.mitigation.strategies]
        every = (Source(model, strategy) for model in models for strategy in strategies)
        return tuple(source for source in every if source.model in self.trained or source.strategy == "thresholds")

    def remedies(self, source: Source) -> dict[str, float]:
        """The remedies of a mitigated source, by what the params file calls them, and their strengths."""
        names = {self.mitigation.name_of(strategy): strategy for strategy in self.mitigation.strategies}
        return self.mitigation.parts(names[source.strategy])

    @property
    def label(self) -> str:
        """Name of the dataset's output folder."""
        return self.dataset.label or name_of(self.dataset.name)

    @cached_property
    def memo(self) -> dict:
        """Products that were put together from this study; see `store.once`."""
        return {}

    @property
    def level(self) -> str:
        """Name of the noise level's output folder; a replicate, trained with another seed, has its own."""
        seed = self.reconstruction.seed
        return self.noise.level + (f"-seed-{seed}" if seed else "")

    @property
    def name(self) -> str:
        """``<dataset label>/<level>``, the folder of this run under the outputs."""
        return f"{self.label}/{self.level}"

    @property
    def folds(self) -> tuple[Study, ...]:
        """The studies in which models are trained: one for each of ``dataset.folds``, or this study alone."""
        if self._number or not self.dataset.folds:
            return (self,)
        folds = tuple(self.model_copy() for _ in range(self.dataset.folds))
        for number, fold in enumerate(folds, 1):
            fold._number = number
        return folds

    @property
    def number(self) -> int:
        """Number of the fold that this study is, counted from 1; 0: it is a whole study."""
        return self._number

    @property
    def fold(self) -> str:
        """Name of the folder of a fold, such as ``fold-2``; empty for a whole study."""
        return f"fold-{self._number}" if self._number else ""

    def job(self, name: str) -> str:
        """Name of a job that trains models or uses them, such as ``unet`` or ``fold-2/unet``.

        Raises
        ------
        ParamsError
            This is a whole study, and its models are trained in folds.
        """
        if self.dataset.folds and not self._number:
            raise ParamsError(
                f"dataset.folds: each of the {self.dataset.folds} folds has models of its own; ask one of study.folds, "
                "such as study.folds[0]"
            )
        return f"{self.fold}/{name}" if self.fold else name

    def sections(self, *names: str) -> dict:
        """The sections named, or all, JSON-ready. Absolute folders of images are written as hashes (`hidden`)."""
        sections = self.model_dump(mode="json", include=set(names) or None)
        models = [section for section in sections.get("reconstruction", {}).values() if isinstance(section, dict)]
        for section in (sections.get("dataset", {}), sections.get("noise", {}), *models):
            for key in ("root", "folder"):
                if isinstance(section.get(key), str):
                    section[key] = hidden(section[key])
        return sections

    @property
    def command(self) -> str:
        """The command that runs this study, as far as it is known."""
        return f"reconfair run {self._command or 'PARAMS'}"


def hidden(folder: str) -> str:
    """Write an absolute folder as a hash that this process and those that it starts know; another as it is."""
    if not folder or not Path(os.path.expanduser(folder)).is_absolute():
        return folder
    name = f"root-{sha256(folder.encode()).hexdigest()[:12]}"
    known = json.loads(os.environ.get("RECONFAIR_ROOTS", "{}"))
    os.environ["RECONFAIR_ROOTS"] = json.dumps(known | {name: folder})
    return name


def folder_of(name: str) -> Path:
    """The folder that a params file names, where ``~`` and ``$RECONFAIR_DATA`` may stand; see `hidden`."""
    name = json.loads(os.environ.get("RECONFAIR_ROOTS", "{}")).get(name, name)
    return Path(os.path.expandvars(os.path.expanduser(name)))


def is_external(word: str) -> bool:
    """Whether a name stands for a class in a file of the user's own."""
    return ".py:" in word


def name_of(word: str) -> str:
    """The short name of a model, remedy or dataset.

    Examples
    --------
    >>> name_of("unet"), name_of("models/my_models.py:Restormer")
    ('unet', 'restormer')
    """
    return word.rpartition(":")[2].lower() if is_external(word) else word


def external(word: str, *needs: str) -> type:
    """Load a class given as ``my_file.py:MyClass``; the file is looked for here and beside the folder ``params``.

    The file is run as it stands: name only files that you trust.

    Parameters
    ----------
    word : str
    *needs : str
        What the class must have.

    Raises
    ------
    ParamsError
        The file or the class is not there, the file cannot be run, or the class lacks something.
    """
    file, _, name = word.rpartition(":")
    module = _module(file_of(word), file)
    kind = getattr(module, name, None)
    if not isinstance(kind, type):
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ParamsError(f"{word}: {file} has no class '{name}'; {nearest(name, classes, 'it has')}")
    for need in needs:
        if not hasattr(kind, need):
            raise ParamsError(f"{word}: the class has no '{need}'; here it needs {', '.join(needs)}")
    return kind


def needed_files(word: str) -> list[Path]:
    """The files that a class of the user's own names in ``files``, beside its own file; raises as `external`."""
    names, folder = getattr(external(word), "files", ()), file_of(word).parent
    names = (names,) if isinstance(names, str | Path) else names
    if not (isinstance(names, tuple | list) and all(isinstance(name, str | Path) for name in names)):
        raise ParamsError(f"{word}: files of the class is {names!r}; expected names, such as ('weights.pt',)")
    for name in names:
        if not (folder / name).is_file():
            others = [path.name for path in (folder / name).parent.glob(f"*{Path(name).suffix}")]
            there = nearest(Path(name).name, others, "there is")
            raise ParamsError(f"{word}: files of the class names '{name}', and there is no such file; {there}")
    return [folder / name for name in names]


@cache
def _module(path: Path, file: str):
    """Run a file of the user's own, once."""
    name = f"reconfair_external_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ParamsError(f"{file}: it cannot be run ({type(error).__name__}: {error})") from None
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)  # worker processes cannot import it by its name
    return module


def file_of(word: str) -> Path:
    """Absolute path of a file of the user's own, or of that in which a class stands; raises as `external`."""
    file = word.rpartition(":")[0] if is_external(word) else word
    places = dict.fromkeys((place / file).resolve() for place in (Path.cwd(), root()))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        others = [other.name for place in places for other in place.parent.glob(f"*{Path(file).suffix}")]
        there = nearest(Path(file).name, others, "there is")
        raise ParamsError(f"{word}: there is no file {file}, here or beside the folder params; {there}")
    return path


def root() -> Path:
    """The project's folder: the nearest one upwards that holds ``params``, else the package's checkout, else here."""
    here = folder = os.getcwd()  # as text, because a study asks thousands of times
    while not os.path.isdir(f"{folder}/params"):
        if folder == (folder := os.path.dirname(folder)):
            return shipped() if shipped() == Path(__file__).parents[1] else Path(here)
    return Path(folder)


@cache
def shipped() -> Path:
    """Folder of the notebooks and params files that come with the package: the checkout, or ``share/reconfair``."""
    checkout, sign = Path(__file__).parents[1], Path("notebooks", "01_data.ipynb")
    if (checkout / sign).is_file():
        return checkout
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("reconfair") or ():
            if file.match(f"share/reconfair/{sign.as_posix()}"):
                return Path(file.locate()).resolve().parents[1]
    return checkout


def project_file(name: str) -> Path:
    """Path of a file such as ``params/demo.yaml``: the one in the project's folder, else the one of the package."""
    mine, original = root() / name, shipped() / name
    return original if original.exists() and not mine.exists() else mine


def one_of(word: str, valid, what: str) -> None:
    """Refuse a word that is not valid, and name the nearest that is."""
    if word not in valid:
        raise ValueError(f"{what} '{word}' is unknown; {nearest(word, valid)}")


@lru_cache(64)
def _content(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of the contents of files, given with their dates and sizes: a study asks thousands of times."""
    return sha256(b"".join(path.read_bytes() for path, _, _ in files)).hexdigest()[:16]


def off_default(section: Section, *keys: str) -> list[str]:
    """Settings that differ from their default, as they enter the name of a noise level."""
    fields = type(section).model_fields
    return [f"{key}-{getattr(section, key)}" for key in keys if getattr(section, key) != fields[key].default]


def study(base: str = "", **sections: dict[str, Any]) -> Study:
    """Build the typed study from the sections of a params file or a parameters cell.

    Parameters
    ----------
    base : str
        Name of a file in ``params``, without ``.yaml``, from which the study starts. Not used where ``dataset`` has a
        ``name``: such sections are a whole study.
    **sections : dict
        Sections of a params file, or what is to change in those of `base`; ``{}`` changes nothing, and "none" leaves
        out ``noise`` or a section of `OPTIONAL`.

    Raises
    ------
    ParamsError
        One line per mistake: the key, what was expected, and the nearest valid key.
    """
    empty = [name for name, section in sections.items() if section is None]
    if empty:
        raise ParamsError(f"{empty[0]}: null is no section; {{}} changes nothing, and noise: none is without noise")
    command, dataset = "", sections.get("dataset")
    if base and not (isinstance(dataset, dict) and "name" in dataset):
        sections = {name: section for name, section in sections.items() if section != {}}
        base_sections = read(project_file(f"params/{base}.yaml"))
        noises = [some.get("noise") for some in (sections, base_sections)]
        kind, usual = (noise.get("kind") if isinstance(noise, dict) else noise for noise in noises)
        replaced = {"noise"} if kind not in (None, usual) else set()  # another kind of noise shares no settings
        command = _command(f"params/{base}.yaml", _leaves(sections, replaced))
        sections = _merged({name: each for name, each in base_sections.items() if name not in replaced}, sections)
    sections = {name: section for name, section in sections.items() if section != "none" or name not in OPTIONAL}
    if isinstance(sections.get("noise"), str):
        sections["noise"] = {"kind": sections["noise"]}
    built = _validated(sections)
    built._command = command
    return built


def load(path: str | Path, overrides: list[str] = ()) -> Study:
    """Read a params file; `overrides` are ``section.key=value`` strings that win over it."""
    path = Path(path)
    sections = read(path)
    for override in overrides:
        _override(sections, override)
    try:
        built = study(**{str(key): section for key, section in sections.items()})
    except ParamsError as error:
        raise ParamsError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    built._command = _command(str(path), overrides)
    return built


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as people read it: a key stands once, ``1e-3`` is a number, and ``0100`` and ``1:30`` are refused."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None and _values(node, {}) > MAX_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MAX_VALUES} values")
        return node

    def construct_mapping(self, node, deep=False):
        keys = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                other = keys.setdefault(self.construct_object(key), key)  # 1, 1.0 and true are one key to Python
                if other is not key:
                    problem = f"the key '{key.value}' stands twice"
                    if other.value != key.value:
                        problem = f"the keys '{other.value}' and '{key.value}' are one unless they stand in quotes"
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_doubtful(self, node):
        problem = f"{node.value} can be read in several ways; write '{node.value}' in quotes, or a plain number"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


_NUMBERS = {
    "!doubtful": r"0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?",
    "tag:yaml.org,2002:int": r"0|[1-9][0-9_]*",
    "tag:yaml.org,2002:float": r"(0|[1-9][0-9_]*)\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?"
    r"|(0|[1-9][0-9]*)[eE][-+]?[0-9]+|\.(inf|Inf|nan|NaN)",
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^[-+]?({_pattern})$"), list("-+0123456789."))
_Loader.add_constructor("!doubtful", _Loader.construct_doubtful)


def _values(node, known: dict[int, float]) -> float:
    """How many values a node stands for once its aliases are written out; infinite where it holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [one for pair in parts for one in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_values(one, known) for one in parts)
    return known[id(node)]


def parsed(text: str):
    """Parse YAML, as far as a params file needs it.

    Raises
    ------
    yaml.YAMLError
        No valid YAML, a key that stands twice, or something that only an attack would hold.
    """
    depth = 0
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"it has more than {MAX_BYTES} characters")
    for number, event in enumerate(yaml.parse(text, _Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or number > MAX_VALUES:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep, or has more than {MAX_VALUES} values")
    return yaml.load(text, _Loader)


def read(path: Path) -> dict:
    """Sections of a params file as they stand.

    Raises
    ------
    ParamsError
        The file is not there, or is no YAML with sections.
    """
    path = Path(path)
    if path.is_dir():
        raise ParamsError(f"{path}: is a folder; expected a params file, such as {path / 'demo.yaml'}")
    if not path.is_file():
        asked, others = path.name, [other.name for other in path.parent.glob("[!.]*.yaml")]
        if not others:  # another folder than the one meant: those of the project, as they are named from here
            folder = Path(os.path.relpath(project_file("params")))
            asked, others = f"{folder}/{path.stem}.yaml", sorted(map(str, folder.glob("*.yaml")))
        raise ParamsError(f"{path}: no such params file; {nearest(asked, others, 'there is')}")
    try:
        with path.open(encoding="utf-8") as file:
            sections = parsed(file.read(MAX_BYTES + 1)) or {}
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (ValueError, yaml.YAMLError) as error:  # no text, and a date or number that is none
        raise ParamsError(f"{path}: not valid YAML: {error}".splitlines()[0]) from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(sections, dict):
        raise ParamsError(f"{path}: expected sections such as 'dataset:', found {type(sections).__name__}")
    return sections


def _validated(sections: dict) -> Study:
    """Validate section by section, so that all mistakes are reported together."""
    sections, values, mistakes = _paper_defaults(sections), {}, []
    for name, section in sections.items():
        if len(mistakes) > MANY:
            break
        try:
            values[name] = (kind := _kind(name, section)).model_validate(section)
        except ValidationError as error:
            mistakes += [_explain(name, kind, item) for item in error.errors()[:MANY]]
        except ParamsError as error:
            mistakes.append(str(error))
    if "dataset" not in sections:
        mistakes.append("dataset: missing")
    if mistakes:
        raise ParamsError("\n".join(mistakes))
    try:
        return Study(**values)
    except ValidationError as error:
        raise ParamsError("\n".join(item["msg"].removeprefix("Value error, ") for item in error.errors())) from None


def _kind(name: str, section) -> type[Section]:
    """The settings class of a section."""
    if name not in Study.model_fields:
        raise ParamsError(f"{name}: unknown key; {nearest(name, Study.model_fields)}")
    if not isinstance(section, dict):
        raise ParamsError(f"{name}: expected keys such as '{name}: {{...}}', found {section!r}")
    if name in ("dataset", "noise"):
        key, registry = {"dataset": ("name", DATASETS), "noise": ("kind", NOISES)}[name]
        word = section.get(key)
        if not isinstance(word, str):
            raise ParamsError(f"{name}.{key}: missing; one of {', '.join(registry)}")
        if name == "dataset" and is_external(word):
            if name_of(word) in DATASETS:
                raise ParamsError(f"dataset.name: '{word}' has the name of another dataset; rename the class")
            return external(word, "about", "read_table", "read_image", "signature")
        if word not in registry:
            raise ParamsError(f"{name}.{key}: '{word}' is unknown; {nearest(word, registry)}")
        return registry[word]
    if name == "reconstruction":
        return _reconstruction(section)
    annotation = Study.model_fields[name].annotation
    return annotation if isinstance(annotation, type) else get_args(annotation)[0]  # of a class or None, the class


def _reconstruction(section: dict) -> type[Reconstruction]:
    """The section with one field of settings for each model that is known or named."""
    words = section.get("models", Reconstruction.model_fields["models"].default)
    required, fields, taken = (
        {},
        dict(MODELS),
        {"original", "noisy", *Reconstruction.model_fields, *dir(Reconstruction)},
    )
    for word in dict.fromkeys(map(str, words)) if isinstance(words, list | tuple) else ():
        if is_external(word):
            if name_of(word) in taken | fields.keys():
                raise ParamsError(f"reconstruction.models: '{word}' has the name of another model; rename the class")
            fields[name_of(word)] = external(word, "Settings", "objective", "reconstruct").Settings
        elif word not in MODELS:
            kind = section[word].get("kind") if isinstance(section.get(word), dict) else None
            if kind is None:
                given = [name for name, settings in section.items() if isinstance(settings, dict) and name != word]
                near = nearest(word, dict.fromkeys([*MODELS, *given]))
                near += " Or" if near.endswith("?") else ", or"
                hint = f"{near} give {word} a kind: {', '.join(GIVEN)}"
                raise ParamsError(f"reconstruction.models: model '{word}' is unknown; {hint}")
            if kind not in GIVEN:
                raise ParamsError(f"reconstruction.{word}.kind: '{kind}' is unknown; {nearest(kind, GIVEN)}")
    for name, given in section.items():  # named in `models` or not
        kind = given.get("kind") if isinstance(given, dict) else None
        if kind in GIVEN and name in MODELS:
            raise ParamsError(f"reconstruction.{name}: {name} is trained here; give images made elsewhere another name")
        if kind in GIVEN and name not in fields:
            if name in taken or not re.fullmatch(r"\w+", name):
                raise ParamsError(f"reconstruction.models: '{name}' cannot be a name; use other letters or digits")
            required[name] = (GIVEN[kind], ...)
    return _with_models(tuple(fields.items()), tuple(required.items()))


@lru_cache
def _with_models(fields: tuple[tuple[str, type]], required: tuple[tuple[str, tuple]]) -> type[Reconstruction]:
    """The class of the section, built once for the same models."""
    typed = {name: (kind, kind()) for name, kind in fields} | dict(required)
    return create_model("Reconstruction", __base__=Reconstruction, **typed)


def _paper_defaults(sections: dict) -> dict:
    """Fill in noise, classifier and length of training that the paper uses for the dataset's modality."""
    dataset = sections.get("dataset")
    name = dataset.get("name") if isinstance(dataset, dict) else None
    try:
        kind = external(name) if isinstance(name, str) and is_external(name) else DATASETS.get(name)
    except (ParamsError, TypeError):
        kind = None
    if kind is None:
        return sections  # the mistake is named when the sections are read
    about = getattr(kind, "about", None)
    usual = about.modality if isinstance(about, About) else "mri"
    modality = "xray" if dataset.get("modality", usual) == "xray" else "mri"
    sections = {"noise": {"kind": "kspace" if modality == "mri" else "sinogram"}, "reconstruction": {}, **sections}
    if isinstance(sections["noise"], dict):
        sections["noise"] = {"kind": "kspace" if modality == "mri" else "sinogram", **sections["noise"]}
    if isinstance(sections.get("mitigation"), dict):
        sections["mitigation"] = {"lam": PAPER_LAMBDA[modality], **sections["mitigation"]}
    sde = ("reconstruction", "sde", {"epochs": PAPER_SDE_EPOCHS[modality]})
    for name, key, choice in (sde, ("diagnosis", "classify", PAPER_CLASSIFIER[modality])):
        section = sections.get(name, {})
        if isinstance(section, dict) and isinstance(section.get(key, {}), dict):
            sections[name] = {**section, key: {**choice, **section.get(key, {})}}
    return sections


def _merged(base: dict, changes: dict) -> dict:
    """The sections of `base` with some keys changed; lists are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _leaves(sections: dict, whole=(), prefix: str = "") -> list[str]:
    """Every value in nested sections as an override ``section.key=value``; those in `whole` are not taken apart."""
    leaves = []
    for key, value in sections.items():
        if isinstance(value, dict) and key not in whole:
            leaves += _leaves(value, (), f"{prefix}{key}.")
            continue
        try:
            text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
        except yaml.YAMLError:  # a number of NumPy
            text = str(value)
        leaves.append(f"{prefix}{key}={text.strip().removesuffix('...').strip()}")
    return leaves


def _command(path: str, overrides: Iterable[str]) -> str:
    """The arguments that name a study, as a shell takes them."""
    return shlex.join([path, *(word for override in overrides for word in ("--set", override))])


def _override(sections: dict, text: str) -> None:
    key, equals, value = text.partition("=")
    *parents, last = key.split(".")
    if not equals or not (parents or key in ("noise", *OPTIONAL)):
        known = [f"{section}.{name}" for section, keys in sections.items() if isinstance(keys, dict) for name in keys]
        near = next((name for name in known if name.endswith(f".{key}")), "")
        example = f", such as {near}={value}" * bool(near and equals)
        raise ParamsError(f"--set {text}: expected section.key=value{example}")
    try:
        for parent in parents:
            sections[parent] = sections = {} if sections.get(parent) is None else sections[parent]
        sections[last] = parsed(value)
    except (AttributeError, TypeError, yaml.YAMLError):
        raise ParamsError(f"--set {text}: expected section.key=value, with a value as in YAML") from None


def _explain(section: str, kind: type[Section], item: dict) -> str:
    """One mistake found by pydantic, as one line a user can act on."""
    path = [str(step) for step in item["loc"] if not re.fullmatch(r"\[key\]|\((numbers|shares)\)", str(step))]
    key = ".".join([section, *path])
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key in '{key.rpartition('.')[0]}'; {nearest(path[-1], _fields_at(kind, path[:-1]))}"
    if item["type"] == "missing":
        last = item["loc"][-1]
        return f"{key.rpartition('.')[0]}: value {last + 1} is missing" if isinstance(last, int) else f"{key}: missing"
    if item["type"] == "literal_error":
        words = [word.strip(" '") for word in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        words = [{"True": "true", "False": "false"}.get(word, word) for word in words]
        if item["input"] in words:
            return f"{key}: '{item['input']}' is text, expected {item['input']} without quotes"
        return f"{key}: '{item['input']}' is not one of {', '.join(words)}; {nearest(item['input'], words)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "string_pattern_mismatch":
        message = f"expected {PATTERNS.get(item['ctx']['pattern'], message)}"
    elif item["type"] == "tuple_type":
        message = f"expected a list, such as [{item['input']}]"
    elif item["type"] in ("too_short", "too_long"):
        side, end = ("least", "min") if item["type"] == "too_short" else ("most", "max")
        message = f"expected at {side} {item['ctx'][f'{end}_length']} values"
    elif (number := item["type"].partition("_")[0]) in NUMBERS:
        message = f"expected {NUMBERS[number]}"
    elif item["type"] == "string_type":
        message = "expected text; a number or a date as text stands in quotes"
    elif item["type"] == "dict_type":
        words = item["input"] if isinstance(item["input"], list) else [item["input"]]
        message = f"expected keys with values, such as {{{', '.join(f'{word}: ...' for word in words[:2])}}}"
    elif item["type"] == "model_type":
        message = f"expected keys such as '{path[-1]}: {{{_fields_at(kind, path)[0]}: ...}}'"
    given = "" if isinstance(item["input"], dict) else f" (given: {reprlib.repr(item['input'])})"
    return f"{key}: {message}{given}"


def _fields_at(kind: type[Section], path: list[str]) -> list[str]:
    """Valid keys of the section at `path`."""
    for step in path:
        if step in kind.model_fields:
            annotation = kind.model_fields[step].annotation  # a section, or one within dict[...] or ... | None
            for inner in (annotation, *get_args(annotation)):
                kind = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else kind
    return list(kind.model_fields)
