"""The study: typed parameters, one model per section of a params file.

What a params file leaves out takes the default written here, which is the paper's setting.
An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from glob import escape
from hashlib import sha256
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
GAPS += ("delta_dice", "ser", "psnr_gap", "ssim_gap")
MEASURES = ("tpr", "fpr", "ppr", "auroc", "auprc", "calibration", "dice", "psnr", "ssim")
COHORT = ("image_id", "patient_id", "split", "age", *ATTRIBUTES, "path", "mask_path", "slice")  # columns of every one
GROUPS = {"sex": SEXES, "age_group": AGE_GROUPS, "race": RACES}


class About(NamedTuple):
    """What is settled about a dataset before any of it is read."""

    modality: str
    unit: str  # what is decided: a patient or an image
    tasks: dict[str, str]  # task: classify or segment
    attributes: tuple[str, ...] = ("sex", "age_group", "race")  # those that it records
    folder: str = ""  # of its own, under RECONFAIR_DATA
    metadata: tuple[str, ...] = ()  # the files that must be in that folder; * stands for a version
    where: str = ""  # to get it


_MRI_TASKS = {"grade": "classify", "type": "classify", "tumour": "segment"}
_XRAY_TASKS = ("effusion", "cardiomegaly", "consolidation", "pneumothorax", "nodule")
_NIH_TASKS = ("Abnormal", "Effusion", "Infiltration", "Atelectasis", "Cardiomegaly")
_CHEXPERT_TASKS = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema")
_CHEXPERT_TASKS += ("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion")
_CHEXPERT_TASKS += ("Pleural Other", "Fracture")
DATASETS = {
    "phantom_mri": About("mri", "patient", _MRI_TASKS),
    "phantom_xray": About("xray", "image", dict.fromkeys(_XRAY_TASKS, "classify")),
    "lgg": About(
        "mri",
        "patient",
        _MRI_TASKS,
        ("sex", "age_group", "race"),
        "lgg",
        ("kaggle_3m/data.csv",),
        "LGG MRI Segmentation (TCGA-LGG, Buda et al.), kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
    ),
    "nih": About(
        "xray",
        "image",
        dict.fromkeys(_NIH_TASKS, "classify"),
        ("sex", "age_group"),
        "nih",
        ("Data_Entry_2017_v2020.csv",),
        "ChestX-ray14 (NIH Clinical Center), nihcc.app.box.com/v/ChestXray-NIHCC",
    ),
    "chexpert": About(
        "xray",
        "image",
        dict.fromkeys(_CHEXPERT_TASKS, "classify"),
        ("sex", "age_group", "race"),
        "chexpert",
        ("CheXpert-v1.0-small/train.csv", "CHEXPERT DEMO.xlsx"),
        "CheXpert and its demographics (Stanford AIMI), aimi.stanford.edu/datasets/chexpert-chest-x-rays",
    ),
    "ucsf_pdgm": About(
        "mri",
        "patient",
        _MRI_TASKS,
        ("sex", "age_group"),
        "ucsf_pdgm",
        ("UCSF-PDGM-metadata*.csv",),
        "UCSF-PDGM (The Cancer Imaging Archive), cancerimagingarchive.net/collection/ucsf-pdgm",
    ),
    "table": About(  # what a params file leaves out; its columns and tasks are named there
        "mri",
        "patient",
        {"label": "classify"},
        ("sex", "age_group", "race"),
        "table",
        ("cohort.csv",),
        "a table of your own images ready (README, Your own scans)",
    ),
}
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


class Network(NamedTuple):
    """A diagnostic network: one for all findings of a radiograph, one per task of an MRI."""

    name: str
    kind: str
    tasks: tuple[str, ...]


class ParamsError(ValueError):
    """A parameter is wrong; the message names its key and what was expected."""


def _one_of(word: str, valid, what: str) -> None:
    if word not in valid:
        near = get_close_matches(word, list(valid), 1, 0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"valid here: {', '.join(valid) or 'none'}"
        raise ValueError(f"{what} '{word}' is unknown; {hint}")


class Section(BaseModel):
    """A section of a params file: no unknown keys, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _named_once(self):
        for key, value in self:
            repeated = [word for word in value if value.count(word) > 1] if isinstance(value, tuple) else []
            if repeated and isinstance(repeated[0], str):
                raise ValueError(f"{key} names '{repeated[0]}' more than once")
        return self


Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=32, le=1024, multiple_of=16)]


