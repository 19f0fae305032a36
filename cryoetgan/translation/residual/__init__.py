"""The residual network of preset `recommended`."""
