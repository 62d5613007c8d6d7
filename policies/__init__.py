"""What is allowed, written down as data: profiles, names, algorithms, assurance. Imports nothing of ours."""
