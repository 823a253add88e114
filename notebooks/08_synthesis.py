# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 Synthesis: can invented patients stand in for those who are missing?
#
# Some patients are rare in the training data, and the classifier serves them badly. FairGen (Li, Zhang, Tan et al., npj
# Digital Medicine 2026) draws synthetic images of them: a diffusion model learns all patients, and is then asked for the
# rare ones. The synthetic images train a classifier together with the real ones. Only real patients judge it.
#
# **After this chapter you can**
#
# - name the cells of attribute and disease that are missing from a training set;
# - write the loss and the sampling of a diffusion model in a few lines;
# - say what guidance, balance, diversity and preference learning change in the images;
# - check whether synthetic images are copies, and whether they made a classifier fairer;
# - say what synthetic patients cannot do.
#
# *Reading and running: about 45 minutes. You need chapters 03 (diffusion) to 05.*

# %%
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from statsmodels.stats.proportion import proportion_confint

import reconfair as rf
from reconfair import figures, judge, play
from reconfair.synthesis import balance, classifiers, distance, preference, rate

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
reconstruction = {}
diagnosis = {}
fairness = {}
synthesis = {}
compute = {}

# %%
study = rf.params.study(
    base,
    dataset=dataset,
    noise=noise,
    reconstruction=reconstruction,
    diagnosis=diagnosis,
    fairness=fairness,
    synthesis=synthesis,
    compute=compute,
)
room = rf.synthesis
for product in room.products(study):
    rf.store.make(product)
table, generators = room.judge_all(study), study.synthesis.generators
steps = int(np.prod(room.rhythm(study.synthesis.iterations)))
usual = type(study.synthesis).model_fields["iterations"].default
Markdown(
    "Generators: " + ", ".join(f"`{name}`" for name in generators) + f"; cells: `{'*'.join(study.cells)}`. "
    f"Their common training has {steps:,} steps"
    + (
        f"; the default is {usual:,}. After so few steps the images are poor. They show how the chapter works, not what the "
        "method can do; `benchmarks/synthesis.py` asks that."
        if steps < usual / 4
        else "."
    )
)

# %% [markdown]
# ## Who is missing?
#
# A **cell** is a combination of attributes and a label. The figure counts the training images of each cell.

# %%
cells, cohort = room.cells(study), rf.data.load(study)
axis = cells.table.set_index("cell").images.plot.barh(figsize=(6, 0.3 * len(cells.table) + 1.2), color="#0072B2")
axis.set(xlabel="training images", ylabel=", ".join(study.cells))
figures.keep(axis.figure, study, "08_cells")

# %%
least, most = (cells.table.loc[at] for at in (cells.table.images.idxmin(), cells.table.images.idxmax()))
Markdown(
    f"The smallest cell, {least.cell}, has {least.images} images of {least.patients} patients; the largest, {most.cell}, has "
    f"{most.images} of {most.patients}. Oversampling to the same number would show each image of the smallest cell "
    f"{most.images / least.images:.1f} times."
)

# %% [markdown]
# Oversampling adds no variety: the classifier can learn these images by heart. A generator has seen women and men, ill and
# healthy; it may combine what it learned from all cells.
#
# ## Diffusion in ten lines
#
# The forward process mixes an image with noise, more of it at each time $t$:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon, \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s).$$
#
# A network learns to predict the noise $\varepsilon$ from $x_t$, $t$ and the cell $y$ (Ho, Jain and Abbeel 2020). At late
# times $x_t$ is nearly the noise itself, and a network should not have to copy it. So ours answers with the velocity $v$
# (Salimans and Ho 2022), and the noise follows from it:
#
# $$\varepsilon = \sqrt{1 - \bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, v.$$
#
# To draw an image, DDIM (Song, Meng and Ermon 2021) starts from pure noise. At each step it estimates $x_0$ and mixes it
# with less noise than before.


# %%
def loss(network, x0, cell, abar):
    t, noise = torch.randint(1, len(abar), (len(x0),)), torch.randn_like(x0)
    a = abar[t].reshape(-1, 1, 1, 1)
    return ((network(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, cell) - noise) ** 2).mean()


