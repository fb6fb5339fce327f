"""How often each kind of record is drawn: literal tables of weights by (task, kind), named by the stage of training.

Weights are relative; a kind that is missing from a table is not drawn.
"""

from __future__ import annotations

Mixture = dict[tuple[str, str], float]

# Words and drawings must lock together first: half of it draws from words, a third reads, a sixth edits.
START: Mixture = {
    ("text_to_image", "caption"): 35.0,
    ("text_to_image", "drill"): 25.0,
    ("understand", "drill"): 15.0,
    ("understand", "what"): 7.0,
    ("understand", "caption"): 5.0,
    ("understand", "colour"): 2.0,
    ("understand", "count"): 2.5,
    ("understand", "where"): 2.5,
    ("understand", "exists"): 3.0,
    ("understand", "relation"): 1.5,
    ("understand", "style"): 2.0,
    ("understand", "compare"): 1.0,
    ("chat", "chat"): 0.5,
    ("edit", "edit_add"): 3.0,
    ("edit", "edit_remove"): 1.5,
    ("edit", "edit_replace"): 3.0,
    ("edit", "edit_background"): 2.0,
    ("edit", "edit_text_transfer"): 2.5,
    ("edit", "edit"): 1.5,
    ("edit", "canny_control"): 2.5,
    ("edit", "canny_pred"): 2.0,
    ("edit", "hed_control"): 0.5,
    ("edit", "hed_pred"): 0.5,
    ("edit", "depth_control"): 0.5,
    ("edit", "depth_pred"): 0.5,
    ("edit", "subject_driven"): 1.0,
    ("edit", "image_ref_transfer"): 1.0,
    ("inpaint", ""): 3.0,
    ("outpaint", ""): 1.0,
}

# Every task of the paper, once the drawings are known.
ALL: Mixture = START | {
    ("text_to_image", "caption"): 14.0,
    ("text_to_image", "brief"): 20.0,
    ("text_to_image", "drill"): 6.0,
    ("understand", "drill"): 8.0,
    ("understand", "relation"): 3.0,
    ("understand", "compare"): 2.0,
    ("edit", "edit_add"): 4.0,
    ("edit", "edit_remove"): 3.0,
    ("edit", "edit_replace"): 5.0,
    ("edit", "edit_background"): 3.0,
    ("edit", "edit_text_transfer"): 5.0,
    ("edit", "edit"): 4.0,
    ("edit", "canny_control"): 4.0,
    ("edit", "canny_pred"): 3.0,
    ("edit", "hed_control"): 1.5,
    ("edit", "hed_pred"): 1.5,
    ("edit", "depth_control"): 1.5,
    ("edit", "depth_pred"): 1.5,
    ("edit", "subject_driven"): 2.0,
    ("edit", "image_ref_transfer"): 2.0,
    ("inpaint", ""): 4.0,
    ("outpaint", ""): 2.0,
}

# Mostly words and drawings: while they have not locked, long pages of edits (three times the ids of a caption's) teach
# little for their cost. Two thirds of the ids, where `ALL` has a quarter.
WORDS: Mixture = {
    (task, kind): weight / (2 if task == "understand" else 4) for (task, kind), weight in START.items()
} | {("text_to_image", "drill"): 30.0, ("text_to_image", "caption"): 35.0}

# Captions that leave most open, as people write them and the judge asks.
BRIEF: Mixture = WORDS | {
    ("text_to_image", "brief"): 40.0,
    ("text_to_image", "caption"): 15.0,
    ("text_to_image", "drill"): 10.0,
}

# Once drawing from words is learnt: twice the reading, twice the edits that were slowest to learn.
READ_AND_EDIT: Mixture = {
    (task, kind): weight * (2 if task == "understand" else 1) for (task, kind), weight in ALL.items()
} | {("edit", "edit_replace"): 10.0, ("edit", "edit_text_transfer"): 10.0, ("edit", "edit_background"): 5.0}

