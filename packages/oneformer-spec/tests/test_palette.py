"""Colours are the same everywhere and can be told apart."""

from oneformer_spec.palette import color


def test_a_number_has_one_color_for_ever():
    assert [color(number) for number in (1, 2, 3)] == [(97, 139, 242), (146, 242, 12), (204, 31, 182)]


def test_the_colors_of_a_large_label_map_differ():
    assert len({color(number) for number in range(1, 201)}) == 200


def test_neighbours_differ_clearly():
    for number in range(1, 200):
        assert max(abs(a - b) for a, b in zip(color(number), color(number + 1), strict=True)) > 60
