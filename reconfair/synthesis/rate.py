"""Preferences by people: pairs of samples are shown one after the other, and a file keeps what was chosen."""

import io
import re
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from reconfair import store, synthesis
from reconfair.params import ParamsError, Study
from reconfair.synthesis.preference import COLUMNS, agreement, blank, read_raters, read_ratings

KEYS = {"l": "left", "r": "right", "n": "neither", "u": "undo"}
TEXT = {"left": "Left (l)", "right": "Right (r)", "neither": "Neither (n)", "undo": "Undo (u)"}


class Rating:
    """One rater's way through the pairs; the file is written after every choice, so that he can stop and go on.

    Parameters
    ----------
    pairs : DataFrame
        ``pair_id, cell, left, right``.
    rater : str
        Letters, digits and dashes; names the file.
    folder : Path
        Where the file is, or is to be.
    """

    def __init__(self, pairs: pd.DataFrame, rater: str, folder: Path):
        check_name(rater)
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.rater, self.known = folder / f"{rater}.csv", rater, pairs
        self.pairs, self.since = blank(pairs, rater), time.monotonic()
        self.read()

    def read(self) -> None:
        """Take up what the file holds: another window of the same rater may have written to it."""
        self.rows = read_ratings(self.path, self.known).to_dict("records") if self.path.exists() else []
        rated = {row["pair_id"] for row in self.rows}
        self.left = [row for row in self.pairs.to_dict("records") if row["pair_id"] not in rated]

    @property
    def current(self) -> dict | None:
        """The pair to be rated: ``pair_id, cell, left, right``; None where all are."""
        return self.left[0] if self.left else None

    def choose(self, choice: str) -> None:
        """Rate the current pair, ``left``, ``right`` or ``neither``, or ``undo`` the last choice; and save."""
        asked, seconds = self.current, round(time.monotonic() - self.since, 1)
        with FileLock(self.path.with_name(f".{self.rater}.lock")):
            self.read()
            if choice == "undo":
                self.rows = self.rows[:-1]
            elif asked and asked in self.left:  # else it was rated in another window
                self.rows.append(asked | {"choice": choice, "rater": self.rater, "seconds": seconds})
            draft = self.path.with_suffix(".part")
            pd.DataFrame(self.rows, columns=COLUMNS).to_csv(draft, index=False)
            draft.replace(self.path)
        self.read()
        self.since = time.monotonic()


def check_name(rater: str) -> None:
    """Refuse a name that cannot be that of a file."""
    if not re.fullmatch(r"[\w-]+", rater):
        raise ParamsError(f"rater: '{rater}' must be letters, digits and dashes, such as dr-lee")


def folder_of(study: Study) -> Path:
    """Where the raters' files of a study are: the folder that the params name, or one beside its pairs."""
    named = study.synthesis.ratings
    return Path(named).expanduser() if named else store.outputs() / study.label / "synthesis" / "ratings"


def start(study: Study, rater: str) -> Rating:
    """Begin, or go on, with the pairs of a study, which are made where they are missing."""
    return Rating(synthesis.listed_pairs(study)[0], rater, folder_of(study))


def agreements(study: Study) -> pd.DataFrame:
    """How well every two raters agree; see `preference.agreement`. Those without a common pair have a row of 0."""
    pairs, _ = synthesis.listed_pairs(study)
    read = read_raters(sorted(folder_of(study).glob("*.csv")), pairs)
    rows = []
    for one, other in combinations(read, 2):
        both = {*read[one].pair_id} & {*read[other].pair_id}
        rows.append({"one": one, "other": other, **(agreement(read[one], read[other]) if both else {"pairs": 0})})
    columns = ["one", "other", "pairs", "agreement", "low", "high", "kappa", "kappa_low", "kappa_high"]
    return pd.DataFrame(rows, columns=columns)


def widget(study: Study, rater: str):
    """A small tool for Jupyter: the cell, two images in a random order, and buttons; the letters in brackets work too.

    Raises
    ------
    ParamsError
        ipywidgets is not installed.
    """
    try:
        import ipywidgets
    except ImportError:
        raise ParamsError("rate: ipywidgets is not installed; pip install 'reconfair[rate]'") from None
    rating, (_, images) = start(study, rater), synthesis.listed_pairs(study)
    prompt = ipywidgets.HTML()
    sides = {side: ipywidgets.Image(format="png", width=320, height=320) for side in ("left", "right")}
    buttons = {choice: ipywidgets.Button(description=text) for choice, text in TEXT.items()}
    typed = ipywidgets.Text(placeholder="or type l, r, n, u here", continuous_update=True)

    def show():
        pair, done = rating.current, len(rating.rows)
        words = "All pairs are rated. Thank you." if pair is None else f"Which one is a better <b>{pair['cell']}</b>?"
        prompt.value = f"{words} <i>{done} of {done + len(rating.left)} rated; saved in {rating.path.name}</i>"
        for side, image in sides.items():
            image.value = png(images[int(pair[side])]) if pair else png(np.zeros(images.shape[1:]))
        for choice, button in buttons.items():
            button.disabled = not rating.rows if choice == "undo" else pair is None

    def choose(choice):
        rating.choose(choice)
        show()

    def read(change):
        if choice := KEYS.get(change["new"][-1:].lower()):
            typed.value = ""
            choose(choice)

    for choice, button in buttons.items():
        button.on_click(lambda _, choice=choice: choose(choice))
    typed.observe(read, "value")
    show()
    box = ipywidgets.VBox([prompt, ipywidgets.HBox(list(sides.values())), ipywidgets.HBox([*buttons.values(), typed])])
    box.rating = rating
    return box


def png(image: np.ndarray) -> bytes:
    """An image within [0, 1] as a PNG file."""
    from PIL import Image

    file, image = io.BytesIO(), np.asarray(image, float)
    image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    Image.fromarray(np.uint8(np.clip(image, 0, 1) * 255 + 0.5)).save(file, "png")
    return file.getvalue()


def notebook(study: Study, rater: str, file: Path, overrides: list[str]) -> Path:
    """Write a notebook of one cell that opens the tool of the study in a params file, beside the ratings."""
    import nbformat.v4 as v4

    lines = ["import reconfair as rf", "from reconfair.synthesis import rate", ""]
    lines += [f"study = rf.params.load({str(file.resolve())!r}, {list(overrides)!r})"]
    lines += [f"rate.widget(study, {rater!r})"]
    cells = [v4.new_markdown_cell("# Which image is better? Run the cell below."), v4.new_code_cell("\n".join(lines))]
    place = folder_of(study) / f"rate-{rater}.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    place.write_text(v4.writes(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})), encoding="utf-8")
    return place
