"""Labelled images: where they come from, and batches of them."""

from zoo.data.dataset import Dataset, DatasetError, Example
from zoo.data.load import Splits, load
from zoo.data.sources import as_dataset

__all__ = ["Dataset", "DatasetError", "Example", "Splits", "as_dataset", "load"]
