"""The trials of the sticker judge: what is asked of the model, and what must be true of its answer.

In: a suite, a number and a seed. Out: `Trial`s, each a request for the pipeline and a check of the answer. Checks see
pixels and words alone, through the recogniser and pixel statistics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
from PIL import Image

from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.edits import EDITS, Edit
from dimoo.data.stickers.expectation import Expectation, expect
from dimoo.data.stickers.maps import canny, depth, soft_edges
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.prompts import (
    CATEGORIES,
    UNSEEN,
    evaluation_edits,
    evaluation_prompts,
    evaluation_questions,
    evaluation_scenes,
)
from dimoo.data.stickers.questions import QUESTIONS, Question, chat, compare, follow_up
from dimoo.data.stickers.relatives import HALVES, alone_on_white, half, in_style, mask_over, subject_prompt
from dimoo.data.stickers.relatives import subject_scene as with_subject
from dimoo.data.stickers.scenes import Scene, Sticker, is_held_out, is_visible
from dimoo.data.stickers.words import plural
from dimoo.eval.recogniser import Recogniser
from dimoo.tasks.base import Task
from dimoo.tasks.edit import Edit as EditRequest
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Message, Understand

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
EDGE_TOLERANCE = 2  # pixels, for the F1 of edge maps
MAIN_EDITS = ("add", "remove", "replace", "background", "style")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the answer passes (or its score in 0..1), what the judge saw, and measures reported beside it."""

    score: float
    saw: str
    beside: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One request; `key` is its row in the report, `asked` its words, `shown` its input pictures."""

    key: str
    index: int
    asked: str
    request: Task
    check: Callable[[Any], Verdict]
    held_out: bool = False
    shown: tuple[Pixels, ...] = ()


def picture_trials(judge: Recogniser, n: int, seed: int) -> Iterator[Trial]:
    """The six categories and the cells never drawn in training."""
    for category in (*CATEGORIES, UNSEEN):
        for index, prompt in enumerate(evaluation_prompts(category, n, seed)):
            yield Trial(
                key=f"t2i.{category}",
                index=index,
                asked=prompt.caption,
                request=TextToImage(prompt=prompt.caption, seed=index),
                check=partial(see, judge, prompt.expectation),
                held_out=prompt.held_out,
            )


def diversity_trials(judge: Recogniser, n: int, seed: int, seeds: int = 10) -> Iterator[Trial]:
    """Ten seeds of n // 30 short captions: is what a caption leaves open left open?"""
    prompts = evaluation_prompts("two", max(2, n // 30), seed)
    for number, prompt in enumerate(prompts):
        for draw_seed in range(seeds):
            yield Trial(
                key="t2i.diversity",
                index=number * seeds + draw_seed,
                asked=prompt.caption,
                request=TextToImage(prompt=prompt.caption, seed=1000 + draw_seed),
                check=partial(see, judge, prompt.expectation),
            )


def edit_trials(judge: Recogniser, n: int, seed: int) -> Iterator[Trial]:
    """Every kind of edit by words; the five of the paper first."""
    for name in (*MAIN_EDITS, *(other for other in EDITS if other not in MAIN_EDITS)):
        for index, change in enumerate(evaluation_edits(name, n, seed)):
            before = draw(change.before)
            yield Trial(
                key=f"edit.{name}",
                index=index,
                asked=change.instruction,
                request=EditRequest(
                    picture=Image.fromarray(before), prompt=change.instruction, type=change.kind, seed=index
                ),
                check=partial(see_edit, judge, change),
                held_out=change.held_out,
                shown=(before,),
            )


def control_trials(judge: Recogniser, n: int, seed: int) -> Iterator[Trial]:
    """Edges, soft edges and depth: to a picture, and from one."""
    for index, case in enumerate(evaluation_scenes(n, seed)):
        picture = draw(case.scene)
        maps = {"canny": canny(picture), "hed": soft_edges(picture), "depth": depth(case.scene)}
        for name, control in maps.items():
            yield Trial(
                key=f"control.{name}",
                index=index,
                asked=case.caption,
                request=EditRequest(
                    picture=Image.fromarray(control), prompt=case.caption, type=f"{name}_control", seed=index
                ),
                check=partial(see_controlled, judge, name, control, case.expectation),
                held_out=case.held_out,
                shown=(control,),
            )
            yield Trial(
                key=f"dense.{name}",
                index=index,
                asked=f"{name} map",
                request=EditRequest(picture=Image.fromarray(picture), type=f"{name}_pred", seed=index),
                check=partial(see_map, name, control),
                held_out=case.held_out,
                shown=(picture,),
            )


def paint_trials(judge: Recogniser, n: int, seed: int) -> Iterator[Trial]:
    """A hole over one sticker, and the missing half of a scene; both described by the scene's caption."""
    for index, case in enumerate(evaluation_scenes(n, seed)):
        picture = draw(case.scene)
        target = case.scene.stickers[index % len(case.scene.stickers)]
        hole = mask_over((target,))
        gone = np.where(hole[..., None], np.uint8(128), picture)
        yield Trial(
            key="inpaint",
            index=index,
            asked=case.caption,
            request=Inpaint(
                picture=Image.fromarray(gone),
                prompt=case.caption,
                mask=Image.fromarray(hole.astype(np.uint8) * 255),
                seed=index,
            ),
            check=partial(see_sticker, judge, target),
            held_out=case.held_out,
            shown=(gone,),
        )
        side = HALVES[index % len(HALVES)]
        kept = ~half(side)
        rows, columns = np.where(kept)
        part = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        expand = tuple(64 if side == name else 0 for name in ("top", "bottom", "left", "right"))
        yield Trial(
            key="outpaint",
            index=index,
            asked=case.caption,
            request=Outpaint(
                picture=Image.fromarray(part),
                prompt=case.caption,
                expand=expand,  # type: ignore[arg-type]
                seed=index,
            ),
            check=partial(see, judge, case.expectation),
            held_out=case.held_out,
            shown=(part,),
        )


def reference_trials(judge: Recogniser, n: int, seed: int) -> Iterator[Trial]:
    """A subject in a new scene, and a style taken from a reference picture. The new scene and the reference have one or
    two stickers, as in training; what can't be seen, or would be right unchanged, is not asked."""
    rng = np.random.default_rng((3, seed))
    cases = evaluation_scenes(12 * n, seed)
    small = [case for case in cases[1::2] if len(case.scene.stickers) <= 2]
    catalogue = Catalogue.load()
    made_subjects = made_styles = 0
    for case, other in zip(cases[::2], small, strict=False):
        subject = case.scene.stickers[0]
        lone, scene = alone_on_white(subject), with_subject(subject, other.scene)
        seen = scene is not None and is_visible(scene, catalogue) and is_visible(lone, catalogue)
        if scene is not None and seen and made_subjects < n and not expect(scene).holds(lone.stickers, lone.background):
            alone = draw(lone)
            words = subject_prompt(subject, scene)
            yield Trial(
                key="subject",
                index=made_subjects,
                asked=words,
                request=EditRequest(
                    picture=Image.fromarray(alone), prompt=words, type="subject_driven", seed=made_subjects
                ),
                check=partial(see, judge, expect(scene)),
                held_out=is_held_out(scene),
                shown=(alone,),
            )
            made_subjects += 1
        style = str(rng.choice(STYLES))
        shown, restyled = in_style(other.scene, style), in_style(case.scene, style)
        if made_styles == n or restyled == case.scene or not all(is_visible(s, catalogue) for s in (shown, restyled)):
            continue
        content, reference = draw(case.scene), draw(shown)
        yield Trial(
            key="style_reference",
            index=made_styles,
            asked=f"in the style of the second ({style})",
            request=EditRequest(
                picture=Image.fromarray(content),
                reference=Image.fromarray(reference),
                type="image_ref_transfer",
                seed=made_styles,
            ),
            check=partial(see, judge, expect(restyled)),
            held_out=is_held_out(restyled),
            shown=(content, reference),
        )
        made_styles += 1


def question_trials(n: int, seed: int) -> Iterator[Trial]:
    """Every kind of question, and captions."""
    for kind in QUESTIONS:
        for index, case in enumerate(evaluation_questions(kind, n, seed)):
            picture = draw(case.scene)
            yield Trial(
                key="caption" if kind == "caption" else f"qa.{kind}",
                index=index,
                asked=case.question.question,
                request=Understand(question=case.question.question, pictures=(Image.fromarray(picture),), seed=index),
                check=partial(read_answer, kind, case.scene, case.question.answer),
                held_out=case.held_out,
                shown=(picture,),
            )


def talk_trials(n: int, seed: int) -> Iterator[Trial]:
    """Comparisons of two pictures, second questions about one, and talk without a picture: exact matches. The first
    trials are the same for every n."""
    changes = zip(*(evaluation_edits(name, -(-n // 3), seed) for name in ("add", "remove", "replace")), strict=True)
    for index, change in enumerate(islice(chain.from_iterable(changes), n)):
        both = tuple(draw(scene) for scene in (change.before, change.after))
        question = compare(change, np.random.default_rng((5, seed, 0, index)))
        yield _talk("compare", index, question, both, (), change.held_out)
    scenes = enumerate(evaluation_scenes(3 * n, seed))
    cases = ((case, follow_up(case.scene, np.random.default_rng((5, seed, 1, place)))) for place, case in scenes)
    asked = ((case, turns) for case, turns in cases if turns is not None)
    for index, (case, (first, second)) in enumerate(islice(asked, n)):
        history = ((first.question, first.answer),)
        yield _talk("follow_up", index, second, (draw(case.scene),), history, case.held_out)
    for index in range(n):
        yield _talk("chat", index, chat(np.random.default_rng((5, seed, 2, index))), (), (), False)


def _talk(
    key: str,
    index: int,
    question: Question,
    shown: tuple[Pixels, ...],
    history: tuple[tuple[str, str], ...],
    held_out: bool,
) -> Trial:
    """A trial whose pictures come with the first question that is asked about them."""
    pictures = tuple(Image.fromarray(pixels) for pixels in shown)
    turns = tuple(
        Message(words=words, pictures=pictures if turn == 0 else (), answer=answer)
        for turn, (words, answer) in enumerate(history)
    )
    request = Understand(question=question.question, pictures=() if turns else pictures, history=turns, seed=index)
    return Trial(
        key=f"talk.{key}",
        index=index,
        asked=" / ".join([*(words for words, _ in history), question.question]),
        request=request,
        check=partial(read_exactly, question.answer),
        held_out=held_out,
        shown=shown,
    )


def read_exactly(wanted: str, text: str) -> Verdict:
    return Verdict(score=float(text.strip().lower() == wanted.lower()), saw=f"{text!r}, wanted {wanted!r}", beside={})


def read_answer(kind: str, scene: Scene, wanted: str, text: str) -> Verdict:
    """An exact match, or for captions the right concepts."""
    verdict = read_exactly(wanted, text)
    return replace(verdict, score=float(named_right(text, scene))) if kind == "caption" else verdict


def see(judge: Recogniser, wanted: Expectation, picture: Pixels) -> Verdict:
    """Is what was asked for there, and nothing else? Concepts and styles are also counted apart."""
    stickers, background = judge.scene(picture)
    found, asked = Counter(s.concept for s in stickers), Counter(thing.concept for thing in wanted.things)
    styles = Counter((s.concept, s.style) for s in stickers)
    wanted_styles = Counter((t.concept, t.style) for t in wanted.things if t.style)
    beside = {
        "concepts": float(found == asked),
        "count": float(len(stickers) == len(wanted.things)),
        "styles": float(all(styles[cell] >= count for cell, count in wanted_styles.items())),
        "background": float(wanted.background in (None, background)),
    }
    return Verdict(score=float(wanted.holds(stickers, background)), saw=in_words(stickers, background), beside=beside)


def see_edit(judge: Recogniser, change: Edit, picture: Pixels) -> Verdict:
    """Is the scene as the instruction makes it, and did the rest stay where it was?"""
    verdict = see(judge, change.expectation, picture)
    stickers, _ = judge.scene(picture)
    there = {(s.concept, s.style, s.place) for s in stickers}
    fixed = {(thing.concept, thing.style, thing.place) for thing in change.expectation.things}
    both = [s for s in change.before.stickers if s in change.after.stickers]
    untouched = [s for s in both if (s.concept, s.style, s.place) in fixed]  # of "make it one fox" any fox may stay
    if not untouched:
        return verdict
    kept = sum((s.concept, s.style, s.place) in there for s in untouched) / len(untouched)
    return replace(verdict, beside={**verdict.beside, "kept": kept})


def see_sticker(judge: Recogniser, target: Sticker, picture: Pixels) -> Verdict:
    """Does the described sticker stand in its place?"""
    stickers, background = judge.scene(picture)
    right = any((s.concept, s.style, s.place) == (target.concept, target.style, target.place) for s in stickers)
    concept = any((s.concept, s.place) == (target.concept, target.place) for s in stickers)
    return Verdict(score=float(right), saw=in_words(stickers, background), beside={"concepts": float(concept)})


def see_controlled(judge: Recogniser, name: str, control: Pixels, wanted: Expectation, made: Pixels) -> Verdict:
    """A controlled picture: edges that agree (canny: the score itself), or the scene that was asked for."""
    seen = see(judge, wanted, made)
    if name != "canny":
        return seen
    agreement = edge_f1(canny(made)[..., 0] > 127, control[..., 0] > 127)
    return Verdict(score=agreement, saw=seen.saw, beside={"scene": seen.score})


def see_map(name: str, control: Pixels, made: Pixels) -> Verdict:
    """A predicted map: F1 of edges for canny, else 1 - mean absolute difference (of 0..1), and beside it what the best
    map of one grey would score."""
    if name == "canny":
        score = edge_f1(made[..., 0] > 127, control[..., 0] > 127)
        return Verdict(score=score, saw=f"F1 {score:.2f} at {EDGE_TOLERANCE} px", beside={})
    error, flat = (float(np.abs(one - control.astype(float)).mean() / 255) for one in (made, np.median(control)))
    return Verdict(score=1 - error, saw=f"mean difference {error:.3f}", beside={"flat": 1 - flat})


def edge_f1(found: np.ndarray, wanted: np.ndarray, tolerance: int = EDGE_TOLERANCE) -> float:
    """F1 of two edge maps (H, W, bool), an edge pixel counting if the other has one within `tolerance` pixels."""
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = float((found & _grow(wanted, tolerance)).sum() / found.sum())
    recall = float((wanted & _grow(found, tolerance)).sum() / wanted.sum())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _grow(edges: np.ndarray, pixels: int) -> np.ndarray:
    padded = np.pad(edges, pixels)
    height, width = edges.shape
    offsets = range(2 * pixels + 1)
    return np.logical_or.reduce([padded[y : y + height, x : x + width] for y in offsets for x in offsets])


def named_right(text: str, scene: Scene) -> bool:
    """Does a caption name exactly the concepts of the scene? Longer names are read first ("red heart")."""
    words, named = f" {text.lower()} ", set()
    for name in sorted(CORE, key=len, reverse=True):
        for form in (plural(name), name):
            for end in (" ", ",", "."):
                if f" {form}{end}" in words:
                    named.add(name)
                    words = words.replace(f" {form}{end}", f" {end}")
    return named == {sticker.concept for sticker in scene.stickers}


def in_words(stickers: tuple[Sticker, ...], background: Any) -> str:
    things = ", ".join(f"{s.style} {s.concept} ({s.place})" for s in stickers) or "nothing"
    return f"{things} on {' / '.join(background.colours)} ({background.kind})"
