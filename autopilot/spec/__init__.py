"""What users write: documents, read strictly."""
