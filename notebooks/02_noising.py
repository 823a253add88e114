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
    "patients": 360,
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
# ## The physics, on one image
#
# **MRI.** The scanner measures the Fourier transform $k = \mathcal F x$, here along spokes through the centre, each turned by
# the golden angle $\pi(\sqrt 5 - 1)/2$ from the last. As many spokes are kept as first sample a fraction $1/R$ of k-space. What was not
# measured is filled with zeros: $y = |\mathcal F^{-1} (M \odot k)|$.
#
# **X-ray.** Photons thin out along each ray: of $I_0\, b(d)$ sent to detector bin $d$, a Poisson number with mean
# $I_0\, b(d)\, e^{-p}$ arrives, where $p$ is the line integral of the image. The counts give back $\hat p = -\log(\text{counts} / (I_0 b))$,
# which filtered back-projection turns into an image. (A radiograph is itself a projection. Its Radon transform
# is a surrogate, as in the paper.)

# %%
shown = len(cohort.images) // 2
steps = rf.noise.steps(cohort.images[shown], cohort.table.image_id[shown], study.noise)
limits = [(0, 1)] + [(0, float(picture.max())) for picture in steps.values()]
pictures = [[cohort.images[shown], *steps.values()]]
rf.figures.keep(rf.figures.montage(pictures, ["original", *steps], [study.level], limits), study, "02_physics")

# %% [markdown]
# ## What it does to the image
#
# **Predict first:** where will the error be largest, in smooth regions or at edges?

# %%
rows = np.linspace(0, len(noisy) - 1, 12).astype(int)[4:7]
labels = cohort.table.image_id[rows].str[:12].tolist()
rf.figures.keep(rf.figures.comparison(cohort.images[rows], {"noisy": noisy[rows]}, labels), study, "02_noisy")

# %% [markdown]
# Undersampling blurs and leaves streaks at edges; few photons leave grain. Neither looks like the white noise of textbooks, and
# both touch fine detail first: small lesions before large ones.
#
# ## How much is lost, and for whom?
#
# $\mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}$ for images within [0, 1], in dB: 3 dB more means half the squared error. No
# model has touched the image yet, so a difference between groups here comes from anatomy and physics alone.

# %%
quality = rf.tables.read("quality", rf.store.flow(study)["noisy"].folder)
rated = quality[["image_id", "psnr", "ssim"]].merge(cohort.table, on="image_id")
by = [rated.groupby(attribute)[["psnr", "ssim"]].agg(["mean", "std"]) for attribute in study.dataset.about.attributes]
pd.concat(by, keys=study.dataset.about.attributes, names=["attribute", "group"]).round(3)

# %% [markdown]
# **What this chapter does not prove.** A difference of means above is not yet a finding: chapter 05 puts an interval on it. And the
# simulation is cleaner than a scanner: one coil, no motion, no scatter, no correlated noise.
