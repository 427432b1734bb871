"""The processes that run operations, and that restore what nobody looks after."""
