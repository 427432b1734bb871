"""Pictures of operations, plans and the stack."""
