"""graft: fine-tune diffusion and flow models by shaping the law of an intermediate state."""
