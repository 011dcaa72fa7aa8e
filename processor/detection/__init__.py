"""The detection: arrays in, arrays out. It knows nothing of streams, pages or jobs.

grid           the voxels the network was trained on
preprocessing  HU to what the network takes
weights        the network's numbers, in memory and on disk
precision      the arithmetic of the network, and whether this CPU has it
network        the network's architecture, and its graph
saliency       hemisphere maps to the map of the whole volume
detector       all of these in their order
picture        the one-page summary
"""