def sample(network, x, cell, abar, times):
    for t, s in pairwise(times):
        noise = network(x, t, cell)
        x0 = ((x - (1 - abar[t]).sqrt() * noise) / abar[t].sqrt()).clamp(-1, 1)
        noise = (x - abar[t].sqrt() * x0) / (1 - abar[t]).sqrt()
        x = abar[s].sqrt() * x0 + (1 - abar[s]).sqrt() * noise
    return x


# %%
generator = room.load(study, "plain" if "plain" in generators else "base")
abar = generator.schedule.abar
cell = torch.arange(min(len(cells.table), 4))
x_T = torch.randn(len(cell), generator.settings["colours"], study.dataset.size, study.dataset.size)
times = np.linspace(1000, 0, study.synthesis.steps + 1).round().astype(int).tolist()
with torch.inference_mode():
    path = [(x + 1) / 2 for x in (x_T, sample(generator.noise_hat_of, x_T, cell, abar, times))]
    real = torch.from_numpy(np.asarray(cohort.images[cells.rows[: 2 * len(cell)]], np.float32))
    real = real[:, None] if real.ndim == 3 else real
    error = loss(generator.noise_hat_of, 2 * real - 1, torch.from_numpy(cells.of[: len(real)]), abar)
rows = [[image.clamp(0, 1).mean(0).numpy() for image in images] for images in path]
figures.keep(figures.montage(rows, list(cells.table.cell[: len(cell)]), ["noise", "image"]), study, "08_diffusion")

# %%
Markdown(
    f"The mean squared error of the predicted noise on a few training images is {error:.2f}. A network that always answers 0 "
    "has 1."
)

# %% [markdown]
# ## Guidance is a dial
#
# In training, a tenth of the images come without their cell. So the network knows two predictions of the noise: without a
# cell, $\varepsilon_0$, and with it, $\varepsilon_y$. Guidance goes $w$ times the way from the first to the second:
#
# $$\hat\varepsilon = \varepsilon_0 + w\,(\varepsilon_y - \varepsilon_0).$$
#
# **Predict first:** which $w$ ignores the cell? What will $w = 4$ do to the differences between the cells?

# %%
dial = (0.0, 1.0, 1.5, 4.0)
each = torch.arange(len(cells.table))[:4]
with torch.inference_mode():
    turned = [generator.sample(each, [0] * len(each), guidance=w) for w in dial]
rows = [[image.mean(0).numpy() for image in images] for images in turned]
figures.keep(figures.montage(rows, list(cells.table.cell[:4]), [f"w = {w:g}" for w in dial]), study, "08_guidance")

# %%
apart = [float(images.std(0).mean()) for images in turned]
Markdown(
    "All images start from the same noise, so only the cell and $w$ differ. The mean standard deviation between the cells is "
    + ", ".join(f"{value:.3f} at w = {w:g}" for w, value in zip(dial, apart, strict=True))
    + "."
)

# %% [markdown]
# ## Balance
#
# A generator that sees a cell rarely learns it badly. `cbrs` draws images with weight $1/n_s$, so that all cells are seen
# equally often; `sqrs` takes $1/\sqrt{n_s}$, half the way. `fairgen` also multiplies by $1 + a\,G_s$. $G_s$ is the gradient
# norm of an image of cell $s$, divided by the mean over the cells: cells whose images still change the network most are seen
# more often.

# %%
shares = {name: balance.cell_weights(cells.table.images, name) * cells.table.images for name in balance.POWERS}
axis = pd.DataFrame(shares).set_axis(cells.table.cell).plot.barh(figsize=(6, 0.45 * len(cells.table) + 1.2))
axis.set(xlabel="share of the images that the generator sees", ylabel="")
figures.keep(axis.figure, study, "08_balance")

# %%
Markdown(
    f"Of the images that the generator sees, {shares['natural'].min():.1%} are of the smallest cell if they are drawn as "
    f"they come, {shares['sqrs'].min():.1%} with SQRS and {shares['cbrs'].min():.1%} with CBRS."
)

