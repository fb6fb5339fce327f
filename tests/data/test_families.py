"""Families: every task, shared pictures, true masks, and nothing held out."""

import numpy as np
import pytest

from dimoo.data.records import EDIT_KINDS
from dimoo.data.stickers import families
from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.edits import EDITS
from dimoo.data.stickers.families import all_edits, brief, drill, family, reading, spelled, wide
from dimoo.data.stickers.questions import QUESTIONS
from dimoo.data.stickers.relatives import half, mask_over, subject_prompt, subject_scene
from dimoo.data.stickers.scenes import LARGE, Background, Scene, Sticker, is_held_out
from dimoo.data.stickers.words import Wording, describe


@pytest.fixture(scope="module")
def records():
    return [record for seed in range(150) for record in family(seed)]


def test_covers_every_task_and_kind(records):
    assert {r.task for r in records} == {"text_to_image", "edit", "inpaint", "outpaint", "understand", "chat"}
    assert {r.kind for r in records if r.task == "edit"} == set(EDIT_KINDS)
    assert any(r.history for r in records) and any(len(r.images) == 2 for r in records)


def test_a_family_is_a_dozen_or_so_records_over_few_pictures():
    sizes, shares = [], []
    for seed in range(50):
        records = family(seed)
        arrays = [a for r in records for a in (*r.images, r.answer_image) if a is not None]
        sizes.append(len(records))
        shares.append(len({id(a) for a in arrays}) / len(arrays))
        assert len({a.tobytes() for a in arrays}) == len({id(a) for a in arrays})
    assert 10 < np.mean(sizes) < 25
    assert np.mean(shares) < 0.45


def test_a_seed_gives_one_family():
    first, again = family(7), family(7)
    assert [r.prompt for r in first] == [r.prompt for r in again]


def test_nothing_held_out_is_ever_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(families, "draw", lambda scene, _: (drawn.append(scene), np.zeros((128, 128, 3), np.uint8))[1])
    for seed in range(250):
        family(seed)
    assert len(drawn) > 800
    assert not any(is_held_out(scene) for scene in drawn)


def test_drills_are_read_as_they_are_drawn(monkeypatch):
    # Broken to try it: the questions of one scene asked about the next one's picture.
    scenes = []
    whole = families.draw
    monkeypatch.setattr(families, "draw", lambda scene, known: (scenes.append(scene), whole(scene, known))[1])
    records = drill(3)
    assert len(scenes) == 16 and {len(scene.stickers) for scene in scenes} == {1, 2}
    assert not any(is_held_out(scene) for scene in scenes)
    said = {id(r.answer_image): r.prompt for r in records if r.task == "text_to_image"}
    assert len(said) == 16 and {"text_to_image", "understand"} == {r.task for r in records}
    read = [(r.prompt, r.answer_text, said[id(r.images[0])]) for r in records if r.task == "understand"]
    full = [answer == words for question, answer, words in read if question == "describe the picture."]
    styles = [answer in words for question, answer, words in read if question.startswith("what style")]
    assert len(full) > 3 and all(full) and len(styles) > 8 and all(styles)


def test_brief_captions_are_true_and_say_little(monkeypatch):
    # Broken to try it: counts from 1 for "two to four of a concept"; the wording of one scene said of the next.
    scenes = []
    monkeypatch.setattr(families, "draw", lambda scene, _: (scenes.append(scene), np.zeros((128, 128, 3), np.uint8))[1])
    records = [record for seed in range(20) for record in brief(seed)]
    assert len(scenes) == len(records) == 320 and not any(is_held_out(scene) for scene in scenes)
    assert {record.kind for record in records} == {"brief"}
    for record, scene in zip(records, scenes, strict=True):
        assert not any(place in record.prompt for place in ("on the left", "in the", "at the"))
        assert all(s.concept.split()[-1][:-1] in record.prompt for s in scene.stickers)
    same = [r.prompt for r, s in zip(records, scenes, strict=True) if len({x.concept for x in s.stickers}) == 1]
    numbers = [prompt.split()[0] for prompt in same]
    assert min(numbers.count(number) for number in ("two", "three", "four")) > 10
    assert sum(" above " in r.prompt or " of a" in r.prompt for r in records) > 10
    assert np.mean(["background" in r.prompt for r in records]) < 0.25