class Dials(Section):
    """Bias planted in a phantom cohort: ``{attribute: {group: value}}``, all zero by default."""

    contrast: dict[str, dict[str, float]] = {}  # relative change of lesion contrast; -1: invisible
    texture: dict[str, dict[str, float]] = {}  # share of a consolidation that is mottled, not dense; X-ray
    prevalence: dict[str, dict[str, float]] = {}  # added to the probability of every finding
    label_noise: dict[str, dict[str, float]] = {}  # probability that a label is flipped
    scarce: dict[str, dict[str, float]] = {}  # share of a group's patients that the reconstruction never trains on

    @model_validator(mode="after")
    def _known_groups(self):
        for dial in type(self).model_fields:
            for attribute, groups in getattr(self, dial).items():
                _one_of(attribute, GROUPS, f"{dial}: attribute")
                for group, value in groups.items():
                    _one_of(group, GROUPS[attribute], f"{dial}.{attribute}: group")
                    low, high = (-1, 1) if dial in ("contrast", "prevalence") else (0, 1)
                    if not low <= value <= high:
                        raise ValueError(f"{dial}.{attribute}.{group} must lie in [{low}, {high}], not {value}")
        return self


class _Dataset(Section):
    label: str = Field("", pattern=r"^[\w-]*$")  # names the output folder; empty: the name
    size: Size = 256  # pixels a side
    split: tuple[Fraction, Fraction, Fraction] = (0.7, 0.1, 0.2)  # train, val, test; by patient
    seed: int = 0

    @model_validator(mode="after")
    def _whole_split(self):
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split must add up to 1, not {sum(self.split):g}")
        return self

    @property
    def about(self) -> About:
        """What is settled about this dataset: modality, unit, tasks, source."""
        return DATASETS[self.name]


class Phantom(_Dataset):
    """A simulated cohort whose bias is known."""

    name: Literal["phantom_mri", "phantom_xray"]
    size: Annotated[int, Field(ge=64, le=256, multiple_of=16)] = 256
    patients: Annotated[int, Field(ge=20)] = 2000
    slices: Annotated[int, Field(ge=1, le=4)] = 4  # per patient, MRI; a patient has one to three radiographs
    dials: Dials = Dials()
    null: bool = False  # attributes independent of everything: the true disparity is exactly zero
    age_boundary: ClassVar[None] = None
    on_bad_image: ClassVar[str] = "error"

    @model_validator(mode="after")
    def _null_has_no_dials(self):
        if self.null and self.dials != Dials():
            raise ValueError("null: true means no bias at all; remove the dials or set null: false")
        return self

    def find(self) -> None:
        """Nothing is read from disk, so nothing can be missing there."""

    @property
    def signature(self) -> str:
        """Nothing is read from disk, so nothing there can change."""
        return ""


class Scans(_Dataset):
    """Real scans in the layout of their publishers."""

    name: Literal["lgg", "nih", "ucsf_pdgm"]
    root: str = ""  # folder of the dataset; empty: the dataset's folder under RECONFAIR_DATA
    age_boundary: Annotated[float, Field(gt=0)] | None = None  # years, the oldest of the younger; None: the median
    on_bad_image: Literal["error", "skip"] = "error"  # skip: leave it out, and list it in skipped.csv

    def find(self) -> Path:
        """Return the folder of the scans.

        Raises
        ------
        ParamsError
            It is not there; the message says what was looked for and where to get it.
        """
        self.metadata()
        return self._folder.resolve()

    def metadata(self) -> list[Path]:
        """Return the metadata files, of several versions of one the last; raises as `find`."""
        found = {name: sorted(self._folder.glob(name)) for name in self.about.metadata}
        for name in [name for name, paths in found.items() if not paths]:
            path, base = self._folder / name, self.about.folder
            near = get_close_matches(path.name, [other.name for other in path.parent.glob("*")], 1, 0.8)
            raise ParamsError(
                f"dataset.root: looked for {path} and did not find it{f' but {near[0]}' if near else ''}. "
                f"Get {self.about.where}; then set dataset.root to its folder, or RECONFAIR_DATA to the folder "
                f"that holds '{base}'"
            )
        return [paths[-1].resolve() for paths in found.values()]

    @property
    def signature(self) -> str:
        """Hash of the metadata files, empty where one is absent."""
        try:
            return sha256(b"".join(path.read_bytes() for path in self.metadata())).hexdigest()[:16]
        except ParamsError:
            return ""

    @property
    def _folder(self) -> Path:
        base = Path(os.environ.get("RECONFAIR_DATA", "data"))
        return Path(self.root).expanduser() if self.root else base / self.about.folder