# %% [markdown]
# ## Diversity
#
# The diversity loss of CBDM (Qin et al. 2023) compares the noise predicted for the own cell with that for a random cell
# $y'$:
#
# $$L = \tfrac{t}{T}\left(\lVert \varepsilon_y - \mathrm{sg}\,\varepsilon_{y'} \rVert^2 + \tfrac14 \lVert \mathrm{sg}\,\varepsilon_y -
# \varepsilon_{y'} \rVert^2\right),$$
#
# where sg stops the gradient. FairGen's text says that it keeps cells apart. The formula says the opposite: the loss is
# smallest where the predictions are equal. We measure it: `cell_auroc` is the AUROC with which a linear classifier tells the
# cells of the samples apart.
#
# **Predict first:** will `cell_auroc` be lower for generators with the diversity loss?

# %%
apart = table[table.metric == "cell_auroc"].set_index("generator").value
recipes = {name: room.recipe(study, name) for name in generators if name != "sd"}
pulled = [name for name, recipe in recipes.items() if recipe["diversity"]]
apart.rename("cell auroc").to_frame().round(2).T

# %%
Markdown(
    f"Real images: {apart['real']:.2f}. Generators with the diversity loss ({', '.join(pulled) or 'none'}): "
    + (", ".join(f"{apart[name]:.2f}" for name in pulled) or "none")
    + "; without: "
    + (", ".join(f"{apart[name]:.2f}" for name in generators if name not in pulled) or "none")
    + ". 0.5 is chance. These numbers have no interval, so a small difference may be chance."
)

# %% [markdown]
# ## Preference: you are the physician
#
# A generator can also learn from people. A physician sees two samples of one cell and says which is better. Direct
# preference optimisation (Wallace et al. 2024) then lowers the noise error of the preferred image, relative to a frozen
# copy of the generator, and raises that of the other one:
#
# $$L = -\log \sigma\bigl(-\tfrac{\beta}{2}\left[(\ell_w - \ell_w^\text{ref}) - (\ell_l - \ell_l^\text{ref})\right]\bigr).$$
#
# $\ell_w$ and $\ell_l$ are the noise errors of the preferred and of the other image, and ref is the frozen copy. At the start
# both generators are equal, and the loss is $\log 2$. In training it is multiplied by $2/\beta$. Its pull on
# an error is then never stronger than that of the noise loss, and it ends when the two errors have moved apart by a few
# times $2/\beta$. With $\beta = 10$ and without this factor, samples of a rare cell lost their lesions (`A4_synthesis`). The
# loss also falls if both errors rise, and then the generator forgets. So preference learning stops when both have risen by
# more than 10 % (not `as_published`).

# %%
one = torch.ones(1)
start, _ = preference.preference_loss(one, one, one, one, study.synthesis.beta)
moved, _ = preference.preference_loss(0.998 * one, 1.002 * one, one, one, study.synthesis.beta)
pd.Series({"at the start": start.item(), "winner better, loser worse by 0.2 %": moved.item()}, name="loss").round(
    3
).to_frame()

# %% [markdown]
# Play the game yourself: the tool shows pairs of this study in a random order. Your file can train the generator
# (`synthesis = {"preference": "csv", "ratings": "FOLDER"}`). In a terminal, `reconfair rate PARAMS` opens the same tool; the
# page "Your model" of the documentation describes the file.

# %%
if play.at_hand() and study.synthesis.preference != "none":
    tool = rate.widget(study, "me")
else:
    tool = Markdown("The tool needs JupyterLab and ipywidgets. The first pair of the list is below.")
tool

# %%
listed, pair_images = room.listed_pairs(study) if study.synthesis.preference != "none" else (pd.DataFrame(), ())
if len(listed):
    pair = listed.iloc[0]
    both = [np.asarray(pair_images[int(pair[side])], float) for side in ("left", "right")]
    both = [image.mean(0) if image.ndim == 3 else image for image in both]
    drawn = figures.montage([both], ["left", "right"], [pair.cell])
