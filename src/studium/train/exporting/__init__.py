"""Taking what was trained elsewhere: the model or its adapter, as other programs read it, and checked by loading it."""
