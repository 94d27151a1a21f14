"""Training manifests written while a model trains: for PyTorch, and for the Trainer of Hugging Face."""
