"""The report: levels in order of their noise, verdicts by their definition, published values as printed, nothing hidden."""

import re

import numpy as np
import pandas as pd
import pytest
import runs
from matplotlib.figure import Figure

from reconfair import params, report, store, tables
from reconfair.report import claims, exhibits, pages
from reconfair.report.runs import Runs

ALL = {"report": {"runs": "all"}}
FEW = {"diagnosis": {"tasks": ["Cardiomegaly", "Edema", "Fracture", "Pneumonia"]}, "fairness": {"min_cases": 5}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three levels of invented scans, of which one takes much from women, and one of radiographs."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder))
        for acceleration, harm in ((16, 0.8), (4, 0.0), (8, 0.0)):
            runs.finish(runs.mri(acceleration, **ALL), 130, ("reweight",), harm)
        runs.finish(runs.chexpert(**FEW), 160, ("eodd", "thresholds"))
        yield folder


@pytest.fixture
def mri(finished):
    return report.gather(runs.mri(16, **ALL))


@pytest.fixture
def chexpert(finished):
    return report.gather(runs.chexpert(**FEW))


def test_all_levels_are_gathered_the_mildest_first(finished, mri):
    assert mri.performance.level.unique().tolist() == ["x4", "x8", "x16"]
    alone = report.gather(runs.mri(8))
    assert set(alone.performance.level) == set(alone.fairness.level) == {"x8"}
    assert [study.name for study in report.gather().studies] == [
        "chexpert/1e4",
        "phantom_mri/x4",
        "phantom_mri/x8",
        "phantom_mri/x16",
    ]
    assert set(mri.shifts().level) == {"x16"} and set(mri.shifts().metric) == {"eodd", "ser"}


def test_a_verdict_is_what_the_interval_and_the_margin_say(mri):
    table = mri.performance.iloc[:0]
    rows = pd.DataFrame(
        {
            "change_low": [-0.01, -0.05, 0.01, -0.03, -0.015, np.nan],
            "change_high": [0.01, -0.03, 0.03, 0.01, -0.005, np.nan],
            "expected": ["equivalent", "worse", "better", "undecided", "equivalent", "not compared"],
        }
    )
    arm = {"task": "grade", "source": "unet", "strategy": "standard", "attribute": "all", "metric": "auroc"}
    rows = rows.assign(**arm, dataset="phantom_mri", level="x16", change=rows.change_low)
    one = Runs(mri.studies, pd.concat([table, rows]), mri.fairness, study=mri.study)
    assert report.compare(one).query("question == 'performance'").verdict.tolist() == rows.expected.tolist()

    bias = mri.shifts().query("attribute == 'sex' and metric == 'eodd'").iloc[[0] * 5]
    bias = bias.assign(shift=[0.1, -0.1, 0.1, 0.0, np.nan], p_adjusted=[0.01, 0.01, 0.2, 1, np.nan])
    bias = bias.assign(equivalent=[0, 0, 0, 1, np.nan])
    one = Runs(mri.studies, mri.performance, bias, study=mri.study)
    verdicts = report.compare(one).query("question == 'bias by Sex'").verdict
    assert verdicts.tolist() == ["worse", "better", "undecided", "equivalent", "not compared"]


def test_harm_to_women_is_reported_and_every_number_is_in_the_tables(mri):
    answers = report.summary(mri)
    rows = report.compare(mri)
    assert answers["performance"].startswith("Changed in some comparisons. Of 9 comparisons")
    assert (rows.query("question == 'bias by Sex' and task == 'tumour'").verdict == "worse").all()
    assert "The largest shifts of bias: Sex: SER of tumour with" in answers["for whom"]
    assert "chosen from many: female, Dice of tumour" in answers["for whom"]
    counts = rows[rows.question != "performance"].verdict.value_counts()
    assert f"{counts['worse']} larger" in answers["bias"] and f"{counts['undecided']} undecided" in answers["bias"]
    known = pd.concat([mri.at_level(mri.performance), mri.at_level(mri.fairness)])
    numbers = {
        f"{value:+.3f}" for column in ("change", "change_low", "change_high") for value in known[column].dropna()
    }
    numbers |= {f"{value:+.3f}" for column in ("shift", "shift_low", "shift_high") for value in known[column].dropna()}
    printed = re.findall(r"[+-]\d\.\d{3}", " ".join(answers.values()))
    assert len(printed) >= 12 and set(printed) <= numbers


def test_costs_are_changes_against_the_standard_model_of_the_same_reconstructor(mri):
    row = claims.costs(mri).set_index("source").loc["unet"]
    everyone = mri.at_level(mri.overall("psnr", "auroc", "dice")).query("source == 'unet'")
    value = everyone.pivot_table("value", ["task", "metric"], "strategy")
    percent = 100 * (value.reweight / value.standard - 1)
    assert row.psnr == pytest.approx(percent["image", "psnr"])
    assert row.downstream == pytest.approx(percent.drop("image").mean())
    gaps = mri.shifts().query("source == 'unet'").pivot_table("value", ["task", "attribute", "metric"], "strategy")
    assert row.bias == pytest.approx((100 * (gaps.reweight / gaps.standard - 1)).median())
    assert row.comparisons == len(gaps.dropna())


def test_values_are_percent_of_originals_or_of_the_best_image(mri):
    drawn = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            exhibits.figures,
            "against_noise",
            lambda rows: drawn.update(rows=rows) or Figure(),
        )
        exhibits.against_noise.__wrapped__.__wrapped__(mri)
    rows = drawn["rows"]
    assert "original" not in set(rows.source) and rows.task.iloc[0] == "image"
    assert rows[rows.metric == "psnr"].share.max() == pytest.approx(100)
    original = mri.overall("dice").query("source == 'original' and level == 'x4'").value.item()
    dice = rows[(rows.metric == "dice") & (rows.level == "x4") & (rows.source == "unet")].iloc[0]
    assert dice.share == pytest.approx(100 * dice.value / original)


