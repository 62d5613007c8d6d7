"""Where one room's question is answered by another room's book."""
