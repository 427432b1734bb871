"""CustomResourceDefinitions, made from the models that files are read with."""
