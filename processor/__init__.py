"""The processor: a worker that turns an uploaded scan into a saliency map, a number and a report."""
