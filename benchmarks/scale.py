"""A study of the size of CheXpert through chapters 01 to 06 and the report, on this machine.

    python benchmarks/scale.py                 # all stages at three sizes; more than an hour on two cores
    python benchmarks/scale.py --share 0.01    # one size: the whole cohort is 1
    python benchmarks/scale.py --quick         # the kept values, and a cohort of 1/200 to show that it runs

Each stage that is finished is a row of ``results/scale.csv``. A benchmark that was stopped goes on with the next stage.
The cohort has the layout and the numbers of CheXpert: 64,540 patients, 223,414 rows of which 191,027 are frontal
views, at most 92 images of a patient, 12 findings with their shares of positive, negative, uncertain and blank entries,
and the six race groups of table 5. The images are phantom radiographs of 64 pixels, stored as JPEG. One file in a
thousand is cut off, and one is missing (`on_bad_image: skip`). Networks are small. Each chapter is one
``reconfair run --only``, in a process of its own, notebook included.

Printed last are lines NAME=VALUE for the largest finished size:

- ``chapter_01_vs_decode``: seconds in which all cores read and decode the files once and write one array, over those of
  chapter 01 (aim 0.5).
- ``chapter_02_vs_bare``: seconds of a bare loop over all cores that degrades every image, rates PSNR and SSIM of those
  of val and test, and writes one array, over those of chapter 02 (aim 0.5).
- ``chapter_04_vs_bare``: seconds of a bare loop with the same network over the same number of images, trained on and
  read, over those of chapter 04 (aim 0.8). The loop is timed over some batches and scaled.
- ``peak_gb``: the most memory that any chapter holds and the system cannot reclaim, over all its processes (at most 6).
- ``report_seconds`` (at most 120), ``page_mb`` (size of the largest page, at most 10).
- ``resume_overhead``: each chapter is killed after half of its seconds and run again; its seconds in both runs over
  those without a kill, the largest of all chapters (at most 1.1). ``resume_seconds``: their difference, the largest of
  all chapters. Measured at a tenth of the cohort.
- ``slope_time, slope_memory``: of the logarithms of seconds and GB against the number of images, the largest of all
  chapters; ``scale.png`` beside the results shows them (time: at most 1.05).
- ``rows_left_out``: images that could not be read.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from PIL import Image

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scale.csv"
FIGURE = RESULTS.with_name("scale.png")
CHAPTERS = ("01", "02", "03", "04", "05", "06", "10")
SIZE, PATIENTS, ROWS, FRONTAL, MOST, SEED = 64, 64540, 223414, 191027, 92, 20261127
# Rows of train.csv that are positive, uncertain and negative (Irvin et al. 2019, table 1, and the file itself).
FINDINGS = {
    "Enlarged Cardiomediastinum": (10798, 12403, 21638),
    "Cardiomegaly": (27000, 8087, 11116),
    "Lung Opacity": (105581, 5598, 6599),
    "Lung Lesion": (9186, 1488, 1270),
    "Edema": (52246, 12984, 20726),
    "Consolidation": (14783, 27742, 28097),
    "Pneumonia": (6039, 18770, 2799),
    "Atelectasis": (33376, 33739, 1328),
    "Pneumothorax": (19448, 3145, 56341),
    "Pleural Effusion": (86187, 11628, 35396),
    "Pleural Other": (3523, 2653, 316),
    "Fracture": (9040, 642, 2512),
}
# What a phantom shows of a finding; each of the others follows several of these weakly.
SHOWN = {
    "Cardiomegaly": "cardiomegaly",
    "Lung Lesion": "nodule",
    "Consolidation": "consolidation",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "effusion",
}
RACES = {
    "White": "White, non-Hispanic",
    "Other": "Other",
    "Asian": "Asian, non-Hispanic",
    "Black": "Black, non-Hispanic",
    "Native Hawaiian/Pacific Islander": "Pacific Islander, non-Hispanic",
    "American Indian/Alaska Native": "Native American, non-Hispanic",
}
STUDY = {
    "noise": {"kind": "sinogram", "photons": 10000},
    "reconstruction": {
        "models": ["unet", "pix2pix", "sde"],
        "unet": {"channels": 8, "depth": 2, "patch": 4, "epochs": 1, "batch_size": 32},
        "pix2pix": {"channels": 4, "epochs": 1, "batch_size": 32, "dropout": 0},
        "sde": {
            "channels": 8,
            "depth": 2,
            "patch": 4,
            "epochs": 1,
            "batch_size": 32,
            "sampler": "few_step",
            "evaluations": 2,
            "samples": 1,
        },
    },
    "diagnosis": {
        "classify": {"architecture": "test_resnet", "pretrained": False, "size": 0, "epochs": 1, "batch_size": 32}
    },
    "mitigation": {"strategies": ["reweight"], "models": ["unet"], "epochs": 1},
    "compute": {"device": "cpu"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, nargs="*", default=[0.01, 0.1, 1], help="of CheXpert's patients")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "scale", help="for cohorts and outputs")
    parser.add_argument("--quick", action="store_true", help="show that it runs, and print what is kept")
    arguments = parser.parse_args()
    if arguments.quick:
        shutil.rmtree(arguments.folder / "quick", ignore_errors=True)
        table = pd.concat(list(stages(0.005, arguments.folder / "quick", pd.DataFrame(), resume=False)))
        print(table.to_string(index=False), "\nThis only shows that it runs. Kept values:")
    for share in () if arguments.quick else arguments.share:
        for row in stages(share, arguments.folder / f"{share:g}", kept(), resume=share == 0.1):
            pd.concat([kept(), row], ignore_index=True).to_csv(RESULTS, index=False)
            print(row.to_string(index=False, header=False), flush=True)
    summarise(kept())


def kept() -> pd.DataFrame:
    """Rows of all finished stages."""
    columns = ["share", "stage", "images", "seconds", "cpu_seconds", "peak_gb", "read_gb", "written_gb", "bound", "mb"]
    return pd.read_csv(RESULTS, dtype={"stage": str}) if RESULTS.exists() else pd.DataFrame(columns=columns)


def stages(share: float, folder: Path, done: pd.DataFrame, resume: bool):
    """Yield a row for each stage that is not among those `done`."""
    finished = set(done.stage[done.share == share]) if len(done) else set()
    data, file = folder / "data", folder / "scale.yaml"
    if not (data / "CHEXPERT DEMO.xlsx").exists():
        started = time.monotonic()
        write_cohort(data, share)
        print(f"cohort written in {time.monotonic() - started:.0f} s", flush=True)
    dataset = {"name": "chexpert", "label": "scale", "root": str(data), "size": SIZE, "age_boundary": 62}
    file.write_text(yaml.safe_dump({"dataset": dataset | {"on_bad_image": "skip"}, **STUDY}))
    bounds = {"01": decode, "02": degrade, "04": diagnose}
    for chapter in CHAPTERS:
        if chapter in finished:
            continue
        measured = chapter_of(file, folder / "outputs", chapter)
        measured["bound"] = bounds[chapter](file, folder) if chapter in bounds else np.nan
        get_reusable_executor().shutdown()  # else its processor time would count in the next chapter
        pages = [page.stat().st_size for page in (folder / "outputs").rglob(f"{chapter}_*.html")]
        measured["mb"] = max(pages, default=0) / 1e6
        yield row_of(share, chapter, images_in(folder / "outputs"), measured)
    for chapter in CHAPTERS if resume else ():
        if f"{chapter} killed" in finished:
            continue
        whole = chapter_of(file, folder / "again", chapter)
        forget(file, folder / "again", chapter)
        first = chapter_of(file, folder / "again", chapter, kill=whole["seconds"] / 2)
        second = chapter_of(file, folder / "again", chapter)
        measured = second | {"seconds": first["seconds"] + second["seconds"], "bound": whole["seconds"]}
        yield row_of(share, f"{chapter} killed", images_in(folder / "again"), measured)


def row_of(share: float, stage: str, images: int, measured: dict) -> pd.DataFrame:
    """One row of the results, with the machine and the date."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    machine = {"cores": cpu_count(), "processor": names[0] if names else "", "date": time.strftime("%Y-%m-%dT%H:%M")}
    return pd.DataFrame([{"share": share, "stage": stage, "images": images, **measured, **machine}]).round(3)


