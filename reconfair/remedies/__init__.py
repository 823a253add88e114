"""Remedies against bias: what may change in the training of any network, whatever its stage.

A remedy is a file of this folder with a subclass of `remedy.Remedy`, and two lines here. Chapter 06 uses remedies to
fine-tune reconstructors; the training of diagnostic networks can use the same ones.
"""

from reconfair import params

# The strength that a strategy has where it names none; None: that of the section, `lam`.
params.REMEDIES |= {"reweight": 1.0, "dro": 0.01, "eodd": None, "adv": None}


def find(word: str) -> type:
    """Return the class of a remedy: one of the package, or one of the user's own, such as ``my_remedies.py:Shrink``."""
    from reconfair.remedies import adv, dro, eodd, reweight

    if params.is_external(word):
        return params.external(word)
    classes = {"reweight": reweight.Reweight, "dro": dro.GroupDRO, "eodd": eodd.SoftEODD, "adv": adv.Adversary}
    return classes[word]
