"""Patterns of file names."""

from __future__ import annotations

import pytest

from oneformer_spec.files.patterns import is_pattern, matches, missing


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("a-{9..10}.tar", ["a-9.tar", "a-10.tar"]),
        ("{a,b}-{1..2}.tar", ["a-1.tar", "a-2.tar", "b-1.tar", "b-2.tar"]),
        ("a-{3..1}.tar", []),
        ("a-{x..y}.tar", ["a-x..y.tar"]),
        ("a-{b.tar", ["a-{b.tar"]),
    ],
)
def test_braces_list_names_whether_or_not_they_exist(tmp_path, pattern, names):
    assert [path.name for path in matches(f"{tmp_path / pattern}")] == names


def test_a_star_finds_what_exists_in_order(tmp_path):
    for name in ("b-2.tar", "b-1.tar", "c-1.tar", "b-1.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in matches(f"{tmp_path}/b-*.tar")] == ["b-1.tar", "b-2.tar"]
    assert [path.name for path in matches(f"{tmp_path}/{{c,b}}-[12].tar")] == ["c-1.tar", "b-1.tar", "b-2.tar"]


def test_the_first_file_that_is_missing(tmp_path):
    for number in (0, 1, 3):
        (tmp_path / f"a-{number}.tar").touch()
    assert missing(f"{tmp_path}/a-{{0..1}}.tar") is None
    assert missing(f"{tmp_path}/a-?.tar") is None
    assert missing(f"{tmp_path}/a-{{0..3}}.tar") == f"{tmp_path}/a-2.tar"
    assert missing(f"{tmp_path}/b-*.tar") == f"{tmp_path}/b-*.tar"
    assert missing(f"{tmp_path}/a-{{0..99999999999999}}.tar") == f"{tmp_path}/a-2.tar"  # and no list of that length


def test_only_the_last_part_of_a_path_is_a_pattern():
    assert is_pattern("a/b-*.tar") and is_pattern("b-{1..2}.tar")
    assert not is_pattern("a*/b.tar") and not is_pattern("a/b.tar")
