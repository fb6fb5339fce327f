"""Families: a scene, its relatives, and records of every task over them.

In: a seed. Out: a dozen or so `Record`s. They share their picture arrays (the same object wherever the same picture
occurs), so that each picture is tokenised once.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dimoo.data.records import Record
from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.edits import EDITS, Edit, edit
from dimoo.data.stickers.maps import canny, depth, soft_edges
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.questions import QUESTIONS, ask, chat, compare, follow_up, unsaid
from dimoo.data.stickers.relatives import (
    HALVES,
    alone_on_white,
    half,
    in_style,
    mask_over,
    subject_prompt,
    subject_scene,
)
from dimoo.data.stickers.scenes import Scene, Split, generator, is_held_out, is_visible, sample_scene
from dimoo.data.stickers.words import FULL, brief_wording, caption, describe

_EDITS_A_FAMILY = 3
_QUESTIONS_A_PICTURE = 3
_EDIT_ODDS = {
    "add": 0.18, "remove": 0.12, "replace": 0.16, "background": 0.14, "style": 0.14,
    "move": 0.08, "swap": 0.06, "recount": 0.06, "recolour": 0.06,
}  # fmt: skip
# of a recolouring only the core knows the colours; to redraw in another style would be to learn every drawing
_WIDE_EDITS = ("add", "remove", "replace", "background", "move", "swap", "recount")
_WIDE_EDITS_A_SCENE = 3
_STYLES_A_SCENE = 2
_PREDICT = {
    "canny_pred": "draw the canny edges",
    "hed_pred": "draw the soft edges",
    "depth_pred": "draw the depth map",
}
_CONTROL_ODDS = {"canny": 0.6, "hed": 0.15, "depth": 0.15}
_RARE_ODDS = {"subject": 0.3, "reference": 0.3, "compare": 0.4, "follow up": 0.35, "chat": 0.15, "outpaint": 0.3}


def family(seed: int | np.random.Generator, catalogue: Catalogue | None = None, split: Split = "train") -> list[Record]:
    """The records of one scene and its relatives. In split "train" nothing held out occurs."""
    rng = generator(seed, split)
    kin = _Family(rng=rng, catalogue=catalogue or Catalogue.load(), split=split)
    scene = sample_scene(rng, split, catalogue=kin.catalogue)
    edits = kin.edits(scene)
    records = [*kin.captions(scene, 2), *kin.questions(scene, _QUESTIONS_A_PICTURE)]
    for change in edits:
        records += [kin.edited(change), *kin.captions(change.after, 1), *kin.questions(change.after, 1)]
    records += kin.controls(scene)
    records += kin.masked(scene, edits)
    records += kin.rare(scene, edits)
    return records


def drill(seed: int, catalogue: Catalogue | None = None, scenes: int = 16) -> list[Record]:
    """Scenes of one or two stickers, drawn from captions that say everything, and read by questions about what they
    show: where words and drawings lock soonest, in both directions. Only for training; nothing held out occurs."""
    rng = generator(seed, "train")
    catalogue = catalogue or Catalogue.load()
    drawn = [sample_scene(rng, count=int(rng.integers(1, 3)), catalogue=catalogue) for _ in range(scenes)]
    records = []
    for scene in drawn:
        words, picture = describe(scene, FULL, catalogue), draw(scene, catalogue)
        records.append(Record(task="text_to_image", kind="drill", prompt=words, answer_image=picture))
        asked = [ask(scene, kind, rng, catalogue=catalogue) for kind in ("what", "caption", "style", "relation")]
        records += [
            Record(task="understand", kind="drill", prompt=q.question, images=(picture,), answer_text=q.answer)
            for q in asked
            if q is not None
        ]
    return records


def brief(seed: int, catalogue: Catalogue | None = None, scenes: int = 16) -> list[Record]:
    """Pictures drawn from captions that name what there is, how many or how it stands, and leave the rest open: there
    the model must keep count of what its first cells have already decided. Only for training; nothing held out
    occurs."""
    rng = generator(seed, "train")
    catalogue = catalogue or Catalogue.load()
    records = []
    for _ in range(scenes):
        scene = _brief_scene(rng, catalogue)
        prompt = describe(scene, brief_wording(scene, rng), catalogue)
        picture = draw(scene, catalogue)
        records.append(Record(task="text_to_image", kind="brief", prompt=prompt, answer_image=picture))
    return records


def reading(seed: int, catalogue: Catalogue | None = None, scenes: int = 16) -> list[Record]:
    """Scenes that are described, and asked about in every way: what stands where in which style is one fact each in an
    answer, where a question of a family asks for one of them. Only for training; nothing held out occurs."""
    rng = generator(seed, "train")
    kin = _Family(rng=rng, catalogue=catalogue or Catalogue.load(), split="train")
    drawn = [sample_scene(rng, catalogue=kin.catalogue) for _ in range(scenes)]
    return [record for scene in drawn for record in kin.questions(scene, len(QUESTIONS))]


def all_edits(seed: int, catalogue: Catalogue | None = None, scenes: int = 8) -> list[Record]:
    """Every edit by words that a scene allows, each with questions about what it left: what to change must be found by
    reading, and the rest drawn again as it was. Half of the scenes have one or two stickers. Only for training;
    nothing held out occurs."""
    rng = generator(seed, "train")
    kin = _Family(rng=rng, catalogue=catalogue or Catalogue.load(), split="train")
    records = []
    for scene in kin.scenes(scenes):
        records += kin.questions(scene, _QUESTIONS_A_PICTURE)
        for name in EDITS:
            change = edit(scene, name, rng, catalogue=kin.catalogue)
            if change is not None:
                records += [kin.edited(change), *kin.questions(change.after, 1)]
    return records


def wide(seed: int, catalogue: Catalogue, scenes: int = 8) -> list[Record]:
    """Scenes in which one concept is not of the core but of the wide catalogue, edited, and asked for their styles:
    what a style looks like, and what an edit leaves as it was, must hold for drawings never seen. One only, so that a
    name nobody was taught can mean but one thing; what comes anew is of the core. Only for training; nothing held out
    occurs."""
    rng = generator(seed, "train")
    kin = _Family(rng=rng, catalogue=catalogue, split="train")
    others = tuple(name for name in catalogue.concepts if name not in CORE)
    records = []
    for index in range(scenes):
        scene = _stranger_scene(rng, catalogue, others, count=int(rng.integers(1, 3)) if index % 2 else None)
        records += kin.styles(scene)
        for name in rng.choice(_WIDE_EDITS, size=_WIDE_EDITS_A_SCENE, replace=False).tolist():
            change = edit(scene, name, rng, catalogue=catalogue)
            if change is not None:
                records += [kin.edited(change), *kin.styles(change.after)]
    return records


def spelled(seed: int, catalogue: Catalogue | None = None, scenes: int = 8) -> list[Record]:
    """Edits that need what only the picture tells, which follows the instruction: the style of a new sticker ("turn
    the pear into an owl, flat"), or what is redrawn in another style ("make this flat, a pear and an owl"); questions
    what it is, and as many about edits that leave nothing open: what must be read for an edit is read first, and drawn
    as told. Half of the scenes have one or two stickers. Only for training; nothing held out occurs."""
    rng = generator(seed, "train")
    kin = _Family(rng=rng, catalogue=catalogue or Catalogue.load(), split="train")
    records = []
    for scene in kin.scenes(scenes):
        names = rng.permutation([*EDITS, "style"]).tolist()  # twice in a style: the hardest to draw of all
        changes = [edit(scene, name, rng, catalogue=kin.catalogue) for name in names]
        possible = [change for change in changes if change is not None]
        leaving = [change for change in possible if change.unsaid]
        saying = [change for change in possible if not change.unsaid][: len(leaving)]
        records += [kin.spelled(change) for change in leaving]
        records += [kin.unsaid(change) for change in (*leaving, *saying)]
    return records


def _stranger_scene(
    rng: np.random.Generator, catalogue: Catalogue, others: tuple[str, ...], count: int | None
) -> Scene:
    """A scene of the core in which one of `others` takes the place of one concept, of all its stickers alike."""
    while True:
        scene = sample_scene(rng, count=count)
        if not scene.stickers:
            continue
        left = scene.stickers[rng.integers(len(scene.stickers))].concept
        came = str(rng.choice(others))
        stickers = tuple(replace(one, concept=came) if one.concept == left else one for one in scene.stickers)
        scene = replace(scene, stickers=stickers)
        if is_visible(scene, catalogue):
            return scene


def _brief_scene(rng: np.random.Generator, catalogue: Catalogue) -> Scene:
    """One sticker, two, or two to four of a concept."""
    lot = rng.random()
    if lot < 0.3:
        return sample_scene(rng, count=1, catalogue=catalogue)
    if lot < 0.7:
        return sample_scene(rng, count=2, catalogue=catalogue)
    count = int(rng.integers(2, 5))
    while True:
        scene = sample_scene(rng, count=count, catalogue=catalogue)
        if len({sticker.concept for sticker in scene.stickers}) == 1:
            return scene


class _Family:
    """What the makers of records share: the lot, the catalogue, and every picture drawn so far."""

    def __init__(self, *, rng: np.random.Generator, catalogue: Catalogue, split: Split) -> None:
        self.rng, self.catalogue, self.split = rng, catalogue, split
        self._drawn: dict[Scene, np.ndarray] = {}

    def picture(self, scene: Scene) -> np.ndarray:
        if scene not in self._drawn:
            self._drawn[scene] = draw(scene, self.catalogue)
        return self._drawn[scene]

    def scenes(self, count: int) -> Iterator[Scene]:
        """Scenes drawn by lot, every other one of one or two stickers."""
        for index in range(count):
            few = int(self.rng.integers(1, 3)) if index % 2 else None
            yield sample_scene(self.rng, self.split, count=few, catalogue=self.catalogue)

    def captions(self, scene: Scene, count: int) -> list[Record]:
        prompts = dict.fromkeys(caption(scene, self.rng, self.catalogue) for _ in range(count))
        picture = self.picture(scene)
        return [Record(task="text_to_image", kind="caption", prompt=prompt, answer_image=picture) for prompt in prompts]

    def questions(self, scene: Scene, count: int) -> list[Record]:
        kinds = self.rng.permutation(QUESTIONS).tolist()
        asked = [ask(scene, kind, self.rng, catalogue=self.catalogue) for kind in kinds]
        picture = self.picture(scene)
        return [
            Record(task="understand", kind=q.kind, prompt=q.question, images=(picture,), answer_text=q.answer)
            for q in [q for q in asked if q is not None][:count]
        ]

    def styles(self, scene: Scene) -> list[Record]:
        """Questions about styles, of a kind of their own."""
        asked = [ask(scene, "style", self.rng, catalogue=self.catalogue) for _ in range(_STYLES_A_SCENE)]
        picture = self.picture(scene)
        return [
            Record(task="understand", kind="wide", prompt=q.question, images=(picture,), answer_text=q.answer)
            for q in dict.fromkeys(q for q in asked if q is not None)
        ]

    def edits(self, scene: Scene) -> list[Edit]:
        names = self.rng.choice(list(_EDIT_ODDS), size=len(EDITS), replace=False, p=list(_EDIT_ODDS.values())).tolist()
        made: list[Edit] = []
        for name in names:
            if len(made) == _EDITS_A_FAMILY:
                break
            change = edit(scene, name, self.rng, split=self.split, catalogue=self.catalogue)
            made += [] if change is None else [change]
        return made

    def edited(self, change: Edit) -> Record:
        return Record(
            task="edit",
            kind=change.kind,
            prompt=change.instruction,
            images=(self.picture(change.before),),
            answer_image=self.picture(change.after),
        )

    def spelled(self, change: Edit) -> Record:
        """The edit with what its instruction leaves unsaid."""
        return replace(self.edited(change), prompt=f"{change.instruction}, {change.unsaid}")

    def unsaid(self, change: Edit) -> Record:
        q = unsaid(change)
        picture = self.picture(change.before)
        return Record(task="understand", kind=q.kind, prompt=q.question, images=(picture,), answer_text=q.answer)

    def controls(self, scene: Scene) -> list[Record]:
        """Control map to picture and back."""
        records = []
        if self._chance(_CONTROL_ODDS["canny"]):
            records += self._both_ways("canny", canny(self.picture(scene)), scene)
        if self._chance(_CONTROL_ODDS["hed"]):
            records += self._both_ways("hed", soft_edges(self.picture(scene)), scene)
        if self._chance(_CONTROL_ODDS["depth"]):
            if self._chance(0.5):
                scene = sample_scene(self.rng, self.split, layered=True, catalogue=self.catalogue)
            records += self._both_ways("depth", depth(scene, self.catalogue), scene)
        return records

    def masked(self, scene: Scene, edits: list[Edit]) -> list[Record]:
        """Inpainting over a sticker or an edit, and outpainting of a half."""
        records = []
        spots = [(change.before, change.after) for change in edits if change.name in ("add", "remove", "replace")]
        spots += [(scene, scene)] if scene.stickers else []
        before, after = spots[self.rng.integers(len(spots))] if spots else (scene, scene)
        changed = set(before.stickers) ^ set(after.stickers)
        if not changed and after.stickers:
            changed = {after.stickers[self.rng.integers(len(after.stickers))]}
        if changed:
            records.append(self._painted("inpaint", before, after, mask_over(tuple(changed))))
        if self._chance(_RARE_ODDS["outpaint"]):
            records.append(self._painted("outpaint", scene, scene, half(str(self.rng.choice(HALVES)))))
        return records

    def rare(self, scene: Scene, edits: list[Edit]) -> list[Record]:
        """Tier B: subject, style reference, comparison, follow-up, talk without a picture."""
        records = []
        if self._chance(_RARE_ODDS["subject"]):
            records += self._subject(scene)
        if self._chance(_RARE_ODDS["reference"]):
            records += self._style_reference(scene)
        if edits and self._chance(_RARE_ODDS["compare"]):
            change = edits[self.rng.integers(len(edits))]
            q = compare(change, self.rng)
            pictures = (self.picture(change.before), self.picture(change.after))
            records.append(
                Record(task="understand", kind=q.kind, prompt=q.question, images=pictures, answer_text=q.answer)
            )
        if self._chance(_RARE_ODDS["follow up"]):
            records += self._follow_up(scene)
        if self._chance(_RARE_ODDS["chat"]):
            q = chat(self.rng, catalogue=self.catalogue)
            records.append(Record(task="chat", kind=q.kind, prompt=q.question, answer_text=q.answer))
        return records

    def _both_ways(self, name: str, control: np.ndarray, scene: Scene) -> list[Record]:
        picture, predict = self.picture(scene), f"{name}_pred"
        words = describe(scene, FULL, self.catalogue) if self._chance(0.5) else caption(scene, self.rng, self.catalogue)
        return [
            Record(task="edit", kind=f"{name}_control", prompt=words, images=(control,), answer_image=picture),
            Record(task="edit", kind=predict, prompt=_PREDICT[predict], images=(picture,), answer_image=control),
        ]

    def _painted(self, task: str, before: Scene, after: Scene, mask: np.ndarray) -> Record:
        return Record(
            task=task,
            prompt=describe(after, FULL, self.catalogue),
            images=(self.picture(before),),
            answer_image=self.picture(after),
            mask=mask,
        )

    def _subject(self, scene: Scene) -> list[Record]:
        subjects = [s for s in scene.stickers if self.catalogue.shows_on(*s.cell, ("white",))]
        new = sample_scene(self.rng, self.split, count=int(self.rng.integers(1, 3)), catalogue=self.catalogue)
        if not subjects:
            return []
        subject = subjects[self.rng.integers(len(subjects))]
        made = subject_scene(subject, new)
        if made is None or not self._admissible(made):
            return []
        alone = self.picture(alone_on_white(subject))
        return [
            Record(
                task="edit",
                kind="subject_driven",
                prompt=subject_prompt(subject, made),
                images=(alone,),
                answer_image=self.picture(made),
            )
        ]

    def _style_reference(self, scene: Scene) -> list[Record]:
        style = str(self.rng.choice(STYLES))
        shown = sample_scene(self.rng, self.split, count=int(self.rng.integers(1, 3)), catalogue=self.catalogue)
        reference, restyled = in_style(shown, style), in_style(scene, style)
        if not scene.stickers or not self._admissible(reference) or not self._admissible(restyled):
            return []
        return [
            Record(
                task="edit",
                kind="image_ref_transfer",
                prompt="redraw the first picture in the style of the second",
                images=(self.picture(scene), self.picture(reference)),
                answer_image=self.picture(restyled),
            )
        ]

    def _follow_up(self, scene: Scene) -> list[Record]:
        turns = follow_up(scene, self.rng, catalogue=self.catalogue)
        if turns is None:
            return []
        first, second = turns
        return [
            Record(
                task="understand",
                kind=second.kind,
                prompt=second.question,
                images=(self.picture(scene),),
                answer_text=second.answer,
                history=((first.question, first.answer),),
            )
        ]

    def _admissible(self, scene: Scene) -> bool:
        return is_visible(scene, self.catalogue) and not (self.split == "train" and is_held_out(scene))

    def _chance(self, odds: float) -> bool:
        return bool(self.rng.random() < odds)
