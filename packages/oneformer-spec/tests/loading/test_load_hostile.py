"""A hostile or damaged file is refused with one line and without running anything.

What bounds the time is the number of values that are read before the file is refused: 5,000 take under half a second.
"""

import pytest

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "aliases counted with what they stand for"),
        ("a: &a [*a]", "the anchor of *a does not exist, or is being defined here"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ("{a: " * 10_000, "nested deeper than 32 levels"),
        ("- " * 100_000, "nested deeper than 32 levels"),
        ("\n".join(" " * depth + "a:" for depth in range(400)), "nested deeper than 32 levels"),
        ("a: !!python/object/apply:os.system [touch owned]", "tags are not allowed"),
        ("a: !!python/name:os.system", "tags are not allowed"),
        ("a: !include /etc/passwd", "tags are not allowed"),
        ("model_name: !!str 3", "tags are not allowed"),
        ("? !!str model_name\n: x", "tags are not allowed"),
        ("train: {optim: {lr: .nan}}", "found .nan, a number must be finite"),
        ("train: {optim: {lr: -.INF}}", "found -.INF, a number must be finite"),
        ("train: {optim: {lr: 1e999}}", "found 1e999, a number must be finite"),
        ("train: {seed: " + "9" * 5000 + "}", "the number is longer than 40 digits"),
        ("model_name: " + "x" * 10_000_000, "longer than 262144 characters"),
        ("a: [" + "1, " * 80_000 + "1]", "more than 5000 values"),
        ("".join(f"k{i}: 1\n" for i in range(5_000)), "more than 5000 values"),
        ("train:\n" + "".join(f"  key{i}: 1\n" for i in range(2400)), "and 2300 problems more"),
        ("train: {freeze: [" + "1, " * 4_900 + "1]}", "problems more"),
        ("x: &a [" + "1, " * 2400 + "1]\ntrain: {freeze: *a}", "problems more"),
        ("model_name: a\0b", "1:14: the character NUL"),
        ("model_name: a\x07b", "1:14: the character U+0007"),
        ('model_name: "\\ud83d"', "half a surrogate pair"),
        ('model_name: "\\UFFFFFFFF"', "is not valid YAML"),
        ("{a: 1}: 2", "a key must be text"),
        ("a: 1\n---\nb: 2", "2:1: a spec is one YAML document"),
        ("<<: 3", "<< takes a mapping"),
        ("%YAML 9.0\n---\na: 1", "is not valid YAML"),
        ("a: 1\n\tb: 2", "is not valid YAML"),
    ],
)
def test_yaml(tmp_path, monkeypatch, text, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(["spec.yaml"])
    assert any(problem in line for line in caught.value.problems)
    assert all(line.startswith(("spec.yaml:", "and ")) for line in caught.value.problems)
    assert list(tmp_path.iterdir()) == [tmp_path / "spec.yaml"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 200_000, "nested deeper than 32 levels"),
        ('{"train": {"optim": {"lr": NaN}}}', "found NaN, a number must be finite"),
        ('{"train": {"optim": {"lr": Infinity}}}', "found Infinity, a number must be finite"),
        ('{"train": {"seed": ' + "9" * 5000 + "}}", "is no JSON"),
        ('{"train": {}, "train": {}}', "the key 'train' stands twice"),
        ('{"a": 1,}', "is no JSON"),
        ("{'a': 1}", "is no JSON"),
        ("", "is no JSON"),
    ],
)
def test_json(tmp_path, text, problem):
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec([path])
    assert any(problem in line for line in caught.value.problems)


@pytest.mark.parametrize("override", ["train.seed=!!python/name:os.system", "train.seed=.nan", "train.seed=&a [*a]"])
def test_overrides(override):
    with pytest.raises(SpecError) as caught:
        load_spec([], [override])
    assert caught.value.problems[0].startswith(f"{override}: train.seed: ")


def test_many_megabytes_are_not_even_read(tmp_path):
    path = tmp_path / "spec.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(SpecError, match="longer than"):
        load_spec([path])
