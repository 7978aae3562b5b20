from __future__ import annotations

import pytest

from oneformer_deploy.quantization.search import FEWEST_GROUPS, MOST_GROUPS, group_layers, search, within_budget
from oneformer_spec.errors import OneFormerError

LAYERS = [f"/model/part{part}/block{block}/MatMul" for part in range(12) for block in range(3)]
BEFORE = {"PQ": 0.5, "AP": 0.3}


def find(harm, budget, said=None):
    """Search where each layer of a part costs AP what `harm` says of the part."""
    scored = []

    def cost(layers):
        return sum(harm.get(name.split("/")[2], 0.0) for name in layers)

    def score(layers):
        scored.append(list(layers))
        return {"PQ": 0.5, "AP": 0.3 - cost(layers)}

    found = search(
        LAYERS, before=BEFORE, budget=budget, score=score, distance=cost, report=print if said is None else said.append
    )
    assert found.evaluations == len(scored)
    return found


def test_all_layers_at_once_cost_one_evaluation():
    found = find({}, 0.0)
    assert (found.layers, found.evaluations) == (LAYERS, 1)


def test_only_what_harms_stays_out():
    said = []
    found = find({"part3": 0.02, "part7": 0.05}, 0.01, said)
    assert found.layers == [name for name in LAYERS if "part3" not in name and "part7" not in name]
    assert found.evaluations <= 5, "1 for all, and a bisection of 12 groups"
    assert said[0] == "all 36 layers in INT8: PQ 0.5000 (+0.0000), AP 0.0900 (-0.2100)"
    assert found.scores["AP"] == 0.3


def test_it_is_an_error_if_nothing_fits_the_budget():
    with pytest.raises(
        OneFormerError, match=r"max_metric_drop: no layer can be quantized within 0\.01; the least sensitive group"
    ):
        find({f"part{part}": 0.1 for part in range(12)}, 0.01)


def test_every_score_counts():
    assert within_budget(BEFORE, {"PQ": 0.6, "AP": 0.29}, 0.02)
    assert not within_budget(BEFORE, {"PQ": 0.6, "AP": 0.27}, 0.02)


@pytest.mark.parametrize("names", [LAYERS, [f"node_{index}" for index in range(100)], ["a/b", "a/c", "d"]])
def test_groups_hold_every_layer_once(names):
    groups = group_layers(names)
    assert [name for members in groups.values() for name in members] == names
    assert min(FEWEST_GROUPS, len(names)) <= len(groups) <= MOST_GROUPS
