"""A model that compares answers in free words, and how texts are shown to a model."""
