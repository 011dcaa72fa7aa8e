"""The alignment: a head CT of any geometry in, the same head on the network's grid out, or a refusal.

Arrays and affines only: this package knows nothing of files, queues or the pipeline. World space is RAS
millimetres throughout; `docs/alignment.md` describes the method and where it holds.
"""
