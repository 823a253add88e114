# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 Diagnosis: what does a frozen model see in each image?
#
# The diagnostic models are trained on originals only and then frozen. They stand for the reader who has
# learned on good images and is handed a reconstruction. Whatever changes from here on is the doing of the images.

# %%
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
reconstruction = {
    "models": ["unet", "pix2pix", "sde"],
    "unet": {"channels": 8, "depth": 3, "epochs": 8},
    "pix2pix": {"channels": 16, "epochs": 10, "batch_size": 8, "lr": 0.0005, "dropout": 0},
    "sde": {"channels": 32, "depth": 3, "patch": 2, "epochs": 12, "lr": 0.001, "sampler": "few_step"},
}
diagnosis = {
    "classify": {"architecture": "resnet18", "pretrained": False, "epochs": 4, "batch_size": 32, "lr": 0.001},
    "segment": {
        "encoder": "resnet18",
        "decoder": [64, 48, 32, 16, 16],
        "pretrained": False,
        "epochs": 4,
        "batch_size": 16,
    },
}
compute = {}

# %%
study = rf.params.study(
    dataset=dataset, noise=noise, reconstruction=reconstruction, diagnosis=diagnosis, compute=compute
)
folders = {network.name: rf.diagnosis.train(study, network) for network in study.networks}
sources = ["original", "noisy", *study.reconstruction.models]
predictions = pd.concat([rf.diagnosis.predict(study, source) for source in sources], ignore_index=True)
predictions.groupby(["task", "split", "source"], sort=False).size().unstack()

# %% [markdown]
# One row per decision: a patient where the task is about the patient (the score is then the median over the slices), an image where it is about the image.

# %%
logs = {name: pd.read_csv(folder / "log.csv") for name, folder in folders.items()}
rf.figures.keep(rf.figures.learning(logs), study, "04_learning")

# %% [markdown]
# ## From score to decision
#
# A score becomes a decision at a threshold $\tau$. Ours is *balanced*: it makes sensitivity and specificity as equal as
# possible, $\tau = \arg\min_t |\mathrm{TPR}(t) - \mathrm{TNR}(t)|$, on the validation **originals**. It is then kept for every source: a clinic does not
# move its threshold because the scanner has a new reconstruction.

# %%
thresholds = rf.diagnosis.thresholds(study)
pd.Series(thresholds, name="threshold").round(3).to_frame().T

# %% [markdown]
# **Predict first:** on the test patients, will the orange dot lie on the diagonal from top left to bottom right, where sensitivity equals specificity?

# %%
originals = predictions[(predictions.source == "original") & (predictions.split == "test")]
rf.figures.keep(rf.figures.curves(originals, thresholds), study, "04_roc")

# %% [markdown]
# The threshold was balanced on other patients, so on these it is balanced only nearly. With few test patients the curve is a coarse staircase.
#
# ## The same decisions, from another image

# %%
test = predictions[predictions.split == "test"]
test.groupby(["task", "source"], sort=False)[["score", "dice"]].agg(["mean", "std"]).dropna(axis=1, how="all").round(3)

# %%
wide = test.pivot_table("score", ["task", "unit"], "source")
changed = wide.ge(wide.index.get_level_values("task").map(thresholds), axis=0)
changed.drop(columns="original").ne(changed.original, axis=0).groupby("task").mean().round(3)

# %% [markdown]
# The share of decisions that differ from the one on the original. A change is not yet an error: the original may have been the wrong one.
#
# **What this chapter does not prove.** These models are one reader, trained once. Another seed is another reader; and a model trained
# on reconstructions might read them better.
