"""Applications for certificates: what organisations and registration officers ask for, and what was decided."""
