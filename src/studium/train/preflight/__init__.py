"""Every silent mistake of the field as a check that fails before the first step."""
