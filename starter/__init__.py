"""Starting and watching operations."""
