"""First contact: init, check, validate."""
