"""Tokenize text with CLIP's byte-pair encoding; the ids equal those of OpenAI's tokenizer.

The 49,408 ids are 256 byte symbols, the same 256 at the end of a word, one per merge, and the two markers.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import ftfy
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

from oneformer_spec.errors import SpecError
from oneformer_spec.plugins.task_declarations import declared_task
from oneformer_spec.tasks import CONTEXT_LENGTH

# Bytes that stand for themselves: the printable ones of Latin-1.
_PRINTING = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"""


@cache
def tokenize(text: str, length: int = CONTEXT_LENGTH) -> tuple[int, ...]:
    """Return `length` token ids: the start marker, the text, the end marker, then zeros.

    A text that is too long is truncated; the end marker is always there.
    """
    encoder = tokenizer()
    end = encoder.get_vocab_size() - 1
    ids = [end - 1, *encoder.encode(clean(text)).ids[: length - 2], end]
    return (*ids, *[0] * (length - len(ids)))


@cache
def prompt_row(task: str, length: int = CONTEXT_LENGTH) -> tuple[int, ...]:
    """Return the token ids of a task's prompt ("the task is panoptic"), padded with 0 to `length`.

    Raises:
        SpecError: The prompt is longer than `length`.
    """
    prompt = declared_task(task).prompt
    needed = len(tokenizer().encode(clean(prompt)).ids) + 2
    if length < needed:
        raise SpecError(f"dataset.task_seq_len: is {length}, but {prompt!r}, the prompt of {task}, needs {needed}")
    return tokenize(prompt, length)


def detokenize(ids: Sequence[int]) -> str:
    """Return the text of token ids, cleaned as by `clean`, without the markers and what follows the end marker."""
    vocabulary, end = tokenizer(), tokenizer().get_vocab_size() - 1
    words = [vocabulary.id_to_token(number) or "" for number in ids[1 : list(ids).index(end)]]
    bytes_of = {symbol: byte for byte, symbol in zip(_bytes_in_order(), _byte_symbols(), strict=True)}
    symbols = "".join(words).replace("</w>", " ").split(" ")
    return " ".join(bytes(map(bytes_of.__getitem__, word)).decode("utf-8", "replace") for word in symbols).strip()


def clean(text: str) -> str:
    """Normalise text as CLIP does: fix encoding errors, decode HTML entities twice, single spaces, lower case."""
    fixed = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(fixed.split()).lower()


@cache
def tokenizer() -> Tokenizer:
    """Return the byte-pair encoder, built once from the vocabulary that ships with the package."""
    merges = _merges()
    symbols = [*_byte_symbols(), *(symbol + "</w>" for symbol in _byte_symbols())]
    tokens = [*symbols, *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    encoder = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.add_special_tokens([AddedToken(marker, special=True) for marker in (START, END)])
    return encoder


def _merges() -> list[tuple[str, str]]:
    compressed = (files("oneformer_data") / "vocabulary" / "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode("utf-8").splitlines()
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


def _byte_symbols() -> list[str]:
    """Return the printable characters that stand for the 256 bytes, in CLIP's order: printable bytes come first."""
    return [chr(byte) for byte in _PRINTING] + [chr(256 + number) for number in range(256 - len(_PRINTING))]


def _bytes_in_order() -> list[int]:
    """Return the bytes in the order of `_byte_symbols`."""
    return [*_PRINTING, *(byte for byte in range(256) if byte not in _PRINTING)]