class CheXpert(Scans):
    """Chest radiographs of Stanford, with race from the demographics published later."""

    name: Literal["chexpert"]
    release: Literal["v1.0-small", "v1.0"] = "v1.0-small"  # 390 pixels wide, or as the machine made them
    blank: Literal["nan", "zero"] = "nan"  # a finding that the report does not mention: unknown, or absent
    unknown_race: Literal["keep", "drop"] = "keep"  # keep: such patients leave the analyses of race alone

    @property
    def about(self) -> About:
        """What is settled about CheXpert; its folder bears the release."""
        known = DATASETS[self.name]
        return known._replace(metadata=(f"CheXpert-{self.release}/train.csv", *known.metadata[1:]))


Meaning = TypeVar("Meaning")


class Column(Section, Generic[Meaning]):
    """A column of one's own table and what its entries mean; its name alone will do.

    Where `values` are given, every entry must be listed there (upper or lower case, ``2`` or ``2.0``);
    null stands for unknown. Empty entries and words such as ``unknown`` are missing.
    """

    column: str
    values: dict[str, Meaning | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, given):
        if isinstance(given, str):
            return {"column": given}
        if not isinstance(given, dict) or not isinstance(given.get("values"), dict):
            return given
        words = {"True": ("true", "yes"), "False": ("false", "no")}  # YAML reads an unquoted yes as true
        entries = {str(entry): meaning for entry, meaning in given["values"].items()}
        return {**given, "values": {word: entries[entry] for entry in entries for word in words.get(entry, (entry,))}}


Sexes, Labels = Column[Literal[SEXES]], Column[Literal[0, 1]]
Ages, Races = Column[float], Column[str]


class Mask(Section):
    """A column with the files that outline something, nonzero inside, and the task to segment it."""

    column: str
    task: str = Field("tumour", pattern=r"^\w[\w-]*$")
    blank: Literal["error", "background"] = "error"  # background: a row without a file has nothing to outline


