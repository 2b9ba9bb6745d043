"""`fitting`: which models of the catalog it stands for, in what order, and what is refused."""

import pytest

from moebook import paths, sections
from moebook.models import catalog, fitting, sizes
from moebook.problems import ParameterError
from moebook.study import params
from moebook.study.values import read_yaml

SIZES = [sizes.weight_bytes(catalog.load(name), "bfloat16") for name in fitting.candidates()]


def upto(gigabytes: float) -> fitting.Fits:
    return lambda arch: sizes.weight_bytes(arch, "bfloat16") <= gigabytes * 1e9


def test_candidates_are_published_models_of_experts_smallest_first_and_one_of_each_shape():
    names = fitting.candidates()
    assert (
        sorted(SIZES) == SIZES
        and names[0] == "deepseek-vl2-tiny-textonly"
        and "OLMoE-1B-7B-0125" in names
    )
    loaded = [catalog.load(name) for name in names]
    assert all(
        arch.is_moe and not arch.vision_params and arch.number_format is None for arch in loaded
    )
    assert not any(
        name.startswith("tiny-") or name.startswith(("DeepSeek-V3", "gpt-oss", "Qwen3-8B"))
        for name in names
    )
    assert {"Mixtral-8x7B-v0.1", "DeepSeek-V2-Lite"} <= set(names)
    assert not {
        "Mixtral-8x7B-Instruct-v0.1",
        "OLMoE-1B-7B-0924",
        "deepseek-vl2-small-textonly",
    } & set(names)


def test_language_parts_are_those_of_vision_language_models_alone():
    assert fitting.candidates("vlm") == (
        "deepseek-vl2-tiny-textonly",
        "deepseek-vl2-small-textonly",
        "deepseek-vl2-base-textonly",
    )


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (
            ["fitting"],
            [
                "deepseek-vl2-tiny-textonly",
                "OLMoE-1B-7B-0125",
                "Qwen1.5-MoE-A2.7B",
                "DeepSeek-V2-Lite",
            ],
        ),
        (["fitting 1"], ["DeepSeek-V2-Lite"]),
        (["fitting 2"], ["deepseek-vl2-tiny-textonly", "DeepSeek-V2-Lite"]),
        (["fitting 3"], ["deepseek-vl2-tiny-textonly", "Qwen1.5-MoE-A2.7B", "DeepSeek-V2-Lite"]),
        (
            ["fitting 9"],
            [
                "deepseek-vl2-tiny-textonly",
                "OLMoE-1B-7B-0125",
                "Qwen1.5-MoE-A2.7B",
                "DeepSeek-V2-Lite",
            ],
        ),
        (
            ["Mixtral-8x7B-v0.1", "fitting 2", "DeepSeek-V2-Lite"],
            ["Mixtral-8x7B-v0.1", "deepseek-vl2-tiny-textonly", "DeepSeek-V2-Lite"],
        ),
        (["OLMoE-1B-7B-0125"], ["OLMoE-1B-7B-0125"]),
        ([], []),
    ],
)
def test_the_word_stands_for_models_spread_over_those_that_fit(names, chosen):
    assert list(fitting.resolve(names, upto(40))) == chosen


def test_where_none_fits_the_smallest_stands_in():
    assert fitting.resolve(["fitting 3"], upto(1)) == ("deepseek-vl2-tiny-textonly",)
    assert (
        fitting.fitting(upto(1))[-1] == "deepseek-vl2-tiny-textonly"
        and fitting.fitting(upto(100))[-1] == "Mixtral-8x7B-v0.1"
    )


@pytest.mark.parametrize(
    ("text", "is_word"),
    [
        ("fitting", True),
        ("fitting 3", True),
        ("fitting 0", False),
        ("fitting -1", False),
        ("fittings", False),
        ("Fitting", False),
        ("fitting  2", False),
        (None, False),
    ],
)
def test_what_is_the_word(text, is_word):
    assert fitting.is_word(text) is is_word


@pytest.mark.parametrize(
    ("stem", "given", "message"),
    [
        ("02", {"models": "fitting 0"}, "models.*should be a list"),
        ("02", {"models": ["fiting"], "device": "h200"}, "model 'fiting' is no catalog model"),
        (
            "02",
            {"formats_model": "fitting 2", "device": "h200"},
            "formats_model.*this is one model",
        ),
        ("02", {"models": "fitting", "device": "cpu"}, "the memory of device 'cpu' is not known"),
        ("04", {"target": "fitting", "device": "h200"}, "target.*no catalog model"),
        ("08", {"common_model": "fitting", "device": "h200"}, "common_model.*no catalog model"),
        ("07", {"checkpoints": ["fitting"], "device": "h200"}, "checkpoints.*no catalog model"),
        ("04", {"drafts": "fitting", "device": "h200"}, "drafts.*should be a list"),
    ],
)
def test_the_word_out_of_place_is_refused(stem, given, message):
    section = sections.find(stem)
    with pytest.raises(ParameterError, match=message):
        params.build(section.params, given, "test")


@pytest.mark.parametrize(
    ("stem", "keys"),
    [
        ("01", ("grid_model", "comparison_models", "validation_model")),
        ("02", ("models", "formats_model")),
        ("03", ("models",)),
        ("05", ("models",)),
        ("06", ("layer_models", "quantized_models", "tuned_model", "ladder_model")),
        ("07", ("skew_layer_models", "skew_model")),
        ("08", ("model", "reference_models")),
        ("09", ("llms", "vlms", "imposing_check")),
    ],
)
def test_every_section_that_takes_the_word_plans_published_models_for_it(stem, keys):
    section = sections.find(stem)
    given = read_yaml(paths.params_file("h200", section.stem)) | dict.fromkeys(keys, "fitting")
    plan = section.plan(params.build(section.params, given, "test"))
    models = {point.architecture.name.split("[")[0].split(" ")[0] for point in plan.points}
    assert "fitting" not in models and len(plan.measured) > 1
    assert models & set(fitting.candidates())