# More than half of the ids go to edits by words, most to those that were still worst; drawing is only kept up.
EDITS: Mixture = ALL | {
    ("text_to_image", "caption"): 6.0,
    ("text_to_image", "brief"): 14.0,
    ("text_to_image", "drill"): 4.0,
    ("understand", "what"): 8.0,
    ("understand", "caption"): 6.0,
    ("understand", "count"): 4.0,
    ("understand", "where"): 6.0,
    ("understand", "exists"): 5.0,
    ("understand", "relation"): 4.0,
    ("understand", "style"): 8.0,
    ("edit", "edit_add"): 8.0,
    ("edit", "edit_remove"): 14.0,
    ("edit", "edit_replace"): 16.0,
    ("edit", "edit_background"): 12.0,
    ("edit", "edit_text_transfer"): 16.0,
    ("edit", "edit"): 5.0,
    ("edit", "canny_control"): 2.0,
    ("edit", "canny_pred"): 2.0,
    ("edit", "hed_control"): 0.5,
    ("edit", "hed_pred"): 0.5,
    ("edit", "depth_control"): 0.5,
    ("edit", "depth_pred"): 0.5,
    ("inpaint", ""): 3.0,
    ("outpaint", ""): 1.0,
}

# Two thirds of the pages read, most of all descriptions, which tell more facts of a picture than any question. Edits
# wait for that: what they fail at is to find what is meant.
READ: Mixture = ALL | {
    ("text_to_image", "caption"): 6.0,
    ("text_to_image", "brief"): 12.0,
    ("text_to_image", "drill"): 3.0,
    ("understand", "drill"): 12.0,
    ("understand", "what"): 12.0,
    ("understand", "caption"): 30.0,
    ("understand", "colour"): 3.0,
    ("understand", "count"): 6.0,
    ("understand", "where"): 14.0,
    ("understand", "exists"): 6.0,
    ("understand", "relation"): 6.0,
    ("understand", "style"): 12.0,
    ("understand", "compare"): 1.0,
    ("edit", "edit_add"): 3.0,
    ("edit", "edit_remove"): 5.0,
    ("edit", "edit_background"): 4.0,
    ("edit", "edit"): 2.0,
    ("edit", "canny_control"): 1.0,
    ("edit", "canny_pred"): 1.0,
    ("edit", "hed_control"): 0.5,
    ("edit", "hed_pred"): 0.5,
    ("edit", "depth_control"): 0.5,
    ("edit", "depth_pred"): 0.5,
    ("edit", "subject_driven"): 0.5,
    ("edit", "image_ref_transfer"): 1.0,
    ("inpaint", ""): 2.0,
    ("outpaint", ""): 0.5,
}

# Drawing again, after `READ`, with as much reading as keeps what was learnt, and the edits that reading has opened.
ROUND: Mixture = READ | {
    ("text_to_image", "caption"): 18.0,
    ("text_to_image", "brief"): 34.0,
    ("text_to_image", "drill"): 8.0,
    ("understand", "drill"): 8.0,
    ("understand", "what"): 6.0,
    ("understand", "caption"): 12.0,
    ("understand", "colour"): 2.0,
    ("understand", "count"): 4.0,
    ("understand", "where"): 8.0,
    ("understand", "exists"): 4.0,
    ("understand", "relation"): 4.0,
    ("understand", "style"): 8.0,
    ("edit", "edit_add"): 4.0,
    ("edit", "edit_replace"): 7.0,
    ("edit", "edit_background"): 6.0,
    ("edit", "edit_text_transfer"): 7.0,
    ("edit", "edit"): 3.0,
    ("edit", "canny_control"): 2.0,
    ("edit", "canny_pred"): 2.0,
    ("inpaint", ""): 3.0,
    ("outpaint", ""): 1.0,
}

# `ROUND` with more of the edits that draw anew: a third of the pages edit, most of them those that were worst.
REDRAW: Mixture = ROUND | {
    ("text_to_image", "caption"): 16.0,
    ("text_to_image", "drill"): 4.0,
    ("understand", "drill"): 4.0,
    ("understand", "what"): 8.0,
    ("understand", "caption"): 14.0,
    ("understand", "style"): 10.0,
    ("edit", "edit_add"): 7.0,
    ("edit", "edit_remove"): 4.0,
    ("edit", "edit_replace"): 12.0,
    ("edit", "edit_text_transfer"): 16.0,
}

