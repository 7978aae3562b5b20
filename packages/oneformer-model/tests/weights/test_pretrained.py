"""Where training starts: weights of a whole model or of its backbone."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer as TimmSwin

from oneformer_model.adapters.original import SHI_LABS, SWIN_MICROSOFT
from oneformer_model.backbones.swin import SwinTransformer
from oneformer_model.build import build
from oneformer_model.weights import checkpoint
from oneformer_model.weights.pretrained import load_backbone, start_from
from oneformer_spec.errors import CheckpointError

SIZES = {"embed_dim": 8, "depths": (2, 2, 2, 1), "num_heads": (1, 2, 2, 4)}
HEADS = ["query_decoder.class_head.weight", "query_decoder.class_head.bias"]


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def differing(first, second):
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


@pytest.fixture
def source(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest)
    return path


def test_training_starts_from_a_whole_model(source, training_model, section):
    model = build(section(), training=True)
    assert start_from(model, source, reinit_heads=True) == []
    assert differing(training_model.state_dict(), values(model)) == []


def test_a_source_without_texts_leaves_them_fresh(tmp_path, training_model, section):
    state = {name: value for name, value in training_model.state_dict().items() if not name.startswith("text_")}
    path = tmp_path / "shi.pth"
    torch.save({"model": SHI_LABS.to_theirs(state)}, path)
    model = build(section(), training=True)
    assert start_from(model, path, reinit_heads=False) == [f"{path}: holds no text branch; it starts anew"]
    assert differing(state, values(model)) == []


def test_heads_of_other_classes_start_anew_on_request_alone(source, training_model, section):
    model = build(section(sem_seg_head={"num_classes": 5}), training=True)
    before = values(model)
    with pytest.raises(CheckpointError) as error:
        start_from(model, source, reinit_heads=False)
    assert str(error.value) == (
        f"{source}: its tensors do not fit the model; misshapen: {HEADS[0]} [4, 32] instead of [6, 32], "
        f"{HEADS[1]} [4] instead of [6]; train.reinit_heads starts heads of another number of classes anew"
    )
    assert differing(before, values(model)) == []
    notes = start_from(model, source, reinit_heads=True)
    assert notes == [f"{source}: 3 classes became 5: started anew: {', '.join(HEADS)}"]
    after = values(model)
    assert differing({name: before[name] for name in HEADS}, after) == []
    rest = {name: value for name, value in training_model.state_dict().items() if name not in HEADS}
    assert differing(rest, after) == []


def test_other_sizes_are_no_heads(source, section):
    model = build(section(one_former={"num_object_queries": 13}), training=True)
    with pytest.raises(CheckpointError, match=r"misshapen: query_decoder\.query_embedding\.weight \[12, 32\]") as error:
        start_from(model, source, reinit_heads=True)
    assert "reinit" not in str(error.value)


@pytest.mark.parametrize("form", ["timm", "microsoft"])
def test_a_classifier_of_imagenet_gives_its_features(tmp_path, form):
    """Maps stay larger than a window: where they do not, timm does not shift."""
    classifier = TimmSwin(img_size=128, window_size=2, **SIZES).eval()
    path = tmp_path / "swin.pth"
    if form == "timm":
        torch.save(classifier.state_dict(), path)
    else:
        moved = {
            name.replace(f"layers.{n}.downsample", f"layers.{n - 1}.downsample"): value
            for name, value in classifier.state_dict().items()
            for n in [int(name.split(".")[1]) if "downsample" in name else 0]
        }
        moved["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4)
        moved["layers.0.blocks.1.attn_mask"] = torch.zeros(1, 4, 4)
        torch.save({"model": moved}, path)
    backbone = SwinTransformer(window_size=2, **SIZES).eval()
    assert load_backbone(backbone, path) == [f"{path}: has no norms of the outputs; they start anew"]
    backbone.norms["res5"].load_state_dict(classifier.norm.state_dict())
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        found, expected = backbone(image)["res5"].permute(0, 2, 3, 1), classifier.forward_features(image)
    assert torch.allclose(found, expected, atol=1e-5)


def test_tables_of_another_window_are_resized(tmp_path):
    small, large = SwinTransformer(window_size=2, **SIZES), SwinTransformer(window_size=4, **SIZES)
    ramp = torch.arange(3.0)
    state = values(small)
    tables = [name for name in state if name.endswith("relative_position_bias")]
    for name in tables:  # rises from top to bottom
        state[name] = ramp[:, None, None].expand(3, 3, state[name].shape[1]).flatten(0, 1)
    torch.save(SWIN_MICROSOFT.to_theirs(state), tmp_path / "swin.pth")
    notes = load_backbone(large, tmp_path / "swin.pth")
    assert notes == [f"{tmp_path / 'swin.pth'}: 7 tables of relative positions were resized to the window of the spec"]
    table = large.state_dict()[tables[0]].view(7, 7)
    assert torch.allclose(table[3], torch.ones(7))  # the middle stays the middle
    assert (table.diff(dim=0) > 0).all()
    assert torch.allclose(table, table[:, :1].expand(7, 7), atol=1e-5)


def test_the_backbone_of_a_whole_model_is_taken(source, training_model, section):
    backbone = build(section(), training=True).backbone
    assert load_backbone(backbone, source) == []
    assert differing(training_model.backbone.state_dict(), values(backbone)) == []


def test_a_backbone_of_another_size_lists_what_does_not_fit(tmp_path):
    torch.save(SWIN_MICROSOFT.to_theirs(values(SwinTransformer(window_size=2, **SIZES))), tmp_path / "swin.pth")
    backbone = SwinTransformer(window_size=2, **{**SIZES, "depths": (2, 2, 3, 1)})
    before = values(backbone)
    with pytest.raises(CheckpointError, match=r"missing: stages\.2\.blocks\.2\.norm1\.weight"):
        load_backbone(backbone, tmp_path / "swin.pth")
    assert differing(before, values(backbone)) == []


def test_a_backbone_alone_is_no_whole_model(tmp_path, training_model):
    torch.save(SWIN_MICROSOFT.to_theirs(values(SwinTransformer(window_size=2, **SIZES))), tmp_path / "swin.pth")
    with pytest.raises(
        CheckpointError, match=r"swin\.pth: contains only a backbone \(Swin of its authors\); use it as"
    ):
        start_from(training_model, tmp_path / "swin.pth", reinit_heads=False)
