"""Samples in tar files after the WebDataset convention: written, indexed, read in any order, fetched from a server."""
