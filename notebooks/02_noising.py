# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Noising: what would a faster or gentler scan have shown?
#
# A faster MRI scan measures less of k-space. A gentler X-ray scan counts fewer photons. We take a good image, compute
# what such a scan would have measured, and turn the measurement back into an image without any learning. The result is
# the *noisy* image $y$, from which the reconstructors of the next chapter start.
#
# **After this chapter you can**
#
# - describe undersampling in k-space, and photon noise in projections, as formulas;
# - explain why the noise of a scan is not white;
# - compare our noise model with that of the paper's published code;
# - read PSNR and SSIM, and say what they leave open.
#
# *Reading and running: about 30 minutes. You need chapter 01, and what a Fourier transform does.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown

import reconfair as rf
from reconfair import play

# %% [markdown]
# The next cell chooses the study. It starts from a base, here `params/class.yaml`, and each line changes one section of
# it: `{}` changes nothing, `noise = "none"` means without noise, and a dataset with a `name` starts a new study, which
# does not use the base. Opened in Jupyter, run by `papermill -f params/FILE.yaml` or by `reconfair run
# params/FILE.yaml`, this notebook computes the same results from the same settings.

# %% tags=["parameters"]
base = "class"
dataset = {}
noise = {}
compute = {}

# %%
study = rf.params.study(base, dataset=dataset, noise=noise, compute=compute)
cohort = rf.data.load(study)
noisy = rf.noise.prepare(study)
study.noise

# %% [markdown]
# The settings above are the level of this study; all images of the cohort are now degraded at that level. For the
# pictures of this chapter, we degrade some images of the validation and test patients at all three levels of the paper
# (Wohlrapp et al., MIDL 2026). We also make them once without noise: with $R = 1$, or with so many photons that their
# number does not matter. Gaussian noise has three levels of ours. Noisy images that were made elsewhere have only their
# own level, and nothing is simulated.

# %%
without, *ladder = rf.noise.ladder(study.noise)
held_out = rf.data.rows(cohort.table, "eval")
held_out = held_out[rf.data.there(noisy, held_out)]  # a noisy image made elsewhere may be missing
rows = np.unique(np.linspace(0, len(held_out) - 1, 300).astype(int))
table = cohort.table.iloc[held_out[rows]].reset_index(drop=True)
images = np.asarray(cohort.images[held_out[rows]], np.float32)
noiseless, *degraded = rf.noise.at_levels(study, held_out[rows], [without, *ladder])
names = [level.level for level in ladder]

# %% [markdown]
# ## The physics, on one image
#
# **MRI.** The scanner measures the Fourier transform $k = \mathcal F x$ along straight lines through the centre, the
# spokes. Each spoke is turned by the golden angle $\pi(\sqrt 5 - 1)/2$ from the last one. We keep as many spokes as first
# sample a fraction $1/R$ of k-space; $R$ is the acceleration. The mask $M$ is 1 where something was measured. All other
# places are filled with zeros:
#
# $$y = \lvert \mathcal F^{-1} (M \odot k) \rvert.$$
#
# **X-ray.** Each ray loses photons on its way. Of $I_0\, b(d)$ photons sent to detector bin $d$, a random number arrives:
#
# $$\text{counts} \sim \mathrm{Poisson}\bigl(I_0\, b(d)\, e^{-a p}\bigr), \qquad
# \hat p = -\frac{1}{a} \log \frac{\text{counts}}{I_0\, b(d)},$$
#
# where $p$ is the line integral of the image, $a$ its attenuation, and $b$ the bow-tie filter, which sends fewer photons
# to the edge of the detector. Filtered back-projection turns $\hat p$ into an image: it filters each projection with a
# ramp $|f|$, softened by a Hann window, and smears it back along its rays.
#
# **Predict first:** in which columns will you see a difference between the levels at once? In which will you hardly see
# one?

# %%
example = len(images) // 2
pictures = []
for level, y in zip(ladder, degraded, strict=True):
    steps = rf.noise.steps(images[example], table.image_id[example], level)
    pictures.append([images[example], *steps.values(), y[example], y[example] - images[example]])
