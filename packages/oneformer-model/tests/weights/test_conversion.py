"""One model in three forms: each reads what another wrote."""

import json

import pytest
import torch

import oneformer_model
from oneformer_model import task_tokens
from oneformer_model.adapters.original import TAO
from oneformer_model.build import build
from oneformer_model.weights import checkpoint, sources
from oneformer_model.weights.conversion import WeightFormat, convert
from oneformer_spec.errors import CheckpointError, OneFormerError, SpecError, UsageError
from oneformer_spec.tasks import Task


@pytest.fixture
def source(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest)
    return path


def assert_same_model(path, training_model):
    image, tokens = torch.randn(1, 3, 61, 83), task_tokens(Task.PANOPTIC)
    training_model.eval()
    with torch.inference_mode():
        found, expected = oneformer_model.load(path)(image, tokens), training_model(image, tokens)
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))
    state = oneformer_model.load(path, training=True).state_dict()
    assert [name for name, value in training_model.state_dict().items() if not torch.equal(value, state[name])] == []


@pytest.mark.parametrize("target", ["folder", "shi.pkl", "again.pth"])
def test_every_form_holds_the_same_model(tmp_path, source, training_model, manifest, target):
    report = convert(source, tmp_path / target)
    assert (report.kind, report.num_classes, report.has_texts, report.notes) == ("oneformer", 3, True, ())
    assert report.num_tensors == len(training_model.state_dict())
    assert_same_model(tmp_path / target, training_model)


def test_a_folder_keeps_classes_and_input(tmp_path, source, manifest):
    convert(source, tmp_path / "folder")
    found = sources.read(tmp_path / "folder").manifest
    assert [(label.name, label.isthing) for label in found.labels] == [
        (label.name, label.isthing) for label in manifest.labels
    ]
    assert found.mean == pytest.approx(manifest.mean)
    assert found.std == pytest.approx(manifest.std)
    assert found.size == manifest.size
    assert checkpoint.model_section(found).one_former == checkpoint.model_section(manifest).one_former


def test_inference_leaves_the_text_branch_out_and_training_starts_it_anew(tmp_path, source, training_model):
    report = convert(source, tmp_path / "folder", inference=True)
    assert not report.has_texts
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["is_training"] is False
    model = oneformer_model.load(tmp_path / "folder", training=True)
    assert model.state_dict().keys() == training_model.state_dict().keys()


@pytest.mark.parametrize("shards", [True, False])
def test_shards_and_the_older_format_are_read(tmp_path, source, training_model, shards):
    convert(source, tmp_path / "folder")
    whole = tmp_path / "folder" / "model.safetensors"
    tensors = oneformer_model.adapters.files.tensors(whole)
    whole.unlink()
    names = sorted(tensors)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]} if shards else {"pytorch_model.bin": names}
    for part, held in parts.items():
        torch.save({name: tensors[name] for name in held}, tmp_path / "folder" / part)
    if shards:
        index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
        (tmp_path / "folder" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_same_model(tmp_path / "folder", training_model)


def test_a_file_of_tao_is_read(tmp_path, training_model):
    state = TAO.to_theirs(training_model.state_dict())
    state["model.backbone.head.weight"] = torch.zeros(1000, 128)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "tao.pth")
    found = sources.read(tmp_path / "tao.pth")
    assert found.kind == "TAO"
    assert found.manifest.labels.names == ("class 1", "class 2", "class 3")
    assert found.notes == (f"{tmp_path / 'tao.pth'}: contains no class names; set them with --label-map",)
    assert_same_model(tmp_path / "tao.pth", training_model)