def images_in(outputs: Path) -> int:
    """Number of images of the cohort of a run."""
    return len(np.load(outputs / "scale" / "cohort" / "images.npy", mmap_mode="r"))


# --- the cohort ---


def write_cohort(folder: Path, share: float) -> None:
    """Write a cohort in CheXpert's layout; the demographics come last, so that a cohort with them is whole."""
    from reconfair.data.phantom_xray import PhantomXray

    draw, patients = np.random.default_rng(SEED), round(PATIENTS * share)
    dataset = PhantomXray(name="phantom_xray", size=SIZE, patients=patients, seed=SEED)
    first = dataset.read_table().groupby("patient_id", sort=True).head(1).reset_index(drop=True)
    number = images_by_patient(draw, patients, round(ROWS * share))
    rows = first.loc[np.repeat(np.arange(patients), number)].reset_index(drop=True)
    at = rows.groupby("patient_id").cumcount().to_numpy()
    for name in ("z_breath", "z_tilt", "z_shift"):  # each image of a patient is another breath and position
        rows[name] = rows[name] + np.where(at > 0, rows[name].std() * draw.normal(size=len(rows)), 0)
    frontal = np.zeros(len(rows), bool)
    frontal[draw.permutation(len(rows))[: round(FRONTAL * share)]] = True
    rows["frontal"], rows["image_id"] = frontal, rows.patient_id + "-" + pd.Series(at).astype(str)
    places = [
        f"CheXpert-v1.0-small/train/patient{int(name[1:]) + 1:05d}/study{k + 1}/view1_{view}.jpg"
        for name, k, view in zip(rows.patient_id, at, np.where(frontal, "frontal", "lateral"), strict=True)
    ]
    table = pd.DataFrame({"Path": places, "Sex": rows.sex.str.capitalize(), "Age": rows.age})
    table["Frontal/Lateral"] = np.where(frontal, "Frontal", "Lateral")
    table["AP/PA"] = np.where(frontal, np.where(draw.random(len(rows)) < 0.84, "AP", "PA"), "")
    for name, entries in labels(draw, rows).items():
        table[name] = entries
    taken = np.flatnonzero(frontal)
    bad = set(draw.choice(taken, max(len(taken) // 1000, 1), replace=False).tolist())
    pieces = np.array_split(taken, max(len(taken) // 2000, 1))
    Parallel(n_jobs=-1)(
        delayed(write_images)(dataset, rows.iloc[some], [folder / places[k] for k in some], [k in bad for k in some])
        for some in pieces
    )
    (folder / places[taken[-1]]).unlink()  # a row's file is missing
    table.to_csv(folder / "CheXpert-v1.0-small" / "train.csv", index=False)
    races = pd.DataFrame({"PATIENT": [f"patient{int(name[1:]) + 1:05d}" for name in first.patient_id]})
    races["PRIMARY_RACE"] = first.race.map(RACES)
    races.to_excel(folder / "demo.part.xlsx", index=False)
    (folder / "demo.part.xlsx").rename(folder / "CHEXPERT DEMO.xlsx")


def images_by_patient(draw, patients: int, rows: int) -> np.ndarray:
    """How many images each patient has: at least one, few of most, 92 of one, `rows` in all."""
    most = round(MOST * min(1, rows / ROWS) ** 0.3)  # of one patient; a small cohort would consist of him
    number = np.minimum(1 + draw.negative_binomial(0.6, 0.6 / (0.6 + rows / patients - 1), patients), most)
    number[0] = most
    while (missing := rows - number.sum()) != 0:
        able = np.flatnonzero((number < most) if missing > 0 else (number > 1))
        number[draw.choice(able[able > 0], min(abs(missing), len(able) - 1), replace=False)] += np.sign(missing)
    return number


def labels(draw, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Entries of each finding: 1.0 where the phantom shows most of it, -1.0 below, 0.0 where least, else blank."""
    entries, n = {"No Finding": np.full(len(rows), "", object)}, len(rows)
    shown = {name: rows[f"z_{finding}"].to_numpy() for name, finding in SHOWN.items()}
    others = np.mean([(value - value.mean()) / value.std() for value in shown.values()], axis=0)
    for name, counts in FINDINGS.items():
        value = shown[name] + 1.5 * draw.normal(size=n) if name in shown else others + draw.normal(size=n)
        positive, uncertain, negative = (max(round(count / ROWS * n), 80) for count in counts)  # 80: in small cohorts
        order = np.argsort(-value)
        entry = np.full(n, "", object)
        entry[order[:positive]], entry[order[positive : positive + uncertain]] = "1.0", "-1.0"
        entry[order[n - negative :]] = "0.0"
        entries[name] = entry
    return entries


def write_images(dataset, rows: pd.DataFrame, places: list[Path], bad: list[bool]) -> None:
    """Draw and store some radiographs; of a bad one, half of the file."""
    for row, place, cut in zip(rows.itertuples(), places, bad, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        picture = (255 * dataset.read_image(row)[0]).astype(np.uint8)
        Image.fromarray(picture).save(place, quality=90)
        if cut:
            os.truncate(place, place.stat().st_size // 2)


# --- a chapter, and what bounds it ---


def chapter_of(file: Path, outputs: Path, chapter: str, kill: float = np.inf) -> dict:
    """Run one chapter, or kill it and its children after `kill` seconds; what it took, as far as it came."""
    command = [sys.executable, "-m", "reconfair.run", "run", str(file), "--only", chapter]
    before, started, peak = counters(), time.monotonic(), 0.0
    environment = os.environ | {"RECONFAIR_OUTPUTS": str(outputs), "RECONFAIR_PROGRESS": os.devnull}
    with open(file.with_suffix(".log"), "a") as log:
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    while run.poll() is None:
        peak = max(peak, memory_of(run.pid))
        if time.monotonic() - started > kill:
            os.killpg(run.pid, signal.SIGKILL)
        time.sleep(0.3)
    seconds, used = time.monotonic() - started, counters() - before
    if run.returncode and kill == np.inf:
        sys.exit(f"chapter {chapter} failed; see {file.with_suffix('.log')}")
    names = ("cpu_seconds", "read_gb", "written_gb")
    return {"seconds": seconds, "peak_gb": peak} | dict(zip(names, used, strict=True))


def forget(file: Path, outputs: Path, chapter: str) -> None:
    """Remove the stamps of what one chapter made, so that it is made again."""
    from reconfair import params
    from reconfair.run.products import every_product

    os.environ["RECONFAIR_OUTPUTS"] = str(outputs)
    for product in every_product(params.load(file)):
        if product.chapter == chapter:
            product.stamp.unlink(missing_ok=True)


def memory_of(pid: int) -> float:
    """GB that a process and its children hold and that no file backs."""
    total = 0.0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        pass  # it ended while we looked
    return total / 1024**2


def counters() -> np.ndarray:
    """Processor seconds, and GB read and written, of all children that have ended."""
    times, io = os.times(), dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return np.array([times.children_user + times.children_system, int(io["rchar"]) / 1e9, int(io["wchar"]) / 1e9])


def decode(file: Path, folder: Path) -> float:
    """Seconds in which all cores read and decode every file once, and one process writes the array."""
    places = sorted((folder / "data").rglob("*_frontal.jpg"))
    started = time.monotonic()
    with open(folder / "bound.bin", "wb") as array:
        pieces = [places[start : start + 1000] for start in range(0, len(places), 1000)]
        for images in Parallel(n_jobs=-1, return_as="generator")(delayed(pictures)(some) for some in pieces):
            images.tofile(array)
    return time.monotonic() - started


def pictures(places: list[Path]) -> np.ndarray:
    """Decode some files; one that is cut off is grey below the cut."""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = True
    return np.stack([np.asarray(Image.open(place), np.float32) / 255 for place in places]).astype(np.float16)


def degrade(file: Path, folder: Path) -> float:
    """Seconds in which all cores degrade every image, rate those of val and test, and one process writes the array."""
    cohort = folder / "outputs" / "scale" / "cohort"
    table = pd.read_parquet(cohort / "cohort.parquet")
    judged = table.split.isin(["val", "test"]).to_numpy()
    started = time.monotonic()
    with open(folder / "bound.bin", "wb") as array:
        images, pieces = cohort / "images.npy", range(0, len(table), 256)
        work = (
            delayed(degraded)(images, start, table.image_id[start : start + 256], judged[start : start + 256])
            for start in pieces
        )
        for noisy in Parallel(n_jobs=-1, return_as="generator")(work):
            noisy.tofile(array)
    return time.monotonic() - started


def degraded(place: Path, start: int, ids, judged: np.ndarray) -> np.ndarray:
    """Degrade one piece of the images, and rate the judged ones."""
    from reconfair import noise, quality
    from reconfair.noise.sinogram import Sinogram

    images = np.load(place, mmap_mode="r")[start : start + 256].astype(np.float32)
    noisy = noise.degrade(images, ids, Sinogram(kind="sinogram", photons=10000))
    for original, image in zip(images[judged], noisy[judged], strict=True):
        quality.psnr(original, image), quality.ssim(original, image)
    return noisy.astype(np.float16)


def diagnose(file: Path, folder: Path) -> float:
    """Seconds in which a bare loop trains on, validates with and reads as many images as chapter 04 does, scaled."""
    import torch

    from reconfair import data, diagnosis, params

    os.environ["RECONFAIR_OUTPUTS"] = str(folder / "outputs")
    study = params.load(file)
    [network] = study.networks
    of, module = diagnosis.training_set(study, network), diagnosis.build(study, network)
    optimiser = torch.optim.Adam(module.parameters())

    def loop(rows, trains: bool) -> float:
        """Seconds per image."""
        module.train(trains)
        times = []
        for start in range(0, min(len(rows), 6400), 32):
            started, some = time.monotonic(), np.sort(rows[start : start + 32])
            images = torch.from_numpy(np.asarray(of.images[some], np.float32))
            if trains:
                optimiser.zero_grad()
                module.criterion(module(images[:, None]), torch.from_numpy(of.target[some])).backward()
                optimiser.step()
            else:
                with torch.inference_mode():
                    module.diagnose(images[:, None])
            times.append((time.monotonic() - started) / len(some))
        return float(np.mean(times[1:]))

    judged = len(data.rows(of.table, "val")) + len(data.rows(of.table, "test"))
    reads = len(of.val) + judged * len(study.sources)  # validation of the epoch; every source once
    return loop(of.rows, True) * len(of.rows) * network_epochs(module) + loop(of.val, False) * reads


def network_epochs(module) -> int:
    """Epochs that the network trains for."""
    return module.settings["epochs"]


# --- what was measured ---


def summarise(table: pd.DataFrame) -> None:
    """Print NAME=VALUE of the largest size whose chapters are all measured, and draw growth."""
    plain, killed = table[table.stage.isin(CHAPTERS)], table[table.stage.str.endswith("killed")]
    whole = [share for share, rows in plain.groupby("share") if set(rows.stage) == {*CHAPTERS}]
    if not whole:
        return print("no size is finished yet")
    largest = plain[plain.share == max(whole)].set_index("stage")
    images = int(largest.images.iloc[0])
    print(f"share={max(whole):g}\nimages={images}\nrows_left_out={round(FRONTAL * max(whole)) - images}")
    print(f"seconds={largest.seconds.sum():.0f}")
    for chapter, what in (("01", "decode"), ("02", "bare"), ("04", "bare")):
        print(f"chapter_{chapter}_vs_{what}={largest.bound[chapter] / largest.seconds[chapter]:.2f}")
    print(
        f"peak_gb={largest.peak_gb.max():.2f}\nreport_seconds={largest.seconds['10']:.0f}\npage_mb={largest.mb.max():.1f}"
    )
    if len(killed):
        print(f"resume_overhead={(killed.seconds / killed.bound).max():.2f}")
        print(f"resume_seconds={(killed.seconds - killed.bound).max():.0f}")
    slopes = {}
    for name in ("seconds", "peak_gb") if len(whole) > 1 else ():
        by_chapter = dict(list(plain[plain.share.isin(whole)].groupby("stage")))
        slopes[name] = {c: np.polyfit(np.log(r.images), np.log(r[name]), 1)[0] for c, r in by_chapter.items()}
        worst = max(slopes[name], key=slopes[name].get)
        print(f"slope_{'time' if name == 'seconds' else 'memory'}={slopes[name][worst]:.2f} (chapter {worst})")
    draw(plain)


def draw(table: pd.DataFrame) -> None:
    """Seconds and memory of each chapter against the number of images."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    looks = zip(sns.color_palette("colorblind"), "osD^vP*", strict=False)
    looks = dict(zip(CHAPTERS, looks, strict=True))
    measures = (("seconds", "time (s)", (20, 50, 100, 200, 500)), ("peak_gb", "peak memory (GB)", (0.5, 1, 2, 3)))
    for axis, (name, label, ticks) in zip(axes, measures, strict=True):
        for chapter, rows in table.sort_values("images").groupby("stage"):
            colour, marker = looks[chapter]
            axis.loglog(rows.images, rows[name], marker=marker, color=colour, label=chapter)
        axis.set(xlabel="images", ylabel=label)
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_yticks([], minor=True)
        axis.set_xticks(sorted(set(table.images)), [f"{images:,}" for images in sorted(set(table.images))])
        axis.set_xticks([], minor=True)
    axes[0].legend(title="chapter", fontsize=8, ncols=2)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