limits = [(0, 1), *[(0, float(picture.max())) for picture in steps.values()], (0, 1), (-0.3, 0.3)]
titles = ["original", *steps, "noisy", "error"]
rf.figures.keep(rf.figures.montage(pictures, titles, names, limits), study, "02_physics")

# %%
errors = {name: y - images for name, y in zip(names, degraded, strict=True)}
sizes = {name: np.sqrt(np.square(error).mean()) for name, error in errors.items()}
Markdown(
    "The root mean squared error grows with the level: "
    + ", ".join(f"{size:.3f} at {name}" for name, size in sizes.items())
    + f" (intensities run from 0 to 1; mean over {len(images)} images)."
)

# %% [markdown]
# In k-space, most of the signal is in the centre, which every level measures. So the images keep their large shapes and
# lose detail. In a sinogram the noise is hard to see, but the ramp filter amplifies the fine differences between
# neighbouring bins.
#
# ## The texture of the noise
#
# Textbook noise is white: it has the same power at every spatial frequency and in every place. The noise of a scan is
# different. The pictures show what each level alone adds to one image: the difference from the image without noise. The
# curves show its power by frequency, over all images.

# %%
added = {name: y - noiseless for name, y in zip(names, degraded, strict=True)}
power = {name: rf.noise.power_spectrum(error) for name, error in added.items()}
one = {name: error[example] for name, error in added.items()}
rf.figures.keep(rf.figures.texture(one, power), study, "02_texture")

# %%
frequency, spectrum = power[names[-1]]
Markdown(
    f"White noise would give a flat line. At {names[-1]}, the power is largest at {frequency[spectrum.argmax()]:.2f} cycles "
    f"per pixel and {spectrum.max() / spectrum[-1]:.0f} times that at the highest frequency, {frequency[-1]:.2f}."
)

# %% [markdown]
# Undersampling removes what lies between the spokes. Its error follows the anatomy, is worst at edges, and makes streaks
# in smooth regions. Few photons add grain: its power first grows with frequency, because of the ramp, until the Hann
# window cuts it off. The grain is strongest along rays through dense parts, where the fewest photons arrive. In both
# cases fine detail is lost first, and small lesions are lost before large ones.
#
# ## Our noise, and the noise as published
#
# The noise of the paper's published code is an option (`as_published`). For X-ray, that code lets a V-shaped bow-tie
# run over the *angles* (from 1 down to 0.05 and up again) and never divides it out. It also adds the Poisson noise to
# the line integrals instead of the transmitted photons. For MRI, it spaces the spokes evenly and takes the real part of
# the image.
#
# **Predict first:** how much of the loss comes from the level, and how much from these choices?


# %%
def quality_of(sections, versions, attributes):
    pairs = zip(sections, versions, strict=True)
    rated = pd.concat([rf.quality.rate(table, images, version, section.level) for section, version in pairs])
    same = rated.groupby("source").psnr.transform("min") == np.inf  # without noise, images can be their originals
    rated = rf.quality.comparable(rated[~same])  # the same images at every level
    levels = rated.groupby("source", sort=False)
    groups = [rf.quality.by_group(rows, table, attributes).assign(level=level) for level, rows in levels]
    return pd.concat(groups, ignore_index=True)


published = [rf.noise.as_published(level) for level in [without, *ladder]]
as_published = rf.noise.at_levels(study, held_out[rows], published)
table["physics"] = "ours"
ours = quality_of([without, *ladder], [noiseless, *degraded], ["physics"])
theirs = quality_of([without, *ladder], as_published, ["physics"]).assign(group="as published")
both = pd.concat([ours, theirs])
both = both[both.value < 100]  # without noise, an MR image differs from the original by rounding alone
rf.figures.keep(rf.figures.by_level(both, "psnr"), study, "02_published")