# What `REDRAW` left worst: styles, read and redrawn, and what takes the place of something. A third of the pages edit
# by words, two fifths read; drawing is only kept up.
RESTYLE: Mixture = REDRAW | {
    ("text_to_image", "caption"): 12.0,
    ("text_to_image", "brief"): 26.0,
    ("text_to_image", "drill"): 3.0,
    ("understand", "drill"): 5.0,
    ("understand", "what"): 12.0,
    ("understand", "count"): 5.0,
    ("understand", "where"): 6.0,
    ("understand", "exists"): 7.0,
    ("understand", "relation"): 6.0,
    ("understand", "style"): 16.0,
    ("edit", "edit_add"): 10.0,
    ("edit", "edit_replace"): 20.0,
    ("edit", "edit_background"): 10.0,
    ("edit", "edit_text_transfer"): 18.0,
    ("edit", "edit"): 4.0,
}

# `RESTYLE` beside the wide catalogue: its edits come with the others of their kind, its styles are asked for apart.
# More of what takes the place of something, and of how two stickers stand to each other, and of naming them.
WIDE: Mixture = RESTYLE | {
    ("text_to_image", "caption"): 12.0,
    ("text_to_image", "brief"): 24.0,
    ("understand", "what"): 20.0,
    ("understand", "caption"): 20.0,
    ("understand", "exists"): 8.0,
    ("understand", "relation"): 11.0,
    ("understand", "style"): 16.0,
    ("understand", "wide"): 14.0,
    ("edit", "edit_replace"): 26.0,
    ("edit", "edit_text_transfer"): 20.0,
}

# `WIDE` with more of the edits that draw something in a style they must find, and drawing kept up.
CHANGE: Mixture = WIDE | {
    ("text_to_image", "caption"): 14.0,
    ("text_to_image", "brief"): 34.0,
    ("understand", "what"): 14.0,
    ("understand", "caption"): 16.0,
    ("understand", "exists"): 6.0,
    ("understand", "relation"): 8.0,
    ("understand", "wide"): 10.0,
    ("edit", "edit_add"): 14.0,
    ("edit", "edit_replace"): 40.0,
    ("edit", "edit_background"): 12.0,
    ("edit", "edit_text_transfer"): 26.0,
    ("edit", "image_ref_transfer"): 2.0,
}

# Mostly what takes the place of something, the slowest of all: five minutes of it alone taught as much of it as half an
# hour of `CHANGE`.
REPLACE: Mixture = CHANGE | {
    ("edit", "edit_add"): 24.0,
    ("edit", "edit_replace"): 150.0,
    ("edit", "edit_background"): 20.0,
    ("edit", "edit_text_transfer"): 40.0,
}

# `RESTYLE` with styles that are read first and told (`spelled` shards in the place of `edits`), and more of the brief
# captions, whose counting every stage since has lost.
SPELL: Mixture = RESTYLE | {
    ("text_to_image", "brief"): 40.0,
    ("understand", "what"): 14.0,
    ("understand", "caption"): 16.0,
    ("understand", "unsaid"): 50.0,
    ("edit", "edit_add"): 16.0,
    ("edit", "edit_replace"): 70.0,
    ("edit", "edit_background"): 16.0,
    ("edit", "edit_text_transfer"): 44.0,
}

# `SPELL` with more of what it left worst: what there is and in which style, pictures drawn again on another background
# or in another style; fewer of the questions that an edit begins with, which are learnt.
SETTLE: Mixture = SPELL | {
    ("understand", "what"): 24.0,
    ("understand", "style"): 20.0,
    ("understand", "exists"): 8.0,
    ("understand", "relation"): 9.0,
    ("understand", "wide"): 16.0,
    ("understand", "unsaid"): 20.0,
    ("edit", "edit_add"): 18.0,
    ("edit", "edit_remove"): 8.0,
    ("edit", "edit_replace"): 50.0,
    ("edit", "edit_background"): 26.0,
    ("edit", "edit_text_transfer"): 54.0,
}

# `SETTLE` with pictures that are read first and told before they are redrawn in another style, and more of what moves.
TELL: Mixture = SETTLE | {
    ("edit", "edit"): 14.0,
    ("edit", "edit_text_transfer"): 70.0,
}

MIXTURES: dict[str, Mixture] = {
    "words": WORDS,
    "brief": BRIEF,
    "start": START,
    "all": ALL,
    "read-and-edit": READ_AND_EDIT,
    "edits": EDITS,
    "read": READ,
    "round": ROUND,
    "redraw": REDRAW,
    "restyle": RESTYLE,
    "wide": WIDE,
    "change": CHANGE,
    "replace": REPLACE,
    "spell": SPELL,
    "settle": SETTLE,
    "tell": TELL,
}
