"""What the judge asks: prompts of the six categories after GenEval, edits, questions, inpaintings and controls.

In: a category, how many, a seed. Out: the words (and scenes) together with what must be true. Everything comes from the
evaluation stream, so no example was trained on. Half of what can be is held out, alternating, and marked.
This module makes no pixels and imports nothing that does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.edits import EDITS, Edit, edit
from dimoo.data.stickers.expectation import Expectation, Thing, expect
from dimoo.data.stickers.held_out import CELLS, EVALUATION_SEEDS, PAIRS
from dimoo.data.stickers.questions import QUESTIONS, Question, ask
from dimoo.data.stickers.scenes import Background, Scene, is_held_out, sample_scene
from dimoo.data.stickers.words import FULL, OPPOSITES, article, counted, describe

CATEGORIES = ("single", "two", "counting", "colours", "position", "attribute")
# asked apart from the six: a drawing never seen, whose style and concept are judged separately
UNSEEN = "unseen"
_MAX_COUNT = 4


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A caption and what must be true of the picture it makes."""

    category: str
    caption: str
    expectation: Expectation
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class SceneQuestion:
    """A question about a scene."""

    scene: Scene
    question: Question
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class SceneCaption:
    """A scene and its full caption: for inpainting, outpainting and control, which must give the scene back."""

    scene: Scene
    caption: str
    expectation: Expectation
    held_out: bool


def evaluation_prompts(category: str, n: int, seed: int) -> list[Prompt]:
    """`n` prompts of one of the six categories, or of the extra one, "unseen" (held-out cells)."""
    if category not in _MAKERS:
        raise ValueError(f"unknown category {category!r}; choose from {', '.join(_MAKERS)}")
    rng = _generator(seed, list(_MAKERS).index(category))
    return [_MAKERS[category](rng, index % 2 == 1) for index in range(n)]


def evaluation_edits(name: str, n: int, seed: int) -> list[Edit]:
    """`n` edits of one name (see `edits.EDITS`) of evaluation scenes."""
    if name not in EDITS:
        raise ValueError(f"unknown edit {name!r}; choose from {', '.join(EDITS)}")
    rng = _generator(seed, 100 + list(EDITS).index(name))
    made: list[Edit] = []
    while len(made) < n:
        change = edit(sample_scene(rng, "eval"), name, rng, split="eval")
        made += [] if change is None else [change]
    return made


def evaluation_questions(kind: str, n: int, seed: int) -> list[SceneQuestion]:
    """`n` questions of one kind (see `questions.QUESTIONS`) about evaluation scenes."""
    if kind not in QUESTIONS:
        raise ValueError(f"unknown kind of question {kind!r}; choose from {', '.join(QUESTIONS)}")
    rng = _generator(seed, 200 + QUESTIONS.index(kind))
    made: list[SceneQuestion] = []
    while len(made) < n:
        scene = sample_scene(rng, "eval")
        question = ask(scene, kind, rng)
        if question is not None:
            made.append(SceneQuestion(scene=scene, question=question, held_out=is_held_out(scene)))
    return made


def evaluation_scenes(n: int, seed: int, *, least: int = 1) -> list[SceneCaption]:
    """`n` evaluation scenes of at least `least` stickers with full captions, for inpainting, outpainting, control."""
    rng = _generator(seed, 300)
    made: list[SceneCaption] = []
    while len(made) < n:
        scene = sample_scene(rng, "eval")
        if len(scene.stickers) >= least:
            words = describe(scene, FULL)
            made.append(
                SceneCaption(scene=scene, caption=words, expectation=expect(scene), held_out=is_held_out(scene))
            )
    return made


def _generator(seed: int, stream: int) -> np.random.Generator:
    if seed not in EVALUATION_SEEDS:
        raise ValueError(f"evaluation seed {seed} is not in {EVALUATION_SEEDS}")
    return np.random.default_rng((2, seed, stream))


def _single(rng: np.random.Generator, _: bool) -> Prompt:
    while True:
        name, style = _any(rng, CORE), _any(rng, STYLES)
        if (name, style) not in CELLS:
            return _prompt("single", article(f"{style} {name}"), (Thing(concept=name, style=style),))