else:
    drawn = figures.sentence("This study learns no preferences.")
figures.keep(drawn, study, "08_pair")

# %%
text = "No ratings were used."
if study.synthesis.preference != "none":
    rated, moved = room.ratings(study), room.preferred(study)
    low, high = proportion_confint(round(moved.sum()), len(moved), method="wilson")
    text = f"{rated.pair_id.nunique()} pairs were rated by {', '.join(sorted(set(rated.rater)))}. Of the {len(moved)} pairs that "
    text += "were decided, the tuned generator has moved towards the preferred image in "
    text += f"{moved.mean():.0%} (95 % interval {low:.0%} to {high:.0%}; 50 % is chance). It learned from these pairs, so of "
    text += "new ones it may be less."
Markdown(text)

# %% [markdown]
# The rater `oracle` is a simulated physician. On brain phantoms it measures the lesion and prefers the image whose lesion
# is more typical of the cell. On other scans it is a classifier that was trained on half of the training patients. The same
# classifier gives the features of `fd_own` and `cell_auroc` below. There `fairgen` is measured by the one that it was tuned to
# please; `fd_imagenet` is not.
#
# ## Real or synthetic?
#
# For each synthetic image, the training image nearest to it: does the generator copy?

# %%
name = generators[-1]
samples, images = room.synthetic(study, name)
some = np.arange(min(5, len(samples)))
near, at = distance.nearest(images[some], cohort.images[cells.rows])
flat = lambda image: np.asarray(image, float).mean(0) if np.ndim(image) == 3 else np.asarray(image, float)  # noqa: E731
rows = [[flat(images[k]) for k in some], [flat(cohort.images[cells.rows[k]]) for k in at]]
figures.keep(figures.montage(rows, list(samples.cell[some]), [name, "nearest real"]), study, "08_nearest")

# %%
copies = table[table.metric.isin(["nearest_ratio", "memorised"])].pivot(
    index="generator", columns="metric", values="value"
)
Markdown(
    "The median distance to the nearest training image, over that between training images of different patients: "
    + ", ".join(f"{row.Index} {row.nearest_ratio:.2f}" for row in copies.itertuples())
    + ". Nearer to a training image than all but 1 % of the training images are to each other: "
    + ", ".join(f"{row.Index} {row.memorised:.0%}" for row in copies.itertuples())
    + ". Far below 1, samples are copies or too smooth; far above 1, they do not look like patients."
)

# %% [markdown]
# The Fréchet distance compares the features of synthetic and of real images. It depends on the number of images, so every
# group has the same number here. `fd_floor` compares real images with those of other patients: a good generator comes near
# it, and copies of the training images can lie below it. The features are those of a classifier of our own (`fd_own`), not
# of Inception, so the values are no FID. Where the extra `weights` is installed, `fd_imagenet` measures the same in features
# that no patient has taught.

# %%
spaces = ["fd_own", "fd_floor", "fd_imagenet", "fd_imagenet_floor"]
measured = table[table.metric.isin(spaces) & (table.attribute == study.cells[0])]
measured.pivot_table("value", ["generator", "metric"], "group", sort=False).round(1)

# %%
variance = (
    table[(table.metric == "fd_variance") & (table.attribute == study.cells[0])].set_index("generator").value.dropna()
)
Markdown(
    f"The variance of the distance between the groups of {rf.words.name(study.cells[0])}: "
    + (", ".join(f"{name} {value:.3g}" for name, value in variance.items()) or "not known, since groups are too small")
    + ". FairGen reports that this variance falls; a small variance of large distances is no success."
)

# %% [markdown]
# ## The classifier
#
# Now the question that matters: does a classifier that was trained with synthetic images serve real test patients more
# equally? `standard` is trained with real images alone. A classifier that trains with synthetic images differs from it in
# up to three ways: it sees these images, it takes more steps, and groups in which it is often wrong count more
# (inverse-performance weights; `inverse_performance = "none"` leaves them out). First, the number of synthetic images as a
# dial, with gradient boosting on frozen features, which has neither weights nor steps. Every cell adds as many images. Numbers
# that would need more samples than were drawn are left out.

