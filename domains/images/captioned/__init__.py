"""Pictures with captions: recoloured emoji, and the small networks that are trained on them."""
