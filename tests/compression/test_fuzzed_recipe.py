"""Recipe files at random: one is read, or refused with a RecipeError; nothing else happens."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waveedge.compression.recipe import Recipe, make_recipe, read_recipe
from waveedge.errors import RecipeError

TRIES = int(os.environ.get("WAVEEDGE_FUZZ", 2500))

SEEDS = [
    "bits: 4\nweight_bits: 8\nwcc_ratio: 0.5\nwcc_levels: 3\nseed: 0\n",
    'skip: ["layers.0.*", head]\nonly: []\nlayers:\n  "layers.3.*": {bits: 8, wcc_ratio: 1}\n',
    "# a comment\nlayers:\n  a: {bits: 2}\n  b:\n    weight_bits: 32\nskip:\n- c\n- d\n",
    "{bits: 32, layers: {x: {wcc_levels: 1}}, skip: [a, b]}\n",
]

TOKENS = [
    *("!!int ", "!!float ", "!!bool ", "!!null ", "!!str ", "!!timestamp ", "!!binary ", "!!set "),
    *(
        "!!omap ",
        "!!python/name:os.system ",
        "!!python/object/apply:os.abort []",
        "!<tag:x> ",
        "! ",
    ),
    *("&a ", "*a", "<<: ", "? ", ": ", "- ", "--- ", "...\n", "| ", "> ", ">+9\n", "%YAML 1.9\n"),
    *("%YAML 9999999999.1\n", "%TAG ! tag:x,", "[", "]", "{", "}", ",", "'", '"', "#", "\n", "\t"),
    *("2020-99-99", "2020-01-01T99:99:99Z", "0x_", "0b_", "0o9", "1_0", "1:30", "1e999", ".nan"),
    *(".inf", "-0", "~", "yes", "null", '"\\ud800"', '"\\UFFFFFFFF"', '"\\x', "\x00", "\ufeff"),
    *("\u2028", "é", "=", "9" * 50, "[" * 20, "{a: " * 20, "x" * 1100, "bits: 4\n", "skip: [a]\n"),
    *("bits: ", "layers: ", "wcc_ratio: ", "seed: ", "only: ", "self: 1\n", "  "),
]


def _mutated(chance: random.Random) -> bytes:
    content = bytearray(chance.choice(SEEDS).encode())
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(content) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            content[place:place] = bytes([chance.randrange(256)])
        elif kind == 1 and place < len(content):
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del content[place : place + chance.randint(1, 8)]
        elif kind == 3:  # a value of another type
            start = content.find(b": ", place) + 2
            content[start : start + 1] = chance.choice(TOKENS).encode()
        else:
            content[place:place] = chance.choice(TOKENS).encode()
    return bytes(content)


def _outcome(give: Callable[[], dict[str, Any]]) -> Recipe | str:
    """The recipe, or what the refusal says."""
    try:
        return make_recipe(give())
    except RecipeError as error:
        return str(error)


def _check(outcomes: list[Recipe | str]) -> None:
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert all("the recipe" in text and len(text) < 4000 for text in refusals)
    # Or the mutations try nothing.
    assert len(outcomes) * 0.02 < len(outcomes) - len(refusals) < len(outcomes) * 0.6


def test_a_mutated_recipe_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    chance = random.Random(0)
    outcomes = []
    for _ in range(TRIES):
        path.write_bytes(_mutated(chance))
        outcomes.append(_outcome(lambda: read_recipe(path)))
    _check(outcomes)


def test_values_of_every_type_are_taken_or_refused() -> None:
    chance = random.Random(0)
    odd = [
        *(None, True, 4, -1, 0.5, float("nan"), float("inf"), 10**400, "4", "", "\ud800", b"a"),
        *([], ["a"], [None], {}, {"a": 1}, {1: 2}, {"a": {"bits": 2}}, {"": {}}, {"\ud800": {}}),
        *((), object(), {"a"}, range(3), complex(1), [[]] * 2000, "x" * 10**5),
    ]
    names = [*Recipe.model_fields, "self", "", "\ud800", "bitz", "model_config"]

    def fields() -> dict[str, Any]:
        return {chance.choice(names): chance.choice(odd) for _ in range(chance.randint(1, 2))}

    _check([_outcome(fields) for _ in range(TRIES)])
