"""`train.freeze`: from the names that people write to what is not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from oneformer_model import OneFormer
from oneformer_spec.errors import SpecError

ALIASES: Mapping[str, tuple[str, ...]] = {
    # names in the published implementation
    "backbone.patch_embed": ("backbone.patch_embedding",),
    "backbone.layers": ("backbone.stages",),
    "sem_seg_head": ("pixel_decoder", "query_decoder"),
    "sem_seg_head.pixel_decoder": ("pixel_decoder",),
    "sem_seg_head.predictor": ("query_decoder",),
    "task_mlp": ("task_encoder",),
    "text_encoder": ("text_branch.encoder",),
    "text_projector": ("text_branch.projector",),
    "prompt_ctx": ("text_branch.context",),
    # the same parts by the names alone that transformer detectors share
    "transformer": ("pixel_decoder.layers", "pixel_decoder.encoder", "query_decoder.layers"),
    "transformer.encoder": ("pixel_decoder.layers", "pixel_decoder.encoder"),
    "transformer.decoder": ("query_decoder.layers",),
    "pixel_decoder.transformer": ("pixel_decoder.layers", "pixel_decoder.encoder"),
    "pixel_decoder.transformer.encoder": ("pixel_decoder.layers", "pixel_decoder.encoder"),
    "pixel_decoder.input_proj": ("pixel_decoder.input_projections",),
    "pixel_decoder.mask_features": ("pixel_decoder.mask_projection",),
    "input_proj": ("pixel_decoder.input_projections", "query_decoder.input_projections"),
    "mask_features": ("pixel_decoder.mask_projection",),
    "predictor": ("query_decoder",),
    "class_transformer": ("query_decoder.class_transformer",),
    "query_embed": ("query_decoder.query_embedding",),
    "level_embed": ("query_decoder.level_embedding", "pixel_decoder.level_embedding"),
    "decoder_norm": ("query_decoder.norm",),
    "class_embed": ("query_decoder.class_head",),
    "mask_embed": ("query_decoder.mask_head",),
}
"""Customary name of a part, or of a part with a path below it -> ours; of several, those that the network has."""

_WRAPPER = "model."  # stands before every name in the checkpoints of others
_SUGGESTIONS = 4


def freeze(model: OneFormer, names: Sequence[str]) -> list[str]:
    """Stop training what `names` say; return the paths of the modules and parameters that were found.

    A name is a dotted path of a module or a parameter, the beginning of such paths, or one of `ALIASES`, which may go
    on below the part. Frozen modules go to eval mode and stay there.

    Raises:
        SpecError: A name is unknown, or nothing is left to train.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    known = [name for name in (*modules, *parameters) if name]
    found: list[str] = []
    for name in names:
        matches = _matches(name, known)
        if not matches:
            raise SpecError(_unknown(name, known))
        found += [match for match in matches if match not in found]
    model.freeze(modules[path] for path in found if path in modules)
    for path in found:
        if path in parameters:
            parameters[path].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise SpecError("train.freeze: leaves nothing to train")
    return found


def freezing(model: OneFormer, found: Sequence[str]) -> str:
    """Return one line that says what is frozen and how much of the network that is, in parameters."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, frozen = sum(count for count, _ in counts), sum(count for count, trained in counts if not trained)
    return f"train.freeze: {', '.join(found)}: {frozen:,} of {total:,} parameters are not trained"


def _matches(name: str, known: Sequence[str]) -> list[str]:
    """Return the topmost known paths that a name stands for: exactly, else by an alias, else as a beginning."""
    if name in known:
        return [name]
    candidates = _translated(name)
    exact = [path for path in candidates if path in known]
    if exact:
        return exact
    begun = [path for path in known if path.startswith(tuple(candidates))]
    return [path for path in begun if path.rpartition(".")[0] not in begun]


def _translated(name: str) -> list[str]:
    """Return what a name may mean: itself, or what the longest alias at its beginning stands for."""
    name = name.removeprefix(_WRAPPER)
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        targets = ALIASES.get(".".join(parts[:length]))
        if targets is not None:
            return [name, *(".".join([target, *parts[length:]]) for target in targets)]
    return [name]


def _unknown(name: str, known: Sequence[str]) -> str:
    top = [path for path in known if "." not in path]
    near = get_close_matches(name, [*known, *ALIASES], n=_SUGGESTIONS)
    hint = f"; did you mean {', '.join(near)}" if near else ""
    return f"train.freeze: {name}: no part of the network is called so; it has {', '.join(top)}{hint}"