def test_the_temperature_that_files_of_the_original_lack_is_the_published_one(tmp_path, training_model):
    state = TAO.to_theirs(training_model.state_dict())
    del state["model.criterion.logit_scale"]
    torch.save({"state_dict": state}, tmp_path / "tao.pth")
    model = oneformer_model.load(tmp_path / "tao.pth", training=True)
    assert model.text_branch.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_a_label_map_names_the_classes(tmp_path, source):
    rows = [{"id": n, "name": f"name {n}", "isthing": n % 2} for n in (3, 5, 8)]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    convert(source, tmp_path / "named.pth", label_map=tmp_path / "labels.json")
    labels = sources.read(tmp_path / "named.pth").manifest.labels
    assert [(label.id, label.name, label.isthing) for label in labels] == [
        (3, "name 3", True),
        (5, "name 5", True),
        (8, "name 8", False),
    ]
    (tmp_path / "labels.json").write_text(json.dumps(rows[:2]))
    with pytest.raises(SpecError, match=r"labels\.json: names 2 classes, but .*model\.pth has 3"):
        convert(source, tmp_path / "short.pth", label_map=tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("target", "to", "message"),
    [
        ("model.pth", None, r"model\.pth: exists; replace it with --force"),
        ("taken", None, r"taken: exists; replace it with --force"),
        ("taken", WeightFormat.ONEFORMER, r"taken: is a folder; oneformer weights are a file"),
        ("model.pth", WeightFormat.HUGGING_FACE, r"model\.pth: is a file; huggingface weights are a folder"),
        ("model.onnx", None, r"model\.onnx: no format has the suffix \.onnx"),
    ],
)
def test_targets_that_cannot_be_are_refused(tmp_path, source, target, to, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    before = source.read_bytes()
    with pytest.raises(UsageError, match=message):
        convert(source, tmp_path / target, to=to)
    assert source.read_bytes() == before


def test_force_replaces_the_files_of_a_model_and_no_other(tmp_path, source):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    convert(source, tmp_path / "taken", force=True)
    assert {path.name for path in (tmp_path / "taken").iterdir()} == {
        "notes.txt",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }


def test_a_network_that_hugging_face_does_not_have_is_not_written(tmp_path, section, manifest):
    from dataclasses import replace

    from oneformer_spec.schema.tree import plain

    changed = section(one_former={"enc_layers": 1})
    state = build(changed, training=False).state_dict()
    checkpoint.save(tmp_path / "m.pth", state_dict=state, manifest=replace(manifest, model=plain(changed)))
    with pytest.raises(OneFormerError, match=r"does not support these settings: model\.one_former\.enc_layers"):
        convert(tmp_path / "m.pth", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mask2former"}, r"config\.json: model_type is 'mask2former', expected 'oneformer'"),
        ({"backbone_config": {"model_type": "dinat"}}, r"found the backbone 'dinat', expected 'swin'"),
        ({"num_queries": 13}, r"misshapen: query_decoder\.query_embedding\.weight \[12, 32\] instead of \[13, 32\]"),
        ({"decoder_layers": 4}, r"missing: query_decoder\.layers\.2\."),
        ({"encoder_layers": "many"}, r"its model cannot be built"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(tmp_path, source, change, message):
    convert(source, tmp_path / "folder", inference=True)
    config = tmp_path / "folder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CheckpointError, match=message) as error:
        oneformer_model.load(tmp_path / "folder")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", r"config\.json: is not valid JSON"),
        ("config.json", "[]", r"config\.json: expected a JSON object, found list"),
        ("preprocessor_config.json", '{"image_mean": "a"}', r"preprocessor_config\.json: could not convert"),
        ("model.safetensors", "junk", r"model\.safetensors: is damaged or not a safetensors file"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path, source, name, content, message):
    convert(source, tmp_path / "folder", inference=True)
    (tmp_path / "folder" / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        oneformer_model.load(tmp_path / "folder")


def test_a_shard_outside_of_the_folder_is_not_read(tmp_path, source):
    convert(source, tmp_path / "folder", inference=True)
    (tmp_path / "folder" / "model.safetensors").unlink()
    index = tmp_path / "folder" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model.pth"}}))
    with pytest.raises(CheckpointError, match=r"'\.\./model\.pth' is not the name of a file in this folder"):
        oneformer_model.load(tmp_path / "folder")


def test_unknown_missing_and_misshapen_tensors_of_a_foreign_file_are_all_listed(tmp_path, training_model):
    state = TAO.to_theirs(training_model.state_dict())
    del state["model.sem_seg_head.predictor.class_embed.bias"]
    state["model.extra"] = torch.zeros(1)
    state["model.task_mlp.layers.1.bias"] = torch.zeros(3)
    torch.save({"state_dict": state}, tmp_path / "tao.pth")
    with pytest.raises(CheckpointError) as error:
        oneformer_model.load(tmp_path / "tao.pth")
    assert str(error.value) == (
        f"{tmp_path / 'tao.pth'}: its tensors do not fit the model; missing: query_decoder.class_head.bias; "
        "unexpected: model.extra; misshapen: task_encoder.layers.1.bias [3] instead of [32]"
    )


def test_a_file_with_another_backbone_says_so(tmp_path, training_model):
    state = {
        name.replace("backbone.layers", "backbone.levels"): value
        for name, value in TAO.to_theirs(training_model.state_dict()).items()
    }
    torch.save({"state_dict": state}, tmp_path / "tao.pth")
    with pytest.raises(CheckpointError, match=r"tao\.pth: its backbone is not a Swin Transformer"):
        oneformer_model.load(tmp_path / "tao.pth")