@pytest.mark.parametrize("name", exhibits.EVERY)
def test_every_exhibit_shows_something_or_says_why_not(name, mri, chexpert):
    for what in (mri, chexpert):
        question, draw = exhibits.EVERY[name]
        content = draw(what)
        assert question.endswith("?") and pages.caption(draw)[0].endswith(".")
        if isinstance(content, Figure):
            assert content.axes
        elif isinstance(content, pd.DataFrame):
            assert content.size and "nan" not in content.to_string()
        else:
            assert content == "No task of this study is measured by SER." or content.endswith("measured by ΔDice.")
        assert draw(what) is content


def test_a_run_in_which_nothing_can_be_compared_says_so(outputs):
    study = runs.mri(diagnosis={"tasks": ["tumour"]}, fairness={"min_cases": 500}, reconstruction={"models": ["unet"]})
    runs.finish(study, 60, ())
    nothing = report.gather(study)
    answers = report.summary(nothing)
    assert answers["bias"].startswith("Not compared. Of 3 comparisons 0 are") and answers["mitigation"] == "Not tried."
    assert "phantom_mri, reconstructors: Pix2Pix; SDE." in report.missing(nothing)
    content = {name: draw(nothing) for name, (_, draw) in exhibits.EVERY.items()}
    assert content["psnr_gaps"] == "No two groups have enough patients to be compared."
    assert content["cost"] == content["strategies"] == exhibits.NOT_TRIED


