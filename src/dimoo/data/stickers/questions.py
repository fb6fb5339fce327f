"""Questions about scenes, each with exactly one right, short answer.

In: a scene (or two), a kind and a generator. Out: a `Question`, or None where the scene allows none of that kind.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dimoo.data.stickers.catalogue import CORE, Catalogue
from dimoo.data.stickers.edits import Edit
from dimoo.data.stickers.expectation import stands
from dimoo.data.stickers.scenes import LARGE, PLACES, Scene, Sticker
from dimoo.data.stickers.words import (
    FULL,
    NUMBERS,
    OPPOSITES,
    WHERE,
    Wording,
    article,
    background_words,
    describe,
    plural,
)

QUESTIONS = ("what", "count", "colour", "where", "exists", "relation", "style", "caption")
# emojibase subgroup: what such a thing is
CLASSES = {
    "animal-mammal": "mammal", "animal-bird": "bird", "animal-amphibian": "amphibian", "animal-bug": "insect",
    "animal-marine": "sea animal", "animal-reptile": "reptile", "plant-flower": "flower", "plant-other": "plant",
    "food-fruit": "fruit", "food-vegetable": "vegetable", "food-prepared": "dish",
    "transport-ground": "land vehicle", "transport-air": "air vehicle", "transport-water": "boat", "lock": "tool",
    "tool": "tool", "musical-instrument": "musical instrument", "sky-weather": "light in the sky", "clothing": "hat",
    "event": "toy", "face-costume": "machine", "heart": "symbol", "geometric": "shape", "book-paper": "text",
}  # fmt: skip
# concepts whose subgroup says something else
_OTHER_CLASSES = {
    "snail": "mollusc", "mushroom": "fungus", "avocado": "fruit", "umbrella": "shelter", "anchor": "weight",
}  # fmt: skip
# what such a thing may be called as well, outside its family
_ALSO = {"star": ("shape", "symbol"), "anchor": ("tool",), "robot": ("toy",), "umbrella": ("tool",)}
_SEVERAL = 2


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question of a kind and its answer."""

    kind: str
    question: str
    answer: str


def ask(scene: Scene, kind: str, rng: np.random.Generator, *, catalogue: Catalogue | None = None) -> Question | None:
    """A question of a kind about a scene, drawn by lot; None where there is none. Yes and no are balanced."""
    if kind not in QUESTIONS:
        raise ValueError(f"unknown kind of question {kind!r}; choose from {', '.join(QUESTIONS)}")
    answered = _MAKERS[kind](scene, rng, catalogue or Catalogue.load())
    return None if answered is None else Question(kind=kind, question=answered[0], answer=answered[1])


def follow_up(scene: Scene, rng: np.random.Generator, *, catalogue: Catalogue | None = None) -> list[Question] | None:
    """A question about a scene and a second one about its answer ("it"); None where nothing is alone of its kind."""
    lone = _unique(scene)
    if not lone:
        return None
    sticker = lone[rng.integers(len(lone))]
    name = article(sticker.concept)
    if len(scene.stickers) == 1:
        first = Question(kind="what", question="what is in the picture?", answer=name)
    elif sticker.size != LARGE and not _overlapped(sticker, scene):
        first = Question(kind="what", question=f"what is {WHERE[sticker.place]}?", answer=name)
    else:
        return None
    colour = (catalogue or Catalogue.load()).colour(*sticker.cell)
    seconds = [("style", "what style is it?", sticker.style)]
    if len(scene.stickers) == 1:
        seconds.append(("where", "where is it?", sticker.place))
    if colour:
        seconds.append(("colour", "what colour is it?", colour))
    kind, question, answer = seconds[rng.integers(len(seconds))]
    return [first, Question(kind=kind, question=question, answer=answer)]


def compare(change: Edit, rng: np.random.Generator) -> Question:
    """A question about two pictures: before and after an edit."""
    before, after = len(change.before.stickers), len(change.after.stickers)
    more = "the same" if before == after else ("the first" if before > after else "the second")
    gone = {s.concept for s in change.before.stickers} ^ {s.concept for s in change.after.stickers}
    choices = [("which picture has more things?", more)] if before != after or rng.random() < 0.3 else []
    if gone:
        name = _any(rng, sorted(gone))
        first = any(sticker.concept == name for sticker in change.before.stickers)
        choices.append((f"which picture has {article(name)}?", "the first" if first else "the second"))
    choices.append(("what is different?", _difference(change)))
    question, answer = choices[rng.integers(len(choices))]
    return Question(kind="compare", question=question, answer=answer)


