"""Training stages, one readable file each, all of one shape: `run(recipe, folder, say) -> Checkpoint`."""
