"""Questions: the answer is the only right one, as an independent reading of the scene finds."""

import re

import numpy as np
import pytest

from dimoo.data.stickers.catalogue import CORE, Catalogue
from dimoo.data.stickers.edits import sample_edit
from dimoo.data.stickers.questions import CLASSES, QUESTIONS, ask, chat, compare, follow_up
from dimoo.data.stickers.scenes import sample_scene
from dimoo.data.stickers.words import NUMBERS, WHERE, article, plural

SEEDS = range(300)


def _asked(kind: str):
    for seed in SEEDS:
        scene, rng = sample_scene(seed), np.random.default_rng((9, seed))
        question = ask(scene, kind, rng)
        if question is not None:
            yield scene, question.question, question.answer


@pytest.mark.parametrize("kind", QUESTIONS)
def test_every_kind_is_asked_in_plain_words(kind):
    asked = list(_asked(kind))
    assert len(asked) > 50
    for _, question, answer in asked:
        assert re.fullmatch(r"[a-z0-9 ]+[?.]", question) and answer == answer.lower() and answer


def test_counts_are_right():
    for scene, question, answer in _asked("count"):
        if question == "how many things are there?":
            assert answer == NUMBERS[len(scene.stickers)]
            continue
        words = re.fullmatch(r"how many (.+) are there\?", question).group(1)
        assert answer == NUMBERS[sum(plural(s.concept) == words for s in scene.stickers)]


def test_where_names_the_place_of_the_only_one():
    for scene, question, answer in _asked("where"):
        name = re.fullmatch(r"where is the (.+)\?", question).group(1)
        assert [s.place for s in scene.stickers if s.concept == name] == [answer]


def test_what_is_somewhere_is_the_only_one_there():
    for scene, question, answer in _asked("what"):
        for place, words in WHERE.items():
            if question == f"what is {words}?":
                assert [article(s.concept) for s in scene.stickers if s.place == place] == [answer]


def test_yes_and_no_are_right_and_balanced():
    answers = []
    for scene, question, answer in _asked("exists"):
        name = re.fullmatch(r"is there an? (.+)\?", question).group(1)
        assert answer == ("yes" if any(s.concept == name for s in scene.stickers) else "no")
        answers.append(answer)
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_relations_are_right_and_balanced():
    answers = []
    tests = {
        "to the left of": ("column", -1),
        "to the right of": ("column", 1),
        "above": ("row", -1),
        "below": ("row", 1),
    }
    for scene, question, answer in _asked("relation"):
        relation = next(words for words in tests if f" {words} " in question)
        axis, sign = tests[relation]
        subject, anchor = re.fullmatch(rf"(?:what is|is the (.+)) {relation} the (.+)\?", question).groups()
        (origin,) = [s for s in scene.stickers if s.concept == anchor]
        beside = [s for s in scene.stickers if (getattr(s, axis) - getattr(origin, axis)) * sign > 0]
        if subject:
            assert answer == ("yes" if subject in {s.concept for s in beside} else "no")
            answers.append(answer)
        else:
            assert [article(s.concept) for s in beside] == [answer]
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_colours_and_styles_are_those_of_the_drawing():
    catalogue = Catalogue.load()
    for scene, question, answer in _asked("colour"):
        noun = re.fullmatch(r"what colour is the (.+)\?", question).group(1)
        if noun != "background":
            assert {catalogue.colour(*s.cell) for s in scene.stickers if CORE[s.concept].noun == noun} == {answer}
    for scene, question, answer in _asked("style"):
        name = re.fullmatch(r"what style is (?:this|the (.+))\?", question).group(1)
        assert {s.style for s in scene.stickers if name in (None, s.concept)} == {answer}


def test_comparisons_know_which_has_more():
    rng = np.random.default_rng(0)
    for name, more in (("add", "the second"), ("remove", "the first"), ("swap", "the same")):
        change = sample_edit(name, rng)
        asked = [compare(change, rng) for _ in range(20)]
        assert {q.answer for q in asked if q.question == "which picture has more things?"} == {more}


def test_follow_ups_ask_about_the_first_answer():
    found = 0
    for seed in SEEDS:
        scene = sample_scene(seed)
        turns = follow_up(scene, np.random.default_rng(seed))
        if turns is None:
            continue
        found += 1
        first, second = turns
        (meant,) = [s for s in scene.stickers if article(s.concept) == first.answer]
        assert second.question.endswith(" it?")
        assert second.answer in (meant.style, meant.place, Catalogue.load().colour(*meant.cell))
    assert found > 100


def test_talk_without_pictures_is_answered_from_names_and_groups():
    assert {facts.group for facts in Catalogue.load().facts.values()} <= CLASSES.keys()
    talk = {chat(np.random.default_rng(seed)) for seed in range(300)}
    assert ("what is a fox?", "a fox is a mammal") in {(t.question, t.answer) for t in talk}
    assert {t.answer for t in talk} >= {"yes", "no"}


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown kind of question 'why'"):
        ask(sample_scene(0), "why", np.random.default_rng(0))


def test_talk_denies_nothing_that_is_true():
    denied = set()
    for seed in range(3000):
        q = chat(np.random.default_rng(seed))
        if q.answer == "no":
            denied.add(q.question)
    assert len(denied) > 100
    true = ("is a whale a mammal?", "is a sunflower a plant?", "is a star a shape?", "is an anchor a tool?")
    true += ("is a car a machine?", "is a train a machine?", "is a robot a toy?")
    assert denied.isdisjoint(true)
    assert any(question.startswith("is a whale") for question in denied)