def _unseen(rng: np.random.Generator, _: bool) -> Prompt:
    cells = sorted(CELLS)
    name, style = cells[rng.integers(len(cells))]
    return _prompt(UNSEEN, article(f"{style} {name}"), (Thing(concept=name, style=style),), held_out=True)


def _two(rng: np.random.Generator, held_out: bool) -> Prompt:
    a, b = _pair(rng, held_out)
    return _prompt("two", f"{article(a)} and {article(b)}", (Thing(concept=a), Thing(concept=b)), held_out=held_out)


def _counting(rng: np.random.Generator, _: bool) -> Prompt:
    name, count = _any(rng, CORE), int(rng.integers(1, _MAX_COUNT + 1))
    return _prompt("counting", counted(name, count, one=True), (Thing(concept=name),) * count)


def _colours(rng: np.random.Generator, _: bool) -> Prompt:
    name = _any(rng, [name for name, concept in CORE.items() if concept.colour])
    background = Background(colours=(_any(rng, sorted(_visible_on(name, Catalogue.load()))),))
    words = f"{article(name)} on {article(background.colours[0])} background"
    return _prompt("colours", words, (Thing(concept=name),), background=background)


def _position(rng: np.random.Generator, held_out: bool) -> Prompt:
    first, second = _pair(rng, held_out)
    relation = _any(rng, ("to the left of", "above"))
    if rng.random() < 0.5:
        first, second, relation = second, first, OPPOSITES[relation]
    things = (Thing(concept=first), Thing(concept=second))
    words = f"{article(first)} {relation} {article(second)}"
    return _prompt("position", words, things, relation=(0, relation, 1), held_out=held_out)


def _attribute(rng: np.random.Generator, held_out: bool) -> Prompt:
    while True:
        a, b = _pair(rng, held_out)
        coloured = bool(CORE[a].colour and CORE[b].colour)
        if coloured:
            if CORE[a].colour == CORE[b].colour or CORE[a].noun == CORE[b].noun:
                continue
            return _prompt(
                "attribute",
                f"{article(a)} and {article(b)}",
                (Thing(concept=a), Thing(concept=b)),
                held_out=held_out,
            )
        left, right = rng.choice(STYLES, size=2, replace=False).tolist()
        if CELLS.isdisjoint({(a, left), (b, right)}):
            things = (Thing(concept=a, style=left), Thing(concept=b, style=right))
            words = f"{article(f'{left} {a}')} and {article(f'{right} {b}')}"
            return _prompt("attribute", words, things, held_out=held_out)


_MAKERS: dict[str, Callable[[np.random.Generator, bool], Prompt]] = {
    "single": _single,
    "two": _two,
    "counting": _counting,
    "colours": _colours,
    "position": _position,
    "attribute": _attribute,
    UNSEEN: _unseen,
}


def _prompt(
    category: str,
    caption: str,
    things: tuple[Thing, ...],
    *,
    background: Background | None = None,
    relation: tuple[int, str, int] | None = None,
    held_out: bool = False,
) -> Prompt:
    expectation = Expectation(things=things, background=background, relation=relation)
    return Prompt(category=category, caption=caption, expectation=expectation, held_out=held_out)


def _pair(rng: np.random.Generator, held_out: bool) -> tuple[str, str]:
    """An ordered pair of different concepts, held out or not."""
    if held_out:
        pairs = sorted(PAIRS)
        return pairs[rng.integers(len(pairs))]
    while True:
        a, b = rng.choice(list(CORE), size=2, replace=False).tolist()
        if (a, b) not in PAIRS:
            return a, b


def _visible_on(name: str, catalogue: Catalogue) -> set[str]:
    """Plain backgrounds on which the concept shows in every style."""
    hidden = frozenset[str]().union(*catalogue.facts[name].hidden_on.values())
    return set(BACKGROUNDS) - hidden


def _any(rng: np.random.Generator, choices: Iterable[str]) -> str:
    return str(rng.choice(list(choices)))
