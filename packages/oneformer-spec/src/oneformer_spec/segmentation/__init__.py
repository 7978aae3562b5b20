"""Segment an image: prepare the network's input, run a model file, decode its outputs into segments."""
