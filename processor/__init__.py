"""The processor: a worker that turns an uploaded scan into a saliency map, a number and a report."""

import os

# TensorFlow reads these when it is first imported, which happens below this package only.
# Left to itself it uses oneDNN only on CPUs with AVX-512; with AVX2 too oneDNN's 3-D convolutions take 2.5
# times less CPU time than TensorFlow's own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its greetings are no log records of ours
# The matrices that NumPy multiplies here are small: a second thread would only spin, and add in another
# order.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