class Slices(Section):
    """The slices of each volume that are images of the cohort, counted from 0, `last` included."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]
    step: Annotated[int, Field(ge=1)] = 1
    axis: Annotated[int, Field(ge=0, le=2)] = 0  # NIfTI: 0 axial, 1 coronal, 2 sagittal; else as stored

    @model_validator(mode="after")
    def _in_order(self):
        if self.first > self.last:
            raise ValueError(f"slices from {self.first} to {self.last} are none; first must not exceed last")
        return self


class Table(Scans):
    """One's own images, listed in a CSV or Parquet file with a row per image or volume."""

    name: Literal["table"]
    file: str = Field("cohort.csv", pattern=r"\.(csv|parquet)$")  # in root; paths in it are relative to root
    modality: Literal["mri", "xray"] = "mri"
    unit: Literal["patient", "image"] | None = None  # what is decided; None: a patient by MRI, an image by X-ray
    image: str = "path"  # column with the file: PNG, JPEG, TIFF, NIfTI, NPY, or DICOM whatever its suffix
    patient: str = "patient_id"  # column
    sex: Sexes | None = Sexes(column="sex")  # None: not recorded
    age: Ages | None = Ages(column="age")  # years, or as DICOM writes them (058Y, 006M)
    race: Races | None = Races(column="race")  # any groups
    tasks: dict[Annotated[str, Field(pattern=r"^\w[\w -]*$")], Labels] = {"label": Labels(column="label")}
    mask: Mask | None = None
    keep: tuple[str, ...] = ()  # columns to carry along, such as the scanner
    slices: Slices | None = None
    channel: Annotated[int, Field(ge=0)] | None = None  # of colour images; None: their grey
    window: tuple[float, float] | None = None  # stored values shown as 0 and 1; None: by percentiles
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0, 100)

    @model_validator(mode="after")
    def _can_be_studied(self):
        names = (*self.tasks, *([self.mask.task] if self.mask else []), *self.keep)
        taken = [name for name in names if name in COHORT or names.count(name) > 1]
        if taken:
            raise ValueError(f"'{taken[0]}' is another task or column of the cohort already; choose another name")
        if not self.about.tasks or not self.about.attributes:
            raise ValueError("name at least one of tasks and mask, and one of sex, age and race")
        if leaves(self.file):
            raise ValueError(f"file '{self.file}' must lie in root; write it relative to that folder, without '..'")
        for low, high in (self.window or (0, 1), self.percentiles):
            if low >= high:
                raise ValueError(f"[{low:g}, {high:g}] is no range of values; the lower end comes first")
        return self

    @property
    def about(self) -> About:
        """What the params file says of this table."""
        recorded = {"sex": self.sex, "age_group": self.age, "race": self.race}
        return DATASETS[self.name]._replace(
            modality=self.modality,
            unit=self.unit or {"mri": "patient", "xray": "image"}[self.modality],
            tasks=dict.fromkeys(self.tasks, "classify") | ({self.mask.task: "segment"} if self.mask else {}),
            attributes=tuple(attribute for attribute, column in recorded.items() if column),
            metadata=(escape(self.file),),
        )


def leaves(path: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to; either kind of slash."""
    path = PureWindowsPath(path)
    return bool(path.anchor) or ".." in path.parts


Dataset = Annotated[Phantom | Scans | CheXpert | Table, Field(discriminator="name")]


class KSpace(Section):
    """MRI: radial undersampling of k-space (METHODS: golden-angle spokes, magnitude image)."""

    kind: Literal["kspace"] = "kspace"
    acceleration: Annotated[float, Field(ge=1, le=64)] = 8  # R; 1: fully sampled
    angles: Literal["golden", "uniform"] = "golden"
    magnitude: Literal["complex", "real_part"] = "complex"

    @model_validator(mode="after")
    def _reachable(self):
        if 1 < self.acceleration < 1.3:
            raise ValueError(
                "acceleration between 1 and 1.3 cannot be reached by spokes within a circle; use 1 or at least 1.3"
            )
        return self

    @property
    def level(self) -> str:
        """Name of the noise level, such as ``x8``; settings off the default are part of it."""
        return "_".join([f"x{self.acceleration:g}", *_off_default(self, "angles", "magnitude")])


class Sinogram(Section):
    """X-ray: low photon counts in the Radon domain, then filtered back-projection."""

    kind: Literal["sinogram"]
    photons: Annotated[float, Field(ge=1)] = 10_000  # I0 per detector bin, before the object
    angles: Annotated[int, Field(ge=8)] = 256
    attenuation: Annotated[float, Field(gt=0)] = 4  # line integral across an image of ones
    bowtie: Annotated[float, Field(gt=0, le=1)] = 0.2  # relative exposure at the detector's edge
    physics: Literal["transmission", "as_published"] = "transmission"
    seed: int = 0

    @property
    def level(self) -> str:
        """Name of the noise level, such as ``1e4``; settings off the default are part of it."""
        digits, exponent = f"{self.photons:.6e}".split("e")
        name = f"{float(digits):g}e{int(exponent)}"
        return "_".join([name, *_off_default(self, "angles", "attenuation", "bowtie", "physics", "seed")])


Model = Literal["unet", "pix2pix", "sde"]
Noise = Annotated[KSpace | Sinogram, Field(discriminator="kind")]


class Training(Section):
    """What every trained network has."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)]


SAMPLING = {"sampler", "evaluations", "samples"}  # settings that a trained network can be used with, whatever they are


class UNet(Training):
    """U-Net of Ronneberger et al. (2015), mean squared error."""

    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0)] = 1e-3
    channels: Annotated[int, Field(ge=1)] = 64  # of the first level, doubling at each
    depth: Annotated[int, Field(ge=1, le=6)] = 4  # number of halvings
    patch: Literal[1, 2, 4] = 1  # pixels a side that enter the first level together; 2 costs a quarter