# %%
psnr = both[both.metric == "psnr"].pivot_table("value", "group", "level", sort=False)
fall = psnr[names[0]] - psnr[names[-1]]
Markdown(
    f"From {names[0]} to {names[-1]}, PSNR falls by {fall['ours']:.1f} dB with our noise and by {fall['as published']:.1f} dB "
    f"with the noise as published. At {names[-1]} the two differ by "
    f"{abs(psnr.loc['ours', names[-1]] - psnr.loc['as published', names[-1]]):.1f} dB."
)

# %% [markdown]
# For X-ray, the first level has no noise ($10^{12}$ photons). There the blur of the Hann window is the only loss; in
# the published version the shape over the angles adds to it. The further fall is the effect of the dose. The published
# line is nearly flat: at three doses that differ 33-fold, a reconstructor learns to undo almost the same artefact, and
# so it learns little about *dose*. Our line falls with the dose where pixels are small enough for the grain to outweigh
# the blur (8 dB at 256 pixels, hardly at 64).

# %%
pictures = [[images[example], *(y[example] for y in version)] for version in (degraded, as_published[1:])]
rf.figures.keep(rf.figures.montage(pictures, ["original", *names], ["ours", "as published"]), study, "02_as_published")

# %% [markdown]
# The same image at the three levels. Means over all images, with SSIM as well:

# %%
both.pivot_table("value", ["metric", "group"], "level", sort=False).round(2)

# %% [markdown]
# ## How much is lost, and for whom?
#
# For images within [0, 1], the peak signal-to-noise ratio in decibels is
#
# $$\mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}, \qquad \mathrm{MSE} = \frac1N \sum_i (y_i - x_i)^2.$$
#
# Half the squared error is 3 dB more. SSIM (structural similarity) compares local means, contrasts and patterns; equal
# images have 1. No model has seen the images yet, so a difference between groups comes from anatomy and physics alone: a
# larger chest lets fewer photons through, and a smaller head leaves more empty background.
#
# **Predict first:** which group will have the lowest PSNR?

# %%
attributes = list(study.dataset.about.attributes)
groups = quality_of(ladder, degraded, attributes)
rf.figures.keep(rf.figures.by_level(groups, "psnr"), study, "02_psnr_by_group")

# %%
here = groups[(groups.metric == "psnr") & (groups.level == names[-1])]
worst, best = here.loc[here.value.idxmin()], here.loc[here.value.idxmax()]
pairs = [part for _, part in here.groupby("attribute") if part.low.max() > part.high.min()]
infinite = here.groupby("attribute").infinite.sum().max()
Markdown(
    f"At {names[-1]}, {best.group} has the highest PSNR ({best.value:.1f} dB, {best.patients} patients) and {worst.group} the "
    f"lowest ({worst.value:.1f} dB, {worst.patients} patients). Intervals that do not overlap: "
    + (", ".join(rf.words.name(part.attribute.iloc[0]) for part in pairs) or "none")
    + ". Patients without a recorded attribute are left out of its panel."
    + (f" Left out as well: {infinite} images whose PSNR is infinite at some level." if infinite else "")
)

# %% [markdown]
# Move the level and the image: what is lost in the picture, and which group loses most? The error is drawn three times as
# bright as it is.

# %%
first = groups[groups.attribute == attributes[0]]
play.show(*play.noise(images, dict(zip(names, degraded, strict=True)), first))

# %% [markdown]
# The same for SSIM:

# %%
rf.figures.keep(rf.figures.by_level(groups, "ssim"), study, "02_ssim_by_group")

# %% [markdown]
# Each interval is for one mean. Two intervals that do not overlap suggest a difference. With several groups and levels on
# one page, some pairs will be apart by chance. Chapter 05 asks the question properly, and asks it about diagnoses. The
# numbers behind both figures, with the patients of each group:

# %%
groups.pivot_table(["value", "patients"], ["metric", "attribute", "group"], "level", sort=False).round(3)

