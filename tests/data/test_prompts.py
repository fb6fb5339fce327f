"""What the judge asks: reproducible, answerable, marked where held out, and free of the renderer."""

import ast
from pathlib import Path

import pytest

from dimoo.data.stickers import expectation, prompts
from dimoo.data.stickers.catalogue import CORE, Catalogue
from dimoo.data.stickers.edits import EDITS
from dimoo.data.stickers.expectation import Expectation, Thing
from dimoo.data.stickers.held_out import CELLS, PAIRS
from dimoo.data.stickers.prompts import (
    CATEGORIES,
    UNSEEN,
    evaluation_edits,
    evaluation_prompts,
    evaluation_questions,
    evaluation_scenes,
)
from dimoo.data.stickers.questions import QUESTIONS
from dimoo.data.stickers.scenes import Background, Sticker, is_held_out

FOX = Sticker(concept="fox", style="flat", place="left")
OWL = Sticker(concept="owl", style="noto", place="right")
BLUE = Background(colours=("blue",))


@pytest.mark.parametrize("category", [*CATEGORIES, UNSEEN])
def test_prompts_are_reproducible_and_name_what_they_expect(category):
    asked = evaluation_prompts(category, 50, 3)
    assert asked == evaluation_prompts(category, 50, 3) != evaluation_prompts(category, 50, 4)
    assert evaluation_prompts(category, 10, 3) == asked[:10]
    for prompt in asked:
        assert prompt.caption.isascii() and prompt.caption == prompt.caption.lower()
        for thing in prompt.expectation.things:
            assert CORE[thing.concept].noun[:-1] in prompt.caption and thing.style in prompt.caption


def test_half_of_the_pairs_are_held_out_and_marked():
    for category in ("two", "position", "attribute"):
        asked = evaluation_prompts(category, 60, 0)
        assert sum(prompt.held_out for prompt in asked) == 30
        for prompt in asked:
            a, b = (thing.concept for thing in prompt.expectation.things)
            backwards = prompt.expectation.relation and prompt.expectation.relation[1] in ("to the right of", "below")
            assert ((b, a) if backwards else (a, b)) in PAIRS if prompt.held_out else True
            assert prompt.held_out or ((b, a) if backwards else (a, b)) not in PAIRS


def test_cells_are_held_out_only_where_said():
    cells = {
        c: {(t.concept, t.style) for p in evaluation_prompts(c, 80, 0) for t in p.expectation.things}
        for c in (*CATEGORIES, UNSEEN)
    }
    assert cells.pop(UNSEEN) <= CELLS
    assert all(CELLS.isdisjoint(found) for found in cells.values())


def test_named_backgrounds_show_the_sticker_in_every_style():
    for prompt in evaluation_prompts("colours", 40, 0):
        (thing,) = prompt.expectation.things
        colours = prompt.expectation.background.shown
        assert all(Catalogue.load().shows_on(thing.concept, style, colours) for style in ("flat", "3d", "noto"))


def test_expectations_are_strict_about_what_is_named_and_open_else():
    wanted = Expectation(things=(Thing(concept="fox"), Thing(concept="owl", style="noto")), background=BLUE)
    assert wanted.holds((OWL, FOX), BLUE)
    assert not wanted.holds((OWL, FOX), Background(colours=("pink",)))
    assert not wanted.holds((FOX,), BLUE)
    assert not wanted.holds((FOX, OWL, OWL), BLUE)
    assert not wanted.holds((FOX, Sticker(concept="owl", style="flat")), BLUE)
    left = Expectation(things=wanted.things, relation=(0, "to the left of", 1))
    right = Expectation(things=wanted.things, relation=(0, "to the right of", 1))
    assert left.holds((OWL, FOX), BLUE) and not right.holds((OWL, FOX), BLUE)


@pytest.mark.parametrize("name", EDITS)
def test_evaluation_edits(name):
    made = evaluation_edits(name, 12, 5)
    assert made == evaluation_edits(name, 12, 5)
    assert any(change.held_out for change in made)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_evaluation_questions(kind):
    asked = evaluation_questions(kind, 12, 5)
    assert len(asked) == 12 and {q.question.kind for q in asked} == {kind}
    assert all(q.held_out == is_held_out(q.scene) for q in asked)


def test_evaluation_scenes_meet_their_own_expectation():
    for asked in evaluation_scenes(20, 5, least=2):
        assert len(asked.scene.stickers) >= 2
        assert asked.expectation.holds(asked.scene.stickers, asked.scene.background)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evaluation_prompts("beauty", 1, 0), "unknown category 'beauty'"),
        (lambda: evaluation_edits("beauty", 1, 0), "unknown edit 'beauty'"),
        (lambda: evaluation_questions("beauty", 1, 0), "unknown kind of question 'beauty'"),
        (lambda: evaluation_scenes(1, 10_000_000), "evaluation seed 10000000 is not in"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("module", [prompts, expectation])
def test_imports_no_renderer(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.endswith((".pictures", ".maps", ".stream", ".families"))}
