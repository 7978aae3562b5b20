"""TensorRT engines: the file, the library, the number format of each layer."""
