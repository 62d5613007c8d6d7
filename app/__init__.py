"""The roof: wiring, front door, joins between rooms, schema history, the pages' base."""
