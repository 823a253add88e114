# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 Reconstruction: how well can the image be restored?
#
# A reconstructor learns from pairs: the noisy image $y$ and the original $x$. It is then asked for $\hat x = f(y)$ on patients that it has
# never seen. Everything a diagnosis later sees goes through this door.

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
reconstruction = {"models": ["unet"], "unet": {"channels": 8, "depth": 3, "epochs": 8}}
compute = {}

# %%
study = rf.params.study(dataset=dataset, noise=noise, reconstruction=reconstruction, compute=compute)
models = study.reconstruction.models
folders = {model: rf.recon.train(study, model) for model in models}
restored = {model: rf.recon.reconstruct(study, model) for model in models}

# %% [markdown]
# ## The U-Net
#
# An encoder halves the image again and again while it doubles the channels; a decoder goes back up, at each
# step joined by what the encoder saw at that size. The loss is the mean squared error,
#
# $$L = \frac 1 N \sum_i \lVert f(y_i) - x_i \rVert^2 .$$
#
# Its minimum is the *mean* of all images that could have led to $y$. That is why U-Nets are safe in PSNR and a little
# blurred: where the measurement leaves a choice, they answer with the average of the possibilities.

# %%
logs = {model: pd.read_csv(folder / "log.csv") for model, folder in folders.items()}
rf.figures.keep(rf.figures.learning(logs), study, "03_learning")

# %% [markdown]
# The dot marks the weights that are kept: the epoch with the smallest loss on the validation patients.
#
# ## The same patients under every model
#
# **Predict first:** will the reconstruction be sharper or smoother than the original?

# %%
cohort, noisy = rf.data.load(study), rf.noise.load(study)
evaluated = rf.data.rows(cohort.table, "eval")
test = np.flatnonzero(cohort.table.split.iloc[evaluated] == "test")
shown = test[np.linspace(0, len(test) - 1, 8).astype(int)][2:6]
rows = evaluated[shown]
sources = {"noisy": noisy[rows], **{model: images[shown] for model, images in restored.items()}}
pictures = rf.figures.comparison(cohort.images[rows], sources, cohort.table.image_id[rows].str[:12].tolist())
rf.figures.keep(pictures, study, "03_reconstructions")

# %% [markdown]
# ## Image quality, and for whom

# %%
flow = rf.store.flow(study)
quality = rf.tables.read("quality", flow["noisy"].folder, *folders.values())
quality = quality[quality.split == "test"]
quality.groupby("source", sort=False)[["psnr", "ssim"]].agg(["mean", "std"]).round(3)

# %%
rated = quality.merge(cohort.table.drop(columns=["split", "patient_id"]), on="image_id")
long = rated.melt(["source", "psnr", "ssim"], list(study.dataset.about.attributes), "attribute", "group")
long.pivot_table("psnr", ["attribute", "group"], "source", sort=False).round(2)

# %% [markdown]
# Mean PSNR (dB) of the test images by group. Means over few images move by chance; chapter 05 says by how much.
#
# **What this chapter does not prove.** A high PSNR says that most pixels are nearly right. A lesion of ten pixels hardly counts
# in it: it can vanish without a trace in the mean. Whether it did is the question of the next chapter.
