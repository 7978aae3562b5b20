from __future__ import annotations

import pytest

from oneformer_spec.errors import UsageError
from oneformer_spec.pictures.font import FONT_VARIABLE, can_write, font, unwritable


@pytest.mark.parametrize("name", ["road", "Straße", "naïve café", "año", "автомобиль", "δρόμος", "شارع", "100 €"])
def test_the_own_font_has_the_letters(name):
    assert can_write(name)


@pytest.mark.parametrize("name", ["車", "道路 road", "자동차", "ถนน"])
def test_what_the_own_font_lacks_is_known(name):
    assert not can_write(name)


def test_the_note_names_a_class_and_what_helps():
    assert unwritable(("road", "car")) is None
    note = unwritable(("road", "車", "道"))
    assert note is not None
    assert "'車' and 1 more" in note
    assert FONT_VARIABLE in note


def test_the_user_may_choose_the_font(monkeypatch, tmp_path):
    own = font(12)
    copy = tmp_path / "own.ttf"
    with open(str(own.path), "rb") as file:
        copy.write_bytes(file.read())
    monkeypatch.setenv(FONT_VARIABLE, str(copy))
    assert font(12).path == str(copy)


@pytest.mark.parametrize("content", [None, b"no font"])
def test_a_file_that_is_no_font_is_told(monkeypatch, tmp_path, content):
    path = tmp_path / "broken.ttf"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(FONT_VARIABLE, str(path))
    with pytest.raises(UsageError, match=f"{path}: {FONT_VARIABLE} must be a font file"):
        font(12)
