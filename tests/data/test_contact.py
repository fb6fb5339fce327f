"""The contact sheet lays out every kind of record."""

from dimoo.data.stickers.contact import sheet
from dimoo.data.stickers.families import family


def test_sheet_has_room_for_every_record():
    records = family(0)
    page = sheet(records)
    assert page.width % 5 == 0 and page.height > 0
    assert len(page.getcolors(page.width * page.height)) > 50
