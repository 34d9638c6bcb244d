"""The proof that the platform works, and its report."""