def unsaid(change: Edit) -> Question:
    """What an instruction leaves to the picture: what there is to redraw, the style of what comes anew, or nothing."""
    if change.name == "style":
        return Question(kind="what", question="what is in the picture?", answer=change.unsaid)
    return Question(
        kind="unsaid", question=f"{change.instruction}. what style is it?", answer=change.unsaid or "nothing"
    )


def chat(rng: np.random.Generator, *, catalogue: Catalogue | None = None) -> Question:
    """A question without a picture, answered from names and groups."""
    catalogue = catalogue or Catalogue.load()
    name = _any(rng, [name for name, concept in CORE.items() if not concept.colour])
    facts = catalogue.facts[name]
    kind = article(_class(name, catalogue))
    choices = [
        (f"what is {article(name)}?", f"{article(name)} is {kind}"),
        (f"what is {facts.chinese}?", article(name)),
        (f"what is {article(name)} in chinese?", facts.chinese),
    ]
    other = article(_any(rng, _other_classes(name, catalogue)))
    asked = kind if rng.random() < 0.5 else other
    choices.append((f"is {article(name)} {asked}?", "yes" if asked == kind else "no"))
    question, answer = choices[rng.integers(len(choices))]
    return Question(kind="chat", question=question, answer=answer)


_Answered = tuple[str, str] | None