def test_published_values_stand_beside_ours_as_printed(mri, chexpert):
    table = exhibits.performance(chexpert)
    assert table.loc[("1e4", "Fracture", "AUROC", "published")].to_dict() == {
        "Original": "0.76",
        "Noisy": "",
        "U-Net": "0.75",
        "Pix2Pix": "0.74",
        "SDE": "0.75",
    }
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to \d\.\d{3}\)", table.loc[("1e4", "Fracture", "AUROC", "ours"), "U-Net"])
    assert exhibits.shift_by_model(mri).loc[("median", "published"), "Pix2Pix"] == "-0.21"
    assert exhibits.shift_by_strategy(chexpert).loc[("EODD", "published")].to_dict() == {
        "Sex": "+7.56",
        "Age": "-2.01",
        "Race": "+0.52",
    }
    assert exhibits.tradeoffs(chexpert).loc[("chexpert", "EODD", "published"), "PSNR"] == "-0.64"
    assert exhibits.psnr_gaps(chexpert).loc[("Race", "published"), "SDE"] == "2.63 (p = 0)"
    slides = exhibits.by_attribute(chexpert).loc[("Sex", "Fracture", "slides")]
    assert slides["U-Net", "EODD"] == "0.055" and slides["Original", "EOP"] == "0.061"
    assert exhibits.cohort(chexpert).loc[("published", "female", "younger"), "all"] == 11804
    assert "published" not in exhibits.performance(mri).index.names  # nobody published phantoms
    shift = chexpert.fairness.query(
        "source == 'sde' and task == 'Edema' and attribute == 'age_group' and metric == 'eodd'"
    )
    assert shift.published_shift.iloc[0] == pytest.approx(0.113 - 0.122)


def test_transcribed_tables_are_whole():
    counts = tables.published("cohorts").groupby(["dataset", "sex"]).patients.sum()
    assert counts.to_dict() == {
        ("chexpert", "female"): 25536,
        ("chexpert", "male"): 31274,
        ("ucsf_pdgm", "female"): 202,
        ("ucsf_pdgm", "male"): 299,
    }
    assert len(tables.published("fairness")) == 15 * 2 * 8 + 12 * 8
    strategies = tables.published("strategies")
    assert len(strategies) == 3 * 4 * (5 + 15) + 15
    both = strategies.query("strategy == 'standard'").merge(
        tables.published("performance"), on=["dataset", "level", "source", "task", "metric"]
    )
    assert len(both) == 3 * 20 + 15 and ((both.value_x - both.value_y).abs() <= 0.00501).all()  # the same, rounded
    for name in ("performance", "strategies", "fairness", "summaries", "cohorts"):
        assert tables.published(name).cited.str.match("paper: |slides: ?").all()


def test_what_is_missing_is_named(finished, mri, chexpert):
    sentences = report.missing(chexpert)
    assert "chexpert, noise levels: 1e5; 3e3." in sentences and "chexpert, attributes: Race (merged)." in sentences
    assert any("LPIPS" in sentence for sentence in sentences)
    assert not any("noise levels" in sentence for sentence in report.missing(mri))
    (finished / "lgg" / "x8").mkdir(parents=True)
    (finished / "lgg" / "x8" / "study.yaml").write_text("dataset: {name: lgg}")
    old = finished / "phantom_mri" / "x4" / "mitigation" / "performance.parquet"
    kept = old.read_bytes()
    pd.read_parquet(old).drop(columns="change").to_parquet(old)
    try:
        sentences = report.missing(report.gather())
        assert "lgg/x8: begun, not finished." in sentences and "ucsf_pdgm, of the paper: no finished run." in sentences
        assert "phantom_mri/x4: left out, its table 'performance' is of an older kind, without change." in sentences
        assert "phantom_mri, noise levels: x4." in sentences
    finally:
        old.write_bytes(kept)


def test_a_report_of_all_levels_is_stale_when_another_level_changed(finished):
    studies = runs.mri(8, **ALL), runs.mri(8)
    before = [store.flow(study)["report"].fingerprint for study in studies]
    stamp = finished / "phantom_mri" / "x4" / "mitigation" / "mitigation.product.json"
    stamp.write_text(stamp.read_text().replace('"made"', '"made_again"'))
    after = [store.flow(study)["report"].fingerprint for study in studies]
    assert after[0] != before[0] and after[1] == before[1]


def test_without_a_finished_run_that_is_said(outputs):
    with pytest.raises(params.ParamsError, match="expected a finished run, found none"):
        report.gather()
    with pytest.raises(params.ParamsError, match="run chapter 06 first"):
        report.gather(runs.mri())
