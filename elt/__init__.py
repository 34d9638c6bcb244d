"""Implement the command `elt`: one package per layer, one small module per capability."""