class Pix2Pix(Training):
    """Conditional GAN of Isola et al. (2017): U-Net generator, 70x70 PatchGAN."""

    epochs: Annotated[int, Field(ge=1)] = 200  # the second half with a falling learning rate
    batch_size: Annotated[int, Field(ge=2)] = 32
    lr: Annotated[float, Field(gt=0)] = 2e-4
    channels: Annotated[int, Field(ge=1)] = 64  # of the first level, at most eight times as many below
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5  # in the coarsest levels of the decoder, in training
    l1: Annotated[float, Field(ge=0)] = 100  # weight of the mean absolute error beside the adversary's loss


class SDE(Training):
    """Mean-reverting stochastic differential equation of Luo et al. (2023); epochs left out: the paper's."""

    epochs: Annotated[int, Field(ge=1)] = 300
    batch_size: Annotated[int, Field(ge=1)] = 8
    lr: Annotated[float, Field(gt=0)] = 1e-4
    channels: Annotated[int, Field(ge=8)] = 64
    depth: Annotated[int, Field(ge=2, le=6)] = 4  # number of levels
    patch: Literal[1, 2, 4] = 1  # pixels a side that enter the first level together; 2 costs a quarter
    steps: Annotated[int, Field(ge=10)] = 100  # of the forward equation
    lam: Annotated[float, Field(gt=0)] = 10 / 255  # standard deviation of its noise in the end
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the average of weights that is kept
    sampler: Literal["reverse_sde", "posterior", "few_step"] = "reverse_sde"
    evaluations: Annotated[int, Field(ge=2)] = 10  # of the network, by the sampler few_step
    samples: Annotated[int, Field(ge=1)] = 1  # whose mean is the reconstruction


class Reconstruction(Section):
    """Which reconstructors are trained, and how."""

    models: tuple[Model, ...] = ("unet", "pix2pix", "sde")
    unet: UNet = UNet()
    pix2pix: Pix2Pix = Pix2Pix()
    sde: SDE = SDE()
    seed: int = 0

    def settings(self, model: str, sampling: bool = True) -> dict:
        """All that `model` depends on, JSON-ready; without `sampling`, all that its training depends on."""
        section = getattr(self, model).model_dump(mode="json", exclude=set() if sampling else SAMPLING)
        return {**section, "seed": self.seed}


# Weights of TorchXRayVision by the radiographs they were trained on. Those of nih, rsna and all have seen patients of
# ChestX-ray14, those of chex and all patients of CheXpert: there, some of the test patients are no strangers to them.
XRV = ("xrv-all", "xrv-chex", "xrv-mimic_ch", "xrv-mimic_nb", "xrv-nih", "xrv-pc", "xrv-rsna")


class Classify(Training):
    """Classifier of slices or radiographs; left out: the paper's settings for the modality."""

    architecture: str = ""  # a name torchvision or timm knows, such as resnet50 or vit_tiny_patch16_224
    pretrained: Literal[(True, False, *XRV)] = True  # start from ImageNet weights, or from some of TorchXRayVision
    size: Annotated[int, Field(ge=0)] = 0  # pixels the network sees; 0: as the image comes, or as a ViT needs it
    value_range: tuple[float, float] | None = None  # of the network's input; None: as in its first training
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _weights_fit(self):
        if self.pretrained in XRV and self.architecture != "densenet121":
            raise ValueError(f"pretrained {self.pretrained} goes with densenet121, not with {self.architecture}")
        return self