def test_scenes_show_every_edit_and_are_read_as_they_are(monkeypatch):
    # Broken to try it: one edit a scene; the questions of the scene before asked about the one after.
    scenes = []
    blank = np.zeros((128, 128, 3), np.uint8)
    monkeypatch.setattr(families, "draw", lambda scene, _: (scenes.append(scene), blank.copy())[1])
    records = [record for seed in range(20) for record in all_edits(seed)]
    edits = [r for r in records if r.task == "edit"]
    read = [r for r in records if r.task == "understand"]
    assert {r.kind for r in edits} == set(EDITS.values()) and len(edits) > 20 * 8 * 4 and len(read) > len(edits)
    assert not any(is_held_out(scene) for scene in scenes)
    shown = {id(r.images[0]) for r in edits} | {id(r.answer_image) for r in edits}
    assert {id(r.images[0]) for r in read} == shown
    checked = []
    for record in edits:
        asked = {r.prompt: r.answer_text for r in read if r.images[0] is record.answer_image}
        if record.prompt.endswith(" style") and "what style is this?" in asked:
            checked.append(asked["what style is this?"] == record.prompt.split()[-2])
        if record.kind == "edit_background" and "what colour is the background?" in asked:
            checked.append(record.prompt.endswith(asked["what colour is the background?"]))
    assert len(checked) >= 5 and all(checked)


def test_readings_ask_all_there_is_to_ask(monkeypatch):
    # Broken to try it: the questions of the scene before; one kind of question left out.
    scenes = []
    blank = np.zeros((128, 128, 3), np.uint8)
    monkeypatch.setattr(families, "draw", lambda scene, _: (scenes.append(scene), blank.copy())[1])
    records = [record for seed in range(4) for record in reading(seed)]
    assert len(scenes) == 64 and not any(is_held_out(scene) for scene in scenes)
    by_picture = {}
    for record in records:
        by_picture.setdefault(id(record.images[0]), []).append(record)
    assert len(by_picture) == 64 and {r.kind for r in records} == set(QUESTIONS)
    for asked, scene in zip(by_picture.values(), scenes, strict=True):
        kinds = [r.kind for r in asked]
        assert len(kinds) == len(set(kinds)) and {"what", "count", "exists", "caption"} <= set(kinds)
        said = next(r.answer_text for r in asked if r.kind == "caption")
        assert all(s.concept.split()[-1][:-1] in said for s in scene.stickers)


def test_what_is_beyond_the_core_is_changed_and_asked_for_its_style(monkeypatch):
    # Broken to try it: scenes drawn from the whole catalogue, what comes anew too; the styles of the scene before
    # an edit asked of the one after.
    core = Catalogue.load()
    drawings = {
        (f"{side} {name}", style): core.drawings[name, style] for name in CORE for style in STYLES for side in "ab"
    }
    facts = {f"{side} {name}": core.facts[name] for name in CORE for side in "ab"}
    catalogue = Catalogue(drawings=core.drawings | drawings, facts=core.facts | facts)
    scenes = {}
    whole = families.draw
    monkeypatch.setattr(families, "draw", lambda s, known: scenes.setdefault(s, whole(s, known)))
    records = [record for seed in range(4) for record in wide(seed, catalogue)]
    assert not any(is_held_out(scene) for scene in scenes)
    beyond = [{s.concept for s in scene.stickers} - CORE.keys() for scene in scenes]
    assert max(map(len, beyond)) == 1
    shown = {id(picture): scene for scene, picture in scenes.items()}
    anew, styles = [], []
    for record in records:
        scene = shown[id(record.images[0])]
        if record.task == "understand":
            assert record.kind == "wide" and record.prompt.startswith("what style is")
            styles.append(record.answer_text in {sticker.style for sticker in scene.stickers})
        elif record.kind in ("edit_add", "edit_replace"):
            before = {sticker.concept for sticker in scene.stickers}
            assert len(before - CORE.keys()) == 1
            anew += [s.concept for s in shown[id(record.answer_image)].stickers if s.concept not in before]
    assert len(styles) > 100 and all(styles)
    assert len(anew) > 15 and set(anew) <= CORE.keys()


