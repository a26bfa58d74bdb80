"""The record of a run and what shows it. Nothing is imported here: TensorBoard loads its plugin without torch."""
