"""Recipes: validation, overrides, names, and reading YAML safely."""

from __future__ import annotations

from pathlib import Path

import pytest

from waveedge.compression.recipe import Recipe, make_recipe, read_recipe
from waveedge.errors import RecipeError


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"bits": 0}, "bits"),
        ({"bits": 9}, "bits"),
        ({"bits": 1}, "bits"),
        ({"weight_bits": 16}, "weight_bits"),
        ({"wcc_ratio": 0}, "wcc_ratio"),
        ({"wcc_ratio": 1.5}, "wcc_ratio"),
        ({"wcc_ratio": float("nan")}, "wcc_ratio"),
        ({"wcc_levels": 0}, "wcc_levels"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"bites": 4}, "bites"),
        ({"only": [""]}, "only.0"),
        ({"skip": ["a" * 1001]}, "skip.0"),
        ({"skip": ["a"] * 1001}, "skip"),
        ({"layers": {"": {"bits": 4}}}, "layers"),
        ({"layers": {"a": {"bits": 77}}}, "layers.a.bits"),
    ],
)
def test_senseless_values_are_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named.replace(".", r"\.")) as caught:
        make_recipe(fields)
    assert "Known fields" in caught.value.hint


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"bits = 0.*wcc_ratio = 2"):
        make_recipe({"bits": 0, "wcc_ratio": 2})


def test_32_bits_means_no_quantization_at_all_unless_weights_are_asked_for() -> None:
    assert make_recipe({"bits": 32}).weight_bits == 32
    assert make_recipe({"bits": 32, "weight_bits": 4}).weight_bits == 4
    assert make_recipe({"bits": 4}).weight_bits == 8


def test_later_overrides_win() -> None:
    recipe = make_recipe(
        {"bits": 4, "layers": {"a.*": {"bits": 6, "wcc_ratio": 0.5}, "a.b": {"bits": 8}}}
    )
    assert recipe.settings("a.b").bits == 8
    assert recipe.settings("a.b").wcc_ratio == 0.5
    assert recipe.settings("a.c").bits == 6
    assert recipe.settings("z").bits == 4


def test_skip_and_only_say_why() -> None:
    recipe = Recipe(skip=("stem.*",), only=("layers.*",))
    assert "stem.*" in (recipe.excluded("stem.0") or "")
    assert recipe.excluded("head") == "not among layers.*"
    assert recipe.excluded("layers.0") is None


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"bits": 4, "wcc_ratio": 0.5}, "w8a4-wcc50"),
        ({"bits": 8}, "w8a8"),
        ({"bits": 32, "wcc_ratio": 0.125}, "w32a32-wcc12.5"),
    ],
)
def test_labels_name_files(fields: dict[str, object], label: str) -> None:
    assert make_recipe(fields).label() == label


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bits: [", r"recipe\.yaml is not valid YAML: line 1"),
        ("bits: 4\nskip: [a\x00]", r"recipe\.yaml is not valid YAML: line 2: .* is not allowed"),
        ("- 1\n- 2\n", r"recipe\.yaml does not hold a mapping"),
        ("4", r"recipe\.yaml does not hold a mapping"),
        ("!!python/object/apply:os.getcwd []\n", r"line 1: a value of the type python/object"),
        ("bits: 4\n1: 2\n", r"line 2: a key that is no text"),
        ("bits: 4\nseed: 1\nbits: 8\n", r"line 3: bits is given twice, first on line 1"),
        ("layers:\n  a: {bits: 4}\n  a: {bits: 8}\n", r"line 3: a is given twice"),
        ("layers: &a {b: *a}\n", r"line 1: an alias"),
        ("layers:\n  <<: {a: {bits: 4}}\n", r"line 2: a key that is no text"),
        ("seed: 1\nbits: 77\n", r"line 2: bits = 77: must be 2 to 8"),
        ("layers:\n  a:\n    bits: 0\n", r"line 3: layers\.a\.bits = 0"),
        ("skip:\n- a\n- ''\n", r"line 3: skip\.1"),
        ("seed: 1\nbits: !!int abc\n", r"line 2: 'abc' is no int"),
        ("bits: 4\n---\nbits: 8\n", r"recipe\.yaml is not valid YAML: line 2"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_line_and_runs_nothing(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=says) as caught:
        read_recipe(path)
    assert "recipe.yaml" in caught.value.what


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"bits: 4\n# caf\xe9\n")
    with pytest.raises(RecipeError, match="line 2 is no UTF-8 text"):
        read_recipe(path)


def test_a_recipe_file_round_trips(tmp_path: Path) -> None:
    import yaml

    recipe = make_recipe({"bits": 4, "skip": ["a.*"], "layers": {"b": {"wcc_ratio": 0.25}}})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert make_recipe(read_recipe(path)) == recipe
