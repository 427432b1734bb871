"""What any program may call: start, watch and command operations."""
