"""The ten background colours by name, chosen so that pixel statistics tell them apart."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "grey": (170, 175, 182),
    "black": (30, 32, 38),
    "pink": (255, 176, 204),
    "orange": (255, 190, 120),
    "yellow": (255, 238, 150),
    "green": (168, 226, 168),
    "blue": (150, 204, 255),
    "purple": (200, 172, 245),
    "teal": (40, 140, 145),
}