# %% [markdown]
# ## What this chapter does not prove
#
# - **The scans are surrogates.** A radiograph is itself a projection, so no scanner measures its Radon transform: the
#   noise has the statistics of a CT scan. The MR images were magnitudes before we transformed them. There is one coil, no
#   phase, no error of the field and no motion, and the spokes fall on grid points.
# - **The original is not the truth.** It has noise of its own, which the simulation treats as anatomy.
# - **Some physics is missing:** scatter, electronic noise, beam hardening, filters of vendors, and a dose that is adapted
#   to the size of the patient.
# - **PSNR is not diagnosis.** An image can lose 5 dB and keep every lesion. It can also lose one lesion and hardly any PSNR.
#
# ## Three things to take away
#
# 1. Noise starts in the measurement, not in the image. Its texture depends on the physics.
# 2. Fine detail is lost first.
# 3. Groups can lose image quality differently before any model is trained.
#
# ## Quiz
#
# Click an answer to read why it is right or wrong.

# %% [markdown] tags=["quiz"]
# **1. A scan at acceleration 8 measures an eighth of k-space. Why is so much of the image still there?**
#
# <details><summary>Most of the signal is in the centre of k-space, which is measured.</summary>Yes. The large shapes live
# there. What is lost is fine detail.</details>
# <details><summary>The zeros are filled in by the reconstruction.</summary>No. The zeros stay in $y$; only chapter 03 fills
# them in.</details>
# <details><summary>The scanner measures the same place several times.</summary>No. Each spoke goes another way, and they
# share only the centre.</details>

# %% [markdown] tags=["quiz"]
# **2. Where in a chest radiograph does a low dose hurt most?**
#
# <details><summary>Everywhere alike.</summary>No. That would be white noise, added to the image.</details>
# <details><summary>Along rays through dense parts.</summary>Yes. The fewest photons arrive there, so their number is the
# least sure.</details>
# <details><summary>In the background.</summary>No. Rays through air lose almost no photons.</details>

# %% [markdown] tags=["quiz"]
# **3. Image A has 3 dB more PSNR than image B. What does this say?**
#
# <details><summary>A has half the mean squared error of B.</summary>Yes. $10 \log_{10} 2$ is about 3.</details>
# <details><summary>A shows more lesions.</summary>No. A lesion is a few pixels; it hardly counts in the mean.</details>
# <details><summary>A is 3 percent better.</summary>No. Decibels are logarithms, not percent.</details>

# %% [markdown] tags=["quiz"]
# **4. Why is the noise after filtered back-projection not white?**
#
# <details><summary>Because photons are counted.</summary>No. Counting makes the noise depend on the ray. The counts of two
# bins are still independent of each other.</details>
# <details><summary>Because the ramp filter amplifies high frequencies.</summary>Yes. It shapes the spectrum of the noise,
# until the Hann window cuts it off.</details>
# <details><summary>Because the patient moves.</summary>No. Nothing moves in this simulation.</details>

# %% [markdown] tags=["quiz"]
# **5. One group has a lower PSNR in the noisy images. Is a model unfair?**
#
# <details><summary>Yes, image quality should be equal.</summary>No. No model has seen these images yet.</details>
# <details><summary>No. Anatomy and physics alone can cause it.</summary>Yes. Whether a diagnosis suffers is another
# question, which later chapters ask.</details>
# <details><summary>Only if the intervals do not overlap.</summary>No. Then a difference is likely, but it still does not
# come from a model.</details>

# %% [markdown]
# ## Exercises
#
# Solutions are in the cells below each exercise. `make exercises` writes a copy of this notebook without them.

# %% [markdown] tags=["exercise"]
# **Exercise 1 (write).** Write the MRI formula yourself: compute `np.fft.fft2` of `images[example]`, keep the central 16
# rows of k-space and set the rest to zero, and transform back to an image `y_rows`. Predict first: which direction is
# blurred? Compare with the streaks of the spokes.

# %% tags=["exercise", "solution"]
# Hint: np.fft.fftshift puts the centre of k-space into the middle of the array; np.fft.ifftshift puts it back.
k = np.fft.fftshift(np.fft.fft2(images[example]))
middle, M = len(k) // 2, np.zeros(k.shape)
M[middle - 8 : middle + 8] = 1
y_rows = np.abs(np.fft.ifft2(np.fft.ifftshift(M * k)))
shown = [images[example], np.log1p(np.abs(M * k)), y_rows]
rf.figures.montage([shown], ["original", "k-space (log)", "noisy"], [""], [(0, 1), (0, shown[1].max()), (0, 1)])