def _what(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    small = [s for s in scene.stickers if s.size != LARGE and not _overlapped(s, scene)]
    if small and rng.random() < 0.5:
        sticker = small[rng.integers(len(small))]
        return f"what is {WHERE[sticker.place]}?", article(sticker.concept)
    answer = describe(scene, Wording()) if scene.stickers else "nothing"
    return "what is in the picture?", answer


def _count(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    if rng.random() < 0.3:
        return "how many things are there?", NUMBERS[len(scene.stickers)]
    counts = Counter(sticker.concept for sticker in scene.stickers)
    absent = not counts or rng.random() < 0.1
    name = _absent(scene, rng) if absent else _any(rng, sorted(counts))
    return f"how many {plural(name)} are there?", NUMBERS[counts[name]]


def _colour(scene: Scene, rng: np.random.Generator, catalogue: Catalogue) -> _Answered:
    nouns = Counter(CORE[sticker.concept].noun for sticker in scene.stickers)
    clear = [s for s in scene.stickers if nouns[CORE[s.concept].noun] == 1 and catalogue.colour(*s.cell)]
    if not clear or rng.random() < 0.5:
        return "what colour is the background?", background_words(scene.background)
    sticker = clear[rng.integers(len(clear))]
    return f"what colour is the {CORE[sticker.concept].noun}?", catalogue.colour(*sticker.cell)


def _where(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    lone = _unique(scene)
    if not lone:
        return None
    sticker = lone[rng.integers(len(lone))]
    return f"where is the {sticker.concept}?", sticker.place


def _exists(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    present = sorted({sticker.concept for sticker in scene.stickers})
    yes = bool(present) and rng.random() < 0.5
    name = _any(rng, present) if yes else _absent(scene, rng)
    return f"is there {article(name)}?", "yes" if yes else "no"


def _relation(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    lone = _unique(scene)
    if len(scene.stickers) < _SEVERAL or not lone or any(s.size == LARGE for s in scene.stickers):
        return None
    if len(lone) > 1 and rng.random() < 0.5:
        one, other = (lone[index] for index in rng.choice(len(lone), size=2, replace=False))
        yes = bool(rng.random() < 0.5)
        relation = _any(rng, [words for words in OPPOSITES if stands(one, words, other) == yes])
        return f"is the {one.concept} {relation} the {other.concept}?", "yes" if yes else "no"
    return _beside(scene, lone, rng)


def _beside(scene: Scene, lone: list[Sticker], rng: np.random.Generator) -> _Answered:
    answers = [
        (f"what is {relation} the {anchor.concept}?", article(found[0].concept))
        for anchor in lone
        for relation in OPPOSITES
        if len(found := [other for other in scene.stickers if stands(other, relation, anchor)]) == 1
    ]
    return answers[rng.integers(len(answers))] if answers else None


def _style(scene: Scene, rng: np.random.Generator, _: Catalogue) -> _Answered:
    if not scene.stickers:
        return None
    styles = {sticker.style for sticker in scene.stickers}
    if len(styles) == 1 and rng.random() < 0.5:
        return "what style is this?", styles.pop()
    lone = _unique(scene)
    if not lone:
        return None
    sticker = lone[rng.integers(len(lone))]
    return f"what style is the {sticker.concept}?", sticker.style


def _caption(scene: Scene, rng: np.random.Generator, catalogue: Catalogue) -> _Answered:
    if rng.random() < 0.5:
        return "describe the picture.", describe(scene, FULL, catalogue)
    return "describe the picture briefly.", describe(scene, Wording(background=True), catalogue)


_MAKERS: dict[str, Callable[[Scene, np.random.Generator, Catalogue], _Answered]] = {
    "what": _what,
    "count": _count,
    "colour": _colour,
    "where": _where,
    "exists": _exists,
    "relation": _relation,
    "style": _style,
    "caption": _caption,
}
assert tuple(_MAKERS) == QUESTIONS, "a kind of question has a maker"


def _difference(change: Edit) -> str:
    before, after = set(change.before.stickers), set(change.after.stickers)
    lost = [s for s in change.before.in_order if s not in after]
    new = [s for s in change.after.in_order if s not in before]
    if change.before.background != change.after.background:
        return f"the background is {background_words(change.after.background)}"
    if change.name == "style":
        return f"the style is {change.after.stickers[0].style}"
    if not lost:
        return f"there is one more {new[0].concept}" if len(new) == 1 else "there are more things"
    if not new:
        return f"{article(lost[0].concept)} is gone" if len(lost) == 1 else "there are fewer things"
    if len(lost) == len(new) == 1 and lost[0].place == new[0].place:
        return f"{article(lost[0].concept)} is now {article(new[0].concept)}"
    return "things have moved"


def _class(name: str, catalogue: Catalogue) -> str:
    return _OTHER_CLASSES.get(name) or CLASSES[catalogue.facts[name].group]


def _other_classes(name: str, catalogue: Catalogue) -> list[str]:
    """Classes that nobody would say the thing is of: those of other families (a whale is a mammal, too)."""
    own = _family(catalogue.facts[name].group)
    others = {kind for group, kind in CLASSES.items() if _family(group) != own}
    return sorted(others - {_class(name, catalogue), *_ALSO.get(name, ())})


def _family(group: str) -> str:
    """The first part of an emojibase subgroup; what grows and is eaten is one, and so are machines, and shapes."""
    first = group.partition("-")[0]
    return {"food": "plant", "face": "transport", "heart": "geometric"}.get(first, first)


def _unique(scene: Scene) -> list[Sticker]:
    """Stickers whose concept occurs once."""
    counts = Counter(sticker.concept for sticker in scene.stickers)
    return [sticker for sticker in scene.stickers if counts[sticker.concept] == 1]


def _overlapped(sticker: Sticker, scene: Scene) -> bool:
    """Whether something else stands in the same place, so that the place does not tell which is meant."""
    return any(other is not sticker and other.place == sticker.place for other in scene.stickers)


def _absent(scene: Scene, rng: np.random.Generator) -> str:
    """A concept that is not there; half of the time another colour of one that is, where there is one."""
    present = {sticker.concept for sticker in scene.stickers}
    nouns = {CORE[name].noun for name in present}
    others = [name for name in CORE if name not in present]
    near = [name for name in others if CORE[name].noun in nouns]
    return _any(rng, near if near and rng.random() < 0.5 else others)


def _any(rng: np.random.Generator, choices: Iterable[str]) -> str:
    return str(rng.choice(list(choices)))


assert set(WHERE) == set(PLACES), "every place has words"