class Segment(Training):
    """Segmenter: U-Net with an encoder known to segmentation-models-pytorch."""

    encoder: str = "resnet34"  # or tu- and a name timm knows, such as tu-convnext_tiny
    decoder: Annotated[tuple[int, ...], Field(min_length=5, max_length=5)] = (256, 128, 64, 32, 16)  # channels
    pretrained: bool = True
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=1)] = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3


class Diagnosis(Section):
    """The diagnostic models: trained on originals, then frozen."""

    tasks: tuple[str, ...] = ()  # empty: every task of the dataset
    classify: Classify = Classify()
    segment: Segment = Segment()
    seed: int = 0

    def settings(self, network: Network) -> dict:
        """All that the training of `network` depends on, JSON-ready."""
        section = getattr(self, network.kind).model_dump(mode="json")
        return {**section, "tasks": list(network.tasks), "seed": self.seed}


class Fairness(Section):
    """Which attributes are compared, and by which inference."""

    attributes: tuple[str, ...] = ()  # empty: those that the dataset records; sex*age_group: their intersections
    inference: Literal["closed_form", "bootstrap", "as_published"] = "closed_form"
    resamples: Annotated[int, Field(ge=99)] = 1000
    eodd: Literal["mean", "worst_case"] = "mean"
    primary: tuple[Literal[MEASURES], ...] = ("tpr", "fpr", "dice")  # their changes by group hold all at once
    min_cases: Annotated[int, Field(ge=2)] = 20  # patients with the needed labels for a group to be compared
    margins: dict[str, Annotated[float, Field(gt=0)]] = {}  # changes that would not matter, by metric; ser: a ratio
    seed: int = 0

    @model_validator(mode="after")
    def _known_metrics(self):
        for metric in self.margins:
            _one_of(metric, (*GAPS, *MEASURES), "margins: metric")
        if self.margins.get("ser", 1.1) <= 1:
            raise ValueError(f"margins: ser is a ratio above 1, such as 1.1, not {self.margins['ser']}")
        return self


class Mitigation(Section):
    """Fine-tuning of the reconstructors against bias; the diagnosis stays frozen."""

    strategies: tuple[str, ...] = ("reweight", "eodd", "adv")  # also dro, parts joined by +, and thresholds
    models: tuple[Model, ...] = ()  # empty: every reconstructor of the study
    attributes: tuple[Literal[ATTRIBUTES], ...] = ()  # empty: those that the dataset records
    lam: Annotated[float, Field(ge=0)] = 1  # of eodd and adv where a strategy names none, as in eodd@0.3
    epochs: Annotated[int, Field(ge=1)] = 10
    lr_factor: Annotated[float, Field(gt=0)] = 0.1  # of the learning rate of the first training
    temperature: Annotated[float, Field(gt=0)] = 0.3  # of soft decisions, in units of probability
    adversary_lr: Annotated[float, Field(gt=0)] = 1e-4
    seed: int = 0

    @model_validator(mode="after")
    def _known_strategies(self):
        for strategy in self.strategies:
            self.parts(strategy)
        return self

    def parts(self, strategy: str) -> dict[str, float]:
        """Parts of a strategy and the strength of each; of ``thresholds`` none.

        Examples
        --------
        >>> Mitigation().parts("reweight+eodd@0.3")
        {'reweight': 1.0, 'eodd': 0.3}
        """
        found, usual = {}, {"reweight": 1.0, "dro": 0.01, "eodd": self.lam, "adv": self.lam}
        for part in strategy.split("+") if strategy != "thresholds" else ():
            word, at, strength = part.partition("@")
            _one_of(word, (*usual, "thresholds"), "strategies: strategy")
            if word in found or word == "thresholds":
                raise ValueError(
                    f"strategies: '{strategy}' names a part twice, or joins thresholds, which stands alone"
                )
            try:
                found[word] = float(strength) if at else usual[word]
            except ValueError:
                found[word] = -1.0
            if not 0 <= found[word] < float("inf"):
                raise ValueError(f"strategies: lambda of '{part}' must be a number from 0, such as {word}@0.3")
        return found


