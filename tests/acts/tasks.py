"""Fields of the sections `evaluate`, `inference` and `export`."""

from __future__ import annotations

from acts.observers import evaluation, export, export_device, exporter_talk, inference, load, processes_of
from acts.row import Row

EVERY_QUERY = ("model.test.object_mask_threshold=0.0", "model.test.overlap_threshold=0.0")
ROWS = (
    Row("evaluate.num_gpus", "2", processes_of("evaluate")),
    Row("evaluate.gpu_ids", "[70]", evaluation, refusal="cuda:70"),
    Row("evaluate.checkpoint", "$other", evaluation),
    Row("evaluate.runtime", "openvino", evaluation, refusal="the runtime openvino reads .onnx"),
    Row("evaluate.precision", "bf16", evaluation),
    Row("evaluate.results_dir", "$run/elsewhere", evaluation),
    Row("evaluate.batch_size", "2", evaluation),
    Row("evaluate.task", "semantic", evaluation),
    Row("evaluate.iou_per_class", "false", evaluation),
    Row("evaluate.num_threads", "3", evaluation),
    Row("inference.num_gpus", "2", processes_of("inference")),
    Row("inference.num_nodes", "2", inference, refusal="inference.num_nodes: 2: set NODE_RANK"),
    Row("inference.gpu_ids", "[70]", inference, refusal="cuda:70"),
    Row("inference.checkpoint", "$other", inference),
    Row("inference.runtime", "openvino", inference, refusal="the runtime openvino reads .onnx"),
    Row("inference.precision", "bf16", inference, base=("inference.mode=panoptic", *EVERY_QUERY)),
    Row("inference.images_dir", "$data/images/train", inference),
    Row("inference.results_dir", "$run/elsewhere", inference),
    Row("inference.batch_size", "2", inference),
    Row("inference.mode", "panoptic", inference),
    Row("inference.image_size", "[64, 64]", inference),
    Row("inference.num_threads", "3", inference),
    Row("export.results_dir", "$run/elsewhere", export),
    Row("export.gpu_id", "1", export_device, base=("export.on_cpu=false",)),
    Row("export.checkpoint", "$other", export),
    Row("export.onnx_file", "$run/mine.onnx", export),
    Row("export.on_cpu", "false", export_device),
    Row("export.input_channel", "4", load, refusal="export.input_channel"),
    Row("export.input_width", "96", export),
    Row("export.input_height", "96", export),
    Row("export.opset_version", "12", export),
    Row("export.dynamic_size", "true", export),
    Row("export.batch_size", "1", export),
    Row("export.verbose", "true", exporter_talk),
)