# %% tags=["exercise"]
# A check. It gives a hint, and does not say that you are right.
if "y_rows" not in globals():
    print("Hint: call your image y_rows.")
elif np.iscomplexobj(y_rows):
    print("Hint: an inverse Fourier transform is complex. Take its absolute value.")
elif abs(y_rows.mean() - images[example].mean()) > 0.05:
    print("Hint: the mean intensity stands in the centre of k-space. Is the centre where your mask keeps it?")
else:
    print("Hint: now compare the differences between neighbouring rows with those between neighbouring columns.")

# %% [markdown] tags=["exercise", "solution"]
# The vertical direction is blurred: the rows of k-space far from the centre hold the fast changes from row to row. The
# spokes lose detail in all directions and make streaks instead.

# %% [markdown] tags=["exercise"]
# **Exercise 2 (predict, then run).** Add white noise with the same root mean squared error as the last level to
# `images[example]`. Draw both errors side by side. Which of the two hides a small lesion better?

# %% tags=["exercise", "solution"]
# Hint: sizes[names[-1]] is the root mean squared error over all images; np.random.default_rng(0).normal draws.
white = np.random.default_rng(0).normal(0, sizes[names[-1]], images[example].shape)
error = errors[names[-1]][example]
rf.figures.montage([[error, white]], [names[-1], "white"], ["error"], [(-0.3, 0.3), (-0.3, 0.3)])

# %% [markdown] tags=["exercise", "solution"]
# White noise has the same size everywhere, and the eye averages it away over a few pixels. The error of the scan has
# structure: it follows edges or rays, and it can look like anatomy. With the same PSNR, it hides a lesion better.

# %% [markdown] tags=["exercise"]
# **Exercise 3 (predict, then run).** Change one line to `noise = {"acceleration": 16}` and run again. By how many dB does
# the mean PSNR of this study change? For which group does it change most?

# %% tags=["exercise", "solution"]
# Hint: `groups` has the means at all three levels already.
falls = groups[groups.metric == "psnr"].pivot_table("value", ["attribute", "group"], "level", sort=False)
(falls[names[-1]] - falls[names[0]]).rename("dB").round(2).sort_values().to_frame()

# %% [markdown] tags=["exercise", "solution"]
# The table gives the change from the first to the last level, by group. The order of the groups hardly changes: what is
# hard to restore at one level is hard at the next.

# %% [markdown] tags=["exercise"]
# **Exercise 4 (write).** How many decibels does PSNR rise if the squared error falls to a tenth? Compute it for two
# images, and check your answer `decibels` with `rf.quality.psnr`.

# %% tags=["exercise", "solution"]
# Hint: the error falls to a tenth in its square, so each difference shrinks by sqrt(10).
x, y = images[example], degraded[-1][example]
decibels = rf.quality.psnr(x, x + (y - x) / np.sqrt(10)) - rf.quality.psnr(x, y)
round(float(decibels), 2)

# %% tags=["exercise"]
if "decibels" not in globals():
    print("Hint: call your answer decibels.")
elif 19 < decibels < 21:
    print("Hint: this is the answer for a tenth of the error. The question is about its square.")
else:
    print("Hint: -10 * log10(0.1) should agree with your number. Does it?")

# %% [markdown] tags=["exercise"]
# **Exercise 5 (open, break it).** Make two images with the same PSNR against an original. In the first image a doctor
# would find the lesion; in the second it is gone. What should a measure of image quality look at instead?

# %% [markdown] tags=["exercise", "solution"]
# An example: replace the lesion by the tissue around it, and compute the mean squared error of that change. Then spread
# the same squared error as weak noise over the whole image. Both have the same PSNR. A measure for diagnosis must know
# the task: it asks whether a reader, human or network, still decides in the same way. Chapter 04 does this.
