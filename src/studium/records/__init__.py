"""Facts that cross a boundary or reach the disk: frozen, plain, and free of behaviour that needs I/O."""
