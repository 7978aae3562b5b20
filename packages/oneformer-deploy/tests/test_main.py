from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tiny_onnx import LABELS, write_model

import oneformer_deploy
from oneformer_deploy.__main__ import main
from oneformer_spec.plugins import registry
from oneformer_spec.segmentation.manifest import Manifest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "oneformer_deploy", *arguments], capture_output=True, text=True)


def test_the_package_itself_opens_onnx_files(model):
    code = "import oneformer_deploy, sys; print('onnxruntime' in sys.modules, callable(oneformer_deploy.open_onnx))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"], "nothing is imported before it is needed"
    assert oneformer_deploy.open_onnx(model, "cpu").manifest.labels == LABELS
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        oneformer_deploy.nothing  # noqa: B018


def test_help_names_the_commands():
    result = run("-h")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("inference", "evaluate", "info"))


@pytest.mark.parametrize("arguments", [[], ["fly"], ["inference", "--fly"], ["info"], ["info", "a", "b"]])
def test_a_wrong_command_line_is_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_runs_as_a_module_with_a_spec_file(model, pictures, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"inference:\n  checkpoint: {model}\n  mode: panoptic\n")
    result = run("inference", f"results_dir={tmp_path}/out", "-e", str(spec), f"inference.images_dir={pictures}")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out/inference/segments/a.png.json").read_text())["task"] == "panoptic"
    assert "panoptic:" in result.stdout


def test_info_prints_the_manifest(model, capsys):
    assert main(["info", str(model)]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "shortest edge 64, longest at most 128 pixels" in out
    assert "  7  thing  green  #1ea03c" in out


def test_info_as_json_is_the_manifest_and_nothing_else(model, capsys):
    assert main(["info", str(model), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"]["opsets"] == {"": 17}
    assert Manifest.from_dict(document, "stdout").labels == LABELS


def test_info_of_a_foreign_file_is_one_line(tmp_path, capsys):
    path = write_model(tmp_path / "m.onnx", metadata={})
    assert main(["info", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: this ONNX file (written by hand) has no oneformer manifest")


def test_info_does_not_read_the_graph(model, tmp_path, capsys):
    content = model.read_bytes()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"AveragePool", b"\xff" * 11))
    assert main(["info", str(tmp_path / "m.onnx")]) == 0


def test_info_loads_no_runtime(model):
    script = (
        "import sys; from oneformer_deploy.__main__ import main;"
        f"main(['info', {str(model)!r}]); print(sorted({{'onnxruntime', 'torch', 'PIL', 'yaml'}} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_evaluate_without_its_package_names_the_pip_command(monkeypatch, capsys):
    monkeypatch.setattr(registry, "registry", registry.Registry)
    assert main(["evaluate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "python -m pip install 'oneformer-deploy[evaluate]'" in line


def test_debug_shows_the_traceback(tmp_path, capsys):
    assert main(["info", str(tmp_path / "none.onnx"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
