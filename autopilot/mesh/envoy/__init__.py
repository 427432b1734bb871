"""The mesh of plain Envoys that follow files."""
