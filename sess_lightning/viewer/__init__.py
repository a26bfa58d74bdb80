"""The viewer: the record of a run, its page, the tab in TensorBoard."""
