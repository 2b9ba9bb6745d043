"""Own results over the reference's, by planted ratios."""

import json
import shutil

import pytest

from moebook import paths, sections
from moebook.cli import results
from moebook.results import agreement, loading
from moebook.study.params import load

SECTION = sections.find("09")


@pytest.fixture
def own(tmp_path):
    """Section 9 of the H200 as measured here: every time 1.1 times the reference's, that of one
    model twice."""
    params = load(SECTION.params, paths.params_file("h200", SECTION.stem))
    params = params.model_copy(update={"output_root": str(tmp_path)})
    folder = tmp_path / "h200" / SECTION.stem
    for part in ("points", "records"):
        shutil.copytree(paths.reference() / "h200" / SECTION.stem / part, folder / part)
    for file in [*folder.glob("points/*.json"), *folder.glob("records/*/*.json")]:
        record = {k: v for k, v in json.loads(file.read_text()).items() if k != "sha256"}
        factor = 2.0 if record["model"] == "OLMoE-1B-7B-0125" else 1.1
        record["repeats"] = [
            {**row, "ttft_s": factor * row["ttft_s"], "e2e_s": factor * row["e2e_s"]}
            for row in record["repeats"]
        ]
        file.write_text(json.dumps(record))
    return params


def test_the_ratio_of_every_point_that_both_have(own):
    plan = SECTION.plan(own)
    found = agreement.compare(own, plan, SECTION.enrich)
    reference = loading.reference_results(own, plan, SECTION.enrich)
    assert len(found.table) == reference.counts()["ok"] and tuple(found.table) == agreement.COLUMNS
    olmoe = found.table["model"] == "OLMoE-1B-7B-0125"
    assert (
        found.table.loc[olmoe, "ratio"].tolist() == pytest.approx([2.0] * olmoe.sum())
        and olmoe.any()
    )
    assert found.table.loc[~olmoe, "ratio"].tolist() == pytest.approx([1.1] * (~olmoe).sum())
    within = found.table.loc[found.table["within"], "model"]
    assert within.tolist() == ["gpt-oss-20b"]  # its repeats spread by 10 %
    assert (
        "NVIDIA H200 over the reference's NVIDIA H200" in found.text
        and "farthest 2.000" in found.text
    )
    line = agreement.lines(found.table)[0]
    assert line.startswith("  1.100") or line.startswith("  2.000")


def test_equal_results_lie_within_each_others_ranges(own):
    summary = loading.reference_results(own, SECTION.plan(own), SECTION.enrich).summary
    table = agreement.ratios(summary, summary)
    assert (table["ratio"] == 1).all() and table["within"].all()


def test_copies_of_the_reference_are_told_and_left_out(own, tmp_path):
    shipped, folder = (root / "h200" / SECTION.stem for root in (paths.reference(), tmp_path))
    plan = SECTION.plan(own)
    some = sorted((shipped / "points").glob("*.json"))[:3]
    for file in some:
        shutil.copyfile(file, folder / "points" / file.name)
        shutil.rmtree(folder / "records" / file.stem, ignore_errors=True)
        if (more := shipped / "records" / file.stem).exists():
            shutil.copytree(more, folder / "records" / file.stem)
    found = agreement.compare(own, plan, SECTION.enrich)
    assert found.text.endswith("; 3 more are the reference's own")
    assert (found.table["ratio"] > 1).all()
    shutil.rmtree(folder)
    shutil.copytree(shipped, folder)
    found = agreement.compare(own, plan, SECTION.enrich)
    assert found.table.empty and found.text.endswith("points are the reference's own")


def test_where_there_is_nothing_of_ones_own_it_says_so(own, tmp_path):
    params = own.model_copy(update={"output_root": str(tmp_path / "empty")})
    found = agreement.compare(params, SECTION.plan(params), SECTION.enrich)
    assert found.table.empty and found.text.endswith("nothing of this plan was measured here")


def test_sources_are_listed_and_set_aside_by_name(own, tmp_path):
    (line,) = results.inventory_lines(str(tmp_path), "h200")
    assert "of NVIDIA H200 with vllm 0.26.0" in line
    with pytest.raises(ValueError, match="has points of: NVIDIA H200, vllm 0.26.0"):
        results.set_aside(str(tmp_path), "h200", "vllm 0.1")
    (files,) = results.set_aside(str(tmp_path), "h200", "vllm 0.26.0").values()
    assert files and results.inventory_lines(str(tmp_path), "h200") == []
    assert loading.own_results(own, SECTION.plan(own), SECTION.enrich) is None


def test_the_reference_is_in_no_list_of_ones_own():
    assert not [line for line in results.inventory_lines(None, "") if "reference" in line]
