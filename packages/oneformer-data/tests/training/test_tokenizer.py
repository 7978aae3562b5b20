from __future__ import annotations

import pytest

from oneformer_data.training.tokenizer import detokenize, tokenize
from oneformer_spec.tasks import TASKS, task_prompt, task_row

# From the tokenizer of open_clip_torch 3.3.0, which is OpenAI's.
EXPECTED = [
    ("a photo with a tree-merged", [320, 1125, 593, 320, 2677, 268, 46492]),
    ("Café &amp; thé — naïve", [15304, 261, 513, 4166, 2005, 1097, 35689, 563]),
    ("it's they'll I'VE l'eau 3.14", [585, 568, 889, 1342, 328, 1200, 331, 262, 17608, 274, 269, 272, 275]),
    ("日本語", [39121, 44353, 34002, 508]),
    ("😀👩\u200d👩\u200d👧", [12832, 26304, 26304, 964, 356]),
    ("schÃ¶n ﬁne", [844, 7255, 333, 3797]),
    ("&lt;b&gt; wall-other-merged", [283, 321, 285, 2569, 268, 1010, 268, 46492]),
]


def ids(text: str) -> list[int]:
    return [number for number in tokenize(text) if number]


@pytest.mark.parametrize("task", TASKS)
def test_the_task_prompts_have_the_published_tokens(task):
    assert list(tokenize(task_prompt(task))) == task_row(task)


@pytest.mark.parametrize(("text", "expected"), EXPECTED)
def test_tokens_equal_openais(text, expected):
    assert ids(text) == [49406, *expected, 49407]


def test_case_and_spaces_do_not_matter():
    assert tokenize("A  Photo\nwith a\tDOG ") == tokenize("a photo with a dog")


def test_a_long_text_is_cut_and_keeps_its_end():
    tokens = tokenize("dog " * 100)
    assert len(tokens) == 77
    assert tokens[0] == 49406
    assert tokens[-1] == 49407
    assert set(tokens[1:-1]) == {tokenize("dog")[1]}


def test_padding_is_zero():
    assert tokenize("", 8) == (49406, 49407, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "text", ["a photo with a nucleus", "it's 12 o'clock", "naïve café ñ 東京 🙂", "a panoptic photo"]
)
def test_tokens_can_be_read_again(text):
    assert detokenize(tokenize(text)).replace(" ", "") == text.replace(" ", "")
    assert detokenize(tokenize("a photo with a traffic light")) == "a photo with a traffic light"