# %%
ratios = classifiers.against_ratio(study, "fairgen", (0, 0.1, 0.25, 0.5, 1, 2))
drawn = ratios[ratios.group == "all"].pivot_table("value", "ratio", "metric")
drawn = drawn[[metric for metric in ("accuracy", "equal_opportunity", "nar") if metric in drawn]].rename(
    columns=rf.words.name
)
lines = {metric: values.to_numpy() for metric, values in drawn.items()}
figures.keep(figures.lines(lines, "synthetic per real image", "value", drawn.index.to_numpy()), study, "08_ratio")

# %%
ends = ratios[(ratios.group == "all") & (ratios.metric == "equal_opportunity")]
Markdown(
    f"Gradient boosting on frozen features: the equal opportunity difference is {ends.value.iloc[0]:.3f} with real images "
    f"alone ({ends.low.iloc[0]:.3f} to {ends.high.iloc[0]:.3f}). With {ends.ratio.iloc[-1]:g} synthetic images per real one it "
    f"changes by {ends.change.iloc[-1]:+.3f} ({ends.change_low.iloc[-1]:+.3f} to {ends.change_high.iloc[-1]:+.3f})."
    if len(ends)
    else "No two groups have enough patients to be compared."
)

# %% [markdown]
# Each kind of classifier, for the first attribute of the cells. Accuracy and ESSP are better when larger; the other
# measures are gaps. CAS in the paper is this accuracy on real patients.

# %%
down = table[(table.classifier != "") & table.attribute.isin([study.cells[0], "all"]) & (table.group == "all")]
down.pivot_table("value", ["classifier", "generator"], "metric", sort=False).round(3)

# %%
moved = down[(down.metric == "equal_opportunity") & down.change_low.notna()]
sentences = [
    f"{rf.words.name(name)}: smaller in {(some.change_high < 0).sum()}, larger in {(some.change_low > 0).sum()} of "
    f"{len(some)} classifiers."
    for name, some in moved.groupby("generator", sort=False)
]
Markdown(
    "Where the 95 % interval of the change from real images alone excludes 0, the equal opportunity difference became: "
    + " ".join(sentences)
    + " Elsewhere no change is shown. A classifier that gives everyone the same answer has no gaps, and is of no use."
    if sentences
    else "No two groups have enough patients to be compared."
)

# %% [markdown]
# The next table has EODD of the readers of this study on originals, with the intervals of chapter 05. `shift_standard` is
# the change from the standard reader on the same patients. Rely on this table.

# %%
performance, gaps = judge.judge(study, room.judged(study))
honest = gaps[(gaps.metric == "eodd") & (gaps.source == "original") & (gaps.task == study.cells[-1])]
columns = [
    "value",
    "low",
    "high",
    "expected",
    "shift_standard",
    "shift_standard_low",
    "shift_standard_high",
    "verdict_standard",
]
honest.set_index(["attribute", "reader"])[columns].round(3)

# %%
changed = honest[(honest.attribute == study.cells[0]) & honest.shift_standard_low.notna()]
sentences = [
    f"{rf.words.name(row.reader)}: EODD changes by {row.shift_standard:+.3f} from that of the standard reader "
    f"({row.shift_standard_low:+.3f} to {row.shift_standard_high:+.3f}): {row.verdict_standard}."
    for row in changed.itertuples()
]
Markdown(" ".join(sentences) or "No two groups have enough patients to be compared.")

# %% [markdown]
# Published values of a ViT (FairGen, table 1), for comparison. Those are other images, other groups and other networks;
# ESSP is computed from percent there, so its size cannot be compared with ours.

# %%
published = rf.tables.published("fairgen_strategies")
published = published[(published.task == "diagnosis by ViT") & published.cited.str.contains("table 1")]
published = published[~published.metric.str.contains("improvement")]
published.pivot_table("value", ["dataset", "strategy"], "metric", sort=False)