class Report(Section):
    """What the last chapter gathers."""

    runs: Literal["this", "all"] = "this"


class Compute(Section):
    """Where the work runs; part of no fingerprint."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 0  # threads and processes; 0: every core
    compile: bool = False  # networks before they train: worth its start in long trainings on a GPU


class Study(Section):
    """One configuration: a dataset at one noise level, and everything done with it."""

    dataset: Dataset
    noise: Noise = KSpace()
    reconstruction: Reconstruction = Reconstruction()
    diagnosis: Diagnosis = Diagnosis()
    fairness: Fairness = Fairness()
    mitigation: Mitigation = Mitigation()
    report: Report = Report()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _papers_choices(cls, sections):
        """Fill in noise, classifier and length of training that the paper uses for the dataset's modality."""
        dataset = sections.get("dataset")
        about = DATASETS.get(dataset.get("name")) if isinstance(dataset, dict) else None
        if about is None:
            return sections  # the mistake is named when the sections are read
        modality = "xray" if dataset.get("modality", about.modality) == "xray" else "mri"
        sections = {"noise": {"kind": "kspace" if modality == "mri" else "sinogram"}, **sections}
        choices = ("reconstruction", "sde", {"epochs": PAPER_SDE_EPOCHS[modality]})
        if isinstance(sections.get("mitigation", {}), dict):
            sections["mitigation"] = {"lam": PAPER_LAMBDA[modality], **sections.get("mitigation", {})}
        for name, part, choice in (choices, ("diagnosis", "classify", PAPER_CLASSIFIER[modality])):
            section = sections.get(name, {})
            if isinstance(section, dict) and isinstance(section.get(part, {}), dict):
                sections[name] = {**section, part: {**choice, **section.get(part, {})}}
        return sections

    @model_validator(mode="after")
    def _known_tasks(self):
        for task in self.diagnosis.tasks:
            _one_of(task, self.dataset.about.tasks, f"diagnosis.tasks: task of {self.dataset.name}")
        for model in self.mitigation.models:
            _one_of(model, self.reconstruction.models, "mitigation.models: model of this study")
        recorded = self.dataset.about.attributes
        recorded += ("race_merged",) if "race" in recorded else ()
        for section in ("fairness", "mitigation"):
            for attribute in "*".join(getattr(self, section).attributes).split("*"):
                _one_of(attribute, ("", *recorded), f"{section}.attributes: attribute of {self.dataset.name}")
        return self

    def attributes(self, section: str = "fairness") -> tuple[str, ...]:
        """Attributes that `section` looks at: those it names, or those that the dataset records."""
        return getattr(self, section).attributes or self.dataset.about.attributes

    @property
    def tasks(self) -> dict[str, str]:
        """Tasks of this study and their kind, ``classify`` or ``segment``."""
        every = self.dataset.about.tasks
        return {task: every[task] for task in self.diagnosis.tasks or every}

    @property
    def networks(self) -> tuple[Network, ...]:
        """The diagnostic networks that carry the tasks."""
        alone = tuple(Network(task, kind, (task,)) for task, kind in self.tasks.items())
        if self.dataset.about.modality == "mri":
            return alone
        findings = tuple(task for task, kind in self.tasks.items() if kind == "classify")
        together = (Network("findings", "classify", findings),) if findings else ()
        return together + tuple(network for network in alone if network.kind == "segment")

    @property
    def mitigated(self) -> list[tuple[str, str]]:
        """Pairs of reconstructor and strategy that are fine-tuned."""
        models = self.mitigation.models or self.reconstruction.models
        return [(model, strategy) for model in models for strategy in self.mitigation.strategies]

    @property
    def label(self) -> str:
        """Name of the dataset's output folder."""
        return self.dataset.label or self.dataset.name

    @property
    def level(self) -> str:
        """Name of the noise level's output folder; a replicate, trained with another seed, has its own."""
        seed = self.reconstruction.seed
        return self.noise.level + (f"-seed-{seed}" if seed else "")

    @property
    def name(self) -> str:
        """``<dataset label>/<level>``, the folder of this run under the outputs."""
        return f"{self.label}/{self.level}"


