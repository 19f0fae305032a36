"""The paper's CycleGAN: networks (section 2.7), losses (eq. 1 to 5), training."""
