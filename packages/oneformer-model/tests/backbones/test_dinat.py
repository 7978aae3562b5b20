import pytest
import torch

from oneformer_model.backbones.dinat import DilatedNeighborhoodTransformer
from oneformer_model.backbones.neighborhood_attention import NeighborhoodAttention, plan_axis

TINY = {
    "embed_dim": 16,
    "depths": (2, 1, 1, 1),
    "num_heads": (2, 2, 4, 4),
    "kernel_size": 3,
    "dilations": ((1, 2), (2,), (1,), (1,)),
    "drop_path_rate": 0.0,
}
CPU = torch.device("cpu")


def neighborhood(index, length, kernel, dilation):
    """Return the coordinates that one query sees along an axis, and their rows of the bias table, by the definition."""
    residue, place = index % dilation, index // dilation
    size = len(range(residue, length, dilation))
    start = min(max(place - kernel // 2, 0), size - kernel)
    steps = range(start, start + kernel)
    return [residue + dilation * step for step in steps], [step - place + kernel - 1 for step in steps]


def one_query_at_a_time(attention, x):
    """Compute neighbourhood attention of maps (B, H, W, C), each query with the keys of its own neighbourhood."""
    batch, height, width, dim = x.shape
    kernel, dilation, heads = attention.kernel, attention.dilation, attention.num_heads
    query, key, value = attention.qkv(x).unflatten(-1, (3, heads, -1)).unbind(dim=3)
    out = torch.empty(batch, height, width, dim)
    for y in range(height):
        for column in range(width):
            ys, bias_ys = neighborhood(y, height, kernel, dilation)
            xs, bias_xs = neighborhood(column, width, kernel, dilation)
            keys, values = (part[:, ys][:, :, xs].flatten(1, 2) for part in (key, value))
            scores = torch.einsum("bmc,bsmc->bms", query[:, y, column], keys) * (dim // heads) ** -0.5
            scores = scores + attention.relative_position_bias[:, bias_ys][:, :, bias_xs].flatten(1)
            out[:, y, column] = torch.einsum("bms,bsmc->bmc", scores.softmax(dim=-1), values).flatten(1)
    return attention.projection(out)


def attention(kernel, dilation, dim=8, heads=2):
    module = NeighborhoodAttention(dim, num_heads=heads, kernel=kernel, dilation=dilation)
    torch.nn.init.normal_(module.relative_position_bias)
    torch.nn.init.normal_(module.qkv.weight)
    return module


@pytest.mark.parametrize(
    ("kernel", "dilation", "height", "width"),
    [
        (3, 1, 3, 3),  # every window is the map
        (3, 1, 5, 9),  # short axes are whole
        (7, 1, 30, 17),  # a long axis is cut into tiles, one just short of it is not
        (3, 2, 13, 31),  # residues of unequal length
        (3, 3, 9, 40),
        (5, 4, 21, 67),
        (1, 1, 4, 15),  # a token sees itself alone
        (1, 3, 10, 40),
        (3, 7, 90, 23),
    ],
)
def test_attention_equals_the_definition_borders_and_dilation_included(kernel, dilation, height, width):
    module = attention(kernel, dilation)
    x = torch.randn(2, height, width, 8)
    with torch.no_grad():
        torch.testing.assert_close(module(x), one_query_at_a_time(module, x), rtol=1e-4, atol=1e-5)


def test_a_map_smaller_than_a_window_is_filled_with_zeros():
    module = attention(kernel=3, dilation=2)
    x = torch.randn(1, 4, 11, 8)
    filled = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 2))
    with torch.no_grad():
        torch.testing.assert_close(module(x), one_query_at_a_time(module, filled)[:, :4])


def test_gradients_are_those_of_the_definition():
    module = attention(kernel=3, dilation=2)
    x = torch.randn(1, 25, 9, 8)
    gradients = []
    for compute in (module, lambda x: one_query_at_a_time(module, x)):
        module.zero_grad()
        compute(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", range(6, 60, 5))
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (5, 1), (1, 4)])
def test_a_plan_shows_each_coordinate_its_own_neighborhood(length, kernel, dilation):
    plan = plan_axis(length, kernel, dilation, CPU)
    seen = []
    for zone in plan.zones:
        for queries, keys in zip(zone.queries, zone.keys, strict=True):
            for query, offsets, visible in zip(queries, zone.offsets, zone.seen, strict=True):
                seen.append((int(query), keys[visible].tolist(), offsets[visible].tolist()))
    for coordinate, place in enumerate(plan.order):
        assert seen[place] == (coordinate, *neighborhood(coordinate, length, kernel, dilation))


