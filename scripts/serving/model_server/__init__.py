"""What runs in the scorer's image, beside its predict.py: the server, and the program of `make predict`."""