# %% [markdown]
# The abstract's gains of 95.9, 80.0 and 35.2 % are means of four relative changes, one of them of ESSP, which has no upper
# limit. On chest radiographs the mean of the other three is 61 % for FairGen, and 59 % for SQRS and for FairDiffusion. Both of
# these have the smaller equal opportunity difference.
#
# ## What this chapter does not prove
#
# A generator that was trained on the same patients adds no information that nobody measured. If women with the disease look
# different in a way that no training image shows, no synthetic image will show it either. Samples of a rare cell borrow from
# the common ones; where the disease looks different in the rare group, this is wrong, and the classifier learns it. One
# training with one seed shows little. The appendix `A4_synthesis` asks the question with several seeds, on phantoms whose
# answer is known.
#
# ## Three things to take away
#
# 1. Look at the cells before you look at the method: who is missing, and how many are there?
# 2. Synthetic images train; real patients judge. Compare with oversampling and with real images alone.
# 3. A beautiful image proves nothing. Measure the distance by group with equal numbers, and look for copies.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. Synthetic images of ill women look perfect. What do you know about the classifier that was trained with them?**
#
# <details><summary>It is fairer now.</summary>No. The look of an image says nothing about a classifier.</details>
# <details><summary>It has seen more variety.</summary>No. Perfect images can all be alike, or copies.</details>
# <details><summary>Nothing, before real test patients have judged it.</summary>Yes. Synthetic images train, and real
# patients judge.</details>

# %% [markdown] tags=["quiz"]
# **2. What does guidance with $w = 0$ do?**
#
# <details><summary>It gives pure noise.</summary>No. The network still removes noise, with the prediction for no
# cell.</details>
# <details><summary>It ignores the cell.</summary>Yes. Only the prediction without a cell is used, so all cells give the same
# image from the same noise.</details>
# <details><summary>It gives the most typical image of the cell.</summary>No. A large $w$ goes in that direction.</details>

# %% [markdown] tags=["quiz"]
# **3. A generator has seen 2 ill women and 300 others. You ask for 500 ill women. What is in them?**
#
# <details><summary>What the two women and the other patients have in common, recombined.</summary>Yes. Where the disease
# looks different in women, the images can be wrong, and nobody sees it.</details>
# <details><summary>Information about 500 ill women.</summary>No. No further woman was scanned.</details>
# <details><summary>Noise.</summary>No. The images can look real, and this makes them dangerous.</details>

# %% [markdown] tags=["quiz"]
# **4. The Fréchet distance of the rare group is three times that of the common group, with 20 and 2,000 images. What follows?**
#
# <details><summary>Its images are worse.</summary>No. With few images the distance is larger for that reason alone.</details>
# <details><summary>Nothing, before both are computed with equal numbers.</summary>Yes. This is why each group has the same
# number here, and why there is a floor.</details>
# <details><summary>Its images are more varied.</summary>No. The distance does not measure variety alone.</details>

# %% [markdown] tags=["quiz"]
# **5. Which comparison shows that *synthesis* helped?**
#
# <details><summary>With synthesis against real images alone.</summary>No. The rare cell was also seen more often, and that
# alone can help.</details>
# <details><summary>With synthesis against the published numbers.</summary>No. Those are other patients and other
# networks.</details>
# <details><summary>With synthesis against oversampling of the real images to the same numbers.</summary>Yes. Then the only
# difference is whether the images are synthetic.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (write).** At which time $t$ is half of the variance of $x_t$ noise? Find it in `abar`, and call it `half`.
# Predict first: is it before or after the middle, 500 of 1,000 steps?

# %% tags=["exercise", "solution"]
# Hint: the variance of the noise in x_t is 1 - abar[t].
half = int((abar - 0.5).abs().argmin())
print(f"t = {half} of {len(abar) - 1}: abar = {abar[half]:.3f}")

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "half" not in globals():
    print("Hint: call your time half.")
elif not 0 <= half < 1001:
    print("Hint: half is a step, a whole number. Did you give the value of abar instead of its place?")