def test_a_plan_is_made_once_and_stays_out_of_the_state():
    assert plan_axis(20, 3, 1, CPU) is plan_axis(20, 3, 1, CPU)
    assert set(attention(3, 1).state_dict()) == {
        "relative_position_bias",
        "qkv.weight",
        "qkv.bias",
        "projection.weight",
        "projection.bias",
    }


def test_the_large_model_has_the_published_number_of_parameters():
    """200 million parameters without the classifier (Hassani and Shi, 2022)."""
    with torch.device("meta"):
        backbone = DilatedNeighborhoodTransformer(kernel_size=7)
    assert sum(parameter.numel() for parameter in backbone.parameters()) / 1e6 == pytest.approx(199, abs=1.5)


@pytest.mark.parametrize(
    ("change", "parameters_change"),
    [
        ({"embed_dim": 32}, True),
        ({"mlp_ratio": 3.0}, True),
        ({"depths": (2, 2, 1, 1), "dilations": None}, True),
        ({"num_heads": (1, 1, 2, 2)}, True),
        ({"kernel_size": 5}, True),
        ({"dilations": None}, False),
    ],
)
def test_an_option_acts(change, parameters_change):
    image = torch.randn(1, 3, 96, 80)
    results = []
    for options in (TINY, TINY | change):
        torch.manual_seed(0)
        backbone = DilatedNeighborhoodTransformer(**options).eval()
        with torch.inference_mode():
            results.append((backbone(image)["res4"], {k: v.shape for k, v in backbone.state_dict().items()}))
    assert (results[0][1] != results[1][1]) == parameters_change
    if results[0][0].shape == results[1][0].shape:
        assert not torch.allclose(results[0][0], results[1][0], rtol=0, atol=1e-5)


def test_drop_path_acts_in_training_only():
    backbone = DilatedNeighborhoodTransformer(**TINY | {"drop_path_rate": 0.5})
    rates = [block.drop_path.rate for stage in backbone.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(backbone.train()(image)["res5"], backbone(image)["res5"])
        assert torch.equal(backbone.eval()(image)["res5"], backbone(image)["res5"])


def test_recomputing_runs_the_blocks_again():
    backbone = DilatedNeighborhoodTransformer(**TINY, use_checkpoint=True).train()
    calls = []
    backbone.stages[0].blocks[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    backbone(torch.randn(1, 3, 32, 32))["res5"].sum().backward()
    assert len(calls) == 2


def test_only_what_is_handed_out_is_built():
    backbone = DilatedNeighborhoodTransformer(**TINY, out_features=("res2", "res3"), out_indices=(0, 1))
    assert list(backbone(torch.randn(1, 3, 32, 32))) == ["res2", "res3"]
    assert backbone.channels == {"res2": 16, "res3": 32}
    assert len(backbone.stages) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "kernel_size: found 4, expected an odd number"),
        ({"dilations": ((1, 1), (1,), (1,))}, r"dilations: found lists of \[2, 1, 1\], expected one number per block"),
        ({"out_features": ("res3",), "out_indices": (0,)}, "disagree"),
        ({"num_heads": (2, 2, 4)}, "do not fit together"),
    ],
)
def test_options_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DilatedNeighborhoodTransformer(**TINY | change)


def test_it_compiles_as_one_graph():
    backbone = DilatedNeighborhoodTransformer(**TINY).eval()
    compiled = torch.compile(backbone, fullgraph=True, backend="eager")
    image = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), backbone(image))
