"""The workspace behind the command `elt`: one small module per capability."""