def test_what_an_edit_leaves_unsaid_is_asked_and_told(monkeypatch):
    # Broken to try it: the style of another sticker told; the answer always a style; the concepts of one sticker told.
    scenes = {}
    whole = families.draw
    monkeypatch.setattr(families, "draw", lambda s, known: scenes.setdefault(s, whole(s, known)))
    records = [record for seed in range(6) for record in spelled(seed)]
    assert not any(is_held_out(scene) for scene in scenes)
    shown = {id(picture): scene for scene, picture in scenes.items()}
    asked = {(id(r.images[0]), r.prompt): r.answer_text for r in records if r.task == "understand"}
    edits = [r for r in records if r.task == "edit"]
    restyled = [r for r in edits if r.kind == "edit_text_transfer"]
    assert {r.kind for r in edits} == {"edit_add", "edit_replace", "edit", "edit_text_transfer"}
    for record in edits:
        before, after = shown[id(record.images[0])], shown[id(record.answer_image)]
        if record.kind == "edit_text_transfer":
            instruction, told = record.prompt.split(", ", 1)
            assert asked[id(record.images[0]), "what is in the picture?"] == told == describe(before, Wording())
            assert {sticker.style for sticker in after.stickers} <= set(instruction.split())
        else:
            instruction, told = record.prompt.rsplit(", ", 1)
            assert asked[id(record.images[0]), f"{instruction}. what style is it?"] == told
            assert {sticker.style for sticker in set(after.stickers) - set(before.stickers)} == {told}
    answers = [answer for (_, question), answer in asked.items() if question.endswith("what style is it?")]
    assert len(edits) - len(restyled) > 80 and len(restyled) > 60 and set(answers) == {*STYLES, "nothing"}
    assert 0.4 < answers.count("nothing") / len(answers) < 0.7
    for (_, question), answer in asked.items():
        settled = question.startswith(("remove", "take away", "move", "swap", "make the background", "change the"))
        assert answer == "nothing" or not settled


def test_masks_cover_what_differs(records):
    for record in records:
        if record.task == "inpaint":
            changed = (record.images[0] != record.answer_image).any(axis=2)
            assert not (changed & ~record.mask).any()
        if record.mask is not None:
            blocks = record.mask.reshape(8, 16, 8, 16)
            assert (blocks.all(axis=(1, 3)) == blocks.any(axis=(1, 3))).all()


def test_masks_of_stickers_and_halves():
    assert mask_over((Sticker(concept="fox", style="flat", size=LARGE),)).sum() == 96 * 96
    assert mask_over((Sticker(concept="fox", style="flat", place="top left"),)).sum() == 48 * 48
    assert half("left")[:, :64].all() and not half("left")[:, 64:].any()
    assert half("bottom")[64:].all() and not half("bottom")[:64].any()


def test_subjects_keep_their_style_and_are_called_this():
    subject = Sticker(concept="fox", style="noto", place="top")
    scene = Scene(
        background=Background(colours=("blue",)),
        stickers=(
            Sticker(concept="owl", style="flat", place="left"),
            Sticker(concept="car", style="3d", place="right"),
        ),
    )
    made = subject_scene(subject, scene)
    assert [s.cell for s in made.stickers] == [("fox", "noto"), ("car", "noto")]
    assert subject_prompt(subject, made) == "this fox on the left and a car on the right, on a blue background"
    assert subject_scene(Sticker(concept="car", style="flat"), scene) is None