def study(**sections: dict[str, Any]) -> Study:
    """Build the typed study from the sections of a params file or a parameters cell.

    Raises
    ------
    ParamsError
        One line per mistake: the key, what was expected, and the nearest valid key.
    """
    try:
        return Study.model_validate(sections)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(item) for item in error.errors())) from None


def load(path: str | Path, overrides: list[str] = ()) -> Study:
    """Read a params file; `overrides` are ``section.key=value`` strings that win over it."""
    path = Path(path)
    if not path.is_file():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], 1)
        raise ParamsError(f"{path}: no such params file" + (f"; did you mean {path.parent / near[0]}?" if near else ""))
    try:
        sections = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(sections, dict):
        raise ParamsError(f"{path}: expected sections such as 'dataset:', found {type(sections).__name__}")
    for override in overrides:
        _override(sections, override)
    try:
        return study(**{str(key): section for key, section in sections.items()})
    except ParamsError as error:
        raise ParamsError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def _override(sections: dict, text: str) -> None:
    key, equals, value = text.partition("=")
    *parents, last = key.split(".")
    if not equals or not parents:
        raise ParamsError(f"--set {text}: expected section.key=value")
    try:
        for parent in parents:
            sections[parent] = sections = {} if sections.get(parent) is None else sections[parent]
        sections[last] = yaml.safe_load(value)
    except (AttributeError, TypeError, yaml.YAMLError):
        raise ParamsError(f"--set {text}: expected section.key=value, with a value as in YAML") from None


def _off_default(section: Section, *keys: str) -> list[str]:
    """Settings that differ from their default, as parts of a folder name."""
    fields = type(section).model_fields
    return [f"{key}-{getattr(section, key)}" for key in keys if getattr(section, key) != fields[key].default]


def _explain(item: dict) -> str:
    """One mistake found by pydantic, as one line a user can act on."""
    path = [str(part) for at, part in enumerate(item["loc"]) if not (at == 1 and item["loc"][0] in _CHOICES)]
    key, where = ".".join(path), path[:-1]
    if item["type"] == "extra_forbidden":
        valid = _fields_at(item["loc"][:-1])
        near = get_close_matches(path[-1], valid, 1, 0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"valid here: {', '.join(valid)}"
        return f"{key}: unknown key" + (f" in '{'.'.join(where)}'" if where else "") + f"; {hint}"
    if item["type"] == "missing":
        return f"{key}: missing"
    if item["type"] == "union_tag_not_found":
        tags = [tag for tag, model in _BY_TAG.items() if model in _CHOICES[key]]
        return f"{key}: '{item['ctx']['discriminator'].strip(chr(39))}' is missing; one of {', '.join(tags)}"
    if item["type"] in ("union_tag_invalid", "literal_error"):
        expected = item["ctx"].get("expected_tags") or item["ctx"]["expected"]
        words = [w.strip(" '") for w in expected.replace(" or ", ", ").split(",")]
        given = item["ctx"].get("tag", item["input"])
        near = get_close_matches(str(given), words, 1, 0.4)
        return f"{key}: '{given}' is not one of {', '.join(words)}" + (f"; did you mean '{near[0]}'?" if near else "")
    message = item["msg"].removeprefix("Value error, ")
    given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
    return f"{key}: {message}{given}" if key else message


_CHOICES = {"dataset": (Phantom, Scans, CheXpert, Table), "noise": (KSpace, Sinogram)}
_BY_TAG = {
    tag: model
    for models in _CHOICES.values()
    for model in models
    for tag in get_args(model.model_fields["kind" if "kind" in model.model_fields else "name"].annotation)
}


def _fields_at(loc: tuple) -> list[str]:
    """Valid keys of the section at `loc`, following the tags that pydantic puts into it."""
    model = Study
    for part in loc:
        if part in _BY_TAG:
            model = _BY_TAG[part]
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation  # a section, or one within dict[...] or ... | None
            for kind in (annotation, *get_args(annotation)):
                model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else model
    return list(model.model_fields)