else:
    print("Hint: which share of the variance is noise at half of your time, and at twice of it?")

# %% [markdown] tags=["exercise", "solution"]
# It depends on the schedule. At smaller $t$ more than half of the variance is image, at larger $t$ more than half is noise.
# Sampling runs from large $t$ to 0, so it begins where almost nothing of an image is seen.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (predict, then run).** Draw eight samples of the first cell with $w = 1$ and with $w = 4$, from the same noise.
# Do the samples of one cell become more alike?

# %% tags=["exercise", "solution"]
# Hint: generator.sample(cells, seeds, guidance=w); the cells are a tensor of zeros.
with torch.inference_mode():
    within = {
        w: generator.sample(torch.zeros(8, dtype=torch.long), list(range(8)), guidance=w).std(0).mean()
        for w in (1.0, 4.0)
    }
print("; ".join(f"w = {w:g}: mean standard deviation {float(value):.3f}" for w, value in within.items()))

# %% [markdown] tags=["exercise", "solution"]
# In a well-trained generator a large $w$ makes the cells easier to tell apart and the samples of one cell more alike: it
# buys clarity with variety. A small generator such as this one can go the other way, because a large $w$ also pushes pixels
# to their limits. Look at the numbers before you repeat the rule.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (write).** Two physicians each prefer the better image with a probability of 0.7, independently of each other. In
# which share of the pairs do they agree (`agree`)? Compute it, then simulate 10,000 pairs.

# %% tags=["exercise", "solution"]
# Hint: they agree if both are right or both are wrong.
agree = 0.7**2 + 0.3**2
right = np.random.default_rng(0).random((2, 10_000)) < 0.7
print(f"computed {agree:.2f}, simulated {(right[0] == right[1]).mean():.3f}")

# %% tags=["exercise"]
if "agree" not in globals():
    print("Hint: call your share agree.")
elif not 0.5 < agree < 0.7:
    print("Hint: there are two ways to agree. Add their probabilities.")
else:
    print("Hint: what would you get for two physicians who toss a coin? How far is your number from that?")

# %% [markdown] tags=["exercise", "solution"]
# They agree in 0.58 of the pairs; two coins agree in 0.50. So 58 % of agreement can hide two good raters, or show two poor
# ones. With the rating tool, `rate.agreements(study)` gives Cohen's kappa, which subtracts the chance.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (predict, then run).** How many synthetic images does each cell need, so that all cells have as many images as
# the largest one? Which share of the smallest cell is then synthetic?

# %% tags=["exercise", "solution"]
# Hint: the column `images` of cells.table.
needed = cells.table.images.max() - cells.table.images
share = (needed / cells.table.images.max()).rename("synthetic share")
pd.concat([cells.table[["cell", "images"]], needed.rename("needed"), share.round(2)], axis=1)

# %% [markdown] tags=["exercise", "solution"]
# In a very small cell nearly everything that the classifier learns would come from the generator. Its errors are then the
# "disease" of this cell. This is why `min_images` asks for some real images of a cell.

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Break the check for copies: make five images that are plainly copies of training images, and
# that the distance of this chapter does not notice. Which check would notice yours?

# %% tags=["exercise", "solution"]
# Hint: the distance compares pixel by pixel.
originals = np.asarray(cohort.images[cells.rows[:5]], np.float32)
tricks = {"copy": originals, "moved by three pixels": np.roll(originals, 3, axis=-1), "mirrored": originals[..., ::-1]}
real = cohort.images[cells.rows]
for trick, faked in tricks.items():
    print(f"{trick}: median distance {np.median(distance.nearest(faked, real)[0]):.3f}")
apart = distance.nearest(originals, cohort.images[cells.rows[20:]])[0]
print(f"between training images: {np.median(apart):.3f}")

# %% [markdown] tags=["exercise", "solution"]
# A copy has distance 0. A moved or mirrored copy is as far away as another patient, and it still is this patient. Distances
# between features, or the smallest distance over small moves and mirrors, would notice it. A good answer also asks
# who is harmed by a copy: the patient, whose image leaves the hospital under another name.
