"""Synthetic aligned CT angiograms with a known planted lesion: for trying, testing, training; no medicine."""

from processor.synthetic.grid import AFFINE, SHAPE
from processor.synthetic.lesion import Lesion, Side, random_lesion
from processor.synthetic.samples import write_samples
from processor.synthetic.scan import SyntheticScan, Truth, synthesize

__all__ = [
    "AFFINE",
    "SHAPE",
    "Lesion",
    "Side",
    "SyntheticScan",
    "Truth",
    "random_lesion",
    "synthesize",
    "write_samples",
]
