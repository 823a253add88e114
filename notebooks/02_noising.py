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
# A faster MRI measures less of k-space; a gentler X-ray counts fewer photons. We take the good image, work out
# what such a scan would have measured, and turn that back into an image without any learning. This is the *noisy*
# image $y$ that the reconstructors of the next chapter start from.

# %%
import numpy as np
import pandas as pd

import reconfair as rf

# %% tags=["parameters"]
dataset = {
    "name": "phantom_mri",
    "size": 64,
    "patients": 300,
    "slices": 2,
    "dials": {"contrast": {"sex": {"female": -0.4}}},
}
noise = {"kind": "kspace", "acceleration": 8}
compute = {}

# %%
study = rf.params.study(dataset=dataset, noise=noise, compute=compute)
cohort = rf.data.load(study)
noisy = rf.noise.prepare(study)
study.noise

# %% [markdown]
# The line above is the whole cohort at this study's level. For the pictures of this chapter, some images of the
# validation and test patients are degraded at all three levels of the paper, and once without noise ($R = 1$, or so many photons that
# their number does not matter).

# %%
without, *ladder = rf.noise.ladder(study.noise)
held_out = rf.data.rows(cohort.table, "eval")
rows = np.unique(np.linspace(0, len(held_out) - 1, 300).astype(int))
table = cohort.table.iloc[held_out[rows]].reset_index(drop=True)
images = np.asarray(cohort.images[held_out[rows]], np.float32)
noiseless, *degraded = rf.noise.levels(images, table.image_id, [without, *ladder])

# %% [markdown]
# ## The physics, on one image
#
# **MRI.** The scanner measures the Fourier transform $k = \mathcal F x$, here along spokes through the centre, each turned by
# the golden angle $\pi(\sqrt 5 - 1)/2$ from the last. As many spokes are kept as first sample a fraction $1/R$ of k-space. What was not
# measured is filled with zeros: $y = |\mathcal F^{-1} (M \odot k)|$.
#
# **X-ray.** Photons thin out along each ray: of $I_0\, b(d)$ sent to detector bin $d$, a Poisson number with mean
# $I_0\, b(d)\, e^{-a p}$ arrives, where $p$ is the line integral of the image and $a$ its attenuation. The counts give back
# $\hat p = -\log(\text{counts} / (I_0 b)) / a$, which filtered back-projection turns into an image: each projection is filtered with a
# ramp $|f|$, softened by a Hann window, and smeared back along its rays.
#
# **Predict first:** in which of the columns below would you notice the difference between the levels at once, and in which hardly?

# %%
shown = len(images) // 2
pictures = []
for level, y in zip(ladder, degraded, strict=True):
    steps = rf.noise.steps(images[shown], table.image_id[shown], level)
    pictures.append([images[shown], *steps.values(), y[shown], y[shown] - images[shown]])
limits = [(0, 1), *[(0, float(picture.max())) for picture in steps.values()], (0, 1), (-0.3, 0.3)]
titles = ["original", *steps, "noisy", "error"]
rf.figures.keep(rf.figures.montage(pictures, titles, [level.level for level in ladder], limits), study, "02_physics")

# %% [markdown]
# In k-space most of the brightness sits in the centre, which every level measures: the images keep their large shapes and lose detail.
# In the sinogram the noise is hard to see at all, yet the ramp filter lifts exactly the fine differences between neighbouring bins.
#
# ## The texture of the noise
#
# Textbook noise is white: the same power at every spatial frequency, in every place. Ours is neither. Below is what the
# level alone adds, the difference to the image without noise, in one image, and its power by frequency over all of them.

# %%
errors = {level.level: y - noiseless for level, y in zip(ladder, degraded, strict=True)}
power = {level: rf.noise.power_spectrum(error) for level, error in errors.items()}
one = {level: error[shown] for level, error in errors.items()}
rf.figures.keep(rf.figures.texture(one, power), study, "02_texture")

