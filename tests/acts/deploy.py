"""Fields of the sections `gen_trt_engine` and `quantize`, and what reads engines."""

from __future__ import annotations

from acts.observers import evaluation, inference
from acts.observers_deploy import engine, quantized, scored
from acts.row import Row

ENGINE, BUILDER = "gen_trt_engine", "gen_trt_engine.tensorrt"
GRAPH = ("gen_trt_engine.onnx_file=$graph",)
IMAGES = "dataset.quant_calibration_dataset.images_dir"
INT8 = (*GRAPH, f"{IMAGES}=$data/images/val", f"{BUILDER}.data_type=int8", f"{BUILDER}.layers_precision=[Conv*:int8]")
BATCHES = (*GRAPH, f"{BUILDER}.min_batch_size=2", f"{BUILDER}.opt_batch_size=3", f"{BUILDER}.max_batch_size=4")

NONE = "$run/none.engine"
ENGINES = (
    Row(
        "evaluate.trt_engine", "$run/none.engine", evaluation, together=("evaluate.checkpoint=",), refusal="none.engine"
    ),
    Row(
        "inference.trt_engine",
        "$run/none.engine",
        inference,
        together=("inference.checkpoint=",),
        refusal="none.engine",
    ),
    Row(f"{ENGINE}.results_dir", "$run/elsewhere", engine, base=GRAPH),
    Row(f"{ENGINE}.gpu_id", "1", engine, base=GRAPH),
    Row(f"{ENGINE}.onnx_file", "$run/none.onnx", engine, base=GRAPH, refusal="none.onnx does not exist"),
    Row(f"{ENGINE}.trt_engine", "$run/mine.engine", engine, base=GRAPH),
    Row(f"{ENGINE}.timing_cache", "$run/kernels", engine, base=GRAPH),
    Row(f"{ENGINE}.batch_size", "2", engine, base=INT8),
    Row(f"{ENGINE}.verbose", "true", engine, base=GRAPH),
    Row(f"{BUILDER}.workspace_size", "64", engine, base=GRAPH),
    Row(f"{BUILDER}.min_batch_size", "1", engine, base=BATCHES),
    Row(f"{BUILDER}.opt_batch_size", "2", engine, base=BATCHES),
    Row(f"{BUILDER}.max_batch_size", "5", engine, base=BATCHES),
    Row(f"{BUILDER}.layers_precision", "[AveragePool*:fp32]", engine, base=GRAPH),
    Row(f"{BUILDER}.data_type", "bf16", engine, base=GRAPH),
)
MODEL = ("quantize.model_path=$graph", "dataset.val.annotations=null", "dataset.val.images=null")
STATIC = (*MODEL, "quantize.mode=static_ptq", f"{IMAGES}=$data/images/val", "quantize.max_metric_drop=1.0")
QUANTIZE = (
    Row("quantize.backend", "torchao", quantized, base=MODEL, refusal="for .onnx files set backend: onnxruntime"),
    Row("quantize.mode", "weight_only_ptq", quantized, base=STATIC),
    Row(
        "quantize.algorithm",
        "rtn_dq",
        quantized,
        base=STATIC,
        refusal="found rtn_dq, expected one of minmax",
    ),
    Row(
        "quantize.layers",
        "[{module_name: Conv*, weights: {dtype: fp32}}]",
        quantized,
        base=MODEL,
    ),
    Row("quantize.skip_names", "[Conv]", quantized, base=MODEL),
    Row("quantize.model_path", "$run/none.onnx", quantized, base=MODEL, refusal="none.onnx does not exist"),
    Row("quantize.results_dir", "$run/elsewhere", quantized, base=MODEL),
    Row("quantize.backend_kwargs", "{ActivationSymmetric: true}", quantized, base=STATIC),
    Row("quantize.device", "trt", quantized, base=STATIC),
    Row("quantize.max_metric_drop", "0.001", scored, base=STATIC[:-1], refusal="no layer can be quantized within"),
    Row(IMAGES, "$data/images/val_bright", quantized, base=STATIC),
)
ROWS = (*ENGINES, *QUANTIZE)
