"""What serves the training loop: backbones, steps, callbacks, state, plan and devices."""
