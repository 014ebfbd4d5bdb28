"""What may be spent, and the settings that say so."""
