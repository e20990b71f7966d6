"""Weights in fewer bits than the checkpoint's, made while a model loads."""
