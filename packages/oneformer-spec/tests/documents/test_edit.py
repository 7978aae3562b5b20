"""`spec set` changes values in place and leaves the rest of the text as the user wrote it."""

import os
import stat
from pathlib import Path

import pytest

from oneformer_spec.documents.edit import set_values
from oneformer_spec.errors import SpecError

SAMPLE = (Path(__file__).parents[1] / "sample_spec.yaml").read_text()


@pytest.fixture
def edit(tmp_path):
    def edit_text(text, *overrides, name="spec.yaml"):
        path = tmp_path / name
        path.write_text(text)
        set_values(path, overrides)
        return path.read_text()

    return edit_text


def test_only_the_values_change(edit):
    edited = edit(
        SAMPLE,
        "train.num_epochs=3",
        "model.backbone.type=swin",
        "model.backbone.swin.depths=[2, 2, 6, 2]",
        "train.pretrained_backbone=a b.pth",
    )
    assert [(old, new) for old, new in zip(SAMPLE.splitlines(), edited.splitlines(), strict=True) if old != new] == [
        ("    name: D2SwinTransformer", "    name: swin"),
        ("      depths: [2, 2, 18, 2]", "      depths: [2, 2, 6, 2]"),
        ("  num_epochs: 50", "  num_epochs: 3"),
        ("  pretrained_backbone:", '  pretrained_backbone: "a b.pth"'),
    ]


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (
            "# mine\ntrain:  # t\n  optim:\n    lr: 1 # x\n\n# model\nmodel: {precise_msda: false}\n",
            ["train.optim.gamma=0.5", "model.one_former.nheads=4", "train.seed=3", "train.optim.lr=2"],
            "# mine\ntrain:  # t\n  optim:\n    lr: 2 # x\n    gamma: 0.5\n  seed: 3\n\n# model\n"
            "model: {precise_msda: false, one_former: {nheads: 4}}\n",
        ),
        ("", ["train.optim.lr=3"], "train:\n  optim:\n    lr: 3\n"),
        ("# only words", ["train.optim.lr=3"], "# only words\ntrain:\n  optim:\n    lr: 3\n"),
        ("train:\n", ["train.seed=3"], "train: {seed: 3}\n"),
        ("train:\n  seed: 1", ["results_dir=a: b # c"], 'train:\n  seed: 1\nresults_dir: "a: b # c"\n'),
        (
            "train:\n  optim:\n    milestones: # when\n    - 3\n    - 4\n    # after\n  seed: 3\n",
            ["train.optim.milestones=[5, 6]"],
            "train:\n  optim:\n    milestones: [5, 6] # when\n    # after\n  seed: 3\n",
        ),
        ("model_name: |\n  a\n  b\n\ntrain:\n  seed: 1\n", ["model_name=c"], "model_name: c\n\ntrain:\n  seed: 1\n"),
        ("train: {seed: wrong}\nother: 1\n", ["train.seed=4"], "train: {seed: 4}\nother: 1\n"),
        ("a: &x 3\ntrain: {seed: 1}\n", ["train.seed=4"], "a: &x 3\ntrain: {seed: 4}\n"),
    ],
)
def test_yaml(edit, text, overrides, expected):
    assert edit(text, *overrides) == expected


def test_json(edit):
    text = '{\n  "train": {\n    "seed": 3\n  },\n  "model": {}\n}\n'
    assert edit(
        text, "train.seed=4", "train.optim.lr=1", "model_name=x y", "model.precise_msda=true", name="a.json"
    ) == (
        '{\n  "train": {\n    "seed": 4, "optim": {"lr": 1}\n  },\n'
        '  "model": {"precise_msda": true}, "model_name": "x y"\n}\n'
    )


class TestFile:
    @pytest.mark.parametrize(
        ("before", "overrides", "after"),
        [
            (
                b"# mine\r\ntrain:\r\n  seed: 1 # x\r\n",
                ["train.seed=2", "train.optim.lr=3"],
                b"# mine\r\ntrain:\r\n  seed: 2 # x\r\n  optim:\r\n    lr: 3\r\n",
            ),
            (b"train:\r\n  seed: 1", ["model_name=a"], b"train:\n  seed: 1\nmodel_name: a\n".replace(b"\n", b"\r\n")),
            (b"a: 1\r\ntrain:\n  seed: 1\n", ["train.seed=2"], b"a: 1\r\ntrain:\n  seed: 2\n"),
            (b"\xef\xbb\xbftrain: {seed: 1}\r\n", ["train.seed=2"], b"\xef\xbb\xbftrain: {seed: 2}\r\n"),
            (b"\xef\xbb\xbf", ["train.seed=2"], b"\xef\xbb\xbftrain:\n  seed: 2\n"),
        ],
    )
    def test_line_ends_and_byte_order_mark_stay(self, tmp_path, before, overrides, after):
        path = tmp_path / "spec.yaml"
        path.write_bytes(before)
        set_values(path, overrides)
        assert path.read_bytes() == after

    def test_json_keeps_its_line_ends_too(self, tmp_path):
        path = tmp_path / "spec.json"
        path.write_bytes(b'{\r\n  "train": {"seed": 1}\r\n}\r\n')
        set_values(path, ["train.seed=2", "model_name=a"])
        assert path.read_bytes() == b'{\r\n  "train": {"seed": 2}, "model_name": "a"\r\n}\r\n'

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
    def test_the_mode_stays(self, tmp_path, mode):
        path = tmp_path / "spec.yaml"
        path.write_text("encryption_key: secret\n")
        path.chmod(mode)
        set_values(path, ["train.seed=2"])
        assert stat.S_IMODE(path.stat().st_mode) == mode

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_the_owner_stays(self, tmp_path):
        path = tmp_path / "spec.yaml"
        path.write_text("train: {seed: 1}\n")
        os.chown(path, 1234, 4321)
        set_values(path, ["train.seed=2"])
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)

    def test_of_a_symbolic_link_the_target_changes(self, tmp_path):
        target = tmp_path / "specs" / "leaf.yaml"
        target.parent.mkdir()
        target.write_text("train: {seed: 1}\n")
        target.chmod(0o640)
        (tmp_path / "current.yaml").symlink_to("specs/leaf.yaml")
        (tmp_path / "spec.yaml").symlink_to("current.yaml")
        set_values(tmp_path / "spec.yaml", ["train.seed=2"])
        assert os.readlink(tmp_path / "spec.yaml") == "current.yaml"
        assert os.readlink(tmp_path / "current.yaml") == "specs/leaf.yaml"
        assert target.read_text() == "train: {seed: 2}\n"
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        assert [path.name for path in target.parent.iterdir()] == ["leaf.yaml"]


@pytest.mark.parametrize(
    ("text", "override", "problem"),
    [
        ("train: {seed: 1}\n", "train.seed=x", 'train.seed=x: train.seed: found "x"'),
        ("train: {seed: 1}\n", "train.sed=1", "did you mean train.seed?"),
        ("train: {seed: 1}\n", "train.seed", "an override is written path.to.field=value"),
        ("dataset:\n  val: &a {batch_size: 2}\n  test: *a\n", "dataset.test.batch_size=4", "change it by hand"),
        ("train: {seed: 1\n", "train.seed=2", "is not valid YAML"),
    ],
)
def test_what_cannot_be_done_leaves_the_file_as_it_is(tmp_path, text, override, problem):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=problem.replace("?", r"\?")):
        set_values(path, [override])
    assert path.read_text() == text
