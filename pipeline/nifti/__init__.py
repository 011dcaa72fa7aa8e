"""What a NIfTI header says, believed only after it was checked: the same at the door and in the processor."""
