"""The report: levels in order of their noise, and percentages of what they say they are of."""

import shutil

import yaml

from reconfair import judge, params, report, run, store


def test_all_levels_are_gathered_the_mildest_first(smallest):
    judge.judge(smallest, mitigated=True)
    run._write_resolved(smallest)
    here = store.outputs() / smallest.name
    resolved = yaml.safe_load((here / "study.yaml").read_text())
    for level, acceleration in (("x16", 16), ("x4", 4)):
        shutil.copytree(here / "mitigation", here.with_name(level) / "mitigation")
        resolved["noise"]["acceleration"] = acceleration
        (here.with_name(level) / "study.yaml").write_text(yaml.safe_dump(resolved))
    every = smallest.model_copy(update={"report": params.Report(runs="all")})

    performance, _ = report.tables_of(every)
    assert performance.level.unique().tolist() == ["x4", "x8", "x16"]
    assert report.tables_of(smallest)[0].level.unique().tolist() == ["x8"]

    rows = report.against_noise(performance)
    assert "original" not in set(rows.source)
    quality = rows[rows.metric == "psnr"]
    assert (quality.reference == quality.value.max()).all()
    originals = performance[(performance.source == "original") & (performance.attribute == "all")]
    for (task, metric), part in rows[rows.metric != "psnr"].groupby(["task", "metric"]):
        known = originals[(originals.task == task) & (originals.metric == metric)].value.iloc[0]
        assert (part.reference == known).all()
    for level in ("x16", "x4"):
        shutil.rmtree(here.with_name(level))