# %% [markdown]
# Undersampling takes away what lies between the spokes: its error follows the anatomy, is worst at edges, and streaks across
# smooth regions. Few photons add grain: its power first grows with frequency, as the ramp has it, until the Hann window cuts it
# off; and it is strongest along rays through dense parts, where the fewest photons arrive. Either
# way fine detail goes first: small lesions before large ones. A network that has seen only white noise has seen neither.
#
# ## As published, and as the physics has it
#
# The noise of the paper's published code is an option (`as_published`). For X-ray it lets a V-shaped bow-tie run over the
# *angles* (1 down to 0.05 and up again) and never divides it out, and puts Poisson noise on the line integrals themselves, not on transmitted
# photons. For MRI it spaces the spokes evenly and takes the real part of the image, which here changes little. How much of the degradation
# comes from the dose, and how much from that shape?


# %%
def quality_of(sections, versions, attributes):
    rated = []
    for section, version in zip(sections, versions, strict=True):
        rows = rf.quality.by_group(rf.quality.rate(table, images, version, section.level), table, attributes)
        rated.append(rows.assign(level=section.level))
    return pd.concat(rated, ignore_index=True)


published = [rf.noise.as_published(level) for level in [without, *ladder]]
as_published = rf.noise.levels(images, table.image_id, published)
table["physics"] = "ours"
ours = quality_of([without, *ladder], [noiseless, *degraded], ["physics"])
theirs = quality_of([without, *ladder], as_published, ["physics"]).assign(group="as published")
both = pd.concat([ours, theirs])
both = both[both.value < 100]  # an image that nothing but rounding was taken from has a PSNR of 150, or none
rf.figures.keep(rf.figures.by_level(both, "psnr"), study, "02_published")

# %%
pictures = [[images[shown], *(y[shown] for y in version)] for version in (degraded, as_published[1:])]
titles = ["original", *(level.level for level in ladder)]
rf.figures.keep(rf.figures.montage(pictures, titles, ["ours", "as published"]), study, "02_as_published")

# %%
both.pivot_table("value", ["metric", "group"], "level", sort=False).round(2)

# %% [markdown]
# For X-ray the first level is one without noise ($10^{12}$ photons): what is lost there is lost to the blur of the Hann window, and as published
# to the shape over the angles; the slope from there on is all that the dose adds. The published line is nearly flat: at three
# doses that differ 33-fold, a reconstructor is trained to undo almost the same artefact, so that little is learned there about *dose*. Ours
# falls with the dose where pixels are small enough for the grain to outweigh the blur (at 256 pixels by 8 dB, at 64 hardly).
#
# ## How much is lost, and for whom?
#
# $\mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}$ for images within [0, 1], in dB: 3 dB more means half the squared error. SSIM compares
# local means, contrasts and patterns; 1 is equal. No model has touched the images yet, so a difference between groups comes
# from anatomy and physics alone: a larger chest lets fewer photons through, a smaller brain leaves more empty background.

# %%
attributes = study.dataset.about.attributes
groups = quality_of(ladder, degraded, attributes)
rf.figures.keep(rf.figures.by_level(groups, "psnr"), study, "02_psnr_by_group")

# %%
rf.figures.keep(rf.figures.by_level(groups, "ssim"), study, "02_ssim_by_group")

# %%
groups.pivot_table(["value", "patients"], ["metric", "attribute", "group"], "level", sort=False).round(3)

# %% [markdown]
# Intervals are for one mean each. Two that do not overlap suggest a difference; with several groups and levels on one page, some will
# part by chance. Chapter 05 asks the question properly, and asks it of diagnoses.
#
# ## What this chapter does not prove
#
# - **The scans are surrogates.** A radiograph is itself a projection, so its Radon transform is no measurement that any scanner takes: the
#   noise has the statistics of a CT, not of a detector under a chest. The MR images were magnitudes before we transformed them: one coil, no phase, no
#   field errors, no motion, and spokes that fall on grid points.
# - **The original is no ground truth.** It holds its own noise, which the simulation carries along as if it were anatomy.
# - **Scatter, electronic noise, beam hardening and vendor filters** are absent, and so is whatever a real protocol would change with the patient: dose is set by size.
# - **PSNR is not diagnosis.** An image may lose 5 dB and keep every lesion, or lose one lesion and no dB that one could measure.
